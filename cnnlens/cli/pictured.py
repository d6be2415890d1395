"""The images that units are projected on: given ones, or a data set's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.given import given_images
from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.model import Model


@dataclass(frozen=True)
class Pictured:
    """The images that units are projected on.

    Attributes
    ----------
    pixels : callable
        From an image's number to (C, H, W) uint8.
    name : callable
        From an image's number to its path, as the JSON names it.
    order : tuple of int or None
        All of them in the order given; None: a unit's top images are looked for.
    mark : dict
        What they are: equal marks, equal pictures.
    words : str
        What they are, for people.
    skipped : list of dict
        Damaged ones.
    """

    pixels: Callable[[int], np.ndarray]
    name: Callable[[int], str]
    order: tuple[int, ...] | None
    mark: dict[str, Any]
    words: str
    skipped: list[dict[str, str]]


def of_data(model: Model, images: ImageSet) -> Pictured:
    """Take a data set's images, each read when it is needed."""
    from cnnlens.data.decode import DamagedImage

    def pixels(number: int) -> np.ndarray:
        mode = "L" if model.preprocess.channels == 1 else "RGB"
        try:
            image = images.load(number, mode)
        except DamagedImage as damage:
            raise CnnlensError(f"{damage.path} cannot be read: {damage.reason}") from damage
        array = model.preprocess.pixels(image, squash=images.aligned)  # (H, W, C)
        return array.transpose(2, 0, 1).copy()

    mark = {"name": images.name, "fingerprint": images.fingerprint}
    words = f"{len(images.paths)} images in {images.name}"
    return Pictured(pixels, lambda number: images.paths[number], None, mark, words, [])


def of_files(model: Model, paths: list[Path]) -> Pictured:
    """Take the named images; damaged ones are listed."""
    from cnnlens.data.decode import DamagedImage

    arrays, names, skipped, marks = [], [], [], []
    for image in given_images(paths):
        try:
            arrays.append(image.pixels(model.preprocess))
        except DamagedImage as damage:
            skipped.append({"image": str(image.path), "reason": damage.reason})
            continue
        names.append(str(image.path))
        marks.append(image.mark)
    if not arrays:
        bad = skipped[0]
        raise CnnlensError(
            f"{bad['image']} cannot be read: {bad['reason']}", "name another with -i"
        )
    order = tuple(range(len(arrays)))
    words = "1 given image" if len(arrays) == 1 else f"{len(arrays)} given images"
    return Pictured(arrays.__getitem__, names.__getitem__, order, {"given": marks}, words, skipped)
