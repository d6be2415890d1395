"""Formulas of concepts once more: every one of up to L concepts, dense masks, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

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

    def holds(self, formula: Formula, image: int) -> np.ndarray:
        """Where a formula is true of an image."""
        truth = self.truths[image][formula[0]]
        for operation, concept in formula[1:]:
            other = self.truths[image][concept]
            if operation == "OR":
                truth = truth | other
            elif operation == "AND":
                truth = truth & other
            else:
                truth = truth & ~other & (concept[0] in self.carried[image])
        return truth

    def iou(self, formula: Formula, masks: list[np.ndarray], donors: list[int]) -> float:
        """Of a unit's masks with a formula's, where a category of the formula is annotated."""
        categories = {category for category, _ in concepts_of(formula)}
        shared = union = 0
        for mask, donor in zip(masks, donors, strict=True):
            holds = self.holds(formula, donor)
            counted = mask if categories & self.carried[donor] else np.zeros_like(mask)
            shared += int((counted & holds).sum())
            union += int((counted | holds).sum())
        return shared / union if union else 0.0

    def best(self, unit: int, length: int, donors: list[int]) -> float:
        """The highest IoU of all formulas."""
        masks = self.masks(unit, donors)
        return max(self.iou(f, masks, donors) for f in formulas(self.concepts, length))
