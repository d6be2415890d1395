"""Whether labels hold on images that chose nothing.

The images are parted as `label` parts them: seven tenths choose (labels where those were not chosen
elsewhere, and from which value on a unit says "it is there"), the others examine. A label passes
when its correlation there is rare by chance, p < .01 after Benjamini and Hochberg over the units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cnnlens.measure.exam_scores import (
    BY_DEGREES,
    SCORES,
    Answers,
    best_cut,
    p_value,
    resampled,
    scores,
)
from cnnlens.measure.exam_truth import ENCODER, Claim, Truth
from cnnlens.measure.linear_labels import Parts
from cnnlens.progress import Step
from cnnlens.settings.exam import ExamSettings

SURE = 0.01  # an adjusted p-value below which a label passes


@dataclass(frozen=True)
class Overlaps:
    """Pixels that units' masks share with labels, on the images held out.

    Attributes
    ----------
    shared, either : numpy.ndarray
        (claims, h) int64: on each image.
    by_chance : numpy.ndarray
        (shuffles, claims) float64: the IoU of labels of other images.
    """

    shared: np.ndarray
    either: np.ndarray
    by_chance: np.ndarray


@dataclass(frozen=True)
class Examined:
    """One label's exam.

    Attributes
    ----------
    unit, label, chosen
        As in `Claim`.
    scores, low, high, chance : numpy.ndarray
        (5,) float64 in the order of `SCORES`: on images held out, their intervals, and the mean
        where images are shuffled; NaN where nothing can be said.
    p_value, adjusted : float or None
        Of the correlation; after Benjamini and Hochberg over the units.
    images, shown : int
        Images held out that tell; those that show it.
    told_by : str
        What tells whether it is there, as in `Truth`.
    """

    unit: int
    label: str
    chosen: str
    scores: np.ndarray
    low: np.ndarray
    high: np.ndarray
    chance: np.ndarray
    p_value: float | None
    adjusted: float | None
    images: int
    shown: int
    told_by: str

    @property
    def is_same(self) -> bool:
        """Whether what was examined is the label itself."""
        return self.chosen == self.label

    @property
    def passes(self) -> bool:
        """Whether the label itself was examined, and fits more than by chance."""
        return self.is_same and self.adjusted is not None and self.adjusted < SURE


@dataclass(frozen=True)
class Sheet:
    """The exam of one method's labels of a layer.

    Attributes
    ----------
    rows : list of Examined
        One per label.
    chance_share : float or None
        Share of labels that pass where images are shuffled.
    parts : Parts
        Which images did what.
    claims : list of Claim
        What was examined, in the rows' order.
    truth : Truth
        Where that is there.
    more : dict
        What else is to be said.
    """

    rows: list[Examined]
    chance_share: float | None
    parts: Parts
    claims: Sequence[Claim]
    truth: Truth
    more: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Sum up in plain numbers, for JSON."""
        count = len(self.rows)
        passes = sum(row.passes for row in self.rows)
        return {
            "labels": count,
            "tested": sum(row.p_value is not None for row in self.rows),
            "passes": passes,
            "share": passes / count if count else None,
            "share_by_chance": self.chance_share,
            "chosen_again": sum(row.is_same for row in self.rows),
            "images": sum(map(len, (self.parts.fit, self.parts.choose, self.parts.held))),
            "images_held_out": len(self.parts.held),
            "told_by": dict(Counter(row.told_by for row in self.rows)),
            "mean": self._means([row.scores for row in self.rows]),
            "mean_by_chance": self._means([row.chance for row in self.rows]),
            **self.more,
        }

    def _means(self, found: Sequence[np.ndarray]) -> dict[str, float | None]:
        """Mean of each score over all labels that can have it; what cannot be said counts as 0."""
        means: dict[str, float | None] = {}
        for at, name in enumerate(SCORES):
            can = [name in BY_DEGREES or row.told_by != ENCODER for row in self.rows]
            column = np.array([one[at] for one in found])[np.array(can, bool)]
            nothing = not len(column) or np.isnan(column).all()
            means[name] = None if nothing else float(np.nan_to_num(column).mean())
        return means


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for how many there are (Benjamini and Hochberg); None stays."""
    from scipy.stats import false_discovery_control  # slow to import

    known = [p for p in p_values if p is not None]
    found = iter(false_discovery_control(known).tolist() if known else ())
    return [None if p is None else next(found) for p in p_values]


class Exam:
    """Scores labels of units, each on the images held out that tell whether it is there.

    Parameters
    ----------
    values : numpy.ndarray
        (n, C) float: what units respond to images.
    truth : Truth
        Of the same images.
    parts : Parts
        Which images did what.
    settings : ExamSettings
        Shuffles, resamples, seed.
    """

    def __init__(
        self, values: np.ndarray, truth: Truth, parts: Parts, settings: ExamSettings
    ) -> None:
        self.values, self.truth, self.parts, self.settings = values, truth, parts, settings
        self._at = {meaning: at for at, meaning in enumerate(truth.meanings)}
        self._drawn: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def held(self, claim: Claim) -> np.ndarray:
        """Images held out that tell whether a label is there."""
        return self.truth.known(self._at[claim.meaning], self.parts.held)

    def column(self, claim: Claim) -> int:
        """Which of the truth's meanings a label has."""
        return self._at[claim.meaning]

    def orders(self, rows: np.ndarray) -> np.ndarray:
        """Shuffles (S, h) of some images held out: the same for all labels that they tell of."""
        return self._draws(rows)[0]

    def _draws(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = rows.tobytes()
        if key not in self._drawn:
            s, rng = self.settings, np.random.default_rng((self.settings.seed, 3))
            order = np.tile(np.arange(len(rows)), (s.chance, 1))
            self._drawn[key] = (
                rng.permuted(order, axis=1),
                resampled(len(rows), s.resamples if len(rows) else 0, rng),
            )
        return self._drawn[key]

    def steps(
        self, claims: Sequence[Claim], overlaps: Overlaps | None = None
    ) -> Iterator[tuple[Step, Examined, list[float | None]]]:
        """Examine one label after the other: p-values are not adjusted yet; and those by chance."""
        for number, claim in enumerate(claims):
            found, by_chance = self._one(number, claim, overlaps)
            yield Step(number + 1, len(claims), "examining", unit="labels"), found, by_chance

    def _one(
        self, number: int, claim: Claim, overlaps: Overlaps | None
    ) -> tuple[Examined, list[float | None]]:
        rows, at = self.held(claim), self._at[claim.meaning]
        orders, draws = self._draws(rows)
        answers = self._answers(number, claim, rows, overlaps)
        nothing = np.full(len(SCORES), np.nan)
        shown = int(self.truth.shows[rows, at].sum())
        blank = Examined(
            *(claim.unit, claim.label, claim.chosen, nothing, nothing, nothing, nothing),
            *(None, None, len(rows), shown, self.truth.told_by[at]),
        )
        if answers.is_constant:
            return blank, [None] * len(orders)
        low, high = _interval(scores(answers, draws)) if len(draws) else (nothing, nothing)
        rng = np.random.default_rng((self.settings.seed, 4, claim.unit))
        p = p_value(answers.values, answers.truth, rng)
        chance, by_chance = self._chance(answers, orders, rng)
        if overlaps is not None and len(orders):
            chance[SCORES.index("iou")] = overlaps.by_chance[:, number].mean()
        own = scores(answers)[0]
        return replace(blank, scores=own, low=low, high=high, chance=chance, p_value=p), by_chance

    def _answers(
        self, number: int, claim: Claim, rows: np.ndarray, overlaps: Overlaps | None
    ) -> Answers:
        at, of = self._at[claim.meaning], self.values[:, claim.unit].astype(np.float64)
        others = np.union1d(self.parts.fit, self.parts.choose)
        others = self.truth.known(at, others)
        cut = best_cut(of[others], self.truth.shows[others, at])
        amount = self.truth.amount[rows, at].astype(np.float64)
        held = of[rows]
        answers = Answers(held, amount, self.truth.shows[rows, at], held >= cut)
        if overlaps is None:
            return answers
        among = np.isin(self.parts.held, rows)
        pixels = overlaps.shared[number, among], overlaps.either[number, among]
        return Answers(held, amount, answers.shows, answers.fires, *pixels)

    def _chance(
        self, of: Answers, orders: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[float | None]]:
        """Mean scores, and each p-value, where the unit met the images in other orders."""
        shuffled = [Answers(of.values[o], of.truth, of.shows, of.fires[o]) for o in orders]
        if not shuffled:
            return np.full(len(SCORES), np.nan), []
        found = np.mean([scores(one)[0] for one in shuffled], axis=0)
        return found, [p_value(one.values, one.truth, rng) for one in shuffled]


def _interval(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between these lie 95 % of the resamples (B, 5) of each score; NaN where all are."""
    ends = np.full((2, found.shape[1]), np.nan)
    known = ~np.isnan(found).all(axis=0)
    ends[:, known] = np.nanquantile(found[:, known], (0.025, 0.975), axis=0)
    return ends[0], ends[1]


def examine(
    exam: Exam, claims: Sequence[Claim], overlaps: Overlaps | None = None, **more: Any
) -> Generator[Step, None, Sheet]:
    """Examine labels, step by step; `more` is to be said of them."""
    rows, by_chance = [], []
    for step, row, chance in exam.steps(claims, overlaps):
        rows.append(row)
        by_chance.append(chance)
        yield step
    sure = adjusted([row.p_value for row in rows])
    rows = [replace(row, adjusted=q) for row, q in zip(rows, sure, strict=True)]
    shares = [_share(column) for column in zip(*by_chance, strict=True)]
    chance_share = sum(shares) / len(shares) if shares else None
    return Sheet(rows, chance_share, exam.parts, claims, exam.truth, more)


def _share(p_values: Sequence[float | None]) -> float:
    """Share of labels that pass with these p-values."""
    return sum(q is not None and q < SURE for q in adjusted(p_values)) / len(p_values)


@dataclass(frozen=True)
class LayerExam:
    """The exam of a layer's labels, by method.

    Attributes
    ----------
    units : int
        Of the layer.
    sheets : dict of str to Sheet
        By method.
    skipped : list of (path, reason)
        None: whoever reads the images says which could not be read.
    """

    units: int
    sheets: dict[str, Sheet]
    skipped: tuple[tuple[str, str], ...] = ()

    def summary(self) -> dict[str, Any]:
        """Sum up in plain numbers, for JSON."""
        methods = {name: sheet.summary() for name, sheet in self.sheets.items()}
        return {"units": self.units, "methods": methods}
