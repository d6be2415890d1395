"""Where labels are there, of label maps; and pixels that units' masks share with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cnnlens.data.broden import Broden
from cnnlens.measure.dissection import concept_words
from cnnlens.measure.exam import Exam, Overlaps
from cnnlens.measure.exam_truth import MAPS, Claim, Truth
from cnnlens.measure.iou import GroundTruth
from cnnlens.measure.label_cache import LabelCache
from cnnlens.measure.masks import MaskPixels, compiled, mask_pixels
from cnnlens.measure.meaning import Meaning
from cnnlens.progress import Step


def concept_index(data: Broden) -> dict[str, int]:
    """Number concepts by names that tell them apart (see `concept_words`)."""
    concepts = data.concept_space().concepts
    return {name: at for at, name in enumerate(concept_words(concepts))}


def concept_names(data: Broden) -> dict[str, str]:
    """Look up those names by ``label (category)``, ``category:label``, and label, of several the
    first.
    """
    found: dict[str, str] = {}
    concepts = data.concept_space().concepts
    for concept, name in zip(concepts, concept_words(concepts), strict=True):
        found.setdefault(concept.label, name)
        found[f"{concept.category}:{concept.label}"] = name
        found.setdefault(f"{concept.label} ({concept.category})", name)
    return found


class MapTruth:
    """Reads where labels are there, and keeps their masks on some images.

    Parameters
    ----------
    data : Broden
        With label maps.
    meanings : sequence of Meaning
        What labels say, of the names in `concept_index`.
    """

    def __init__(self, data: Broden, meanings: Sequence[Meaning]) -> None:
        self._book = LabelCache(data.concept_space(), len(data.paths), keep=False, by_concept=False)
        self._names, self._meanings = concept_index(data), list(meanings)
        self._category = self._book.space.category_of
        self.masks: dict[tuple[int, int], np.ndarray] = {}  # by meaning and row: bits
        self.sizes: dict[int, tuple[int, int]] = {}

    def steps(self, positions: np.ndarray, kept: np.ndarray) -> Iterator[Step]:
        """Read the labels of images; `kept` are rows of which masks are kept."""
        keep = set(kept.tolist())
        shape = len(positions), len(self._meanings)
        self.amount = np.full(shape, np.nan, np.float32)
        self.shows = np.zeros(shape, bool)
        for row, position in enumerate(positions.tolist()):
            truth = self._book.read(position)
            if truth is not None:
                self._add(row, truth, row in keep)
            yield Step(row + 1, len(positions), "labels")

    @property
    def truth(self) -> Truth:
        """Where labels are there, as far as was read."""
        told_by = [MAPS] * len(self._meanings)
        return Truth(self._meanings, self.amount, self.shows, told_by)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Images whose labels are unusable."""
        return sorted(self._book.bad.values())

    def _add(self, row: int, truth: GroundTruth, keep: bool) -> None:
        self.sizes[row] = truth.size
        there = {int(code) - 1 for code in np.unique(truth.planes) if code}
        there.update(truth.whole.tolist())
        found: dict[int, np.ndarray] = {}

        def mask(name: str) -> np.ndarray:
            concept = self._names[name]
            if concept not in found:
                found[concept] = _mask(truth, concept, concept in there)
            return found[concept]

        def is_told(name: str) -> bool:
            return bool(truth.present[self._category[self._names[name]]])

        for at, meaning in enumerate(self._meanings):
            concepts = [self._names[name] for name in meaning.concepts]
            told = truth.present[self._category[concepts]]
            if not (told.all() if meaning.formula is None else told.any()):
                continue  # nobody says whether it is there
            if meaning.formula is None and there.isdisjoint(concepts):
                self.amount[row, at] = 0
                continue
            where = meaning.where(mask, is_told)
            self.shows[row, at] = where.any()
            self.amount[row, at] = (
                where.mean()
                if meaning.formula is not None
                else sum(weight * mask(name).mean() for name, weight in meaning.terms)
            )
            if keep and self.shows[row, at]:
                self.masks[at, row] = np.packbits(where)

    def mask(self, at: int, row: int) -> np.ndarray | None:
        """Where a label is on an image, (h · w,) uint8 of 0 and 1; None where it is not."""
        bits = self.masks.get((at, row))
        if bits is None:
            return None
        return np.unpackbits(bits, count=self.sizes[row][0] * self.sizes[row][1])


def _mask(truth: GroundTruth, concept: int, is_there: bool) -> np.ndarray:
    size = truth.size[0] * truth.size[1]
    if is_there and concept in truth.whole:
        return np.ones(size, bool)
    found: np.ndarray = (
        (truth.planes == concept + 1).any(axis=0) if is_there else np.zeros(size, bool)
    )
    return found


class OverlapCounter:
    """Looks at images held out, and counts the pixels that units' masks share with labels.

    Parameters
    ----------
    exam : Exam
        Which images tell of which label, and how they are shuffled.
    claims : sequence of Claim
        Labels.
    maps : MapTruth
        Their masks.
    thresholds : numpy.ndarray
        (C,) float32.
    positions : numpy.ndarray
        (n,) each row's place in the data's order.
    """

    def __init__(
        self,
        exam: Exam,
        claims: Sequence[Claim],
        maps: MapTruth,
        thresholds: np.ndarray,
        positions: np.ndarray,
    ) -> None:
        self._maps, self._thresholds = maps, thresholds
        self._row_of = {int(positions[row]): row for row in exam.parts.held}
        self._at = {row: at for at, row in enumerate(exam.parts.held.tolist())}
        size = len(claims), len(exam.parts.held)
        self._shared, self._either = np.zeros(size, np.int64), np.zeros(size, np.int64)
        shuffles = exam.settings.chance
        self._chance = np.zeros((2, shuffles, len(claims)))
        self._groups = list(self._grouped(exam, claims))

    def _grouped(
        self, exam: Exam, claims: Sequence[Claim]
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, dict[int, list[int]]]]:
        """Yield meanings, the labels that have it, their units, and whom each image meets."""
        by_meaning: dict[int, list[int]] = {}
        for number, claim in enumerate(claims):
            by_meaning.setdefault(exam.column(claim), []).append(number)
        for at, numbers in by_meaning.items():
            rows = exam.held(claims[numbers[0]])
            meets: dict[int, list[int]] = {row: [row] for row in rows.tolist()}
            for order in exam.orders(rows):
                for row, other in zip(rows.tolist(), rows[order].tolist(), strict=True):
                    meets[other].append(row)  # the unit on `other` meets the labels of `row`
            units = np.array([claims[number].unit for number in numbers])
            yield at, np.array(numbers), units, meets

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in images at `positions` (B,) with maps (B, C, H, W)."""
        for position, of_image in zip(positions.tolist(), maps, strict=True):
            self._add(self._row_of[position], of_image)

    def _add(self, row: int, maps: np.ndarray) -> None:
        found: dict[tuple[int, int], MaskPixels] = {}
        for at, numbers, units, meets in self._groups:
            for draw, other in enumerate(meets.get(row, ()), -1):
                size = self._maps.sizes[other]
                if size not in found:
                    found[size] = mask_pixels(maps, self._thresholds, size)
                shared, either = _counted(found[size], units, self._maps.mask(at, other))
                if draw < 0:
                    self._shared[numbers, self._at[row]] = shared
                    self._either[numbers, self._at[row]] = either
                else:
                    self._chance[:, draw, numbers] += shared, either

    @property
    def overlaps(self) -> Overlaps:
        """What was counted."""
        shared, either = self._chance
        by_chance = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
        return Overlaps(self._shared, self._either, by_chance)


def _counted(
    found: MaskPixels, units: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of units' masks in a label's, and of at least one of both, each (units,)."""
    area = found.ends[units + 1] - found.ends[units]
    if mask is None:
        return np.zeros_like(area), area
    shared = np.zeros_like(area)
    _shared(found.pixels, found.ends, units, mask, shared)
    return shared, area + int(mask.sum()) - shared


@compiled
def _shared(pixels, ends, units, mask, shared):
    for number in range(len(units)):
        for at in range(ends[units[number]], ends[units[number] + 1]):
            shared[number] += mask[pixels[at]]
