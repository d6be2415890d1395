"""Projections of units on chosen images, in batches that memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from cnnlens.attribution.deconv import Position, Projector
from cnnlens.data.decoded import together
from cnnlens.errors import CnnlensError
from cnnlens.model.device import in_batches
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.receptive_field import Fields, shown_box
from cnnlens.model.streams import fetched, sent
from cnnlens.settings import DeconvSettings


class Patch(NamedTuple):
    """An image at a unit's receptive field, (h, w, 3) uint8, and its projection, float32."""

    image: np.ndarray
    projection: np.ndarray


@dataclass(frozen=True)
class Projected:
    """A unit on one image."""

    image: int  #: its place among the images
    pixels: np.ndarray  #: (C, H, W) uint8
    projection: np.ndarray  #: (C, H, W) float32, in the network's input plane
    position: Position  #: row and column that was projected from: the peak, or the one asked for
    activation: float  #: there

    def as_dict(self, name: str, box: Sequence[int]) -> dict[str, Any]:
        """Describe it for a list, with the image's name and the unit's receptive field on it."""
        return {
            "image": name,
            "activation": self.activation,
            "position": list(self.position),
            "box": list(box),
            "strength": float(abs(self.projection).max()),
        }

    def patch(self, fields: Fields, preprocess: Preprocess) -> Patch:
        """Cut out what lies in the receptive field of the position, moved into the image."""
        box = shown_box(fields, self.position, preprocess.size)
        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        image = np.broadcast_to(_first(self.pixels), (3, *preprocess.size)).transpose(1, 2, 0)
        colours = as_colours(self.projection, preprocess.bgr)
        return Patch(image[rows, columns], colours[rows, columns])


@dataclass(frozen=True)
class UnitProjections:
    """A unit on its images, of which there is one at least."""

    unit: int
    at: Position | None  #: the position that was asked for; None: each image's peak
    settings: DeconvSettings
    seen: Sequence[Projected]
    dead: str  #: why there is nothing to project; empty where there is something
    undefined: Sequence[str]  #: nonlinearities on the way that have no rule but the gradient

    @property
    def unruled(self) -> str:
        """The nonlinearities that the method has no rule for, for people."""
        return "" if self.settings.method == "gradient" else ", ".join(self.undefined)

    def as_dict(self, names: Sequence[str], boxes: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Describe it for a list, with names of the images and receptive fields on them."""
        peak = max(one.activation for one in self.seen)
        each = zip(self.seen, names, boxes, strict=True)
        return {
            "unit": self.unit,
            **({"position": list(self.at)} if self.at else {}),
            "method": self.settings.method,
            "initial": peak,
            "final": peak,
            "trace": [peak],
            "dead": self.dead or None,
            **({"undefined": list(self.undefined)} if self.undefined else {}),
            "images": [one.as_dict(name, box) for one, name, box in each],
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Stack what a picture of the unit is drawn from.

        Returns
        -------
        dict of str to numpy.ndarray
            "images" (N, 3, H, W) float32 in [0, 1], "projections" (N, C, H, W) float32, the first
            of each as "image" and "projection", "positions" (N, 2), "activations" (N,) float32.
        """
        images = np.stack(
            [np.broadcast_to(_first(p.pixels), (3, *p.pixels.shape[1:])) for p in self.seen]
        )
        images = images.astype(np.float32) / 255
        projections = np.stack([p.projection for p in self.seen])
        return {
            "image": images[0],
            "projection": projections[0],
            "images": images,
            "projections": projections,
            "positions": np.array([p.position for p in self.seen]),
            "activations": np.array([p.activation for p in self.seen], np.float32),
        }


def stacked(seen: Sequence[Projected | None], preprocess: Preprocess) -> dict[str, np.ndarray]:
    """Stack units, each on an image of its own; NaN of those that have none.

    Returns
    -------
    dict of str to numpy.ndarray
        "image" (U, 3, H, W) float32 in [0, 1], "projection" (U, C, H, W) float32.
    """
    found = {
        "image": np.full((len(seen), 3, *preprocess.size), np.nan, np.float32),
        "projection": np.full(
            (len(seen), preprocess.channels, *preprocess.size), np.nan, np.float32
        ),
    }
    for row, one in enumerate(seen):
        if one is not None:
            found["image"][row] = _first(one.pixels).astype(np.float32) / 255
            found["projection"][row] = one.projection
    return found


def as_colours(projection: np.ndarray, bgr: bool = False) -> np.ndarray:
    """Bring a projection (C, H, W) in a network's input plane to colours (H, W, 3) float32.

    One channel is grey; colours that are repeated to fill more channels are added up. A network
    may take blue first.
    """
    planes = projection[::-1] if bgr else projection
    if len(planes) < 3:
        planes = np.repeat(planes.mean(0, keepdims=True), 3, axis=0)
    colours = np.stack([planes[c::3].sum(0) for c in range(3)], axis=-1)
    return colours.astype(np.float32)


def why_dead(seen: Sequence[Projected]) -> str:
    """Say why a unit has nothing to project on these images; empty where it has."""
    if max(one.activation for one in seen) > 0:
        return ""
    return "never above 0 on " + ("the image" if len(seen) == 1 else f"the {len(seen)} images")


def failures(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up what lists of units (`UnitProjections.as_dict`) could not project.

    Returns
    -------
    dict
        "undefined": nonlinearities without a rule; "dead_units": units that no image excites.
    """
    found = list(entries)
    dead = {one["unit"] for one in found if one.get("dead") and "position" not in one}
    undefined = {name for one in found for name in one.get("undefined", ())}
    return {"undefined": sorted(undefined), "dead_units": sorted(dead)}


class Projections:
    """Projects units of one layer.

    Units that are asked for on the same images share their forward pass.

    Parameters
    ----------
    model : Model
        The network.
    layer : Layer
        Where the units are.
    pixels : callable
        From an image's number to (C, H, W) uint8, or float32 in [0, 1].
    name : callable
        From an image's number to what it is called in messages.
    settings : DeconvSettings
        The method.
    limit : int
        Images at once; halves itself when memory runs out.
    """

    def __init__(
        self,
        model: Model,
        layer: Layer,
        pixels: Callable[[int], np.ndarray],
        name: Callable[[int], str],
        settings: DeconvSettings,
        limit: int,
    ) -> None:
        self._model, self._layer, self._settings = model, layer, settings
        self._pixels, self._name = lru_cache(maxsize=64)(pixels), name
        self.limit = model.batch or limit
        self.undefined: list[str] = []
        self._images: tuple[int, ...] = ()
        self._seen: Projector | None = None

    def unit(
        self, unit: int, images: Sequence[int], at: Position | None = None, dead: str | None = None
    ) -> UnitProjections:
        """Project a unit as `of` does; `dead`: why it is, where that is known from elsewhere."""
        seen = self.of(unit, images, at)
        dead = why_dead(seen) if dead is None else dead
        return UnitProjections(unit, at, self._settings, seen, dead, self.undefined)

    def of(self, unit: int, images: Sequence[int], at: Position | None = None) -> list[Projected]:
        """Project a unit on images, from its peak or from one position.

        Raises
        ------
        CnnlensError
            When activations or the projection are not finite, or memory does not suffice.
        """
        parts, self.limit = in_batches(
            len(images),
            self.limit,
            lambda rows: self._batch(unit, tuple(images[rows]), at),
            self._model,
            self._forget,
        )
        return [one for part in parts for one in part]

    def _forget(self, rows: slice) -> None:
        self._seen = None

    def _batch(self, unit: int, images: tuple[int, ...], at: Position | None) -> list[Projected]:
        seen = self._forward(images)
        rows, width = len(seen.maps), seen.maps.shape[3]
        projected = seen.project(
            [unit],
            None if at is None else [at] * rows,
            method=self._settings.method,
            whole=self._settings.whole_map,
        )
        places = seen.places([unit] * rows)
        arrays, maps, peaks = fetched(
            [projected, seen.maps[:, unit].detach(), places]
        )()  # one wait
        self._check(maps, images, "its activations are")
        self._check(arrays, images, f"the projection of unit {unit} is")
        found = []
        for row, image in enumerate(images):
            place = divmod(int(peaks[row]), width) if at is None else at
            pixels = _as_bytes(self._pixels(image))
            found.append(Projected(image, pixels, arrays[row], place, float(maps[row][place])))
        return found

    def _forward(self, images: tuple[int, ...]) -> Projector:
        if self._seen is None or self._images != images:
            self._seen = None  # frees the graph before the next one is built
            rows = [self._pixels(image) for image in images]
            rows += rows[-1:] * ((self._model.batch or 0) - len(rows))  # a fixed batch is filled up
            pixels = sent(torch.from_numpy(together(rows)), self._model.device)
            x = self._model.preprocess.normalize(pixels)  # (N, C, H, W)
            self._seen = Projector(self._model.net, x, self._layer.place)
            self._images, self.undefined = images, self._seen.undefined
        return self._seen

    def _check(self, values: np.ndarray, images: tuple[int, ...], what: str) -> None:
        finite = np.isfinite(values[: len(images)]).reshape(len(images), -1).all(1)
        if not finite.all():
            bad = self._name(images[int(finite.argmin())])
            raise CnnlensError(
                f"layer '{self._layer.name}': {what} not finite on {bad}",
                "the network overflows there: check its weights, and --mean and --std",
            )


def _first(pixels: np.ndarray) -> np.ndarray:
    """Of pixels (C, H, W) those that are shown: three of more bands, one of fewer."""
    return pixels[:3] if len(pixels) >= 3 else pixels[:1]


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
