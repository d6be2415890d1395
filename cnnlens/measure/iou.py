"""What masks and labels share: an image's labels, and the pixels that units' masks have in common
with them.

Labels of images in any order are read once, kept compressed, and handed out whole or by category.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cnnlens.data.batches import check_skipped
from cnnlens.data.broden import BadLabels, ConceptSpace
from cnnlens.distributed import Share
from cnnlens.measure.masks import MaskPixels, compiled


@dataclass(frozen=True)
class GroundTruth:
    """What is known about an image, or about one category of it."""

    #: (P, h · w) uint16, concept index + 1, 0 = nothing; no concept twice at one pixel
    planes: np.ndarray
    whole: np.ndarray  #: int64 indices of concepts that cover the whole image
    present: np.ndarray  #: (n_categories,) bool
    size: tuple[int, int]  #: (h, w)


class Counts:
    """Intersections and mask areas of C units with K concepts in some categories.

    Parameters
    ----------
    units : int
        C.
    category_of : numpy.ndarray
        (K,) int64, the category of each concept.
    categories : int
        Number of categories.
    touched : bool
        Count a mask's area for a category only on images where the mask touches it (the older
        tool's way) instead of on all images that carry the category.
    """

    def __init__(self, units: int, category_of: np.ndarray, categories: int, touched: bool) -> None:
        self.intersection = np.zeros((units, len(category_of)), np.int64)
        self.area = np.zeros((units, categories), np.int64)
        self._category_of, self._touched = category_of, touched

    def add(self, found: MaskPixels, truth: GroundTruth, units: slice) -> None:
        """Count one image's masks of some units against its labels."""
        _count(
            found.pixels,
            found.ends,
            truth.planes,
            truth.whole,
            truth.present,
            self._category_of,
            self._touched,
            self.intersection[units],
            self.area[units],
        )


@compiled
def _count(pixels, ends, planes, whole, present, category_of, touched_only, intersection, area):
    categories = area.shape[1]
    touched = np.zeros(categories, np.bool_)
    for unit in range(len(ends) - 1):
        begin, end = ends[unit], ends[unit + 1]
        if begin == end:
            continue
        touched[:] = False
        for plane in range(len(planes)):
            for position in range(begin, end):
                code = planes[plane, pixels[position]]
                if code:
                    intersection[unit, code - 1] += 1
                    touched[category_of[code - 1]] = True
        for concept in whole:
            intersection[unit, concept] += end - begin
            touched[category_of[concept]] = True
        for category in range(categories):
            if touched[category] if touched_only else present[category]:
                area[unit, category] += end - begin


class Extent:
    """How much ground truth there is: pixels and images per concept.

    Parameters
    ----------
    concepts : int
        K.
    """

    def __init__(self, concepts: int) -> None:
        self.pixels = np.zeros(concepts, np.int64)
        self.images = np.zeros(concepts, np.int64)

    def add(self, truth: GroundTruth) -> None:
        """Count one image's labels."""
        here = np.bincount(truth.planes.ravel(), minlength=len(self.pixels) + 1)[1:]
        here[truth.whole] += truth.size[0] * truth.size[1]
        self.pixels += here
        self.images += here > 0


def iou(counts: Counts, pixels: np.ndarray, category_of: np.ndarray) -> np.ndarray:
    """Intersection over union, (C, K) float64; 0 where the union is empty.

    Parameters
    ----------
    counts : Counts
        Of all images.
    pixels : numpy.ndarray
        (K,) ground-truth pixels of each concept.
    category_of : numpy.ndarray
        (K,) index into the categories.
    """
    union = counts.area[:, category_of] + pixels - counts.intersection  # (C, K)
    return np.divide(counts.intersection, union, out=np.zeros(union.shape), where=union > 0)


def slices(units: int, parts: int) -> Sequence[slice]:
    """Cut the units into at most `parts` runs of nearly equal length."""
    borders = np.linspace(0, units, min(parts, units) + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(borders)]


# -- labels ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """One category's labels on one image, compressed."""

    planes: bytes
    count: int
    whole: np.ndarray
    size: tuple[int, int]


class LabelCache:
    """The labels of a data set's images.

    Parameters
    ----------
    space : ConceptSpace
        Where labels come from.
    images : int
        Images in the data set.
    keep : bool
        Keep every image's labels, compressed (some kilobytes an image), for the shuffles.
    by_concept : bool
        An image carries a category when it has a concept of it, not when its cell is filled
        (the older tool's way).
    """

    def __init__(self, space: ConceptSpace, images: int, keep: bool, by_concept: bool) -> None:
        self.space = space
        self.keep = keep
        self.bad: dict[int, tuple[str, str]] = {}
        self._images, self._by_concept = images, by_concept
        self._parts: dict[int, dict[int, _Part]] = {}
        self._sizes: dict[int, tuple[int, int]] = {}

    def read(self, position: int) -> GroundTruth | None:
        """Read one image's labels; None, and a note in `bad`, where they are unusable."""
        try:
            labels = self.space.labels(position)
        except BadLabels as error:
            self.note_bad({position: (error.path, error.reason)})
            return None
        planes = labels.planes.reshape(len(labels.planes), labels.size[0] * labels.size[1])
        present = labels.present
        if self._by_concept:
            present = np.zeros(len(present), bool)
            present[self.space.category_of[np.unique(planes[planes > 0]).astype(np.int64) - 1]] = (
                True
            )
            present[self.space.category_of[labels.whole]] = True
        return GroundTruth(np.ascontiguousarray(planes), labels.whole, present, labels.size)

    def store(self, position: int) -> None:
        """Read one image's labels and keep them by category."""
        truth = self.read(position)
        if truth is not None:
            carried = np.flatnonzero(truth.present)
            self._sizes[position] = truth.size
            self._parts[position] = {int(c): self._part(truth, int(c)) for c in carried}

    def _part(self, truth: GroundTruth, category: int) -> _Part:
        of = np.concatenate([[-1], self.space.category_of])
        mine = np.where(of[truth.planes] == category, truth.planes, 0).astype(np.uint16)
        mine = mine[mine.any(axis=1)]
        whole = truth.whole[self.space.category_of[truth.whole] == category]
        return _Part(zlib.compress(mine.tobytes(), 1), len(mine), whole, truth.size)

    def store_all(self, positions: Sequence[int], workers: int) -> Iterator[int]:
        """Keep the labels of many images; yield after each."""
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for done, _ in enumerate(pool.map(self.store, positions), 1):
                yield done

    def exchange(self, positions: Sequence[int], share: Share) -> int:
        """Give the labels kept of some images to the other processes of a run, and keep theirs.

        Return of how many images they are, in all processes.
        """
        mine = {p: (self._sizes[p], self._parts[p]) for p in positions if p in self._parts}
        every = share.gathered((len(positions), mine, self.bad))
        for _, theirs, bad in every:
            self.note_bad(bad)
            self._sizes |= {position: size for position, (size, _) in theirs.items()}
            self._parts |= {position: parts for position, (_, parts) in theirs.items()}
        return sum(count for count, _, _ in every)

    def note_bad(self, bad: dict[int, tuple[str, str]]) -> None:
        """Note which images have unusable labels; too many raise."""
        self.bad.update(bad)  # in place: threads note them, too
        check_skipped(sorted(self.bad.values()), self._images)

    def carriers(self, category: int) -> np.ndarray:
        """Positions of the images that carry a category, ascending."""
        return np.array(
            sorted(p for p, parts in self._parts.items() if category in parts), np.int64
        )

    def part(self, position: int, category: int) -> GroundTruth:
        """Return one category's labels on one image."""
        part = self._parts[position][category]
        planes = np.frombuffer(zlib.decompress(part.planes), np.uint16)
        present = np.zeros(self.categories, bool)
        present[category] = True
        return GroundTruth(
            planes.reshape(part.count, part.size[0] * part.size[1]), part.whole, present, part.size
        )

    def carried(self, position: int) -> list[int]:
        """Categories that an image carries; none where its labels are unusable."""
        return list(self._parts.get(position, ()))

    def whole(self, position: int) -> GroundTruth:
        """Return all labels of an image that were kept."""
        parts = [self.part(position, c) for c in self._parts[position]]
        if not parts:
            size = self._sizes[position]
            return GroundTruth(
                np.zeros((0, size[0] * size[1]), np.uint16),
                np.zeros(0, np.int64),
                np.zeros(self.categories, bool),
                size,
            )
        return GroundTruth(
            np.concatenate([p.planes for p in parts]),
            np.concatenate([p.whole for p in parts]),
            np.any([p.present for p in parts], axis=0),
            parts[0].size,
        )

    @property
    def categories(self) -> int:
        """Number of categories, those without concepts included."""
        return len(self.space.category_names)


Permutation = Callable[[int, int], int]  # position, category -> whose labels this image gets


def permutations(book: LabelCache, shuffles: int, seed: int) -> list[Permutation]:
    """Permute each category's labels among the images that carry it, `shuffles` times."""
    return [_permutation(book, seed, number) for number in range(shuffles)]


def _permutation(book: LabelCache, seed: int, number: int) -> Permutation:
    donors: list[dict[int, int]] = []
    for category in range(book.categories):
        carriers = book.carriers(category)
        generator = np.random.default_rng([seed, number, category])
        shuffled = generator.permutation(carriers)
        donors.append(dict(zip(carriers.tolist(), shuffled.tolist(), strict=True)))
    return lambda position, category: donors[category][position]
