"""Artificial units of known labels: what naming and exam make of them says what these are worth.

A unit is a concept, or two of them joined by OR or AND, plus Gaussian noise of a stated
signal-to-noise ratio: the concept's standard deviation over the noise's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from cnnlens.activations.sources import Observer
from cnnlens.data.broden import Broden
from cnnlens.errors import CnnlensError
from cnnlens.measure.exam import Sheet
from cnnlens.measure.exam_maps import MapTruth, concept_index
from cnnlens.measure.exam_truth import class_truth
from cnnlens.measure.linear_labels import class_concepts
from cnnlens.measure.meaning import Meaning, read_meaning
from cnnlens.progress import Step

_BATCH = 256
_SHARE, _LEAST = 0.04, 8  # of the images that a planted concept is on, at least: share, number


@dataclass(eq=False)
class Planted:
    """A source of artificial units.

    Attributes
    ----------
    meanings : list of Meaning
        What each unit is.
    positions : numpy.ndarray
        (n,) the images' places in the data.
    maps : numpy.ndarray
        (n, P, H, W) float32.
    shows : numpy.ndarray or None
        (n, P) bool, on which images there is any of it; None where that tells no labels apart.
    """

    meanings: list[Meaning]
    positions: np.ndarray
    maps: np.ndarray
    shows: np.ndarray | None = None
    skipped: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        images, units, height, width = self.maps.shape
        self.shapes: Sequence[tuple[int, int, int]] = [(units, height, width)]
        self.limits: Sequence[int] = [images]

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show the observer all images."""
        for start in range(0, len(self.positions), _BATCH):
            rows = slice(start, start + _BATCH)
            observers[0](self.positions[rows], self.maps[rows])
            yield Step(min(start + _BATCH, len(self.positions)), len(self.positions))


def noisy(signal: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise to every unit of a signal (n, P, H, W)."""
    spread = signal.std(axis=(0, 2, 3), keepdims=True) / ratio
    found: np.ndarray = signal + rng.standard_normal(signal.shape, np.float32) * spread
    return found.astype(np.float32)


def plant_classes(
    of: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    positions: np.ndarray,
    count: int,
    ratio: float,
    seed: int,
) -> Planted:
    """Plant units that are a class, a group of classes, or one of two.

    Parameters
    ----------
    of : sequence of str
        Each image's class.
    groups : mapping of str to sequence of str
        Classes of each group.
    positions : numpy.ndarray
        (n,) the images' places in the data.
    count : int
        Units, every second of two concepts.
    ratio : float
        Signal to noise.
    seed : int
        Of concepts and noise.
    """
    names, concepts = class_concepts(of, groups)
    rng = np.random.default_rng((seed, 5))
    apart = [
        (a, b)
        for a, b in combinations(range(len(names)), 2)
        if not (concepts[:, a] * concepts[:, b]).any()
    ]
    apart = [pair for pair in apart if not concepts[:, list(pair)].any(axis=1).all()]
    texts = []
    for number in range(count):
        if number % 2 and apart:
            a, b = apart[int(rng.integers(len(apart)))]
            texts.append(f"{names[a]} + {names[b]}")
        else:
            texts.append(names[int(rng.integers(len(names)))])
    meanings = [read_meaning(text, {name: name for name in names}) for text in texts]
    truth = class_truth(meanings, names, concepts)
    signal = truth.amount[:, :, None, None]
    return Planted(meanings, positions, noisy(signal, ratio, rng), truth.amount > 0)


def plant_maps(
    data: Broden,
    positions: np.ndarray,
    extent: tuple[int, int],
    count: int,
    ratio: float,
    seed: int,
) -> Planted:
    """Plant units whose maps are a concept's pixels, or those of two joined by OR or AND.

    Parameters
    ----------
    data : Broden
        With label maps.
    positions : numpy.ndarray
        (n,) places in the data.
    extent : (int, int)
        (H, W) of the maps.
    count : int
        Units: of one concept, of two joined by OR, by AND, in turn.
    ratio, seed
        As in `plant_classes`.
    """
    names = concept_index(data)
    singles = MapTruth(data, [Meaning(((name, 1.0),)) for name in names])
    for _ in singles.steps(positions, np.arange(len(positions))):
        pass
    rng = np.random.default_rng((seed, 5))
    least = max(_LEAST, _SHARE * len(positions))
    often = np.flatnonzero(singles.shows.sum(axis=0) >= least)
    if not len(often):
        raise CnnlensError(
            f"no concept of {data.name} is on so many images that it could be planted",
            "leave out --planted",
        )
    texts = [str(text) for text in _drawn(singles, often, list(names), count, rng)]
    meanings = [read_meaning(text, {name: name for name in names}) for text in texts]
    signal = np.zeros((len(positions), count, *extent), np.float32)
    for row in range(len(positions)):
        size = singles.sizes.get(row)
        if size is None:  # its labels are unusable
            continue

        def where(name: str, row: int = row, size: Any = size) -> np.ndarray:
            mask = singles.mask(names[name], row)
            return np.zeros(size[0] * size[1], bool) if mask is None else mask.astype(bool)

        for unit, meaning in enumerate(meanings):
            signal[row, unit] = _smaller(meaning.where(where).reshape(size), extent)
    return Planted(meanings, positions, noisy(signal, ratio, rng))


def _drawn(
    singles: MapTruth, often: np.ndarray, names: list[str], count: int, rng: np.random.Generator
) -> Iterator[str]:
    """Draw concepts in turn with pairs: OR of any two, AND of two that meet on enough images."""
    for number in range(count):
        one = int(rng.choice(often))
        word = ("", "OR", "AND")[number % 3]
        others = [int(other) for other in rng.permutation(often) if other != one]
        if word == "AND":
            others = [other for other in others if _meet(singles, one, other)][:1]
        yield f"{names[one]} {word} {names[others[0]]}" if word and others else names[one]


def _meet(singles: MapTruth, one: int, other: int) -> bool:
    """Whether two concepts are at one pixel on enough images to be one that is planted."""
    rows = np.flatnonzero(singles.shows[:, one] & singles.shows[:, other])
    least = max(_LEAST, _SHARE * len(singles.shows))
    if len(rows) < least:
        return False
    both = (singles.masks[one, row] & singles.masks[other, row] for row in rows.tolist())
    return sum(bool(bits.any()) for bits in both) >= least


def _smaller(mask: np.ndarray, extent: tuple[int, int]) -> np.ndarray:
    """Share of a mask (h, w) in every cell of a map."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    whole = torch.from_numpy(mask.astype(np.float32))[None]
    found: np.ndarray = adaptive_avg_pool2d(whole, extent)[0].numpy()
    return found


@dataclass(frozen=True)
class Found:
    """What became of a planted unit.

    Attributes
    ----------
    unit : int
        Counted from 0.
    planted, label : str
        What it is, and what it was called.
    is_found : bool
        Whether its label says what it is: of two concepts, where only one can be named, one.
    correlation, p_value : float or None
        On images that chose nothing.
    passes : bool
        Whether its label passes.
    """

    unit: int
    planted: str
    label: str
    is_found: bool
    correlation: float | None
    p_value: float | None
    passes: bool


def found_of(planted: Planted, sheet: Sheet, whole: bool = False) -> list[Found]:
    """Hold the labels that planted units were given against what they are.

    Labels of classes are right where they name the same classes, whatever their weights; those of
    label maps where they name the concept, or one of two; formulas where they are the one that was
    planted.
    """
    rows = {claim.unit: at for at, claim in enumerate(sheet.claims)}
    found = []
    for unit, meaning in enumerate(planted.meanings):
        said, at = _said(meaning), rows.get(unit)
        if at is None:
            found.append(Found(unit, said, "", False, None, None, False))
            continue
        row, of = sheet.rows[at], sheet.truth.meanings.index(sheet.claims[at].meaning)
        is_found = _is_found(sheet.claims[at].meaning, meaning, whole)
        if planted.shows is not None:
            is_found = bool(((sheet.truth.amount[:, of] > 0) == planted.shows[:, unit]).all())
        score = None if np.isnan(row.scores[0]) else float(row.scores[0])
        found.append(Found(unit, said, row.label, is_found, score, row.p_value, row.passes))
    return found


def _is_found(said: Meaning, planted: Meaning, whole: bool) -> bool:
    if whole:
        return bool(said.canonical == planted.canonical)
    return not set(said.concepts).isdisjoint(planted.concepts)


def _said(meaning: Meaning) -> str:
    if meaning.formula is None:
        return " + ".join(meaning.concepts)
    word, *parts = meaning.formula
    return f" {word.upper()} ".join(parts)
