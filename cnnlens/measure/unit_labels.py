"""The names of a layer's units, each held against images that chose nothing, and against chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlens.activations.sources import Source
from cnnlens.errors import CnnlensError
from cnnlens.measure.linear_labels import (
    Label,
    Parts,
    Search,
    class_concepts,
    split,
    standard,
)
from cnnlens.measure.top import PeakLocations
from cnnlens.progress import Step, followed
from cnnlens.settings.label import LabelSettings

_DRAWS = 999  # shuffles of the images that are held out, for a p-value
SURE = 0.01  # a p-value below which a name is more than chance


@dataclass(frozen=True)
class UnitLabel:
    """A unit's name, in one row.

    Attributes
    ----------
    unit : int
        Counted from 0.
    label : str
        The concepts it is a sum of, the heaviest first; empty where none rises with the unit.
    score : float or None
        Pearson's correlation of that sum with the unit on images held out.
    runner_up, runner_up_score : str, float or None
        The next best single concept, and its correlation there.
    chance : float or None
        The score that is reached when images are shuffled: mean over the shuffles.
    p_value : float or None
        How often shuffled images that are held out give so high a score, of 1,000 with its own.
    terms : tuple of (str, float)
        The concepts with their weights, in standard deviations of the unit.
    single, single_score : str, float or None
        The best single concept, and its correlation on images held out.
    rank, margin : int, float or None
        Of names from words: that word's place among all by its correlation on images held out,
        and by how much it is above the runner-up's.
    """

    unit: int
    label: str
    score: float | None
    runner_up: str
    runner_up_score: float | None
    chance: float | None
    p_value: float | None
    terms: tuple[tuple[str, float], ...]
    single: str
    single_score: float | None
    rank: int | None = None
    margin: float | None = None

    @property
    def is_sure(self) -> bool:
        """Whether so high a score is rare by chance."""
        return self.p_value is not None and self.p_value < SURE


@dataclass(frozen=True, eq=False)
class LayerLabels:
    """The names of a layer's units.

    Attributes
    ----------
    rows : list of UnitLabel
        One per unit.
    concepts : list of str
        What names could be made of.
    parts : Parts
        Which images did what.
    skipped : list of (path, reason)
        None: whoever reads the images says which could not be read.
    """

    rows: list[UnitLabel]
    concepts: list[str]
    parts: Parts
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.rows)

    def summary(self) -> dict[str, Any]:
        """Sum up in plain numbers, for JSON."""
        parts = self.parts
        return {
            "units": self.units,
            "images": len(parts.fit) + len(parts.choose) + len(parts.held),
            "images_held_out": len(parts.held),
            "concepts": len(self.concepts),
            "named": sum(bool(row.label) for row in self.rows),
            "sure": sum(row.is_sure for row in self.rows),
            **(means(self.rows) if self.rows else {}),
        }


def means(rows: Sequence[UnitLabel]) -> dict[str, Any]:
    """Average what is known of units; ``scored`` of them have a score."""
    return {
        "scored": sum(row.score is not None for row in rows),
        "mean_score": _mean(row.score for row in rows),
        "mean_single_score": _mean(row.single_score for row in rows),
        "chance": _mean(row.chance for row in rows),
    }


def _mean(values: Iterator[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def label(
    source: Source,
    categories: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
    settings: LabelSettings | None = None,
    progress: Callable[[Step], None] | None = None,
) -> LayerLabels:
    """Name the units of a source's first layer by classes and groups of classes.

    Parameters
    ----------
    source : Source
        Activations of one layer, on images that are there once (see `distinct`).
    categories : sequence of str
        Of every image of the data, by position.
    groups : mapping of str to sequence of str, optional
        Classes of each group.
    settings : LabelSettings, optional
        What a name may be made of.
    progress : callable, optional
        Called often with a Step.

    Raises
    ------
    CnnlensError
        When all images are of one class, or too few.

    Notes
    -----
    Oikarinen & Weng, "Linear Explanations for Individual Neurons", ICML 2024.
    """
    return followed(
        label_steps(source, categories, groups or {}, settings or LabelSettings()), progress
    )


def responses(
    source: Source, images: int, response: str
) -> Generator[Step, None, tuple[np.ndarray, np.ndarray]]:
    """Units' means or peaks on images, (n, C), and the images' positions (n,)."""
    shape = source.shapes[0]
    peaks = PeakLocations(images, shape)
    for step in source.sweep([peaks]):
        yield Step(step.done, step.total, "activations", limit=step.limit)
    positions = np.flatnonzero(peaks.seen)
    values = peaks.scores if response == "peak" else peaks.sums / math.prod(shape[1:])
    return values[positions], positions


def label_steps(
    source: Source,
    categories: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    settings: LabelSettings,
) -> Generator[Step, None, LayerLabels]:
    """Do what `label` does, step by step."""
    values, positions = yield from responses(source, len(categories), settings.response)
    names, concepts = class_concepts([categories[at] for at in positions.tolist()], groups)
    if len(names) < 2:
        raise CnnlensError(f"all images are of one class, {names[0]}", "names tell classes apart")
    parts = split(len(values), settings.seed)
    shuffles = [
        Search(concepts[shuffled(len(values), settings.seed, draw)], parts, settings.terms,
               gain=settings.gain)
        for draw in range(settings.chance)
    ]  # fmt: skip
    search = Search(concepts, parts, settings.terms, gain=settings.gain)
    draws = draws_of(len(parts.held), settings.seed)
    rows = []
    for unit, of_images in enumerate(values.T.astype(np.float64)):
        found = search.label(of_images)
        by_chance = [shuffle.label(of_images).score or 0.0 for shuffle in shuffles]
        chance = sum(by_chance) / len(by_chance) if by_chance else None
        rows.append(row_of(unit, found, names, chance, p_value(search, found, of_images, draws)))
        yield Step(unit + 1, values.shape[1], "naming", unit="units")
    return LayerLabels(rows, names, parts)


def p_value(search: Search, found: Label, unit: np.ndarray, draws: np.ndarray) -> float | None:
    """Say how often a name fits as well when the images that are held out are shuffled.

    `draws` are shuffles (D, n) of them; the name stays as it was chosen.
    """
    if found.score is None:
        return None
    return rarity(search.predict(found.terms), unit[search.parts.held], found.score, draws)


def rarity(
    said: np.ndarray, held: np.ndarray, score: float | None, draws: np.ndarray
) -> float | None:
    """Say how often what is `said` of images correlates so highly with shuffled ones."""
    if score is None:
        return None
    said, held = standard(said), standard(held)
    by_chance = held[draws] @ said / len(said)  # (D,)
    return float((1 + np.count_nonzero(by_chance >= score - 1e-12)) / (1 + len(draws)))


def draws_of(images: int, seed: int) -> np.ndarray:
    """Shuffle the images held out, often, for p-values: (D, n)."""
    order = np.tile(np.arange(images, dtype=np.int32), (_DRAWS, 1))
    found: np.ndarray = np.random.default_rng((seed, 1)).permuted(order, axis=1)
    return found


def shuffled(images: int, seed: int, draw: int) -> np.ndarray:
    """Shuffle all images, for the chance level."""
    return np.random.default_rng((seed, 2, draw)).permutation(images)


def row_of(
    unit: int, found: Label, names: Sequence[str], chance: float | None, p: float | None
) -> UnitLabel:
    """Write a label as a row."""
    terms = tuple((names[at], round(weight, 6)) for at, weight in found.terms)
    label = " + ".join(str(name) for name, _ in terms)
    best, second = (names[at] if at >= 0 else "" for at in (found.single, found.runner_up))
    return UnitLabel(
        unit, label, found.score, second, found.runner_up_score, chance if label else None, p,
        terms, best, found.single_score,
    )  # fmt: skip
