"""Formulas of concepts once more: every one of up to L concepts, dense masks, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache

import numpy as np

from .dissect import World, carries, threshold, truths, upsampled

Formula = tuple  # (concept,), then (operation, concept) for every step


def formulas(concepts: list, length: int) -> Iterator[Formula]:
    """All that grow step by step, each concept once."""
    found: list[Formula] = [(c,) for c in concepts]
    yield from found
    for _ in range(length - 1):
        found = [
            (*f, (operation, c))
            for f in found
            for operation in ("OR", "AND", "AND NOT")
            for c in concepts
            if c not in concepts_of(f)
        ]
        yield from found


def concepts_of(formula: Formula) -> list:
    return [formula[0], *(c for _, c in formula[1:])]


class Dense:
    """Every unit's mask and every concept's on every image, upsampled and compared."""

    def __init__(self, world: World, maps: np.ndarray, share: Fraction) -> None:
        self.concepts = world.concepts(False)
        self.truths = [truths(world, p, False) for p in world.pictures]
        self.carried = [
            {c for c in world.categories if carries(p, c, t, False)}
            for p, t in zip(world.pictures, self.truths, strict=True)
        ]
        limits = [float(threshold(maps[:, u], share)) for u in range(maps.shape[1])]
        self.maps, self.limits = maps, limits

    def masks(self, unit: int, donors: list[int]) -> list[np.ndarray]:
        """The unit's mask on every image, at the size of its donor's label map."""
        sizes = [next(iter(self.truths[d].values())).shape for d in donors]
        return [
            upsampled(of[unit], size) > self.limits[unit]
            for of, size in zip(self.maps, sizes, strict=True)
        ]

    @cache  # noqa: B019
    def holds(self, formula: Formula, image: int) -> np.ndarray:
        """Where a formula is true of an image."""
        if len(formula) == 1:
            return self.truths[image][formula[0]]
        truth, (operation, concept) = self.holds(formula[:-1], image), formula[-1]
        other = self.truths[image][concept]
        if operation == "OR":
            return truth | other
        if operation == "AND":
            return truth & other
        return truth & ~other & (concept[0] in self.carried[image])

    def iou(self, formula: Formula, masks: list[np.ndarray], donors: list[int]) -> float:
        """Of a unit's masks with a formula's, where a category of the formula is annotated."""
        categories = {category for category, _ in concepts_of(formula)}
        shared = union = 0
        for mask, donor in zip(masks, donors, strict=True):
            if categories & self.carried[donor]:  # elsewhere it is true of nothing
                holds = self.holds(formula, donor)
                shared += np.count_nonzero(mask & holds)
                union += np.count_nonzero(mask | holds)
        return shared / union if union else 0.0

    def says_something(self, formula: Formula) -> bool:
        """Whether every NOT takes something away, beside what is not annotated."""
        images = range(len(self.truths))
        return all(
            any(
                (self.holds(formula[:step], n) & self.truths[n][formula[step][1]]).any()
                for n in images
            )
            for step in range(1, len(formula))
            if formula[step][0] == "AND NOT"
        )

    def all(self, length: int) -> list[Formula]:
        return [f for f in formulas(self.concepts, length) if self.says_something(f)]

    def best(self, unit: int, known: list[Formula], donors: list[int]) -> float:
        """The highest IoU of the formulas."""
        masks = self.masks(unit, donors)
        return max(self.iou(f, masks, donors) for f in known)
