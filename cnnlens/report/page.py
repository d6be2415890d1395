"""The page: everything a workspace holds, in one file that asks nothing of any network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.report.blocks import Section, Text
from cnnlens.report.contents import last_part, local, local_path, read_once, read_workspace
from cnnlens.report.faults import fault, package_of, warning
from cnnlens.report.html import Tell, write_page
from cnnlens.report.states import Remark, remarks

Gather = Callable[[Path], Section | None]


def write_report(
    workspace: Path,
    sections: Iterable[tuple[str, Gather]],
    tell: Tell | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write ``report.html`` over everything found in a workspace.

    A section or a picture that is damaged is named on the page, in its place, and costs only
    itself; so is a section whose code fails, that of another package.

    Parameters
    ----------
    workspace : pathlib.Path
        The folder of one investigation.
    sections : iterable of (str, callable)
        What may stand on the page, in reading order: name, and a function that gathers the
        section from the workspace, or None where there is nothing. `cnnlens.methods.sections`
        lists those of all methods.
    tell : callable, optional
        Hears of everything damaged, once the page is written.
    say : callable, optional
        Hears, in a line, that results are not all of one state (see `cnnlens.report.states`).

    Returns
    -------
    pathlib.Path
        The page. Pictures are inside it up to `html.INLINE_LIMIT` bytes, beyond that in
        ``report_files/`` beside it.

    Raises
    ------
    CnnlensError
        When there is nothing to report, ``workspace.json`` is damaged, or the page cannot be
        written.
    """
    document = read_workspace(workspace)
    notes: list[CnnlensError] = []
    with read_once():
        found = list(gathered(workspace, sections, notes.append))
        mixed = remarks(workspace) if found else []
    if not found:
        raise _nothing(workspace)
    found = [_remarked(section, mixed) for section in found]
    sources = [path for section in found for path in section.sources]
    page = workspace / "report.html"
    head = {**header(document, sources, workspace), "mixed": [one.sentence for one in mixed]}
    write_page(page, head, found, notes.append)
    for note in notes:
        if tell is not None:
            tell(note)
    if say is not None:
        for line in _lines(mixed):
            say(line)
    return page


def _lines(mixed: Sequence[Remark]) -> Iterator[str]:
    """Say the first, and that there are more."""
    yield from (one.text for one in mixed[:1])
    if len(mixed) > 1:
        yield f"{len(mixed) - 1} more such {'stands' if len(mixed) == 2 else 'stand'} on the page"


def _remarked(section: Section, mixed: Sequence[Remark]) -> Section:
    """Say at a section what of it is of an earlier state."""
    said = [Text(one.sentence, "warning") for one in mixed if section.key in one.sections]
    return replace(section, parts=[*said, *section.parts]) if said else section


def _nothing(workspace: Path) -> CnnlensError:
    """Say that there are no results, and the way on."""
    if any(workspace.glob("activations/*/*.h5")):
        return CnnlensError(
            f"{workspace} holds activations alone, no results yet",
            "`cnnlens units` shows what each unit responds to; it needs nothing more",
        )
    return CnnlensError(
        f"{workspace} holds no results yet",
        "run `cnnlens units MODEL -d PHOTOS` or `cnnlens dissect MODEL --broden` first, or name "
        "another workspace with -w DIR",
    )


def gathered(
    workspace: Path, sections: Iterable[tuple[str, Gather]], tell: Tell
) -> Iterator[Section]:
    """Gather the sections of a page; one that is damaged, or fails, says so in its place.

    Of another package's code anything that goes wrong is its own, and costs its section alone.
    """
    for name, gather in sections:
        package = package_of(gather)
        try:
            section = _checked(gather(workspace), package)
        except Exception as error:
            if not package and not isinstance(error, _DAMAGED):
                raise
            known = fault(name, package, error)
            tell(known)
            section = Section(name, name, parts=warning(known, workspace))
        if section is not None:
            yield section


_DAMAGED = (CnnlensError, LookupError, TypeError, ValueError, AttributeError)


def _checked(section: Any, package: str) -> Section | None:
    if section is None or not package:
        return section
    if not isinstance(section, Section):
        raise TypeError(f"its section is a {type(section).__name__}, no Section")
    return replace(section, sources=[Path(path) for path in section.sources], package=package)


# -- the head: which model, which data, when, and the command lines that made it -----------------


def header(document: Mapping[str, Any], sources: Iterable[Path], workspace: Path) -> dict[str, Any]:
    """Turn ``workspace.json`` into what the head of the page shows.

    Parameters
    ----------
    document : mapping
        ``workspace.json``; any of it may be missing, unknown keys are passed over.
    sources : iterable of pathlib.Path
        Result files; the newest dates the page, so that equal results make equal pages.
    workspace : pathlib.Path
        Paths are given from the folder it is in (see `cnnlens.report.contents.local`).
    """
    model, versions = _mapping(document.get("model")), _mapping(document.get("versions"))
    spec = str(model.get("spec") or "")
    times = [path.stat().st_mtime for path in sources if path.exists()]
    date = f"{datetime.fromtimestamp(max(times), UTC):%Y-%m-%d %H:%M} UTC" if times else ""
    facts = [
        ("Model", local_path(spec, workspace)),
        ("Architecture", str(model.get("arch") or "")),
        ("Weights", "random: nobody has trained it" if model.get("random_weights") else ""),
        ("Fingerprint", str(model.get("fingerprint") or "")),
        ("Input", _input(model)),
        ("Classes", _classes(model)),
        *(("Data", data_line(entry, workspace)) for entry in _list(document.get("data"))),
        ("Results of", date),
    ]
    return {
        "eyebrow": "What the filters of a trained network have learned",
        "title": last_part(spec) or "a model",
        "facts": [(term, local(text, workspace)) for term, text in facts if text],
        "commands": [
            local(_command(entry), workspace) for entry in _list(document.get("commands"))
        ],
        "versions": [f"{name} {version}" for name, version in versions.items()],
        "mixed": [],
    }


def _input(model: Mapping[str, Any]) -> str:
    """How pixels become its input, and who says so."""
    settings = _mapping(model.get("preprocess"))
    return preprocessing({**settings, "source": settings and model.get("preprocess_source")})


def _classes(model: Mapping[str, Any]) -> str:
    """How many classes it has, and who says what they are called."""
    classes, source = model.get("classes"), str(model.get("classes_source") or "")
    count = len(classes) if isinstance(classes, (list, dict)) else classes
    names = f"names {source}" if source.startswith("assumed: ") else f"names: {source}"
    return f"{count or ''}{f' ({names})' if count and source else ''}"


def preprocessing(settings: Mapping[str, Any]) -> str:
    """Write preprocessing as one line: size first, what is at its default left out."""
    known = {key: value for key, value in settings.items() if value not in (None, False, "")}
    parts = [" × ".join(map(_plain, _list(known.pop("size", None))))]
    parts += [f"{key} {_plain(known.pop(key))}" for key in ("mean", "std") if key in known]
    if resize := known.pop("resize", None):
        parts.append(f"photos: shorter side {_plain(resize)}, centre crop; with labels: squashed")
    source, scale = known.pop("source", None), known.pop("scale", 1)
    parts += [key if value is True else f"{key} {_plain(value)}" for key, value in known.items()]
    parts += [f"scale {_plain(scale)}"] if scale != 1 else []
    parts += [f"({source})"] if source else []
    return " · ".join(filter(None, parts))


def data_line(entry: Any, workspace: Path) -> str:
    """Write a data set as one line: name, kind, number of images, folder."""
    if not isinstance(entry, Mapping):
        return local_path(str(entry), workspace)
    path = local_path(str(entry.get("path") or ""), workspace)
    name, images = str(entry.get("name") or last_part(path)), entry.get("images")
    count = f"{images:,} images" if isinstance(images, int) else ""
    parts = [name, str(entry.get("kind") or ""), count, "" if path == name else path]
    return " · ".join(filter(None, parts))


def _command(entry: Any) -> str:
    if isinstance(entry, Mapping):
        entry = entry.get("command") or entry.get("line") or ""
    return " ".join(map(str, _list(entry)))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


def _plain(value: Any) -> str:
    items = _list(value)
    return ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in items)
