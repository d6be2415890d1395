"""What is to be learned of one layer: which concepts, from which images, and which not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cnnlens.data.broden import ConceptSpace
from cnnlens.errors import CnnlensError
from cnnlens.measure.concept_bits import EVERYWHERE, Bits, Collector, Overlap, Pairs
from cnnlens.measure.embeddings import LeftOut
from cnnlens.measure.iou import LabelCache


@dataclass(frozen=True)
class Task:
    """One layer's bits, and what is to be learned of them.

    Attributes
    ----------
    space : ConceptSpace
        The K concepts.
    bits, pairs : Bits, Pairs
        What was collected.
    overlaps : sequence of Overlap
        Of the images to learn from, and of those to validate on.
    split : numpy.ndarray
        (N,) int64: each row's, 0 to learn from and 1 to validate on.
    carried : numpy.ndarray
        (N, categories) bool: images with labels of a category.
    thresholds, spread : numpy.ndarray
        (C,) each unit's, and the standard deviation of its activations.
    skipped : list of (path, reason)
        Images without usable labels.
    """

    space: ConceptSpace
    bits: Bits
    pairs: Pairs
    overlaps: Sequence[Overlap]
    split: np.ndarray
    carried: np.ndarray
    thresholds: np.ndarray
    spread: np.ndarray
    skipped: list[tuple[str, str]]

    @classmethod
    def of(cls, collector: Collector, book: LabelCache, split_of: np.ndarray) -> Task:
        """Put together what was collected of a layer."""
        bits = collector.bits()
        return cls(
            book.space, bits, collector.pairs, collector.overlaps, split_of[bits.positions],
            collector.carried, collector.thresholds, collector.spread.deviation,
            sorted(book.bad.values()),
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int]:
        """(K, C)."""
        return len(self.space.concepts), len(self.thresholds)

    @cached_property
    def has_pixels(self) -> np.ndarray:
        """(K,) bool: labelled pixel by pixel anywhere, while the maps have some extent."""
        found = np.zeros(self.shape[0], bool)
        if self.bits.extent != (1, 1):
            found[self.pairs.concept[self.pairs.mask != EVERYWHERE]] = True
        return found

    def truth(self, pairs: Pairs) -> np.ndarray:
        """(N, K) bool: images that show each concept."""
        found = np.zeros((len(self.split), self.shape[0]), bool)
        found[pairs.image, pairs.concept] = True
        return found

    def rows(self, category: int, split: int) -> np.ndarray:
        """Rows of a split that carry a category."""
        return np.flatnonzero(self.carried[:, category] & (self.split == split))

    @cached_property
    def reasons(self) -> dict[int, str]:
        """Why concepts cannot be learned, by their index."""
        truth, found = self.truth(self.pairs), {}
        for k, category in enumerate(self.space.category_of):
            shown = truth[self.rows(category, 0), k]
            if not shown.any():
                there = "images that validate alone" if truth[:, k].any() else "no image"
                found[k] = f"it is on {there}"
            elif shown.all() and not self.has_pixels[k]:
                found[k] = "it is on every image to learn from that has labels of its category"
        return found

    @property
    def left_out(self) -> list[LeftOut]:
        """The concepts that cannot be learned, and why."""
        named = ((self.space.concepts[k], why) for k, why in self.reasons.items())
        return [LeftOut(concept.label, concept.category, why) for concept, why in named]

    @cached_property
    def learned(self) -> np.ndarray:
        """(K,) bool: concepts that can be learned.

        Raises
        ------
        CnnlensError
            When there is none.
        """
        found = np.array([k not in self.reasons for k in range(self.shape[0])])
        if not found.any():
            first = self.left_out[0]
            raise CnnlensError(
                f"no concept can be learned; of {first.label}, say: {first.reason}",
                "name data of more images with -d DIR",
            )
        return found

    @cached_property
    def of_pixels(self) -> np.ndarray:
        """(K,) bool: learned pixel by pixel."""
        return self.learned & self.has_pixels

    def of_images(self) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield indices of concepts of one category that are told of whole images, with the rows
        to learn from and to validate on.
        """
        images = np.flatnonzero(self.learned & ~self.has_pixels)
        for category in np.unique(self.space.category_of[images]):
            mine = images[self.space.category_of[images] == category]
            yield mine, [self.rows(int(category), split) for split in (0, 1)]

    def shuffled(self, seed: int, number: int) -> Pairs:
        """Permute each category's labels among the images of a split that carry it."""
        receiver = np.zeros(self.carried.T.shape, np.int64)  # (categories, N)
        for category in range(len(receiver)):
            for split in (0, 1):
                rows = self.rows(category, split)
                generator = np.random.default_rng([seed, number, category, split])
                receiver[category, generator.permutation(rows)] = rows
        category_of = self.space.category_of[self.pairs.concept]
        image = receiver[category_of, self.pairs.image].astype(np.int32)
        return replace(self.pairs, image=image)[np.argsort(image, kind="stable")]
