"""Network Dissection: which unit of a layer detects which concept.

A unit's mask is where its upsampled map exceeds its top-quantile threshold; its score for a concept
is the IoU of all its masks with all the concept's pixels, over the data set:
IoU = I / (A_c + G_k - I), with A_c counted on images that carry ground truth of the category.

Bau et al., "Network Dissection: Quantifying Interpretability of Deep Visual Representations",
CVPR 2017, §2; the same measure in Varshneya et al., "Learning Interpretable Concept Groups in
CNNs", IJCAI 2021, §4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from cnnlens.activations.shared import SharedSource
from cnnlens.activations.sources import Source
from cnnlens.data.broden import Broden
from cnnlens.distributed import ALL, Share
from cnnlens.errors import CnnlensError
from cnnlens.measure.combinations import Combinations
from cnnlens.measure.dissection import Concepts, Dissection
from cnnlens.measure.formula_look import FormulaLook, combinations
from cnnlens.measure.iou import Counts, Extent, GroundTruth, slices
from cnnlens.measure.label_cache import LabelCache, Permutation, permutations
from cnnlens.measure.masks import MaskPixels, TopValues, mask_pixels
from cnnlens.measure.top import Histogram, TopImages
from cnnlens.progress import Step, followed
from cnnlens.settings import DissectSettings

LABELS = 1024  # images whose labels a process reads before it gives them to the others


def dissect(
    source: Source,
    data: Broden,
    settings: DissectSettings | None = None,
    workers: int = 4,
    progress: Callable[[Step], None] | None = None,
) -> list[Dissection]:
    """Dissect layers, in two sweeps over their activations.

    Parameters
    ----------
    source : Source
        Activations of the layers over the images of `data`.
    data : Broden
        The images' labels.
    settings : DissectSettings, optional
        Quantile, limit, shuffles.
    workers : int
        Threads that read labels and count.
    progress : callable, optional
        Called often with a Step.

    Returns
    -------
    list of Dissection
        One per layer; none where this is not the first of the processes that share the source.

    Raises
    ------
    CnnlensError
        When no image is left, or more than 5 % have unusable labels.
    """
    return followed(dissect_steps(source, data, settings or DissectSettings(), workers), progress)


def dissect_steps(
    source: Source,
    data: Broden,
    settings: DissectSettings,
    workers: int,
    folder: Path | None = None,
) -> Generator[Step, None, list[Dissection]]:
    """Do what `dissect` does, step by step, for callers that want to stop or draw in between.

    Labels are kept in a file of `folder` while this runs (see `LabelCache`).
    """
    share = source.share if isinstance(source, SharedSource) else ALL
    pairs = zip(source.shapes, source.limits, strict=True)
    first = [_First(shape, limit, settings) for shape, limit in pairs]
    for step in source.sweep(first):
        yield Step(step.done, step.total, "thresholds")
    seen = first[0].positions
    if not seen:
        raise CnnlensError("no image of the data could be read", "cnnlens data check DIR says why")
    compat = settings.compat == "ndlite"
    space = data.concept_space(pooled=compat)
    keep = settings.chance > 0 or settings.formula > 0
    book = LabelCache(space, len(data.paths), keep, compat, folder)
    if book.keep:
        yield from _labels(book, first[0].mine, len(seen), workers, share)
    parts = share.from_first(lambda: max(1, workers))  # that all count the same runs of units
    permuted = permutations(book, settings.chance, settings.seed)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        table = combinations(book, seen) if settings.formula else None
        second = [_Second(f, book, permuted, settings, pool, parts, table) for f in first]
        for step in source.sweep(second):
            yield Step(step.done, step.total, "counting")
    found = []
    for look in second if share.leads else ():
        found.append((yield from look.result(settings)))
    return found


def _labels(
    book: LabelCache, mine: Sequence[int], total: int, workers: int, share: Share
) -> Iterator[Step]:
    """Keep the labels of all images; each process of a run reads those of its own rows."""
    rounds = max(share.gathered(-(-len(mine) // LABELS)))
    done = 0
    for start in range(0, rounds * LABELS, LABELS):
        some = mine[start : start + LABELS]
        for read in book.store_all(some, workers):
            yield Step(done + read, total, "labels")
        for _ in share.wait():
            yield Step(done + len(some), total, "labels")
        done += book.exchange(some, share)


class _First:
    """The first look at a layer: thresholds and top images."""

    def __init__(self, shape: tuple[int, int, int], limit: int, settings: DissectSettings) -> None:
        self.values = TopValues(settings.kept_share, shape[0], limit * shape[1] * shape[2])
        self.top = TopImages(shape, settings.top) if settings.top else None
        self.positions: list[int] = []
        self.mine: Sequence[int] = self.positions  # what this process itself has looked at

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        self.positions += positions.tolist()
        self.values.update(maps)
        if self.top:
            self.top.update(positions, maps)

    def put_together(self, share: Share) -> None:
        """Go on with what all processes of a run have seen (see `SharedObserver`)."""
        self.values.put_together(share)
        if self.top:
            self.top.put_together(share)
        self.positions = [*chain(*share.gathered(self.positions))]


class _Second:
    """The second look at a layer: masks against labels, and against shuffled labels."""

    def __init__(
        self,
        first: _First,
        book: LabelCache,
        permuted: list[Permutation],
        settings: DissectSettings,
        pool: ThreadPoolExecutor,
        parts: int,
        table: Combinations | None,
    ) -> None:
        space = book.space
        self.thresholds = first.values.thresholds()
        self._units = slices(len(self.thresholds), parts)
        self._top, self._images = first.top, len(first.positions)
        zero = np.float32(0)  # one zero: which of -0 and 0 was found depends on the order
        self._range = first.values.lowest + zero, first.values.highest + zero
        self._histogram = Histogram(*self._range) if settings.top else None
        self._book, self._permuted, self._pool = book, permuted, pool
        compat = settings.compat == "ndlite"
        self._counts, *self._null = (
            Counts(len(self.thresholds), space.category_of, book.categories, compat)
            for _ in range(1 + len(permuted))
        )
        self._extent = Extent(len(space.concepts))
        look = (book, self._units, settings.chance, settings.seed)
        self._formulas = FormulaLook(table, *look) if table else None

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        truths = list(self._pool.map(self._truth, positions.tolist()))
        for truth in truths:
            if truth is not None:
                self._extent.add(truth)
        masks: list[_Masks] = [_Masks(maps, self.thresholds, units) for units in self._units]
        self._add(self._counts, masks, [[t] if t is not None else [] for t in truths])
        for permutation, counts in zip(self._permuted, self._null, strict=True):
            shuffled = partial(self._shuffled, permutation)
            self._add(counts, masks, list(self._pool.map(shuffled, positions.tolist())))
        if self._formulas:
            found = lambda part, image, size: masks[part].mask_pixels(image, size)  # noqa: E731
            self._formulas.add(positions.tolist(), found, self._pool)
        if self._histogram:
            self._histogram.update(maps)

    def put_together(self, share: Share) -> None:
        """Go on with what all processes of a run have counted (see `SharedObserver`)."""
        for counts in (self._counts, *self._null):
            share.add_up(counts.intersection)
            share.add_up(counts.area)
        share.add_up(self._extent.pixels)
        share.add_up(self._extent.images)
        if self._histogram:
            share.add_up(self._histogram.counts)
        if self._formulas:
            self._formulas.put_together(share)
        for bad in share.gathered(self._book.bad):
            self._book.note_bad(bad)

    def _truth(self, position: int) -> GroundTruth | None:
        if position in self._book.bad:
            return None
        return self._book.whole(position) if self._book.keep else self._book.read(position)

    def _shuffled(self, permutation: Permutation, position: int) -> list[GroundTruth]:
        carried = self._book.carried(position)
        return [self._book.part(permutation(position, c), c) for c in carried]

    def _add(self, counts: Counts, masks: list[_Masks], truths: list[list[GroundTruth]]) -> None:
        """Count every image's masks against its truths; each thread has units of its own."""

        def some(mine: _Masks) -> None:
            for image, of_image in enumerate(truths):
                for truth in of_image:
                    counts.add(mine.mask_pixels(image, truth.size), truth, mine.units)

        list(self._pool.map(some, masks))

    def result(self, settings: DissectSettings) -> Generator[Step, None, Dissection]:
        space = self._book.space
        concepts = Concepts(
            space.concepts,
            space.category_names,
            space.category_of,
            self._extent.pixels,
            self._extent.images,
        )
        found = Dissection(
            settings=settings,
            images=self._images,
            thresholds=self.thresholds,
            lowest=self._range[0],
            highest=self._range[1],
            concepts=concepts,
            counts=self._counts,
            null=self._null,
            skipped=sorted(self._book.bad.values()),
            top=self._top,
            histogram=self._histogram,
        )
        if not self._formulas:
            return found
        how = concepts.by_number, settings.formula, settings.beam
        return replace(found, formulas=(yield from self._formulas.search(*how, found.kinds)))


class _Masks:
    """Masks of some units on a batch of images, computed once per size of label map."""

    def __init__(self, maps: np.ndarray, thresholds: np.ndarray, units: slice) -> None:
        self.units = units
        self._maps, self._thresholds = maps[:, units], thresholds[units]
        self._found: dict[tuple[int, tuple[int, int]], MaskPixels] = {}

    def mask_pixels(self, image: int, size: tuple[int, int]) -> MaskPixels:
        key = (image, size)
        if key not in self._found:
            self._found[key] = mask_pixels(self._maps[image], self._thresholds, size)
        return self._found[key]
