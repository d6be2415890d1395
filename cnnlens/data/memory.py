"""Images that live in memory: a list of pictures, arrays or tensors, or a PyTorch Dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage, flat, reason_of, upright
from cnnlens.data.live import is_live
from cnnlens.data.memory_item import bands_of, check_item, is_deep, is_float, picture_of, planes_of
from cnnlens.data.memory_labels import (
    given_labels,
    has_labels,
    image_in,
    item_labels,
    label_names,
    listed,
    unlabelled,
)
from cnnlens.data.memory_marks import is_in_memory, mark_of, marked_by
from cnnlens.data.memory_sequence import chosen, sequence, without
from cnnlens.data.memory_survey import seen_in_memory
from cnnlens.data.ranges import Bounds
from cnnlens.data.unread import UnreadFile, patiently
from cnnlens.errors import UsageError
from cnnlens.model.definition import tensor_bytes
from cnnlens.model.preprocess import Preprocess


@dataclass(frozen=True, eq=False, repr=False)
class MemoryImages(ImageSet):
    """An ordered list of images in memory; they are called ``0000.png`` and so on.

    Attributes
    ----------
    items : sequence
        Images, or (image, label) pairs; read when they are needed.
    preprocess : Preprocess or None
        How the network takes pixels. Tensors that are normalised already became so by it: needed
        to show them.
    floats : bool
        Whether some are made of floats, so that all are given as such.
    live : bool
        Whether they are read from what threads cannot share, see `live.is_live`.
    """

    items: Any = ()
    preprocess: Preprocess | None = None
    floats: bool = False
    live: bool = False

    @property
    def name(self) -> str:
        """What the data is called, which names its activation stores."""
        return self.root.name

    @property
    def in_files(self) -> bool:
        """Nothing in memory is."""
        return False

    @property
    def in_memory(self) -> bool:
        """All of them."""
        return True

    @property
    def one_by_one(self) -> bool:
        """Those that are read from what threads cannot share."""
        return self.live

    @property
    def place(self) -> str:
        """What they are called: they lie in no folder."""
        return self.root.name

    def check_there(self) -> None:
        """Nothing in memory is in a folder."""

    def take(self, positions: Sequence[int], called: str) -> Self:
        """Keep some images, by position."""
        kept = super().take(positions, called)
        return replace(kept, items=chosen(self.items, positions))

    def item(self, index: int) -> Any:
        """Return an image as it was given.

        Raises
        ------
        DamagedImage
            When the data set fails to give it, or its file cannot be read.
        """
        return _read(self.items, index, self.file(index))

    def _image(self, index: int) -> Any:
        item = self.item(index)
        check_item(item, index)
        return item

    def load(self, index: int, mode: str = "RGB") -> Image.Image:
        """Return an image as a picture of 8 bits, for people and for resampling.

        Raises
        ------
        UsageError
            When it is nothing that is an image.
        """
        return picture_of(self._image(index), index, mode, self.preprocess, self.ranges)

    def bands_of(self, index: int) -> int:
        """How many bands an image has."""
        return bands_of(self._image(index))

    def pixel_type(self, preprocess: Preprocess) -> str:
        """What `pixels` gives: "float32" where images are made of floats or have bands."""
        return "float32" if self.floats else super().pixel_type(preprocess)

    def pixels(self, index: int, preprocess: Preprocess, squash: bool | None = None) -> np.ndarray:
        """Bring an image to a network's input plane; floats keep their precision.

        A tensor that is normalised already is turned back into pixels here, which `normalize`
        then undoes: what reaches the network is the tensor, to float32's rounding.
        """
        item, shape = self._image(index), self.shape(preprocess)
        planes = planes_of(item, index, preprocess, self.ranges)
        as_floats = self.pixel_type(preprocess) == "float32"
        if planes is not None and as_floats and len(planes) == shape[0]:
            return preprocess.planes(planes, squash=False)
        if planes is not None and (preprocess.done or len(planes) != shape[0]):
            kind = "floats" if is_float(item) else "uint8"
            raise UsageError(
                f"image {index} is {kind} of {len(planes)} channels, and those that were looked at "
                "are pictures",
                "make all images of one kind",
            )
        plain = self.plane(index, preprocess, squash).transpose(2, 0, 1)  # (C, H, W) uint8
        if as_floats:  # beside images of many channels, colours are repeated
            return np.resize(plain.astype(np.float32) / 255, shape)
        return np.ascontiguousarray(plain)

    def _content(self, index: int) -> np.ndarray:
        """What an image is hashed by; nothing of one that cannot be read."""
        try:
            return _array(self._image(index))
        except DamagedImage:
            return np.empty(0, np.uint8)

    @property
    def _taken(self) -> str:
        """How samples are taken, where their values alone do not say it."""
        own = self.preprocess is None or self.preprocess.channels in self.bands
        # four channels are else colours with alpha, and taken as such
        planes = f"planes {sorted(self.bands)}" if self.bands - {4} or (self.bands and own) else ""
        return f"{planes}{self.ranges.as_dict() if self.ranges else ''}"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the images, see `memory_marks`, and of how their samples are taken."""
        mark = mark_of(self.items, len(self.paths), self._content)
        if not self._taken:
            return mark
        return hashlib.sha256(f"{mark}\0{self._taken}".encode()).hexdigest()[:16]


def memory_images(
    images: Any,
    labels: Sequence[Any] | None = None,
    name: str = "images",
    preprocess: Preprocess | None = None,
    bounds: Bounds | None = None,
) -> MemoryImages:
    """Make a data set of images in memory.

    Parameters
    ----------
    images : sequence
        PIL images, which are turned as an orientation tag says that they still bear; uint8 arrays
        (H, W, C) or (H, W); uint8 or [0, 1] float tensors (C, H, W); or pairs of one of these and
        a label. A ``torch.utils.data.Dataset`` of such is read item by item; of a DataLoader, the
        data set that it reads, or the items of it that its sampler lists. Other than 1 or 3
        channels serve a network that takes as many; four are else colours with alpha, on white.
    labels : sequence of int or str, optional
        One per image; numbers become names by the `classes` of a Dataset, where it has them.
    name : str
        What it is called.
    preprocess : Preprocess, optional
        How the network takes pixels; with `done`, floats are normalised already.
    bounds : (float, float), optional
        Which values of PIL images deeper than 8 bits, and of floats, become black and white; left
        out, floats lie in [0, 1], and of deep images it is taken from them.

    Returns
    -------
    MemoryImages

    Raises
    ------
    UsageError
        When there is no image, what is given is no such sequence, or there are no such labels.
    CnnlensError
        When too many items cannot be read for their labels.
    """
    items, count, notes = sequence(images)
    digits = max(4, len(str(count - 1)))
    paths = tuple(f"{index:0{digits}d}.png" for index in range(count))
    values: list[Any] | None = None
    if labels is not None:
        values = given_labels(labels, count)
    elif has_labels(items, count):
        values, lost, said = item_labels(items, paths)
        notes += said
        items, paths = without(items, paths, lost)
    classes = listed(items, "classes")
    if values is not None and (bare := unlabelled(values, classes)):
        notes.append(f"{len(bare)} of {len(values)} images are labelled -1, which is no class")
        if len(bare) == len(values):
            values = None
        else:
            notes[-1] += ", and left out"
            items, paths = without(items, paths, bare)
            values = [value for value in values if value != -1]
    categories = None if values is None else label_names(values, classes)
    kind = "images" if categories is None else "classes"
    made = MemoryImages(Path(name), paths, kind, categories, items=items, preprocess=preprocess)
    done = preprocess is not None and preprocess.done
    seen = seen_in_memory(items, len(paths), made.item, bounds, done)
    notes += [*seen.notes, *marked_by(items, len(paths), made._content)]
    # looked at when some were read: many open their file only then
    live = not is_in_memory(items) and is_live(items)
    return replace(
        made,
        notes=tuple(notes),
        ranges=seen.ranges,
        bands=seen.bands,
        floats=seen.floats,
        live=live,
    )


def opened_images(
    value: Any,
    labels: Sequence[Any] | None = None,
    preprocess: Preprocess | None = None,
    bounds: Bounds | None = None,
) -> ImageSet:
    """Make a data set of whatever images are given; one that is a data set already stays itself.

    Each has a name, and so stores, of its own, whatever others are in memory.
    """
    if isinstance(value, ImageSet):
        if labels is not None:
            raise UsageError("labels= goes with images in memory", "the data set has its own")
        if isinstance(value, MemoryImages) and value.preprocess is None:
            return replace(value, preprocess=preprocess)
        return value
    images = memory_images(value, labels, preprocess=preprocess, bounds=bounds)
    mark = images.fingerprint  # hashed once
    images = replace(images, root=Path(f"images-{mark[:6]}"))
    vars(images)["fingerprint"] = mark
    return images


def _read(items: Any, index: int, path: Path) -> Any:
    """Read an image, whatever a caller's Dataset raises."""
    try:
        item = patiently(path, lambda: image_in(items[index]))
    except UnreadFile:
        raise
    except Exception as error:
        raise DamagedImage(path, f"{type(error).__name__}: {error}") from error
    if isinstance(item, Image.Image):
        try:
            patiently(path, item.load)
        except UnreadFile:
            raise
        except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
            raise DamagedImage(path, reason_of(error)) from error
    return item


def _array(item: Any) -> np.ndarray:
    """What an image's content is hashed by."""
    if isinstance(item, torch.Tensor):
        return np.frombuffer(tensor_bytes(item), np.uint8).reshape(*item.shape, -1)
    if not isinstance(item, Image.Image):
        return np.asarray(item)
    upright_ = upright(item)
    if is_deep(item) or item.mode in ("1", "L", "RGB", "RGBA"):
        return np.asarray(upright_)
    shown = flat(upright_, "RGB").tobytes()  # other modes mean what they say: palettes, inks
    return np.frombuffer(item.mode.encode() + shown + upright_.tobytes(), np.uint8)
