"""Workspaces that are compared: read, each with what was measured there; as tables; as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.measure.compared import (
    ComparedLayer,
    ComparedModel,
    Rows,
    compare_models,
    match_layers,
)
from cnnlens.measure.quantities import QUANTITIES, Quantity
from cnnlens.measure.tree_agreement import AGREEMENTS
from cnnlens.measure.verdict import ACCURACY
from cnnlens.model.layer import file_name
from cnnlens.model.matching import natural
from cnnlens.report.blocks import Cell, Shot, Table, Text, format_p, number, percent
from cnnlens.report.cluster_files import read_clusters
from cnnlens.report.contents import finished, read_workspace
from cnnlens.report.dissect_files import read_dissection
from cnnlens.report.exam_files import read_exam
from cnnlens.report.stability_files import read_stability
from cnnlens.report.trained import training_of
from cnnlens.settings import CompareSettings

_READERS = {
    "dissect": read_dissection, "exam": read_exam, "stability": read_stability,
    "cluster": read_clusters,
}  # fmt: skip


def compare(
    workspaces: Sequence[Path | str],
    names: Sequence[str] = (),
    settings: CompareSettings | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Compare two or more workspaces, without writing anything.

    Parameters
    ----------
    workspaces : sequence of path
        The first one is what the others are held against.
    names : sequence of str
        Layers; all that they have in common where none is named.
    settings : CompareSettings, optional
        Level and number of the resamples.
    force : bool
        Compare what was measured on other data or with other settings, too.

    Returns
    -------
    dict
        As in ``compare.json``.

    Raises
    ------
    CnnlensError
        When a workspace is missing or damaged, they have no layer in common, or they were not
        measured alike.
    """
    models = read_models([Path(path) for path in workspaces])
    return compare_models(models, match_layers(models, names), settings, force)


def read_models(paths: list[Path]) -> list[ComparedModel]:
    """Read two or more workspaces.

    Raises
    ------
    UsageError
        When fewer than two are named, one is missing, or one is named twice.
    CnnlensError
        When one holds no results, or a file is damaged.
    """
    if len(paths) < 2:
        raise UsageError("a comparison needs two workspaces", "cnnlens compare A B")
    real = [path.resolve() for path in paths]
    for place, path in enumerate(real):
        if path in real[:place]:
            raise UsageError(f"{paths[place]} is named twice", "name different workspaces")
    return [_read(path, name) for path, name in zip(paths, short_names(real), strict=True)]


def short_names(paths: list[Path]) -> list[str]:
    """Name folders by as many of their last parts as make the names differ."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(path: Path, name: str) -> ComparedModel:
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UsageError(f"the workspace {path} {what}", "name folders that cnnlens has filled")
    document = read_workspace(path)
    model = document.get("model")
    layers = _layers(path, document)
    if not layers:
        known = "holds no dissection, no stability and no clusters yet"
        raise CnnlensError(
            f"the workspace {path} {known}" if document else f"{path} is no workspace",
            f"run `cnnlens dissect -w {path}`, `cnnlens stability -w {path}` or `cnnlens cluster "
            f"-w {path}` first",
        )
    model = model if isinstance(model, dict) else {}
    return ComparedModel(name, path, model, training_of(model), layers)


def _layers(path: Path, document: Mapping[str, Any]) -> dict[str, ComparedLayer]:
    aliases, named = {}, {}
    for entry in document.get("layers") or []:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            named[file_name(entry["name"])] = entry["name"]
            aliases[entry["name"]] = str(entry.get("alias") or "")
    measured: dict[str, dict[str, Any]] = {}
    for command, read in _READERS.items():
        for folder in finished(path, command):
            measured.setdefault(folder.name, {})[command] = read(folder)
    found = {}
    for key in sorted(measured, key=natural):
        name = named.get(key) or str(getattr(measured[key].get("dissect"), "name", key))
        found[name] = ComparedLayer(name, aliases.get(name, ""), measured[key])
    return found


# ---- as tables for a terminal


def tables(found: Mapping[str, Any]) -> Iterator[tuple[list[str], list[list[str]], str]]:
    """Yield the tables of a comparison, columns, rows and title: accuracies, then each layer's.

    `found` is as in ``compare.json``.
    """
    names = [who["name"] for who in found["workspaces"]]
    accuracies = [who["accuracy"] for who in found["workspaces"]]
    heads = ["", "better", *names, *(f"{other} - {names[0]}" for other in names[1:])]
    if any(accuracies):
        yield heads, [_row(ACCURACY, accuracies, found["accuracy_differences"])], ""
    for name, of in found["layers"].items():
        rows = [_row(q, **of[q.key]) for q in QUANTITIES if any(of[q.key]["values"])]
        yield heads, [*rows, *_agreements(of["trees"], len(names))], name


def _row(quantity: Quantity, values: Sequence[Any], differences: Sequence[Any]) -> list[str]:
    title, digits = quantity.title.replace("’", "'"), quantity.digits
    cells = [_cell(v, digits) for v in values], [_cell(v, digits, "+") for v in differences]
    return [title, quantity.better, *cells[0], *cells[1]]


def _agreements(trees: Sequence[Any], count: int) -> Iterator[list[str]]:
    """Yield how far trees of classes agree with the first one's, under the others' names."""
    for key, title in AGREEMENTS.items():
        found = [one and one[key] for one in trees]
        if any(found):
            said = [_agreeing(one) if one else "-" for one in found]
            yield [title, "", "", *said, *[""] * (count - 1)]


def _agreeing(one: Mapping[str, Any]) -> str:
    value = f"{one['value']} of {one['of']}" if "of" in one else f"{one['value']:.3f}"
    return f"{value} chance {_number(one['chance'], 2, '')} p {one['p_value']:.2g}"


def _cell(value: Mapping[str, Any] | None, digits: int, sign: str = "") -> str:
    if value is None:
        return "-"
    said = _number(value["value"], digits, sign)
    if value["interval"] is not None:
        said += f" ({' to '.join(_number(end, digits) for end in value['interval'])})"
    if value["chance"] is not None:
        said += f" chance {_number(value['chance'], digits or 1, sign)}"
    for name, level in value.get("beside", {}).items():
        said += f" {name} {_number(level, digits)}"
    return said


def _number(value: float, digits: int, sign: str = "") -> str:
    rounded = round(value, digits)
    return f"{rounded:{sign if rounded else ''}.{digits}f}".replace("-0", "0", int(not rounded))


# -- units beside each other ----------------------------------------------------------------------

_MEASURES = {
    "location_instability": "instability",
    "selectivity": "selectivity",
    "part_interpretability": "part",
}


def same_unit(layer: ComparedLayer, unit: int) -> list[Any]:
    """Give a unit's words and pictures in one workspace."""
    words = []
    dissect, stability = (layer.measured.get(c, ()) for c in ("dissect", "stability"))
    if unit < len(dissect):
        one = dissect[unit]
        words.append(f"{one.label or 'no concept'}, IoU {one.iou:.3f}")
    if unit < len(stability):
        (row,) = stability[unit].table()
        words += [f"{n} {row[k]:.3f}" for k, n in _MEASURES.items() if row[k] is not None]
    shots = [Shot(p, alt=f"Pictures of unit {unit}") for p in unit_pictures(layer, unit).values()]
    return [" · ".join(words) or "nothing", *shots]


def unit_pictures(layer: ComparedLayer, unit: int) -> dict[str, Path]:
    """Find a unit's pictures in its workspace, whichever command made them."""
    measured = next(iter(layer.measured.values()))
    workspace, folder = measured.folder.parents[1], measured.folder.name
    found = {}
    for command in ("dissect", "stability", "visualize"):
        for pattern in (f"pictures/{unit}.webp", f"pictures/{unit}.png", f"{unit}.png"):
            path = workspace / command / folder / pattern
            if path.is_file():
                found[f"{command}/{folder}/{pattern}"] = path
                break
    return found


def units_to_show(rows: Rows, top: int) -> list[int]:
    """Choose `top` units of a layer that are worth a look: the best of each workspace in turn,
    those with pictures.
    """
    ranked = [_ranked(layer) for layer in rows]
    chosen: dict[int, None] = {}
    for place in range(max(map(len, ranked), default=0)):
        for order in ranked:
            fits = len(chosen) < top and place < len(order)
            if fits and any(unit_pictures(layer, order[place]) for layer in rows):
                chosen[order[place]] = None
    return sorted(chosen)


def _ranked(layer: ComparedLayer) -> list[int]:
    if "dissect" in layer.measured:
        return [unit.unit for unit in layer.measured["dissect"].best()]
    if "stability" not in layer.measured:
        return []
    instability = layer.measured["stability"].instability
    return [int(unit) for unit in instability.argsort(kind="stable")]  # NaN last


# -- clusters beside each other -------------------------------------------------------------------

_MEANT = {
    "trees": "whether what joins low in one tree joins low in the other; 1: the same tree",
    "groups": "sets of classes that stand together in both trees",
    "distances": "whether the same pairs of classes are near; it leaves the trees aside",
}
_DRAWN = {"dendrogram.png": "Tree of its classes", "umap.png": "Where its images lie"}


def clusters_beside(networks: Sequence[Any], rows: Rows, trees: Sequence[Any]) -> Iterator[Any]:
    """Show how far trees of classes agree, and the trees and layouts themselves."""
    if any(trees):
        table = [_agreement(key, title, trees) for key, title in AGREEMENTS.items()]
        caption = "Do they hold the same classes close? Each tree against the first one"
        yield Table([None, *networks[1:]], table, caption, "summary compared")
        yield from (Text(line, "small") for line in _support(trees))
    found = [layer.measured.get("cluster") for layer in rows]
    shots = [
        [_drawn(one.folder / name, words) if one else None for one in found]
        for name, words in _DRAWN.items()
    ]
    shown = [[words, *row] for words, row in zip(_DRAWN.values(), shots, strict=True) if any(row)]
    if shown:
        yield Table([None, *networks], shown, "", "beside drawings")


def _drawn(path: Path, words: str) -> Shot | None:
    return Shot(path, alt=words) if path.is_file() else None


def _agreement(key: str, title: str, trees: Sequence[Any]) -> list[Any]:
    cells = [_agreed(one[key]) if one and one[key] else Cell("", note="–") for one in trees]
    return [Cell(title, note=_MEANT[key]), *cells]


def _agreed(one: Mapping[str, Any]) -> Cell:
    counted = "of" in one
    value = f"{one['value']} of {one['of']}" if counted else number(one["value"], 3)
    chance = number(one["chance"], 1 if counted else 3)
    sure = "more than chance" if one["p_value"] < 0.05 else "no more than chance"
    return Cell(value, True, chance=chance, note=f"{sure} (p = {format_p(one['p_value'])})")


def _support(trees: Sequence[Any]) -> Iterator[str]:
    """Say how firm the trees are: those that images drawn anew do not bear out cannot agree."""
    known: list[Any] = next((one["support"] for one in trees if one), [])
    ends = [percent(one) for one in known if one is not None]
    if len(ends) > 1:
        yield (
            f"A merge’s mean support over images drawn anew is {ends[0]} in the first, {ends[1]} "
            "in the second: a tree of little support says little, and can agree with none."
        )
