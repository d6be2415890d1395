"""The pixels of a data set by the combination of concepts that they show.

What a logical formula of concepts shares with a unit's mask, and how large it is, are sums over the
distinct combinations of labels in an image: some dozens, where there are thousands of pixels. So
any formula is counted exactly and without its mask. For all of Broden the table is some hundred
megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cnnlens.measure.iou import GroundTruth
from cnnlens.measure.masks import compiled


@dataclass(frozen=True)
class Overlap:
    """What a set of pixels has in common with every concept.

    Attributes
    ----------
    pixels : int
        In the set.
    concepts : numpy.ndarray
        (K,) int64: those that show a concept.
    categories : numpy.ndarray
        (categories,) int64: those in images that carry ground truth of a category.
    """

    pixels: int
    concepts: np.ndarray
    categories: np.ndarray


@dataclass(frozen=True, eq=False)
class Combinations:
    """Every image's distinct combinations of labels: S rows, an image's one after another.

    Attributes
    ----------
    codes, ends : numpy.ndarray
        Concepts of row s: codes[ends[s]:ends[s + 1]], each once.
    pixels : numpy.ndarray
        (S,) int64: of the image, that show exactly these.
    first : dict
        By the image's place in the data: its first row.
    pattern : numpy.ndarray
        (S,) int64: which categories the row's image carries, a row of `patterns`.
    patterns : numpy.ndarray
        (Q, categories) int64, 1 or 0.
    category_of : numpy.ndarray
        (K,) int64.
    """

    codes: np.ndarray
    ends: np.ndarray
    pixels: np.ndarray
    first: dict[int, int]
    pattern: np.ndarray
    patterns: np.ndarray
    category_of: np.ndarray

    @classmethod
    def of(
        cls, truths: Iterable[tuple[int, GroundTruth]], category_of: np.ndarray, categories: int
    ) -> Combinations:
        """Gather those of images, by their places in the data; there may be none."""
        lengths, pixels = ([np.zeros(0, np.int64)] for _ in range(2))
        codes = [np.zeros(0, np.uint16)]
        first: dict[int, int] = {}
        present = [np.zeros((0, categories), bool)]
        rows = 0
        for position, truth in truths:
            groups, samples = grouped(truth.planes)
            shown = truth.planes[:, samples].astype(np.int64) - 1  # (P, rows)
            whole = np.broadcast_to(truth.whole[:, None], (len(truth.whole), len(samples)))
            together = np.concatenate([shown, whole]).T  # (rows, concepts)
            codes.append(together[together >= 0].astype(np.uint16))
            lengths.append((together >= 0).sum(axis=1))
            pixels.append(np.bincount(groups, minlength=len(samples)))
            present.append(np.broadcast_to(truth.present, (len(samples), categories)))
            first[position] = rows
            rows += len(samples)
        patterns, pattern = np.unique(np.concatenate(present), axis=0, return_inverse=True)
        ends = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
        return cls(
            np.concatenate(codes),
            ends,
            np.concatenate(pixels),
            first,
            pattern.reshape(-1),
            patterns.astype(np.int64),
            category_of,
        )

    @cached_property
    def rows_of(self) -> list[np.ndarray]:
        """Rows that show a concept, ascending, by concept."""
        rows = np.repeat(np.arange(len(self.pixels)), np.diff(self.ends))
        order = np.argsort(self.codes, kind="stable")
        borders = np.searchsorted(self.codes[order], np.arange(1, len(self.category_of)))
        return np.split(rows[order], borders)

    def overlap(self, rows: np.ndarray, weights: np.ndarray) -> Overlap:
        """Count pixels, `weights` (n,) of them in `rows` (n,), by concept and by category."""
        concepts = np.zeros(len(self.category_of), np.int64)
        patterns = np.zeros(len(self.patterns), np.int64)
        _weigh(rows, weights, self.codes, self.ends, self.pattern, concepts, patterns)
        return Overlap(int(weights.sum()), concepts, patterns @ self.patterns)

    def show(self, rows: np.ndarray, concept: int) -> np.ndarray:
        """Say which of some rows show a concept, (n,) bool."""
        return _shows(rows, self.codes, self.ends, concept)

    def carry(self, rows: np.ndarray, concept: int) -> np.ndarray:
        """Say which of some rows' images carry ground truth of a concept's category, (n,) bool."""
        carrying = self.patterns[:, self.category_of[concept]] > 0
        return carrying[self.pattern[rows]]

    def shuffled(self, shuffles: int, seed: int) -> list[dict[int, int]]:
        """Permute whole label maps among the images that carry the same categories.

        All of an image's maps stay together, so that which concepts overlap, and how large every
        formula is, stays what it was.

        Returns
        -------
        list of dict
            By place in the data: the place of the image whose labels it gets.
        """
        positions = np.array(list(self.first), np.int64)
        pattern = self.pattern[np.array(list(self.first.values()), np.int64)]
        found: list[dict[int, int]] = []
        for number in range(shuffles):
            donors = positions.copy()
            for one in range(len(self.patterns)):
                alike = np.flatnonzero(pattern == one)
                generator = np.random.default_rng([seed, number, one])
                donors[alike] = positions[generator.permutation(alike)]
            found.append(dict(zip(positions.tolist(), donors.tolist(), strict=True)))
        return found


def grouped(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group the pixels of label planes (P, n) uint16 by what they show.

    Returns
    -------
    tuple of numpy.ndarray
        The group of each pixel, (n,) int32, and one pixel of each group, int32; groups are
        numbered as they appear.
    """
    groups, samples = (np.empty(planes.shape[1], np.int32) for _ in range(2))
    return groups, samples[: _group(planes, groups, samples)]


# -- compiled --------------------------------------------------------------------------------------


_PRIME = np.int64(1099511628211)  # of FNV-1a


@compiled
def _group(planes, groups, samples):
    """Number pixels by their column, in a hash table with open addresses; return how many."""
    count, size = 0, 2
    while size < 2 * len(groups):
        size *= 2
    table = np.full(size, -1, np.int32)
    for pixel in range(len(groups)):
        key = np.int64(0)
        for plane in range(len(planes)):
            key = (key ^ np.int64(planes[plane, pixel])) * _PRIME
        slot = (key ^ (key >> 29)) & (size - 1)
        while True:
            found = table[slot]
            if found < 0:
                table[slot], samples[count], groups[pixel] = count, pixel, count
                count += 1
                break
            same = True
            for plane in range(len(planes)):
                same = same and planes[plane, samples[found]] == planes[plane, pixel]
            if same:
                groups[pixel] = found
                break
            slot = (slot + 1) & (size - 1)
    return count


@compiled
def _weigh(rows, weights, codes, ends, pattern, concepts, patterns):
    """Add weights up by concept and by pattern of categories."""
    for at, row in enumerate(rows):
        weight = weights[at]
        patterns[pattern[row]] += weight
        for place in range(ends[row], ends[row + 1]):
            concepts[codes[place]] += weight


@compiled
def _shows(rows, codes, ends, concept):
    """Look a concept up in some rows."""
    found = np.zeros(len(rows), np.bool_)
    for at, row in enumerate(rows):
        for place in range(ends[row], ends[row + 1]):
            if codes[place] == concept:
                found[at] = True
    return found
