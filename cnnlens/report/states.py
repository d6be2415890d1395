"""Whether all that a page shows is of one state: of the same images, labels, and names of classes.

Commands make anew what is asked of them, and leave the rest. So results of earlier images, or of
earlier names, may stand beside later ones; what is said here says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import mark
from cnnlens.files.ledger import MADE_FROM
from cnnlens.measure.comparison import MARKS
from cnnlens.report.blocks import sentence
from cnnlens.report.cluster_files import read_all_clusters
from cnnlens.report.contents import file_name, read_workspace
from cnnlens.report.dissect_files import detected, labels, read_summaries
from cnnlens.report.exam_files import read_all_exams
from cnnlens.report.label_files import read_all_labels
from cnnlens.report.made_from import Result, entries_of, made, results
from cnnlens.report.unit_facts import healthy

_ANEW = "Commands that are given again make anew what is of an earlier state"
_FORCED = "Given again with --force, commands make anew what is of an earlier state"  # stores, too
_SHOWN = 4  # results of a state that are named


@dataclass(frozen=True)
class Remark:
    """Something that is not of one state.

    Attributes
    ----------
    text : str
        A sentence without its full stop.
    sections : tuple of str
        Keys of the page's sections where it is said, too.
    """

    text: str
    sections: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For a page."""
        return sentence(self.text.replace("`", ""))


def remarks(workspace: Path) -> list[Remark]:
    """Say what in a workspace is not of one state; nothing where all is, or is damaged.

    Data of different names are different on purpose; the same name with other content is not.
    """
    return [one for say in _SAYING for one in _read(say, workspace)]


def renamed(workspace: Path) -> list[Remark]:
    """Say which results bear other names of the network's outputs than the workspace knows."""
    return _read(_named, workspace)


def _read(say: Callable[[Path], Iterator[Remark]], workspace: Path) -> list[Remark]:
    with suppress(CnnlensError, LookupError, TypeError, ValueError, AttributeError):
        return list(say(workspace))
    return []  # what is damaged is named by its own section


# -- images and their labels -----------------------------------------------------------------------


def _images(workspace: Path) -> Iterator[Remark]:
    document = read_workspace(workspace)
    known = [str(entry.get("name")) for entry in document.get("data") or ()]
    of_name: dict[str, list[Result]] = defaultdict(list)
    for result in results(workspace):
        of_name[result.data].append(result)
    images, labelling = MARKS
    for name, found in of_name.items():
        # folders of one name are told apart by the workspace: name, name-2
        same = sum(one.removeprefix(name).lstrip("-").isdecimal() or one == name for one in known)
        states = _states(found, images)
        if len(states) > max(same, 1):
            yield _mixed(f"the images of {name}", states, _FORCED)
            continue
        by_command: dict[tuple[str, Any], list[Result]] = defaultdict(list)
        for result in found:
            by_command[result.command, result.made_from.get(images)].append(result)
        for (command, _), ones in by_command.items():
            if len(states := _states(ones, labelling)) > 1 and command != "units":
                yield _mixed(f"the labels of {name}", states, _ANEW)


def _states(found: Sequence[Result], key: str) -> list[list[str]]:
    """List results by the state that they saw; of those of several states, how many."""
    all_of = Counter(one.what for one in found if one.made_from.get(key))
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for one in found:
        if state := one.made_from.get(key):
            states[state][one.what] += 1
    return [
        [
            what if n == all_of[what] else f"{what} ({n} of {all_of[what]})"
            for what, n in ones.items()
        ]
        for ones in states.values()
    ]


def _mixed(what: str, states: Sequence[Sequence[str]], anew: str) -> Remark:
    first, *others = map(_listed, states)
    said = "; ".join([f"{first} saw one state", *(f"{other} another" for other in others)])
    return Remark(f"{what} changed between results: {said}. {anew}")


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    shown = [*names[:_SHOWN], *more]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


# -- exams, names of classes, labels in pictures and trees -----------------------------------------


def _examined(workspace: Path) -> Iterator[Remark]:
    """Say which labels were chosen anew, and bear no verdict of the exam that stands here."""
    chosen = {("dissect", name): of for name, of in read_summaries(workspace).items()}
    chosen |= {(one.source, one.name): one.summary for one in healthy(read_all_labels, workspace)}
    for exam in healthy(read_all_exams, workspace):
        methods = {"formula": "dissect"}
        stale = []
        for method in exam.summary.get("methods") or {}:
            now = chosen.get((methods.get(method, method), exam.name))
            stale += [method] if now and not exam.is_about(method, now) else []
        if stale:
            yield Remark(
                f"the exam of {exam.name} is of other labels of {_listed(stale)} than there are "
                f"now: `cnnlens exam -l {exam.name}` examines these",
                ("exam",),
            )


def _named(workspace: Path) -> Iterator[Remark]:
    classes = (read_workspace(workspace).get("model") or {}).get("classes")
    if not isinstance(classes, list):
        return
    found: dict[str, list[str]] = {}
    for key, what, entries in _naming(workspace):
        other = sum(_is_otherwise(entry, classes) for entry in entries)
        if other:
            count = f" ({other} of {len(entries)})" if other < len(entries) else ""
            found.setdefault(key, []).append(f"{what}{count}")
    if found:
        said = _listed([one for some in found.values() for one in some])
        yield Remark(
            f"results bear other names of the classes than are known now: {said}. {_ANEW}",
            tuple(found),
        )


def _naming(workspace: Path) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """List results that name the network's outputs: section, words, entries."""
    for what in ("cam/cam", "fool/fool", "visualize/logits/visualize", "ablate/steer/steer"):
        if entries := entries_of(workspace / f"{what}.json"):
            key = what.partition("/")[0]
            yield key, "visualize of logits" if "logits" in what else key, entries
    documents = [("outliers", "outliers/outliers"), ("confusion", "cluster/confusion")]
    documents += [("explain", str(p.relative_to(workspace))[:-5])
                  for p in sorted(workspace.glob("explain/*.json"))]  # fmt: skip
    for file in sorted(workspace.glob("ablate/[!.]*/summary.json")):
        documents.append(("ablate", str(file.relative_to(workspace))[:-5]))
    of_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for key, name in documents:
        if (workspace / f"{name}.json").is_file():
            of_key[key] += made(workspace / f"{name}.json")
    yield from ((key, key, entries) for key, entries in of_key.items())


def _is_otherwise(entry: Mapping[str, Any], classes: Sequence[str]) -> bool:
    """Whether an entry names outputs otherwise; one that had no names said numbers."""
    index, name = entry.get("class_index"), entry.get("class")
    if isinstance(index, int) and isinstance(name, str) and index < len(classes):
        return name not in (classes[index], str(index))
    made_from = entry[MADE_FROM]
    names = made_from.get("names") or made_from.get("classes")
    return isinstance(names, str) and names not in (mark(classes), mark(None))


def _drawn(workspace: Path) -> Iterator[Remark]:
    """Say which pictures have another label drawn in them than their units have now."""
    for file in sorted(workspace.glob("visualize/[!.]*/visualize.json")):
        layer = file.parent.name
        if layer == "logits" or not (workspace / "dissect" / layer / "units.csv").is_file():
            continue
        now = {unit: label for unit, (label, *_) in labels(workspace, layer).items()}
        drawn = {
            e["unit"]: e.get("label", "") for e in entries_of(file) if e.get("unit") is not None
        }
        other = [str(unit) for unit, label in drawn.items() if label and label != now.get(unit)]
        if other:
            units = f"unit{'' if len(other) == 1 else 's'} {_listed(other)}"
            yield Remark(
                f"pictures of {units} of {layer} bear labels of an earlier dissect: "
                f"`cnnlens visualize -f {layer}:{','.join(other)}`, with the options that made "
                "them, brings them up to date",
                ("visualize",),
            )


def _worded(workspace: Path) -> Iterator[Remark]:
    """Say which trees of filters and explanations bear labels that their units no longer have."""
    trees = [
        one.name
        for one in healthy(partial(read_all_clusters, part="filters"), workspace)
        if _is_relabelled(one.summary["filters"], workspace, one.name)
    ]
    if trees:
        yield Remark(
            f"the trees of filters of {_listed(trees)} bear labels of an earlier dissect: "
            f"`cnnlens cluster --only filters -l {trees[0]}` brings them up to date",
            ("filters",),
        )
    explained = [
        file.stem
        for file in sorted(workspace.glob("explain/*.json"))
        for found in made(file)
        if _is_relabelled(found, workspace, str(found.get("layer")))
    ]
    if explained:
        yield Remark(
            f"{_listed(explained)} {'was' if len(explained) == 1 else 'were'} explained with "
            "labels of an earlier dissect: the same `cnnlens explain` explains anew",
            ("explain",),
        )


def _is_relabelled(part: Mapping[str, Any], workspace: Path, layer: str) -> bool:
    """Whether results bear labels, and the layer's dissect of now has others."""
    worded = part[MADE_FROM].get("detects")
    if worded in (None, mark({})) or not (workspace / "dissect" / file_name(layer)).is_dir():
        return False
    return bool(worded != mark(detected(workspace, layer)))


_SAYING = (_named, _images, _examined, _drawn, _worded)
