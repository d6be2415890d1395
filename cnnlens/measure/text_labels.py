"""Names from words: how well images and words agree, by the vectors of an encoder.

A word's score on an image is the cosine of their vectors. `linear` brings it through a sigmoid and
makes a sparse sum of words, as names from classes are (Oikarinen & Weng 2024). `soft-wpmi` asks
which word stands out on the images that a unit answers to most (CLIP-Dissect, Oikarinen & Weng
2023). Words are compared in blocks: a hundred thousand fit the memory, too.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from cnnlens.activations.sources import Source
from cnnlens.data.word_vectors import WordVectors
from cnnlens.measure.linear_labels import Label, Parts, Search, correlation, split, standard
from cnnlens.measure.unit_labels import (
    LayerLabels,
    UnitLabel,
    draws_of,
    rarity,
    responses,
    row_of,
    shuffled,
)
from cnnlens.progress import Step
from cnnlens.settings.label import LabelSettings, TextSettings

_BLOCK = 1024  # words at once
_CANDIDATES = 100  # of a unit, among which a sparse sum is looked for
_SHARPNESS, _TOP, _FIRST, _LAST = 10.0, 100, 0.998, 0.97  # of soft-wpmi, as published
_SHARE = 10  # the images that choose are at least so many times the top ones
_SCALES, _OFFSETS = (0.5, 2.0, 5.0), (0.0, 1.0, 2.0)  # of the sigmoid, in standard deviations


@dataclass(frozen=True, eq=False)
class Words:
    """Scores of words on images, of whose vectors (n, D) and (K, D) they are the cosines.

    Attributes
    ----------
    images, words : numpy.ndarray
        Vectors of length 1.
    parts : Parts
        Which images do what.
    scale, offset : float
        Of the sigmoid; a scale of 0 leaves the cosines as they are.
    """

    images: np.ndarray
    words: np.ndarray
    parts: Parts
    scale: float = 0.0
    offset: float = 0.0

    def scores(self, rows: np.ndarray, columns: np.ndarray | slice) -> np.ndarray:
        """Score some words on some images, (n, k)."""
        cosines: np.ndarray = self.images[rows] @ self.words[columns].T  # (n, k)
        if not self.scale:
            return cosines
        fit = self.images[self.parts.fit] @ self.words[columns].T
        spread = fit.std(axis=0)
        apart = (cosines - fit.mean(axis=0)) / np.where(spread > 1e-7, spread, np.inf)
        found: np.ndarray = 1 / (1 + np.exp(-self.scale * (apart - self.offset)))
        return found

    def blocks(self) -> Iterator[slice]:
        """Part the words."""
        yield from (slice(at, at + _BLOCK) for at in range(0, len(self.words), _BLOCK))

    def agreement(self, units: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Correlate every unit of values (n, C) with every word on some images, (C, K)."""
        own = standard(units[rows]).astype(np.float32).T / len(rows)  # (C, n)
        return np.concatenate(
            [own @ standard(self.scores(rows, block)) for block in self.blocks()], axis=1
        )

    def fitted(self, units: np.ndarray) -> Words:
        """Fit the sigmoid: units' best words shall follow them closely, on the images that fit."""
        some = replace(self, words=self.words[:: math.ceil(len(self.words) / _BLOCK)])
        tried = [replace(some, scale=k, offset=b) for k in _SCALES for b in _OFFSETS]
        reached = [one.agreement(units, self.parts.fit).max(axis=1).mean() for one in tried]
        best = tried[int(np.argmax(reached))]
        return replace(self, scale=best.scale, offset=best.offset)


def text_label_steps(
    source: Source, vectors: WordVectors, settings: LabelSettings, text: TextSettings
) -> Generator[Step, None, LayerLabels]:
    """Name the units of a source's first layer by words, step by step.

    Parameters
    ----------
    source : Source
        Activations of one layer, on images that are there once (see `distinct`).
    vectors : WordVectors
        Of every image of the data, by position; those of length 0 are left out.
    settings, text : LabelSettings, TextSettings
        What a name may be made of, and how it is chosen.

    Raises
    ------
    CnnlensError
        When there are too few images.
    """
    values, positions = yield from responses(source, len(vectors.images), settings.response)
    kept = vectors.images[positions].any(axis=1)
    units, images = values[kept].astype(np.float64), vectors.images[positions[kept]]  # (n, C)
    parts = split(len(units), settings.seed)
    words = Words(images, vectors.words, parts)
    choose: type[Namer] = Linear if text.method == "linear" else SoftWPMI
    namer = choose(words, units, settings)
    by_chance = [
        choose(replace(words, images=images[order]), units, settings)
        for order in (shuffled(len(units), settings.seed, at) for at in range(settings.chance))
    ]
    draws = draws_of(len(parts.held), settings.seed)
    better = namer.words.agreement(units, parts.held)  # (C, K)
    rows = []
    for unit in range(units.shape[1]):
        found = namer.label(unit)
        chances = [one.label(unit).score or 0.0 for one in by_chance]
        chance = sum(chances) / len(chances) if chances else None
        held = units[parts.held, unit]
        rare = rarity(namer.predict(found), held, found.score, draws) if found.terms else None
        row = row_of(unit, found, vectors.names, chance, rare)
        rows.append(_placed(row, found, better[unit]))
        yield Step(unit + 1, units.shape[1], "naming", unit="units")
    return LayerLabels(rows, list(vectors.names), parts)


def _placed(row: UnitLabel, found: Label, held: np.ndarray) -> UnitLabel:
    """Say how the best word does among all on the images held out, and by how much it leads."""
    if found.single < 0 or found.single_score is None:
        return row
    rank = int(1 + np.count_nonzero(held > held[found.single] + 1e-6))
    after = found.runner_up_score
    return replace(row, rank=rank, margin=None if after is None else found.single_score - after)


class Namer:
    """Names units of values (n, C) by words."""

    def __init__(self, words: Words, units: np.ndarray, settings: LabelSettings) -> None:
        self.words, self.units, self.parts, self.settings = words, units, words.parts, settings

    def label(self, unit: int) -> Label:
        """Name a unit."""
        raise NotImplementedError

    def predict(self, found: Label) -> np.ndarray:
        """Give what a name says of the images held out, (n,)."""
        columns = np.array([at for at, _ in found.terms])
        weights = np.array([weight for _, weight in found.terms])
        said: np.ndarray = self.words.scores(self.parts.held, columns) @ weights
        return said


class Linear(Namer):
    """A sparse sum of words."""

    def __init__(self, words: Words, units: np.ndarray, settings: LabelSettings) -> None:
        super().__init__(words.fitted(units), units, settings)
        count = min(_CANDIDATES, len(words.words))
        both = np.concatenate([words.parts.fit, words.parts.choose])
        agrees = self.words.agreement(units, both)  # (C, K)
        self._near = np.argsort(-agrees, axis=1, kind="stable")[:, :count]

    def label(self, unit: int) -> Label:
        """Search among the words that follow the unit most closely."""
        near = np.sort(self._near[unit])
        scores = self.words.scores(np.arange(len(self.units)), near).astype(np.float64)  # (n, k)
        search = Search(scores, self.parts, self.settings.terms, gain=self.settings.gain)
        found = search.label(self.units[:, unit])
        return replace(
            found,
            terms=tuple((int(near[at]), weight) for at, weight in found.terms),
            single=int(near[found.single]) if found.single >= 0 else -1,
            runner_up=int(near[found.runner_up]) if found.runner_up >= 0 else -1,
        )


class SoftWPMI(Namer):
    """The word that stands out on the images that a unit answers to most."""

    def __init__(self, words: Words, units: np.ndarray, settings: LabelSettings) -> None:
        super().__init__(words, units, settings)
        both = np.concatenate([words.parts.fit, words.parts.choose])
        top = min(_TOP, max(1, len(both) // _SHARE))
        self._agrees = information(words, units, both, top)  # (C, K)

    def label(self, unit: int) -> Label:
        """Name a unit; one that is the same on all images has no name."""
        if not standard(self.units[:, unit]).any():
            return Label((), None, -1, None, -1, None)
        best, after = (int(at) for at in np.argsort(-self._agrees[unit], kind="stable")[:2])
        held = self.units[self.parts.held, unit]
        said = self.words.scores(self.parts.held, np.array([best, after])).T  # (2, n)
        score, second = (correlation(one, held) for one in said)
        return Label(((best, 1.0),), score, best, score, after, second)


def information(words: Words, units: np.ndarray, rows: np.ndarray, top: int) -> np.ndarray:
    """Soft WPMI (C, K) of units with words, on some images, by each unit's `top` ones.

    Notes
    -----
    CLIP-Dissect, Oikarinen & Weng, ICLR 2023: the logarithm of how probable a word is given the
    images that excite a unit, less that of how probable it is over all units.
    """
    best = np.argsort(-units[rows], axis=0, kind="stable")[:top].T  # (C, top)
    falls = _FIRST - np.arange(top) / top * (_FIRST - _LAST)  # (top,)
    whole = np.concatenate(
        [_log_sum(words.scores(rows, block) * _SHARPNESS)[None] for block in words.blocks()]
    )  # (blocks, n)
    whole = _log_sum(whole.T)  # (n,) of all words
    found = []
    for block in words.blocks():
        share = np.exp(words.scores(rows, block) * _SHARPNESS - whole[:, None])  # (n, k)
        said = [np.log(1 + falls[:, None] * (share[one] - 1) + 1e-7).sum(axis=0) for one in best]
        given = np.stack(said)  # (C, k)
        found.append(given - (_log_sum(given.T)[None] - np.log(len(given))))
    return np.concatenate(found, axis=1)


def _log_sum(values: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of exponentials along the last axis."""
    highest = values.max(axis=-1, keepdims=True)
    found: np.ndarray = highest[..., 0] + np.log(np.exp(values - highest).sum(axis=-1))
    return found
