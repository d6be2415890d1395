"""What invert left in a workspace, read back and laid out: images down, layers across."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.report.section import Section

NAMES = {
    "binarize": "binarized",
    "dropout": "half its values dropped",
    "drop-least": "least important maps dropped",
}


@dataclass(frozen=True)
class Inverted:
    """One inverted picture, as ``invert.json`` lists it.

    Attributes
    ----------
    layer, image : str
        Where the answer was read, and to which image (the picture's name).
    perturb : str
        What became of the answer before: "none", "binarize", …
    folder : pathlib.Path
        ``WORKSPACE/invert/<layer>``.
    entry : mapping
        All that is known of it.
    """

    layer: str
    image: str
    perturb: str
    folder: Path
    entry: Mapping[str, Any]

    @property
    def picture(self) -> Path:
        """The inverted picture alone."""
        return picture_file(self.folder, self.image, self.perturb)

    @property
    def original(self) -> Path:
        """The photo as the network saw it."""
        return original_file(self.folder, self.image)

    @property
    def errors(self) -> list[tuple[str, str]]:
        """The three errors: name and figures, for people."""
        found = self.entry["errors"]
        return [
            ("feature error", _figure(found.get("features"))),
            ("of mean distance", _figure(found.get("pairs"))),
            ("pixel RMSE", _figure(found.get("pixels"))),
        ]


def picture_file(folder: Path, name: str, perturb: str = "none") -> Path:
    """Where an inverted picture alone is."""
    return (folder if perturb == "none" else folder / perturb) / "pictures" / f"{name}.png"


def original_file(folder: Path, name: str) -> Path:
    """Where the photo is, as the network saw it."""
    return folder / "originals" / f"{name}.png"


def read_inversions(workspace: Path) -> list[list[Inverted]]:
    """Read the pictures of every inverted layer, the shallowest first.

    Raises
    ------
    CnnlensError
        When an ``invert.json`` is damaged.
    """
    found = []
    for path in sorted((workspace / "invert").glob("*/invert.json")):
        if not path.parent.name.startswith("."):
            document = read_json(path)
            pictures = list(_read(path, document))
            if pictures:
                found.append((document.get("depth", 0), path.parent.name, pictures))
    return [pictures for _, _, pictures in sorted(found, key=lambda one: one[:2])]


def _read(path: Path, document: Any) -> Iterator[Inverted]:
    try:
        for entry in document["pictures"]:
            _check(entry)
            one = Inverted(entry["layer"], entry["name"], entry["perturb"], path.parent, entry)
            if one.picture.is_file() and one.original.is_file():
                yield one
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CnnlensError(
            f"{path} is damaged: {type(error).__name__} {error}",
            "redo `cnnlens invert` with --force",
        ) from error


def _check(entry: Mapping[str, Any]) -> None:
    for value in (entry["final"], *entry["errors"].values()):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{value} in {entry['file']}")


def rows(layers: list[list[Inverted]]) -> dict[tuple[str, str], dict[str, Inverted]]:
    """Order pictures by image and perturbation, the clean one first; within these by layer."""
    found: dict[tuple[str, str], dict[str, Inverted]] = {}
    for one in (one for layer in layers for one in layer):
        found.setdefault((one.image, one.perturb), {})[one.layer] = one
    images = list(dict.fromkeys(image for image, _ in found))
    order = ["none", *NAMES]
    return dict(
        sorted(found.items(), key=lambda item: (images.index(item[0][0]), order.index(item[0][1])))
    )


def inversion(workspace: Path) -> Section | None:
    """Gather the section; None where nothing has been inverted."""
    layers = read_inversions(workspace)
    if not layers:
        return None
    names = [layer[0].layer for layer in layers]
    pictures: dict[str, Path] = {}
    shown = [
        _row(image, perturb, [found.get(name) for name in names], pictures)
        for (image, perturb), found in rows(layers).items()
    ]
    return Section(
        template="inversion.html",
        view={"layers": names, "rows": shown},
        data={},
        pictures=pictures,
        sources=tuple(layer[0].folder / "invert.json" for layer in layers),
    )


def _row(
    image: str, perturb: str, found: list[Inverted | None], pictures: dict[str, Path]
) -> dict[str, Any]:
    first = next(one for one in found if one is not None)
    original = f"invert/{first.folder.name}/originals/{image}.png"
    pictures[original] = first.original
    cells: list[dict[str, Any] | None] = []
    for one in found:
        if one is None:
            cells.append(None)
            continue
        key = f"invert/{one.picture.relative_to(one.folder.parent).as_posix()}"
        pictures[key] = one.picture
        cells.append({"picture": key, "errors": one.errors, "layer": one.layer})
    return {
        "image": image,
        "perturb": NAMES.get(perturb, ""),
        "original": original,
        "cells": cells,
    }


def _figure(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}"
