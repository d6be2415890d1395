"""How well a label says on which images a unit responds: five scores, intervals and a p-value.

Of the measures in use these pass the field's sanity tests: a label that misses half of its images,
or claims as many again, must score lower. AUC, recall, MAD and WPMI do not, and are not here; see
``examples/sanity.py``.

Oikarinen, Yan & Weng, "Evaluating Neuron Explanations: A Unified Framework with Sanity Checks",
ICML 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnlens.measure.masks import compiled

SCORES = ("correlation", "average_precision", "iou", "f1", "cosine")
BY_DEGREES = ("correlation", "cosine")  # need not know on which images a label is there
_FIRST, _MORE = 999, 9000  # shuffles for a p-value: of all units, of those that few reach
_FEW = 10
_FLAT = 1e-12  # variance, as a share of the mean square, that rounding may leave of equal values


@dataclass(frozen=True)
class Answers:
    """A unit and its label on images.

    Attributes
    ----------
    values : numpy.ndarray
        (n,) float64: what the unit responds.
    truth : numpy.ndarray
        (n,) float64: how much of the label is there.
    shows : numpy.ndarray
        (n,) bool: whether it is there at all.
    fires : numpy.ndarray
        (n,) bool: whether the unit says so.
    shared, either : numpy.ndarray or None
        (n,) int64: pixels of the unit's mask and the label's, both and at least one; None: where
        there are no masks, the IoU is that of the images of `shows` and of `fires`.
    """

    values: np.ndarray
    truth: np.ndarray
    shows: np.ndarray
    fires: np.ndarray
    shared: np.ndarray | None = None
    either: np.ndarray | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the unit or its label is the same on all images, so that nothing can be said."""
        return not len(self.values) or not np.ptp(self.values) or not np.ptp(self.truth)


def scores(of: Answers, weights: np.ndarray | None = None) -> np.ndarray:
    """Score a label, (B, 5) float64 in the order of `SCORES`; NaN where something is constant.

    Parameters
    ----------
    of : Answers
        On n images.
    weights : numpy.ndarray, optional
        (B, n): how often each image counts; left out: once, and B is 1.
    """
    w = np.ones((1, len(of.values))) if weights is None else weights.astype(np.float64)
    v, t, b, f = of.values, of.truth, of.shows.astype(float), of.fires.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        n, sv, st, vv, tt, vt = (w @ np.stack([v * 0 + 1, v, t, v * v, t * t, v * t], 1)).T
        spreads = [np.where(n * p - s**2 > _FLAT * n * p, n * p - s**2, np.nan)
                   for p, s in ((vv, sv), (tt, st))]  # fmt: skip
        correlation = (n * vt - sv * st) / np.sqrt(spreads[0] * spreads[1])
        both, shown, fired = (w @ np.stack([b * f, b, f], 1)).T
        f1 = 2 * both / (shown + fired)
        iou = both / (shown + fired - both)
        if of.shared is not None and of.either is not None:
            iou = (w @ of.shared) / (w @ of.either)
        found = [correlation, average_precision(v, of.shows, w), iou, f1, vt / np.sqrt(vv * tt)]
    return np.stack(found, axis=1)


def average_precision(values: np.ndarray, shows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under precision over recall, (B,): the mean precision where recall grows.

    Images of equal value come at once, as in scikit-learn's ``average_precision_score``.
    """
    order, ends = _ranked(values)
    ordered = weights[:, order]
    hits = np.cumsum(ordered * shows[order], axis=1)[:, ends]
    seen = np.cumsum(ordered, axis=1)[:, ends]
    precision = hits / np.where(seen > 0, seen, 1)
    grown = np.diff(hits, axis=1, prepend=0) / hits[:, -1:]
    found: np.ndarray = (grown * precision).sum(axis=1)
    return found


def best_cut(values: np.ndarray, shows: np.ndarray) -> float:
    """Find from which value on a unit says "it is there" so that its F1 is highest.

    Infinity where no image shows the label: then it never does.
    """
    order, ends = _ranked(values)
    hits = np.cumsum(shows[order])[ends]
    if not len(values) or not hits[-1]:
        return float("inf")
    f1 = 2 * hits / (ends + 1 + hits[-1])
    return float(values[order][ends[int(f1.argmax())]])


def _ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of values, the highest first, and where in it each run of equal ones ends."""
    order = np.argsort(-values, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)


def resampled(images: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw images with replacement, (B, n) int16: how often each was drawn."""
    share = np.full(images, 1 / max(1, images))
    return rng.multinomial(images, share, size=resamples).astype(np.int16)


def p_value(values: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> float:
    """Say how often shuffled images correlate as highly, of 1,000 with those as they are.

    Where fewer than ten do, of 10,000.
    """
    there = np.flatnonzero(truth)  # the others add nothing to the product
    own = np.ascontiguousarray(truth[there], np.float64)
    pool = np.ascontiguousarray(values, np.float64)
    pool = pool - pool.mean()
    reached = float(own @ pool[there])
    slack = 1e-9 * float(np.abs(own).sum() * np.abs(pool).max(initial=0.0))
    count, draws = _as_high(pool, own, reached - slack, _FIRST, rng), _FIRST
    if count < _FEW:
        count += _as_high(pool, own, reached - slack, _MORE, rng)
        draws += _MORE
    return float((1 + count) / (1 + draws))


@compiled
def _as_high(values, truth, reached, draws, rng):
    """Count the shuffles whose product with the truth, given where it is not 0, is as high."""
    pool, count = values.copy(), 0
    for _ in range(draws):
        total = 0.0
        for i in range(len(truth)):
            j = i + int(rng.random() * (len(pool) - i))
            pool[i], pool[j] = pool[j], pool[i]
            total += truth[i] * pool[i]
        if total >= reached:
            count += 1
    return count
