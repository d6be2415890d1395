"""One learning of all concepts: weights, the cut above which they count, how well they do."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from cnnlens.measure.combine import CUTS, Learner, count, first_weights
from cnnlens.measure.concept_bits import Pairs
from cnnlens.measure.concept_task import Task
from cnnlens.measure.probe import best_units, fit_probe, image_iou
from cnnlens.settings import Net2VecSettings


@dataclass(frozen=True)
class Fit:
    """What was learned; of concepts that cannot be learned everything is 0.

    Attributes
    ----------
    weights : numpy.ndarray
        (K, C) float32: of binary maps, or of standardized means.
    direction : numpy.ndarray
        (K, C) float32: of activations as they are.
    bias, cut : numpy.ndarray
        (K,) float32: of a mean's logit; logit above which a pixel or an image counts.
    iou, iou_at_half : numpy.ndarray
        (K,) float64, on the validation split: above the cut, and above one half.
    """

    weights: np.ndarray
    direction: np.ndarray
    bias: np.ndarray
    cut: np.ndarray
    iou: np.ndarray
    iou_at_half: np.ndarray


def fit_steps(
    task: Task,
    pairs: Pairs,
    kept: np.ndarray,
    settings: Net2VecSettings,
    pool: Executor,
    parts: int,
    begun: Mapping[str, np.ndarray] | None = None,
) -> Generator[tuple[int, Learner], None, Fit]:
    """Learn every concept from the images of one split, judge it on those of the other.

    Parameters
    ----------
    task : Task
        The layer.
    pairs : Pairs
        Images and what they show.
    kept : numpy.ndarray
        (K, C) bool: units that take part.
    settings : Net2VecSettings
        Loss, epochs, rate, cut.
    pool, parts
        Threads, and how many.
    begun : mapping, optional
        "epoch", "weights" and "speed" of an earlier run.

    Yields
    ------
    (int, Learner)
        After every epoch.
    """
    here, there = (
        pairs[task.of_pixels[pairs.concept] & (task.split[pairs.image] == split)]
        for split in (0, 1)
    )
    concepts, units = task.shape
    learner = Learner(
        first_weights(concepts, units, settings.seed),
        kept & task.of_pixels[:, None],
        balance(here, concepts),
        settings.rate,
        settings.loss == "reference",
    )
    done = 0
    if begun is not None:
        done = int(begun["epoch"])
        learner.weights, learner.speed = begun["weights"].copy(), begun["speed"].copy()
    dealt = here.dealt(concepts, parts)
    for epoch in range(done + 1, settings.epochs + 1):
        learner.epoch(task.bits, dealt, pool)
        yield epoch, learner
    fitted = dealt if settings.cut == "fitted" else None
    fit = _judged(task, learner, fitted, there.dealt(concepts, parts), pool)
    _add_probes(task, task.truth(pairs), kept, fit)
    return fit


def _judged(
    task: Task,
    learner: Learner,
    here: list[Pairs] | None,
    there: list[Pairs],
    pool: Executor,
) -> Fit:
    """Judge what was learned on the images of `there`; where the cut is not fitted to those of
    `here`, it is one half.
    """
    concepts = len(learner.weights)
    number = np.zeros(concepts, np.int64)
    if here is not None:
        number = ratios(*count(task.bits, here, learner.weights, pool)).argmax(axis=1)
    ious = ratios(*count(task.bits, there, learner.weights, pool))
    return Fit(
        learner.weights,
        (learner.weights * inverse(task.spread)).astype(np.float32),
        np.zeros(concepts, np.float32),
        CUTS[number],
        ious[np.arange(concepts), number],
        ious[:, 0].copy(),
    )


def _add_probes(task: Task, truth: np.ndarray, kept: np.ndarray, fit: Fit) -> None:
    """Fit probes of what is told of whole images, (N, K) bool, and put them among the rest."""
    means = task.bits.means
    for mine, (here, there) in task.of_images():
        probe = fit_probe(means, here, truth[np.ix_(here, mine)], kept[mine])
        predicted = probe.logits(means[there]) > 0
        ious = image_iou(predicted, truth[np.ix_(there, mine)])
        fit.iou[mine] = fit.iou_at_half[mine] = ious
        fit.weights[mine], fit.direction[mine] = probe.weights, probe.direction
        fit.bias[mine] = probe.bias - probe.direction @ probe.mean


def balance(pairs: Pairs, concepts: int) -> np.ndarray:
    """Weight of each concept's pixels, (K,) float32: 1 less their mean share of its images."""
    counts = np.bincount(pairs.concept, minlength=concepts)
    shares = np.bincount(pairs.concept, pairs.area.astype(np.float64), minlength=concepts)
    return (1 - shares / np.maximum(counts, 1)).astype(np.float32)


def ratios(shared: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Intersection over union; 0 where the union is empty."""
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def inverse(values: np.ndarray) -> np.ndarray:
    """1/v, and 0 where that is not defined."""
    return np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def largest(weights: np.ndarray, size: int) -> np.ndarray:
    """(K, C) bool: each concept's so many largest weights by size; the first of equals."""
    order = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :size]
    kept = np.zeros(weights.shape, bool)
    np.put_along_axis(kept, order, True, axis=1)
    return kept


def alone(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Find each concept's best unit on the images to learn from, and its IoU on the others.

    Pixels count as in dissection, on the images that show the concept; whole images by the unit's
    mean.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        (K,) int64, -1 for none, and (K,) float64.
    """
    scores = task.overlaps[0].iou  # (C, K)
    unit = np.where(scores.max(axis=0) > 0, scores.argmax(axis=0), -1)
    ious = task.overlaps[1].iou[unit, np.arange(len(unit))]
    truth, means = task.truth(task.pairs), task.bits.means
    for mine, (here, there) in task.of_images():
        unit[mine], cut = best_units(means, here, truth[np.ix_(here, mine)])
        predicted = means[there][:, unit[mine]] > cut
        ious[mine] = image_iou(predicted, truth[np.ix_(there, mine)])
    return unit, np.where(unit < 0, 0.0, ious)
