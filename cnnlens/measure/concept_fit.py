"""What is to be learned of one layer: which concepts, from which images; and one learning of all of
them: weights, the cut above which they count, how well they do.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cnnlens.data.concept_space import ConceptSpace
from cnnlens.errors import CnnlensError
from cnnlens.measure.combine import CUTS, Learner, count, first_weights
from cnnlens.measure.concept_bits import EVERYWHERE, Bits, Collector, Overlap, Pairs
from cnnlens.measure.embeddings import LeftOut
from cnnlens.measure.iou import ratios
from cnnlens.measure.label_cache import LabelCache
from cnnlens.measure.probe import best_units, fit_probe, image_iou, inverse
from cnnlens.settings import Net2VecSettings


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


# -- one learning of all concepts -----------------------------------------------------------------


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
