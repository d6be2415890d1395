"""Activation maximization: the input that excites a unit, a class or a layer most.

Settings become an image, a recipe and a start; `optimize` does the rest. Pictures are as the
network sees them: at its input's size, in 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnlens.model.gradients import with_gradients
from cnnlens.model.model import Model
from cnnlens.progress import Step, Words
from cnnlens.settings import RunSettings, VisualizeSettings
from cnnlens.synthesize.examples import as_planes
from cnnlens.synthesize.image import Fourier, Image
from cnnlens.synthesize.maco import transparency
from cnnlens.synthesize.objective import Objective
from cnnlens.synthesize.optimize import AscentStep, generators, optimize
from cnnlens.synthesize.seen import activation, answers, as_seen
from cnnlens.synthesize.slope import mean_colour
from cnnlens.synthesize.transform import resized
from cnnlens.synthesize.usual import (
    Prior,
    bounds,
    completed,
    image_of,
    kind_of,
    recipe,
    update_of,
)


@dataclass(frozen=True)
class Picture:
    """An optimized image.

    Attributes
    ----------
    objective : Objective
        What it was optimized for.
    image : numpy.ndarray
        (C, H, W) float32 in [0, 1], in steps of 1/255, at the size of the network's input (or its
        own, where that is larger).
    initial, final : float
        The activation on the first image and on this one, seen straight.
    trace : sequence of float
        The objective on the view that each step saw.
    alive : bool
        Whether the objective has ever had a gradient: it cannot be reached from the input else.
    opacity : numpy.ndarray, optional
        (H, W) uint8: how much each pixel counts (maco, where it was asked for).
    answer : int, optional
        Of a class: the one of the highest score on the image, which may be another.
    """

    objective: Objective
    image: np.ndarray
    initial: float
    final: float
    trace: Sequence[float]
    alive: bool
    opacity: np.ndarray | None = None
    answer: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Describe all but the image for a list; the trace to six digits."""
        return {
            "objective": self.objective.name,
            "initial": self.initial,
            "final": self.final,
            "trace": [float(f"{value:.6g}") for value in self.trace],
        }


@dataclass(frozen=True, kw_only=True)
class PictureStep(Step):
    """Steps of all images so far, and the pictures that this one finished.

    `values` (N,) are the objectives, where they were computed; `value`, their mean, waits for them.
    `number` is the steps of each image; `state` gives what these need to go on from here.
    """

    values: Tensor
    pictures: tuple[Picture, ...] = ()
    number: int = 0
    state: Callable[[], dict[str, Any]] | None = None

    @property
    def value(self) -> float:
        """Mean objective."""
        return float(self.values.mean())


@with_gradients
def visualize(
    model: Model,
    objectives: Sequence[Objective],
    settings: VisualizeSettings | None = None,
    run: RunSettings | None = None,
    photo: np.ndarray | None = None,
    activations: Sequence[Objective] | None = None,
    state: Mapping[str, Any] | None = None,
    prior: Prior | None = None,
) -> Generator[PictureStep, None, None]:
    """Optimize an image for each objective.

    Parameters
    ----------
    model : Model
        The network.
    objectives : sequence of Objective
        What to make large; nothing of one enters another's picture, but for rounding (see
        `optimize`).
    settings : VisualizeSettings, optional
        The method.
    run : RunSettings, optional
        Images that climb together.
    photo : numpy.ndarray, optional
        (C, H, W) uint8, or float32 in [0, 1]: where to start, whatever `settings.init` names.
    activations : sequence of Objective, optional
        What is measured of each picture in the end; the objectives themselves by default.
    state : mapping, optional
        Where the images of an earlier request stopped, a row per objective (see
        `PictureStep.state`, `rows_of`). They go on from there and become the same pictures, in
        the same batches.
    prior : Spectrum or Generator, optional
        What images take from photos: maco's spectrum (see `maco.spectrum_of`; 1/f by default), a
        generator (which its method needs).

    Yields
    ------
    PictureStep
        After every step; the last one of each batch carries its pictures.

    Raises
    ------
    CnnlensError
        When an activation is not finite, or memory runs out.
    """
    settings, run = settings or VisualizeSettings(), run or RunSettings()
    total = len(objectives) * settings.climb
    measured = objectives if activations is None else activations
    with model.in_use():
        for rows in _batches(objectives, run.batch_size):
            part = None if state is None else rows_of(state, rows)
            given = objectives[rows], measured[rows]
            for step in _ascend(model, *given, settings, run.batch_size, photo, part, prior):
                done = step.done + rows.start * settings.climb
                yield replace(step, done=done, total=total)


def _batches(objectives: Sequence[Objective], size: int) -> Iterator[slice]:
    """Cut objectives into batches of one kind."""
    start = 0
    for _, alike in groupby(objectives, kind_of):
        end = start + len(list(alike))
        yield from (slice(at, min(at + size, end)) for at in range(start, end, size))
        start = end


def rows_of(state: Mapping[str, Any], rows: slice | Sequence[int]) -> dict[str, Any]:
    """Take the state of some of the images, by their places among all."""
    return {**state, "rows": {name: values[rows] for name, values in state["rows"].items()}}


def _ascend(
    model: Model,
    objectives: Sequence[Objective],
    measured: Sequence[Objective],
    settings: VisualizeSettings,
    batch_size: int,
    photo: np.ndarray | None,
    state: Mapping[str, Any] | None,
    prior: Prior | None,
) -> Iterator[PictureStep]:
    settings = completed(model, settings, objectives[0])
    image = image_of(model, settings, prior)
    randomness = generators(settings.seed, objectives)
    start = _start(model, image, settings, randomness, photo)
    if isinstance(image, Fourier) and settings.contrast != 0:
        kept = None if photo is None else start
        image = _bounded(model, objectives, image, settings.contrast, kept)
    steps = optimize(
        model,
        objectives,
        image,
        start,
        randomness,
        recipe(settings),
        update_of(settings),
        batch_size=batch_size,
        state=state,
    )
    known = [] if state is None else state["rows"]["trace"].unbind(1)
    traces = [values.to(model.device) for values in known]
    for step in steps:
        traces.append(step.values)  # read in the end
        if step.done < step.total:
            state_now = partial(_with_trace, step.state, traces)
            yield replace(_step(step, len(objectives)), state=state_now)
    begun = as_seen(model, image.decode(start))
    pictures = _pictures(model, objectives, measured, step, begun, traces, settings.transparent)
    yield _step(step, len(objectives), pictures)


def _bounded(
    model: Model,
    objectives: Sequence[Objective],
    image: Fourier,
    contrast: float | None,
    photo: Tensor | None,
) -> Fourier:
    """The same image with bounds on its contrast; a photo, as codes (N, …), keeps its own."""
    most = bounds(model, objectives, contrast)
    if photo is not None:
        own = image.contrast(photo)
        most = (torch.maximum(most[0], own[0]), torch.maximum(most[1], own[1]))
    return replace(image, bounds=most)


def _pictures(
    model: Model,
    objectives: Sequence[Objective],
    measured: Sequence[Objective],
    last: AscentStep,
    begun: Tensor,
    traces: list[Tensor],
    transparent: bool,
) -> tuple[Picture, ...]:
    """Measure what the last step leaves, beside the images (N, C, H, W) that it began with."""
    images = _better(model, objectives, last.images().cpu(), last.best().cpu())
    before = activation(model, measured, begun)
    after = activation(model, measured, images)
    climbs = torch.stack(traces, 1).tolist()  # N × steps
    opacity = transparency(last.touched) if transparent else [None] * len(images)
    answer = answers(model, measured, images)
    alive = last.alive.tolist()
    columns = objectives, images.numpy(), before, after, climbs, alive, opacity, answer
    return tuple(Picture(*row) for row in zip(*columns, strict=True))


def _better(model: Model, objectives: Sequence[Objective], last: Tensor, best: Tensor) -> Tensor:
    """Of each objective's last image and the best one on the way, the one that is better seen."""
    ends = [as_seen(model, images) for images in (last, best)]
    values = torch.tensor([activation(model, objectives, images) for images in ends])  # (2, N)
    return torch.where((values[1] > values[0]).reshape(-1, 1, 1, 1), ends[1], ends[0])


def _with_trace(state: Callable[[], dict[str, Any]], traces: Sequence[Tensor]) -> dict[str, Any]:
    found = state()
    return {**found, "rows": {**found["rows"], "trace": torch.stack(list(traces), 1).cpu()}}


def _step(step: AscentStep, images: int, pictures: tuple[Picture, ...] = ()) -> PictureStep:
    values = step.values
    return PictureStep(
        step.done * images,
        0,
        unit="steps",
        note=Words(lambda: f"{float(values.mean()):.3g}"),
        values=values,
        pictures=pictures,
        number=step.done,
    )


def _start(
    model: Model,
    image: Image,
    settings: VisualizeSettings,
    randomness: Sequence[torch.Generator],
    photo: np.ndarray | None,
) -> Tensor:
    """First codes (N, …)."""
    noise = image.noise(randomness, settings.noise)  # drawn always: views are then the same
    if photo is None and settings.init == "noise":
        return noise
    channels, *size = image.shape
    if photo is None:
        picture = mean_colour(model).expand(image.shape)
    else:
        picture = as_planes(torch.from_numpy(photo)[None], channels)
        picture = resized(picture, (size[0], size[1]))[0]
    return image.encode(picture.expand(len(noise), channels, *size))
