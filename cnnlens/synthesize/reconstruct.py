"""A photo made again from one layer: target, search, and by how much the picture misses it.

    search = reconstruct(model, layer, photo, InvertSettings(perturb="dropout"))

yields the steps of `invert` and returns a `Reconstruction`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnlens.activations.passes import Forward
from cnnlens.data.decode import DamagedImage
from cnnlens.data.decoded import together
from cnnlens.data.given import GivenImage, ImageOfSet
from cnnlens.model.gradients import with_gradients
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.settings import InvertSettings
from cnnlens.synthesize import perturb
from cnnlens.synthesize.invert import (
    Errors,
    InversionStep,
    check_target,
    compare,
    features,
    invert,
    length,
    pair_distance,
)
from cnnlens.synthesize.upconv import UpconvNet


@dataclass(frozen=True)
class Reconstruction:
    """What a layer still knew of a photo.

    Attributes
    ----------
    image : torch.Tensor
        (C, H, W) in [0, 1].
    errors : Errors
        Against the photo and what the layer answers to it, whole.
    trace, objective : list of float
        After every step: ‖Φ(x) − Φ0‖/‖Φ0‖ against the target, and what is minimized.
    norm : float
        ‖Φ‖ of the photo.
    effects : torch.Tensor
        (C',), see `perturb.effects`.
    mean_distance : float or None
        That of pairs of images, which the errors are held against.
    mean_image : Errors or None
        Those of the mean image, where a trained network knows it.
    """

    image: Tensor
    errors: Errors
    trace: list[float]
    objective: list[float]
    norm: float
    effects: Tensor
    mean_distance: float | None = None
    mean_image: Errors | None = None

    def as_dict(self, of: str = "") -> dict[str, Any]:
        """Describe all but the picture for a list; `of` says of which images the distance is."""
        floor = {} if self.mean_image is None else {"mean_image": asdict(self.mean_image)}
        return {
            "initial": self.trace[0],
            "final": self.trace[-1],
            "errors": asdict(self.errors),
            **floor,
            "norm": self.norm,
            "mean_distance": self.mean_distance,
            "mean_distance_of": of,
            "trace": self.trace,
            "objective": self.objective,
            "effects": self.effects.tolist(),
        }

    def colours(self) -> np.ndarray:
        """Give the picture in colours.

        Returns
        -------
        numpy.ndarray
            (3, H, W) float32 in [0, 1]: the mean of its groups of three channels, or of all.
        """
        planes = self.image.cpu().numpy().astype(np.float32)  # (C, H, W)
        if len(planes) % 3:
            return np.repeat(planes.mean(0, keepdims=True), 3, axis=0)
        return planes.reshape(-1, 3, *planes.shape[1:]).mean(0)


def held_against(entry: Mapping[str, Any], mean_distance: float, of: str) -> dict[str, Any]:
    """Hold errors that `Reconstruction.as_dict` listed against another mean distance."""
    unit = entry["norm"] / mean_distance
    found = {k: entry[k] for k in ("errors", "mean_image") if k in entry}
    errors = {k: {**one, "pairs": one["features"] * unit} for k, one in found.items()}
    return {**entry, **errors, "mean_distance": mean_distance, "mean_distance_of": of}


@with_gradients
def reconstruct(
    model: Model,
    layer: Layer,
    photo: Tensor,
    settings: InvertSettings,
    effects: Tensor | None = None,
    pairs: float | None = None,
    name: str = "this image",
) -> Generator[InversionStep, None, Reconstruction]:
    """Invert what a layer answers to a photo, whole or perturbed.

    Parameters
    ----------
    model, layer : Model, Layer
        The network, and where it is read.
    photo : torch.Tensor
        (C, H, W) in [0, 1], see `invert.input_plane`.
    settings : InvertSettings
        Of the search; `perturb` says what becomes of the answer first.
    effects : torch.Tensor, optional
        (C',) of the reconstruction without perturbation; "drop-least" needs them.
    pairs : float, optional
        Mean distance of pairs of images, see `mean_distance`.
    name : str
        What errors call the photo.

    Yields
    ------
    InversionStep
        Of `invert`.

    Raises
    ------
    CnnlensError
        When the layer's answer leaves nothing to invert, or `invert` fails.
    ValueError
        When "drop-least" has no effects.
    """
    answer, target = _aim(model, layer, photo, settings, effects, name)
    numbers = []
    for step in invert(model, layer, target, photo, settings):
        numbers.append(step.numbers)
        yield step
    trace, objective = _traces(torch.stack(numbers))
    image = step.image()
    return Reconstruction(
        image,
        compare(model, layer, image, photo, answer, pairs),
        trace,
        objective,
        length(answer),
        perturb.effects(answer, features(model, layer, image)),
        pairs,
    )


def _traces(numbers: Tensor) -> tuple[list[float], list[float]]:
    """Errors and objectives up to the step that ended a search, from all steps' numbers (T, 4)."""
    errors, objectives, _, done = numbers.T.tolist()
    end = done.index(1.0) + 1 if 1.0 in done else len(done)
    return errors[:end], objectives[:end]


def generate(
    model: Model,
    layer: Layer,
    photo: Tensor,
    net: UpconvNet,
    settings: InvertSettings,
    effects: Tensor | None = None,
    pairs: float | None = None,
    name: str = "this image",
) -> Reconstruction:
    """Invert what a layer answers to a photo with a network that was trained to.

    The trace has two places: the mean image, and what the network gives; the objective is the
    squared error of the pixels. Other parameters and errors as in `reconstruct`.

    Parameters
    ----------
    net : UpconvNet
        Trained on this layer.
    """
    answer, target = _aim(model, layer, photo, settings, effects, name)
    net = net.to(model.device)
    with torch.no_grad():
        image = net(target[None])[0].clamp(0, 1)
    errors, floor = (compare(model, layer, one, photo, answer, pairs) for one in (image, net.floor))
    return Reconstruction(
        image,
        errors,
        [floor.features, errors.features],
        [floor.pixels**2, errors.pixels**2],
        length(answer),
        perturb.effects(answer, features(model, layer, image)),
        pairs,
        floor,
    )


def _aim(
    model: Model,
    layer: Layer,
    photo: Tensor,
    settings: InvertSettings,
    effects: Tensor | None,
    name: str,
) -> tuple[Tensor, Tensor]:
    """What a layer answers to a photo, whole and perturbed."""
    answer = features(model, layer, photo)
    check_target(answer, layer.name, name)
    return answer, perturbed(answer, settings, effects)


def perturbed(answer: Tensor, settings: InvertSettings, effects: Tensor | None = None) -> Tensor:
    """Perturb a layer's answer (C', H', W') as the settings say; `effects` as in `reconstruct`."""
    if settings.perturb == "binarize":
        return perturb.binarize(answer)
    if settings.perturb == "dropout":
        return perturb.dropout(answer, torch.Generator().manual_seed(settings.seed))
    if settings.perturb == "drop-least":
        if effects is None:
            raise ValueError("drop-least needs the effects of the reconstruction it is held to")
        return perturb.drop_least(answer, effects)
    return answer


def mean_distance(model: Model, layer: Layer, pixels: Tensor, limit: int = 32) -> float | None:
    """Mean of ‖Φ(a) − Φ(b)‖ over all pairs of images: the measure that errors are held to.

    Parameters
    ----------
    model, layer : Model, Layer
        The network, and where it is read.
    pixels : torch.Tensor
        (N, C, H, W) uint8.
    limit : int
        Images in the network at once.

    Returns
    -------
    float or None
        None for fewer than two images.
    """
    if len(pixels) < 2:
        return None
    (maps,), _ = Forward(model, [layer], logits=False, limit=limit)(pixels)
    return pair_distance(maps)


class Pairs:
    """Mean distance of pairs of images, at any layer; each layer is measured once.

    Parameters
    ----------
    model : Model
        The network.
    images : sequence
        Each with its `mark` (equal marks, the same image) and `pixels(preprocess)`, uint8
        (C, H, W); those that cannot be read are passed over.
    limit : int
        Images in the network at once.
    """

    def __init__(
        self, model: Model, images: Sequence[GivenImage | ImageOfSet], limit: int = 32
    ) -> None:
        self._model, self._images, self._limit = model, images, limit
        self._known: dict[Layer, float | None] = {}

    @cached_property
    def mark(self) -> str:
        """Equal marks, equal images."""
        marks = "\0".join(image.state for image in self._images)
        return hashlib.sha256(marks.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def distance(self, layer: Layer) -> float | None:
        """Give what `mean_distance` gives."""
        if layer not in self._known:
            self._known[layer] = mean_distance(self._model, layer, self._pixels, self._limit)
        return self._known[layer]

    @cached_property
    def _pixels(self) -> Tensor:
        """Those that can be read, (N, C, H, W) uint8."""
        rows = []
        for image in self._images:
            with suppress(DamagedImage):  # one of many that only serve as a measure
                rows.append(image.pixels(self._model.preprocess))
        return torch.from_numpy(together(rows)) if rows else torch.empty(0)
