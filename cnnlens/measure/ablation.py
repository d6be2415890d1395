"""What classes lose without units of a layer: their scores, and how well they are told apart.

A unit's map is replaced by its mean over the data, position by position. The images of each class,
equal ones once, are parted in halves: one says which units matter to the class, by how much its
score falls on its images without each; on the other, held out, everything is measured. Of a class
that is how well it is told from all others, the balanced one-class accuracy: (true-positive rate +
true-negative rate) / 2 of "predicted as this class". The best units of a class are taken out
together, beside random sets of as many.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnlens.activations.sources import Observer
from cnnlens.data.dataset import ImageSet
from cnnlens.measure.accuracy import classes_of, scores_steps
from cnnlens.measure.changed_classes import Effect, Told
from cnnlens.measure.distinct import Peaks
from cnnlens.measure.halves import halves
from cnnlens.measure.ranked_units import EXACT, Questions, ranked
from cnnlens.measure.without import Asker, Change, Projected, Removed
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.trace import Place
from cnnlens.progress import Step, followed, relayed
from cnnlens.settings import RunSettings
from cnnlens.settings.ablate import AblateSettings


@dataclass(frozen=True)
class Curve:
    """A class without its best units, in one row.

    Attributes
    ----------
    cls : str
        The class.
    k : int
        Units taken out together.
    accuracy : float
        Balanced one-class accuracy without them, on images held out.
    low, high : float or None
        Its 95 % interval over images.
    random_mean, random_low, random_high : float or None
        The same without random units: mean, and 2.5 and 97.5 % of the sets; None without any.
    """

    cls: str
    k: int
    accuracy: float
    low: float | None
    high: float | None
    random_mean: float | None
    random_low: float | None
    random_high: float | None
    units: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        found = {("class" if name == "cls" else name): value for name, value in vars(self).items()}
        return {**found, "units": list(self.units)}


@dataclass(frozen=True, eq=False)
class LayerAblation:
    """What the classes lose without units of a layer.

    Attributes
    ----------
    effects : list of Effect
        Of every unit on every class.
    concepts : list of Effect
        Of every direction that was projected out, named by its concept.
    curves : list of Curve
        Of every class, by number of units.
    told : Told
        The classes as they are, on images held out.
    about : mapping
        What the summary says besides.
    skipped : sequence of (path, reason)
        Images that could not be read.
    """

    effects: list[Effect]
    concepts: list[Effect]
    curves: list[Curve]
    told: Told
    about: dict[str, Any]
    skipped: Sequence[tuple[str, str]] = ()

    @property
    def units(self) -> int:
        """How many units were taken out, one by one."""
        return len({one.unit for one in self.effects})

    def summary(self) -> dict[str, Any]:
        """Sum up in plain numbers, for JSON."""
        return {
            **self.about,
            "units": self.units,
            "classes": self.told.as_dicts(),
            "curves": [one.as_dict() for one in self.curves],
        }


def ablate(
    model: Model,
    images: ImageSet,
    layer: Layer,
    units: Sequence[int] | None = None,
    directions: dict[str, np.ndarray] | None = None,
    settings: AblateSettings | None = None,
    run: RunSettings | None = None,
    scores_at: Place | None = None,
    progress: Callable[[Step], None] | None = None,
) -> LayerAblation:
    """Take units out of a layer, and measure what the classes lose.

    Parameters
    ----------
    model : Model
        The network.
    images : ImageSet
        With classes, which are the network's.
    layer : Layer
        On the way to the class scores.
    units : sequence of int, optional
        Which; left out: all.
    directions : mapping of str to numpy.ndarray, optional
        Of length 1, (C,), to be projected out, by name.
    settings : AblateSettings, optional
        What stands in for them, how many go together.
    run : RunSettings, optional
        Batch size and workers.
    scores_at : Place, optional
        Where the class scores are; left out: what the network returns.
    progress : callable, optional
        Called often with a Step.

    Raises
    ------
    UsageError
        When the data has no classes.
    CnnlensError
        When all images are of one class, a class has one image only, the classes are not the
        network's, or its scores do not depend on the layer.
    """
    steps = ablate_steps(
        model, images, layer, range(layer.units) if units is None else units, directions or {},
        settings or AblateSettings(), run or RunSettings(), scores_at,
    )  # fmt: skip
    return followed(steps, progress)


class _Mean:
    """Adds up maps, and notes which units ever change."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._sum, self._count = np.zeros(shape, np.float64), 0
        self._low, self._high = np.full(shape[0], np.inf), np.full(shape[0], -np.inf)

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W)."""
        self._sum += maps.sum(axis=0, dtype=np.float64)
        self._count += len(maps)
        self._low = np.minimum(self._low, maps.min(axis=(0, 2, 3)))
        self._high = np.maximum(self._high, maps.max(axis=(0, 2, 3)))

    @property
    def value(self) -> np.ndarray:
        """(C, H, W) float32."""
        return (self._sum / max(self._count, 1)).astype(np.float32)

    @property
    def silent(self) -> list[int]:
        """Units that have one value everywhere, on all images."""
        silent: list[int] = np.flatnonzero(self._low == self._high).tolist()
        return silent


def ablate_steps(
    model: Model,
    images: ImageSet,
    layer: Layer,
    units: Sequence[int],
    directions: dict[str, np.ndarray],
    settings: AblateSettings,
    run: RunSettings,
    scores_at: Place | None = None,
    tell: Callable[[str], None] | None = None,
) -> Generator[Step, None, LayerAblation]:
    """Do what `ablate` does, step by step; `tell` hears what makes it slow."""
    mean, peaks = _Mean(layer.shape), Peaks(len(images.paths), layer.units)
    reading = scores_steps(model, images, run, {layer: _both(mean, peaks)})
    known = yield from relayed(reading, lambda step: replace(step, stage="mean maps"))
    categories = classes_of(images)
    once, copies = peaks.distinct(images, model.preprocess)
    read = once.tolist()
    parts = halves([images.paths[r] for r in read], [categories[r] for r in read], settings.seed)
    rank, held = ([read[at] for at in part] for part in (parts.rank, parts.held))
    asker = Asker(model, layer, run.batch_size, scores_at, tell)
    questions = Questions(model, images, layer, list(units), settings, run, asker)
    questions.wanted = dict(zip(known.rows, known.wanted.tolist(), strict=True))
    names = {questions.wanted[row]: categories[row] for row in read}
    to = torch.from_numpy(mean.value * (settings.to == "mean")).to(model.device)
    sizes = _sizes(settings.sizes, len(questions.units))
    best = yield from ranked(questions, rank, to, sizes)
    plan = _Plan(questions, to, sizes, best, directions)
    answers = yield from questions.answers(held, plan.changes, "without units")
    told = Told(answers, names, settings.seed)
    about = {
        "images": len(read),
        "images_held_out": len(held),
        "repeated_images": copies,
        "silent_units": [unit for unit in mean.silent if unit in set(questions.units)],
        "ranked_by": _ranked_by(len(questions.units)) if best else "",
    }
    return LayerAblation(
        [one for number, unit in enumerate(questions.units) for one in told.effects(number, unit)],
        plan.concepts(told), plan.curves(told), told, about, known.skipped,
    )  # fmt: skip


def _ranked_by(units: int) -> str:
    """How the units that matter most to a class were found among so many: as `ranked` does."""
    return "effect" if units <= EXACT else "gradient, effect"


def _both(one: Observer, other: Observer) -> Observer:
    """Show maps to two at once."""

    def look(positions: np.ndarray, maps: np.ndarray) -> None:
        one(positions, maps)
        other(positions, maps)

    return look


def _sizes(asked: Sequence[int], units: int) -> list[int]:
    """Sizes of sets that there are units for; all of them where fewer than the largest are."""
    if not units:
        return []
    return sorted({min(size, units) for size in asked})


# ---- what is taken out


class _Plan:
    """All that is taken out of the images held out: each unit, the best of each class, random."""

    def __init__(
        self,
        questions: Questions,
        to: Tensor,
        sizes: Sequence[int],
        best: dict[int, list[int]],
        directions: dict[str, np.ndarray],
    ) -> None:
        self._best, self._sizes, self._names = best, sizes, list(directions)
        settings, count = questions.settings, questions.layer.units
        rng = np.random.default_rng([settings.seed, 3])
        self.changes: list[Change] = [Removed((unit,), to) for unit in questions.units]
        self._sets: dict[tuple[int, int], int] = {}  # output, k: number of the change
        for output, order in best.items():
            for k in sizes:
                self._sets[output, k] = self._add(Removed(tuple(order[:k]), to))
        self._random = {
            k: [
                self._add(Removed(tuple(rng.choice(count, k, replace=False).tolist()), to))
                for _ in range(settings.random)
            ]
            for k in sizes
        }
        vectors = [*directions.values()]
        drawn = rng.standard_normal((settings.random if vectors else 0, count)).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        self._first = len(self.changes)
        for vector in [*vectors, *drawn]:
            self._add(Projected(torch.from_numpy(vector).to(to), to))

    def _add(self, change: Change) -> int:
        self.changes.append(change)
        return len(self.changes) - 1

    def curves(self, told: Told) -> list[Curve]:
        """Say how well each class is told from others without its best units."""
        return [self._curve(told, output, k) for output in self._best for k in self._sizes]

    def _curve(self, told: Told, output: int, k: int) -> Curve:
        number = self._sets[output, k]
        low, high = told.interval(number, output)
        others = told.accuracies[self._random[k], told.column(output)]
        band: list[float | None] = [None, None, None]
        if len(others):
            ends = np.quantile(others, [0.025, 0.975])
            band = [float(others.mean()), *ends.tolist()]
        own = float(told.accuracies[number, told.column(output)])
        units = tuple(self._best[output][:k])
        return Curve(told.names[output], k, own, low, high, band[0], band[1], band[2], units)

    def concepts(self, told: Told) -> list[Effect]:
        """Say what each class loses without each direction, beside random ones."""
        after = self._first + len(self._names)
        others = told.accuracies[after:] - told.before  # (random, classes)
        found = [
            one
            for number, name in enumerate(self._names, self._first)
            for one in told.effects(number, None, name)
        ]
        if not len(others):
            return found
        ends = np.quantile(others, [0.025, 0.975], axis=0).T.tolist()  # (classes, 2)
        return [one.beside(*ends[place % len(ends)]) for place, one in enumerate(found)]
