"""Small sets with label masks as their publishers and annotation tools lay them out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.data.broden import open_broden


def picture(path: Path, size: tuple[int, int] = (24, 32), turn: int = 1, seed: int = 0) -> Path:
    """A photo of (height, width) with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(path, **({"exif": exif} if turn != 1 else {}))
    return path


def mask(path: Path, values: Any, palette: Sequence[int] | None = None) -> Path:
    """A mask: (h, w) of 8 or 16 bits, with or without a palette, or (h, w, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values))
    if palette is not None:
        image.putpalette(list(palette))
    image.save(path)
    return path


def coco(
    path: Path,
    images: Sequence[tuple[int, str, int, int]],
    annotations: Sequence[Mapping[str, Any]],
    categories: Sequence[tuple[int, str, str]] = ((1, "cat", "animal"), (7, "cup", "kitchen")),
) -> Path:
    """An annotation file: images of (id, name, height, width), categories of (id, name, above)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "info": {"year": 2026, "list": [1, [2]]},
        "images": [
            dict(zip(("id", "file_name", "height", "width"), i, strict=True)) for i in images
        ],
        "annotations": [{"id": n, "iscrowd": 0, **one} for n, one in enumerate(annotations)],
        "categories": [
            dict(zip(("id", "name", "supercategory"), c, strict=True)) for c in categories
        ],
    }
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def box(x: int, y: int, w: int, h: int) -> list[float]:
    """The polygon of a box."""
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def found(out: Path) -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """Per image below ``images/``: masks (sh, sw) by category and label, read from the layout."""
    broden = open_broden(out)
    space = broden.concept_space()
    masks = {}
    for index, path in enumerate(broden.paths):
        labels = space.labels(index)
        of = {}
        for number, concept in enumerate(space.concepts):
            on = (
                (labels.planes == number + 1).any(0)
                if len(labels.planes)
                else np.zeros(labels.size)
            )
            if number in labels.whole:
                on = np.ones(labels.size)
            of[concept.category, concept.label] = on.astype(bool)
        masks[path.removeprefix("images/")] = of
    return masks
