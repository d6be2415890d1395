"""What dissection finds: the counts, and everything that follows from them by arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnnlens.data.concept_space import Concept
from cnnlens.measure.formulas import Formulas
from cnnlens.measure.iou import Counts, iou
from cnnlens.measure.pooled_chance import kinds_of, p_values
from cnnlens.measure.top import Histogram, TopImages
from cnnlens.settings import DissectSettings


@dataclass(frozen=True)
class Concepts:
    """K concepts in some categories, and how much ground truth there is of each.

    Attributes
    ----------
    names : sequence of Concept
        In the order of categories and label numbers.
    categories : sequence of str
        In the data's order.
    category_of : numpy.ndarray
        (K,) int64.
    pixels, images : numpy.ndarray
        (K,) int64: ground-truth pixels, and images that show the concept.
    """

    names: Sequence[Concept]
    categories: Sequence[str]
    category_of: np.ndarray
    pixels: np.ndarray
    images: np.ndarray

    @cached_property
    def by_number(self) -> np.ndarray:
        """Concept indices by label number, then category: the order in which ties are settled."""
        return np.lexsort((self.category_of, np.array([c.number for c in self.names])))

    @cached_property
    def words(self) -> list[str]:
        """Names that tell them apart (see `concept_words`)."""
        return concept_words(self.names)


def concept_words(concepts: Sequence[Concept]) -> list[str]:
    """Give names that tell concepts apart: ``hair (part)`` where two categories have hair."""
    many = Counter(concept.label for concept in concepts)
    return [c.label if many[c.label] == 1 else f"{c.label} ({c.category})" for c in concepts]


def best_of(scores: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return each unit's best concept, (C,) int64; -1 where all are 0.

    Ties go to the first in `order`.

    Parameters
    ----------
    scores : numpy.ndarray
        (C, K).
    order : numpy.ndarray
        Concept indices to choose from, in order of preference.
    """
    if len(order) == 0:
        return np.full(len(scores), -1)
    chosen = scores[:, order]
    best = order[chosen.argmax(axis=1)]
    return np.where(chosen.max(axis=1) > 0, best, -1)


@dataclass(frozen=True)
class Detectors:
    """Detectors and unique detectors, overall and by category, of one table of scores.

    Attributes
    ----------
    detectors, unique : int
        Units whose best IoU reaches the limit; distinct concepts among their best.
    mean_iou : float
        Best IoU, mean over all units.
    by_category : dict
        Units by the category of their best concept: (detectors, unique).
    per_category : dict
        Units whose best IoU within the category reaches the limit: (detectors, unique).
    """

    detectors: int
    unique: int
    mean_iou: float
    by_category: dict[str, tuple[int, int]]
    per_category: dict[str, tuple[int, int]]

    @classmethod
    def count(cls, scores: np.ndarray, concepts: Concepts, min_iou: float) -> Detectors:
        """Count on scores (C, K)."""
        best = best_of(scores, concepts.by_number)
        best_iou = scores.max(axis=1, initial=0.0)
        found = best[(best_iou >= min_iou) & (best >= 0)]
        by, per = {}, {}
        for number, category in enumerate(concepts.categories):
            here = found[concepts.category_of[found] == number]
            by[category] = (len(here), len(np.unique(here)))
            mine = _within(concepts, number)
            winners = best_of(scores, mine)
            reached = scores[:, mine].max(axis=1, initial=0.0) >= min_iou
            winners = winners[reached & (winners >= 0)]
            per[category] = (len(winners), len(np.unique(winners)))
        return cls(len(found), len(np.unique(found)), float(best_iou.mean()), by, per)


def _within(concepts: Concepts, category: int) -> np.ndarray:
    order = concepts.by_number
    return order[concepts.category_of[order] == category]


@dataclass(frozen=True)
class Dissection:
    """One layer, dissected.

    Attributes
    ----------
    settings : DissectSettings
        What was asked for.
    images : int
        Images measured.
    thresholds : numpy.ndarray
        (C,) float32.
    lowest, highest : numpy.ndarray
        (C,) float32: the range of each unit's activations.
    concepts : Concepts
        The K concepts.
    counts : Counts
        Intersections (C, K) and mask areas (C, categories), in pixels.
    null : list of Counts
        The same with shuffled labels, once per shuffle.
    skipped : list of (path, reason)
        Images without usable labels.
    formulas : Formulas or None
        The best formula of each unit, where they were looked for.
    top : TopImages or None
        Top images per unit.
    histogram : Histogram or None
        Distribution of each unit's activations.
    """

    settings: DissectSettings
    images: int
    thresholds: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    concepts: Concepts
    counts: Counts
    null: list[Counts]
    skipped: list[tuple[str, str]]
    formulas: Formulas | None = None
    top: TopImages | None = None
    histogram: Histogram | None = None

    @property
    def units(self) -> int:
        """C."""
        return len(self.thresholds)

    @property
    def dead(self) -> np.ndarray:
        """(C,) bool: units that give one and the same value everywhere."""
        return self.lowest == self.highest

    @cached_property
    def kinds(self) -> np.ndarray:
        """(C,) int64: equal where masks are alike enough to share a null (see `kinds_of`)."""
        pixels = self.counts.area.sum(axis=1)
        return kinds_of(self.thresholds, self.lowest, self.highest, pixels)

    @cached_property
    def iou(self) -> np.ndarray:
        """(C, K) float64."""
        return iou(self.counts, self.concepts.pixels, self.concepts.category_of)

    @cached_property
    def best(self) -> np.ndarray:
        """(C,) index of each unit's best concept, -1 where its IoU is 0 everywhere."""
        return best_of(self.iou, self.concepts.by_number)

    @cached_property
    def best_iou(self) -> np.ndarray:
        """(C,) float64."""
        return self.iou.max(axis=1, initial=0.0)

    def best_within(self, category: int) -> tuple[np.ndarray, np.ndarray]:
        """Return each unit's best concept of one category and its IoU, both (C,)."""
        mine = _within(self.concepts, category)
        return best_of(self.iou, mine), self.iou[:, mine].max(axis=1, initial=0.0)

    @cached_property
    def detectors(self) -> Detectors:
        """The counts that the papers plot."""
        return Detectors.count(self.iou, self.concepts, self.settings.min_iou)

    @cached_property
    def _null_iou(self) -> list[np.ndarray]:
        pixels, category_of = self.concepts.pixels, self.concepts.category_of
        return [iou(counts, pixels, category_of) for counts in self.null]

    @cached_property
    def p_values(self) -> np.ndarray | None:
        """(C,) float64: chance of a best IoU as high; None without shuffles.

        The null is pooled over shuffles and over units whose masks are alike (`kinds`), each held
        against its own shuffles: p = (1 + #{null ≥ observed}) / (1 + units · shuffles). It is 1 of
        dead units.
        """
        if not self.null:
            return None
        null = [scores.max(axis=1, initial=0.0) for scores in self._null_iou]
        return p_values(self.best_iou, np.stack(null), self.kinds)

    @cached_property
    def chance(self) -> dict[str, Any] | None:
        """The counts expected by chance: means over the shuffles; None without any."""
        if not self.null:
            return None
        found = [Detectors.count(s, self.concepts, self.settings.min_iou) for s in self._null_iou]
        mean = {"detectors": _mean(d.detectors for d in found)}
        mean["unique_detectors"] = _mean(d.unique for d in found)
        mean["mean_iou"] = _mean(d.mean_iou for d in found)
        by = {c: _mean_pair(d.by_category[c] for d in found) for c in self.concepts.categories}
        per = {c: _mean_pair(d.per_category[c] for d in found) for c in self.concepts.categories}
        return {**mean, "shuffles": len(found), "by_category": by, "per_category": per}

    def summary(self) -> dict[str, Any]:
        """Put the findings into one document, as ``summary.json`` and ``--json`` give them."""
        found, settings = self.detectors, self.settings
        summary: dict[str, Any] = {
            "units": self.units,
            "images": self.images,
            "quantile": settings.quantile,
            "min_iou": settings.min_iou,
            "detectors": found.detectors,
            "unique_detectors": found.unique,
            "unique_detectors_per_category_summed": sum(u for _, u in found.per_category.values()),
            "ratio_unique_detectors": found.unique / self.units,
            "mean_iou": found.mean_iou,
            "dead_units": int(self.dead.sum()),
            "by_category": _counts(found.by_category),
            "per_category": _counts(found.per_category),
        }
        if self.chance is not None and self.p_values is not None:
            beyond = (self.best_iou >= settings.min_iou) & (self.p_values < 0.05)
            summary |= {"chance": self.chance, "detectors_beyond_chance": int(beyond.sum())}
        if self.formulas is not None:
            summary["formulas"] = self.formulas.summary()
        return {
            **summary,
            "categories": list(self.concepts.categories),
            "skipped_labels": [list(pair) for pair in self.skipped],
            "settings": settings.as_dict(),
        }


def _counts(pairs: dict[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    return {name: {"detectors": d, "unique_detectors": u} for name, (d, u) in pairs.items()}


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _mean_pair(pairs: Any) -> dict[str, float]:
    detectors, unique = np.mean(list(pairs), axis=0)
    return {"detectors": float(detectors), "unique_detectors": float(unique)}


# -- layers beside each other --------------------------------------------------------------------

LAYER_COLUMNS = (
    "layer", "units", "detectors", "by chance", "unique detectors", "by chance", "mean IoU",
    "by chance",
)  # fmt: skip


def layer_row(summary: Mapping[str, Any]) -> list[object]:
    """Give a layer's row under `LAYER_COLUMNS`, from its summary."""
    chance = summary.get("chance") or {}
    keys = ("detectors", "unique_detectors", "mean_iou")
    pairs = ((summary[key], chance.get(key)) for key in keys)
    return [summary["layer"], summary["units"], *(value for pair in pairs for value in pair)]


def by_category(
    summaries: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], list[list[object]]]:
    """Give all categories, and a row per layer: unique detectors (detectors) of each category."""
    counts = {name: summary["per_category"] for name, summary in summaries.items()}
    kinds = list(dict.fromkeys(kind for of in counts.values() for kind in of))
    said = "{unique_detectors} ({detectors})".format_map
    return kinds, [[name, *(said(of[kind]) for kind in kinds)] for name, of in counts.items()]


def beside(
    networks: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> tuple[list[str], list[list[object]]]:
    """Lay networks beside each other, layer by layer: columns and rows of a table.

    Parameters
    ----------
    networks : mapping of str to mapping
        By name, each one's summaries by layer; all have the same layers, measured with chance.
    """
    columns = ["layer", "network", "units", "detectors", "by chance", "unique detectors"]
    layers = dict.fromkeys(layer for found in networks.values() for layer in found)
    rows: list[list[object]] = [
        [layer, name, s["units"], s["detectors"], s["chance"]["detectors"],
         s["unique_detectors"], s["mean_iou"]]
        for layer in layers
        for name, s in ((name, found[layer]) for name, found in networks.items())
    ]  # fmt: skip
    return [*columns, "mean IoU"], rows
