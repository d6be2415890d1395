"""Labels of images in any order: read once, kept compressed, handed out whole or by category."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cnnlens.data.batches import check_skipped
from cnnlens.data.broden import BadLabels, ConceptSpace
from cnnlens.measure.iou import GroundTruth


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
            self.bad[position] = (error.path, error.reason)
            check_skipped(sorted(self.bad.values()), self._images)
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
