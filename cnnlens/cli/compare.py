"""``cnnlens compare``: two or more models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cnnlens.cli import options as o
from cnnlens.cli.options import FiltersOption
from cnnlens.study.addresses import parse_filters
from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.settings import CompareSettings, RunSettings

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layers
    from cnnlens.report.sides import Side, SideLayer

S = CompareSettings()
OUT = Path("cnnlens-compare")

Matched = Mapping[str, "list[SideLayer]"]


def compare(
    workspaces: Annotated[
        list[Path],
        typer.Argument(
            metavar="WORKSPACE",
            help="Two or more workspaces; the first one is what the others are held against.",
            show_default=False,
        ),
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="LAYER",
            help="A layer that was measured in each, or one per workspace: conv5,conv6; "
            "repeatable. Default: all that they have in common.",
            show_default=False,
        ),
    ] = None,
    filters: FiltersOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DIR",
            help="Class folders to measure every model's accuracy on. "
            "Default: what fine-tuning left in new.json.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for compare.html, compare.json, compare.csv."),
    ] = OUT,
    top: Annotated[
        int, typer.Option(metavar="N", help="Units shown side by side per layer, without -f.")
    ] = S.top,
    level: Annotated[float, typer.Option(metavar="SHARE", help="Level of the intervals.")] = (
        S.level
    ),
    resamples: Annotated[
        int, typer.Option(metavar="N", help="Resamples of the bootstrap.")
    ] = S.resamples,
    device: o.DeviceOption = o.RUN.device,
    batch_size: o.BatchSizeOption = o.RUN.batch_size,
    workers: o.WorkersOption = o.RUN.workers,
    seed: o.SeedOption = o.RUN.seed,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Redo or overwrite; compare what was measured on other data, too."
        ),
    ] = False,
) -> None:
    """Compare models side by side.

    Accuracy, detectors, location instability, part interpretability, selectivity and dead units
    of two or more workspaces, each with chance and with an interval over units, and the same
    units' pictures beside each other. Dissect, or run stability, in each workspace first.
    """
    from cnnlens.report.comparison import compare_sides, write_comparison
    from cnnlens.report.matched import match_layers
    from cnnlens.report.sides import read_sides, trained_accuracy

    settings = CompareSettings(level, resamples, top, seed)
    screen = Screen(json=json, quiet=quiet)
    sides = read_sides(workspaces)
    layers = match_layers(sides, layer or ())
    units = _units(filters or (), layers, top)
    run = RunSettings(device, batch_size, workers, seed)
    accuracies = (
        [trained_accuracy(side, level) for side in sides]
        if data is None
        else _accuracies(sides, data, settings, run, screen)
    )
    document = compare_sides(sides, layers, accuracies, settings, force)
    document["shown"] = units
    for line in (*document["unlike"], *document["remarks"]):
        screen.note(line)
    page = write_comparison(out, sides, layers, document, units)
    screen.document(document)
    _show(screen, document)
    screen.say(f"page: {page}")


# ---- units whose pictures are shown


class _Matched:
    """Looks like the layers of a model to whoever parses filters."""

    def __init__(self, layers: Matched) -> None:
        self._layers = layers

    def resolve(self, name: str, vectors: bool = False) -> SideLayer:
        for known, rows in self._layers.items():
            if name in (known, *(row.alias for row in rows), *(row.name for row in rows)):
                return rows[0]
        near = did_you_mean(name, self._layers)
        raise UsageError(
            f"no layer '{name}' is compared" + (f"; {near}" if near else ""),
            f"compared are {', '.join(self._layers)}",
        )


def _units(texts: Sequence[str], layers: Matched, top: int) -> dict[str, list[int]]:
    from cnnlens.report.beside import units_to_show

    if not texts:
        return {name: units_to_show(rows, top) for name, rows in layers.items()}
    chosen: dict[str, list[int]] = {}
    for one in parse_filters(texts, cast("Layers", _Matched(layers))):
        key = next(k for k, rows in layers.items() if rows[0] is cast("object", one.layer))
        chosen.setdefault(key, []).extend(one.units or [])
    return chosen


# ---- accuracy


def _accuracies(
    sides: Sequence[Side],
    path: Path,
    settings: CompareSettings,
    run: RunSettings,
    screen: Screen,
) -> list[dict[str, Any]]:
    from cnnlens.data.open import open_data

    images = open_data(path)
    if images.image_categories is None:
        raise UsageError(
            f"{path} has no classes (found: {images.kind})",
            "accuracy needs one subfolder per class",
        )
    with screen.progress() as bars:
        return [_accuracy(side, images, settings, run, bars) for side in sides]


def _accuracy(
    side: Side, images: ImageSet, settings: CompareSettings, run: RunSettings, bars: Any
) -> dict[str, Any]:
    import numpy as np

    from cnnlens.activations.forward import Forward, passes
    from cnnlens.measure import accuracy, bootstrap
    from cnnlens.model.open import open_model
    from cnnlens.study.workspace import Workspace

    known = Workspace(side.path).model_options
    if known is None:
        raise CnnlensError(f"{side.path} knows no model to measure", "leave out --data")
    model = open_model(device=run.device, **known)
    forward = Forward(model, [], logits=True, limit=run.batch_size)
    hits: list[np.ndarray] = []
    assert images.image_categories is not None
    for one in passes(forward, images, batch_size=run.batch_size, workers=run.workers):
        if one.logits is None or one.logits.ndim != 2:
            raise CnnlensError(f"the model of {side.name} gives no class scores", "")
        wanted = accuracy.targets(images.image_categories, model.classes, one.logits.shape[1])
        hits.append(accuracy.right(one.logits, wanted[one.batch.indices]))
        bars.show(f"accuracy of {side.name}", one.batch.next, len(images.paths))
    found = np.concatenate(hits)
    low, high = bootstrap.share(int(found.sum()), len(found), settings.level)
    return {
        "value": float(found.mean()),
        "chance": _most_frequent(images.image_categories),
        "interval": [low, high],
        "images": len(found),
        "source": str(images.root.resolve()),
    }


def _most_frequent(categories: Sequence[str]) -> float:
    """Accuracy of who always says the most frequent class."""
    from collections import Counter

    return Counter(categories).most_common(1)[0][1] / len(categories)


# ---- the screen


def _show(screen: Screen, document: Mapping[str, Any]) -> None:
    from cnnlens.report.compared import QUANTITIES

    names = [who["name"] for who in document["workspaces"]]
    accuracies = [who["accuracy"] for who in document["workspaces"]]
    if any(accuracies):
        screen.table(["", *names], [["Accuracy", *(_cell(a, 3) for a in accuracies)]])
    for name, of in document["layers"].items():
        rows = [
            [q.title.replace("’", "'"), *(_cell(v, q.digits) for v in of[q.key]["values"])]
            + [_cell(v, q.digits, signed=True) for v in of[q.key]["differences"]]
            for q in QUANTITIES
            if any(of[q.key]["values"])
        ]
        against = [f"{other} - {names[0]}" for other in names[1:]]
        screen.table(["", *names, *against], rows, title=name)


def _cell(value: Mapping[str, Any] | None, digits: int, signed: bool = False) -> str:
    if value is None:
        return "-"
    number = _number(value["value"], digits, "+" if signed else "")
    if value["interval"] is not None:
        low, high = (_number(end, digits) for end in value["interval"])
        number += f" ({low} to {high})"
    if value["chance"] is not None:
        number += f" chance {_number(value['chance'], digits or 1)}"
    return number


def _number(value: float, digits: int, sign: str = "") -> str:
    rounded = round(value, digits)
    return f"{rounded:{sign if rounded else ''}.{digits}f}".replace("-0", "0", int(not rounded))
