"""What Net2Vec finds: a vector over units for every concept, and how well it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnnlens.data.concept_space import Concept
from cnnlens.measure.top import TopImages
from cnnlens.settings import Net2VecSettings

COMMON = 20  # images from which a concept counts as common


@dataclass(frozen=True)
class Embedded:
    """A concept: its best unit and its combination of units, both on the validation split.

    Attributes
    ----------
    label, category : str
        The concept.
    images : int
        Images of the validation split that show it.
    best_unit : int or None
        The unit of highest IoU on the images that were learned from; None where none overlaps.
    best_unit_iou, iou, gain : float or None
        Of that unit, of the combination, and the difference; None without an image to validate on.
    """

    label: str
    category: str
    images: int
    best_unit: int | None
    best_unit_iou: float | None
    iou: float | None
    gain: float | None


@dataclass(frozen=True)
class CurvePoint:
    """The IoU of a concept's combination of so many units; None without an image to validate on."""

    label: str
    category: str
    filters: int
    iou: float | None


@dataclass(frozen=True)
class LeftOut:
    """A concept that could not be learned, and why."""

    label: str
    category: str
    reason: str


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The concepts of one layer.

    Attributes
    ----------
    settings : Net2VecSettings
        What was asked for.
    split : str
        Which images were learned from, in words.
    images : (int, int)
        Images that were learned from, and that validate.
    concepts : sequence of Concept
        K that could be learned.
    of_pixels : numpy.ndarray
        (K,) bool: told pixel by pixel; else image by image.
    learned_on, validated_on : numpy.ndarray
        (K,) int64: images that show the concept.
    best_unit, best_unit_iou : numpy.ndarray
        (K,) int64, -1 for none; (K,) float64.
    weights : numpy.ndarray
        (K, C) float32: of binary maps, or of standardized means.
    direction : numpy.ndarray
        (K, C) float32: the same for activations as they are.
    bias, cut : numpy.ndarray
        (K,) float32 each: added to a mean's logit; the logit above which a pixel or image counts.
    iou, iou_at_half : numpy.ndarray
        (K,) float64: of the mask above the cut, and above a probability of one half.
    filters : list of int
        Sizes of combinations, ascending; the last is all units.
    curve : numpy.ndarray
        (sizes, K) float64: IoU of the best so many units, learned anew.
    chance : numpy.ndarray
        (shuffles, K) float64: IoU where label maps are shuffled among images.
    thresholds : numpy.ndarray
        (C,) float32.
    top : TopImages or None
        Images of the validation split on which each combination is highest.
    top_shows : numpy.ndarray or None
        (K, top) bool: whether they show the concept.
    left_out : list of LeftOut
        What could not be learned.
    skipped : list of (path, reason)
        Images without usable labels.
    """

    settings: Net2VecSettings
    split: str
    images: tuple[int, int]
    concepts: Sequence[Concept]
    of_pixels: np.ndarray
    learned_on: np.ndarray
    validated_on: np.ndarray
    best_unit: np.ndarray
    best_unit_iou: np.ndarray
    weights: np.ndarray
    direction: np.ndarray
    bias: np.ndarray
    cut: np.ndarray
    iou: np.ndarray
    iou_at_half: np.ndarray
    filters: list[int]
    curve: np.ndarray
    chance: np.ndarray
    thresholds: np.ndarray
    top: TopImages | None
    top_shows: np.ndarray | None
    left_out: list[LeftOut]
    skipped: list[tuple[str, str]]

    @property
    def units(self) -> int:
        """How many things are drawn: the concepts."""
        return len(self.concepts)

    @cached_property
    def better(self) -> np.ndarray:
        """(K,) bool: the combination beats the best unit on the validation split."""
        return (self.iou > self.best_unit_iou) & self.compared

    @cached_property
    def compared(self) -> np.ndarray:
        """(K,) bool: an image of the validation split shows the concept."""
        return self.validated_on > 0

    @cached_property
    def by_chance(self) -> np.ndarray:
        """(K,) float64: mean IoU over the shuffles; NaN without any."""
        if not len(self.chance):
            return np.full(len(self.concepts), np.nan)
        return np.asarray(self.chance.mean(axis=0))

    def rows(self) -> Iterator[Embedded]:
        """Give a row per concept."""
        columns = zip(
            self.concepts, self.validated_on.tolist(), self.best_unit.tolist(),
            self.best_unit_iou.tolist(), self.iou.tolist(), strict=True,
        )  # fmt: skip
        for concept, images, unit, alone, iou in columns:
            name = concept.label, concept.category, images, unit if unit >= 0 else None
            found = (alone, iou, iou - alone) if images else (None, None, None)
            yield Embedded(*name, *found)

    def points(self) -> Iterator[CurvePoint]:
        """Give the curve over the number of units, concept by concept."""
        for k, concept in enumerate(self.concepts):
            for filters, iou in zip(self.filters, self.curve[:, k].tolist(), strict=True):
                known = iou if self.compared[k] else None
                yield CurvePoint(concept.label, concept.category, filters, known)

    def summary(self) -> dict[str, Any]:
        """Put the findings into one document."""
        common = self.compared & (self.learned_on + self.validated_on >= COMMON)
        categories = dict.fromkeys(concept.category for concept in self.concepts)
        of = np.array([concept.category for concept in self.concepts])
        return {
            "units": self.weights.shape[1],
            "images": sum(self.images),
            "learned_from": self.images[0],
            "validated_on": self.images[1],
            "split": self.split,
            **self._counts(self.compared),
            "common": {"least_images": COMMON, **self._counts(common)},
            "by_category": {
                name: self._counts(self.compared & (of == name)) for name in categories
            },
            "curve": [
                {"filters": count, "mean_iou": _mean(ious[self.compared])}
                for count, ious in zip(self.filters, self.curve, strict=True)
            ],
            "shuffles": len(self.chance),
            "left_out": [vars(one) for one in self.left_out],
            "skipped_labels": [list(pair) for pair in self.skipped],
            "settings": self.settings.as_dict(),
        }

    def _counts(self, which: np.ndarray) -> dict[str, Any]:
        return {
            "concepts": int(which.sum()),
            "better": int(self.better[which].sum()),
            # than the mean of the shuffles: about half are, of what means nothing
            "better_than_chance": (
                int((self.iou > self.by_chance)[which].sum()) if len(self.chance) else None
            ),
            "mean_iou": _mean(self.iou[which]),
            "mean_iou_at_half": _mean(self.iou_at_half[which]),
            "mean_best_unit_iou": _mean(self.best_unit_iou[which]),
            "chance_iou": _mean(self.by_chance[which]) if len(self.chance) else None,
            "worse": [
                f"{c.category}:{c.label}"
                for c, bad in zip(self.concepts, which & ~self.better, strict=True)
                if bad
            ],
        }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


# ---- concepts and layers beside each other

LAYER_COLUMNS = (
    "layer", "concepts", "better than the best unit", "mean IoU", "at one half", "by chance",
    "best unit",
)  # fmt: skip


def layer_rows(summary: Mapping[str, Any]) -> Iterator[list[object]]:
    """Give a layer's rows under `LAYER_COLUMNS`: over all concepts, and of each category."""
    keys = ("concepts", "better", "mean_iou", "mean_iou_at_half", "chance_iou",
            "mean_best_unit_iou")  # fmt: skip
    yield [summary["layer"], *(summary[key] for key in keys)]
    for name, found in summary["by_category"].items():
        yield [f"  {name}", *(found[key] for key in keys)]


def concept_table(concepts: Sequence[Embedded]) -> tuple[list[str], list[list[object]]]:
    """Give columns and rows of a table of concepts."""
    heads = ["concept", "category", "images", "best unit", "its IoU", "combination", "gain"]
    rows: list[list[object]] = [
        [c.label, c.category, c.images, c.best_unit, *map(_short, (c.best_unit_iou, c.iou, c.gain))]
        for c in concepts
    ]
    return heads, rows


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
