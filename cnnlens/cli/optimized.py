"""The pictures of ``cnnlens visualize``: what was asked for, and the files of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlens.study.addresses import parse_filters
from cnnlens.cli.made import Made
from cnnlens.cli.screen import Screen
from cnnlens.model.classes import class_name, find_class
from cnnlens.model.layers import Layer, file_name, find_layers
from cnnlens.model.model import Model
from cnnlens.report.optimized import SheetCell, as_picture, beside, save_png, sheet
from cnnlens.settings import VisualizeSettings
from cnnlens.synthesize.objective import Objective, logit, peak, scores, unit, whole
from cnnlens.synthesize.visualize import TARGETS, Picture
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.cli.besides import Besides

LOGITS = "logits"  # the folder of pictures of classes


@dataclass(frozen=True)
class Wanted:
    """One picture that was asked for.

    Attributes
    ----------
    stem : str
        Its file's name without ending.
    objective : Objective
        What it is optimized for.
    activation : Objective
        What is said of it, and compared with photos.
    entry : dict
        What the JSON says of it: unit, position, class.
    """

    stem: str
    objective: Objective
    activation: Objective
    entry: dict[str, Any]


def wanted(
    model: Model, filters: list[str], classes: list[str], target: str
) -> list[tuple[Layer | None, list[Wanted]]]:
    """Resolve what was named, each place and each picture once; None stands for the logits."""
    found: dict[object, tuple[Layer | None, dict[str, Wanted]]] = {}
    layers = find_layers(model) if filters else None
    for layer, units, position in parse_filters(filters, layers, True) if layers else []:
        _, pictures = found.setdefault(layer.place, (layer, {}))
        for one in _of_layer(layer, units, position, target):
            pictures.setdefault(one.stem, one)
    if classes:
        count = scores(model)
        picked = [find_class(text, model.classes, count) for text in classes]
        found[LOGITS] = (None, {one.stem: one for one in (_of_class(model, c) for c in picked)})
    return [(layer, list(pictures.values())) for layer, pictures in found.values()]


def _of_layer(
    layer: Layer, units: list[int] | None, position: tuple[int, int] | None, target: str
) -> list[Wanted]:
    if units is None:
        return [Wanted("layer", whole(layer), whole(layer), {"unit": None})]
    if position is None:
        return [
            Wanted(str(u), TARGETS[target](layer, u), peak(layer, u), {"unit": u}) for u in units
        ]
    at = f"{position[0]},{position[1]}"
    here = [unit(layer, u, position) for u in units]
    entries = [{"unit": u, "position": list(position)} for u in units]
    return [
        Wanted(f"{u}@{at}", o, o, entry) for u, o, entry in zip(units, here, entries, strict=True)
    ]


def _of_class(model: Model, number: int) -> Wanted:
    name = class_name(number, model.classes)
    entry = {"unit": None, "class": name, "class_index": number}
    score = logit(number, name)
    return Wanted(f"logit-{_class_file(model, number)}", score, score, entry)


def _class_file(model: Model, number: int) -> str:
    """Name a class's picture: by its number too, where other classes' names look the same."""
    name = file_name(class_name(number, model.classes))
    same = [other for other in model.classes or () if file_name(other) == name]
    return f"{name}-{number}" if len(same) > 1 else name


class Folder:
    """One layer's pictures, made and to be made.

    Parameters
    ----------
    space : Workspace
        Where they go.
    model : Model
        The network.
    layer : Layer or None
        Whose pictures they are; None: the classes'.
    pictures : list of Wanted
        What was asked for.
    settings : VisualizeSettings
        The method.
    mark : str
        State of the image that the climb starts from.
    raw : bool
        Write arrays too.
    """

    def __init__(
        self,
        space: Workspace,
        model: Model,
        layer: Layer | None,
        pictures: list[Wanted],
        settings: VisualizeSettings,
        mark: str,
        raw: bool,
    ) -> None:
        self.space, self.model, self.settings = space, model, settings
        self.layer = space.use_layer(layer) if layer else None
        self.wanted, self._mark, self._raw = pictures, mark, raw
        self.name = self.layer.name if self.layer else LOGITS
        self.path = space.path / "visualize" / (self.layer.folder if self.layer else LOGITS)
        self.unreachable: list[Wanted] = []

    def open(self, force: bool) -> None:
        """Read what is there already."""
        self._made = Made(self.path / "visualize.json", force)
        self.todo = [one for one in self.wanted if not self._is_finished(one)]

    def _is_finished(self, one: Wanted) -> bool:
        others = [f"{one.stem}.npz"] if self._raw else []
        return self._made.finished(f"{one.stem}.png", self._made_from(one), *others)

    def _made_from(self, one: Wanted) -> dict[str, Any]:
        preprocess = {k: v for k, v in self.model.preprocess.as_dict().items() if k != "source"}
        return {
            "model": self.model.fingerprint,
            "preprocess": preprocess,
            "place": self.layer.place.key if self.layer else LOGITS,
            "objective": one.objective.name,
            "settings": self.settings.as_dict(),
            "init": self._mark,
        }

    def keep(self, one: Wanted, picture: Picture) -> None:
        """Write a finished picture and list it; a unit that nothing reaches has none."""
        if not picture.alive:
            self.unreachable.append(one)
            return
        save_png(self.path / f"{one.stem}.png", as_picture(picture.image))
        if self._raw:
            self._save_raw(one, picture)
        entry = {
            "file": f"{one.stem}.png",
            "layer": self.name,
            **one.entry,
            "objective": one.objective.name,
            "initial": picture.initial,
            "final": picture.final,
            "trace": [float(f"{value:.6g}") for value in picture.trace],
            "made_from": self._made_from(one),
        }
        self._made.add(entry, self._summary())

    @property
    def silent(self) -> list[str]:
        """Those of the pictures asked for that leave their unit at 0, also from earlier runs."""
        final = {entry["file"]: entry["final"] for entry in self._made.entries}
        stems = [one.stem for one in self.wanted] if self.layer else []
        return [stem for stem in stems if final.get(f"{stem}.png") == 0]

    def _save_raw(self, one: Wanted, picture: Picture) -> None:
        from cnnlens.files import write_npz

        write_npz(self.path / f"{one.stem}.npz", image=picture.image.astype(np.float32))

    def _summary(self) -> dict[str, Any]:
        return {
            "layer": self.name,
            "settings": self.settings.as_dict(),
            "unreachable": [one.stem for one in self.unreachable],
        }

    def finish(self, screen: Screen) -> dict[str, Any]:
        """Draw what stands beside the pictures, and the sheet; return the JSON."""
        entries = {entry["file"]: entry for entry in self._made.entries}
        for entry in entries.values():
            entry.update(self._label(entry))
        self._draw_besides(screen, entries)
        document = self._made.write(self._summary())
        if entries:
            title = f"{self.name} · {self.model.arch}"
            save_png(self.path / "sheet.png", sheet(self._cells(list(entries.values())), title))
        return document

    @cached_property
    def _labels(self) -> dict[int, str]:
        """Labels of the dissection, where there is one."""
        from cnnlens.report.dissect_files import labels

        found = labels(self.space.path, self.layer.folder) if self.layer else {}
        return {unit: label for unit, (label, _, _) in found.items()}

    def _label(self, entry: dict[str, Any]) -> dict[str, str]:
        label = self._labels.get(entry["unit"]) if entry["unit"] is not None else None
        return {"label": label} if label else {}

    def _cells(self, entries: list[dict[str, Any]]) -> list[SheetCell]:
        order = sorted(entries, key=lambda e: (e["unit"] is None, e["unit"] or 0, e["file"]))
        return [SheetCell(self.path / e["file"], entry_name(e), e.get("label", "")) for e in order]

    def _draw_besides(self, screen: Screen, entries: dict[str, dict[str, Any]]) -> None:
        from cnnlens.cli.besides import Besides

        mine = {f"{one.stem}.png": one for one in self.wanted}
        asked = [e for file, e in entries.items() if file in mine and e["unit"] is not None]
        if self.layer is None or not asked:
            return
        besides = Besides(self.space, self.model, self.layer, [e["unit"] for e in asked], screen)
        with screen.progress() as bars:
            for number, entry in enumerate(asked):
                bars.show("setting beside", number, len(asked))
                self._draw_beside(besides, entry)

    def _draw_beside(self, besides: Besides, entry: dict[str, Any]) -> None:
        from PIL import Image

        found = besides.of(entry["unit"], entry["final"])
        if found is None:
            return
        with Image.open(self.path / entry["file"]) as picture:
            title = f"{self.name} {entry_name(entry)}"
            title += f" · {entry['label']}" if entry.get("label") else ""
            drawn = beside(picture.convert("RGB"), title, found)
        save_png(self.path / "beside" / entry["file"], drawn)
        entry["beside"] = f"beside/{entry['file']}"
        if found.peaks is not None and found.peaks.size and float(found.peaks.max()) > 0:
            entry["times_best"] = entry["final"] / float(found.peaks.max())


def entry_name(entry: dict[str, Any]) -> str:
    """Name what a picture shows, for people."""
    if entry.get("class") is not None:
        return str(entry["class"])
    if entry["unit"] is None:
        return "the whole layer"
    at = entry.get("position")
    return f"unit {entry['unit']}" + (f" at {at[0]},{at[1]}" if at else "")
