"""``WORKSPACE/invert/<layer>``: where its pictures are, and what invert.json says of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlens.report.contents import listed, number, reading

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
        Which layer's activations were inverted, of which image (the picture's name).
    perturb : str
        What became of the activations before: "none", "binarize", …
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
        names = {"features": "feature error", "pairs": "of mean distance", "pixels": "pixel RMSE"}
        found = self.entry["errors"]
        return [(name, number(found.get(key), 3)) for key, name in names.items()]


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
            with reading(path, "redo `cnnlens invert` with --force"):
                document, _ = listed(path)
                pictures = list(_read(path.parent, document["pictures"]))
                if pictures:
                    found.append((document.get("depth", 0), path.parent.name, pictures))
    return [pictures for _, _, pictures in sorted(found, key=lambda one: one[:2])]


def _read(folder: Path, entries: list[Mapping[str, Any]]) -> Iterator[Inverted]:
    for entry in entries:
        for value in (entry["final"], *entry["errors"].values()):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{value} in {entry['file']}")
        one = Inverted(entry["layer"], entry["name"], entry["perturb"], folder, entry)
        if one.picture.is_file() and one.original.is_file():
            yield one


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
