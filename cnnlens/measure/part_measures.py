"""How a unit keeps to an object's parts: location instability, and part interpretability.

Location instability of unit f and part k: the standard deviation (n − 1), over the images that show
the part and where the unit peaks highest, of the distance between the part's centre and the
receptive-field centre of the peak, divided by the image's diagonal. Over parts: the mean.

A unit's mask on an image is where its upsampled map exceeds the threshold that a share of all its
activations exceeds. P_fk is the share of the images with part k on which their IoU is above 0.2;
P_f the largest over parts. The masks' area bounds it: an IoU above 0.2 takes more than 0.2 of the
part's area, so P_fk ≤ area of all its masks / (0.2 · smallest part's area · images), capped at 1.

Chance is the unit's own places shuffled among the images that excite it. On the others the highest
value is 0 and its place an arbitrary corner: where too few images excite the unit these count too,
as the measure has it, but they keep their corner, or chance would hold corners where peaks are.

Zhang et al., "Interpretable Convolutional Neural Networks", CVPR 2018, §5.2.2 (whose tables 3–5
were divided by the side instead: a factor √2 too large) and §5.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnlens.data.parts import PartSet
from cnnlens.measure.masks import mask_pixels

TOP = 100  # images per unit and part
FEWEST = 10  # images with a part below which it does not count
RANDOM = 10  # random places of the baseline, per image
FITS = 0.2  # an IoU above this is an association


# -- how steadily a peak keeps its distance from parts -------------------------------------------


@dataclass(frozen=True)
class Category:
    """The images of one category, and where their parts are."""

    images: np.ndarray  #: (n,) int64, rows of the peaks
    #: (n, P, 2) float64, y and x in pixels of the input; NaN where a part is not shown
    centres: np.ndarray
    counting: tuple[int, ...]  #: parts shown on at least `FEWEST` of the images


def categories(labels: np.ndarray, centres: np.ndarray, names: list[str]) -> dict[int, Category]:
    """Take the categories that can be measured.

    Parameters
    ----------
    labels : numpy.ndarray
        (N,) int64, indices of `names`.
    centres : numpy.ndarray
        (N, P, 2), pixels of the input.
    names : list of str
        All categories.
    """
    found = {}
    for number in range(len(names)):
        images = np.flatnonzero(labels == number)
        shown = ~np.isnan(centres[images, :, 0])  # (n, P)
        counting = tuple(np.flatnonzero(shown.sum(axis=0) >= FEWEST).tolist())
        if counting:
            found[number] = Category(images, centres[images], counting)
    return found


def deviations(
    places: np.ndarray, scores: np.ndarray, category: Category, top: int = TOP
) -> np.ndarray:
    """Standard deviations of the distance from every part, for one or several sets of places.

    Parameters
    ----------
    places : numpy.ndarray
        (S, n, 2) y and x of a unit's peaks on the category's images, in pixels.
    scores : numpy.ndarray
        (n,) how high it peaks: decides which images count; ties keep the data's order.
    category : Category
        The images and parts.
    top : int
        Images that count per part.

    Returns
    -------
    numpy.ndarray
        (S, P) pixels; NaN for parts that do not count.
    """
    order = np.argsort(-scores, kind="stable")
    found = np.full((len(places), category.centres.shape[1]), np.nan)
    for part in category.counting:
        centres = category.centres[:, part]  # (n, 2)
        chosen = order[~np.isnan(centres[order, 0])][:top]
        away = places[:, chosen] - centres[chosen]  # (S, T, 2)
        distance = np.sqrt(np.einsum("stc,stc->st", away, away))
        found[:, part] = distance.std(axis=1, ddof=1)
    return found


@dataclass(frozen=True)
class Instability:
    """One unit on one category, in shares of the diagonal."""

    value: float  #: location instability
    parts: np.ndarray  #: (P,) per part; NaN for parts that do not count
    shuffled: np.ndarray  #: (S,) the same with places shuffled across images that excite the unit
    #: uniform, centre: the same for random places and for the image's centre
    uniform: float
    centre: float


class Baselines:
    """Places to hold a unit's against: shuffled, random, and the centre.

    Parameters
    ----------
    grid : numpy.ndarray
        (H·W, 2) y and x of the layer's receptive-field centres, in pixels.
    size : (int, int)
        Height and width of the input.
    shuffles : int
        How often places are shuffled.
    seed : int
        Of both.
    """

    def __init__(
        self, grid: np.ndarray, size: tuple[int, int], shuffles: int, seed: int = 0
    ) -> None:
        self._grid, self._size = grid, size
        self._shuffles, self._seed = shuffles, seed
        self._diagonal = float(np.hypot(*size))
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def instability(
        self, places: np.ndarray, scores: np.ndarray, category: Category
    ) -> Instability:
        """Measure a unit's places (n, 2) on a category's images, and the baselines."""
        permutations, random = self._draw(len(places))
        shuffled = _shuffled(places, scores > 0, permutations)
        middle = np.broadcast_to(np.array(self._size) / 2, places.shape)
        every = np.concatenate([places[None], shuffled, random, middle[None]])  # (S+…, n, 2)
        parts = deviations(every, scores, category) / self._diagonal
        values = np.nanmean(parts, axis=1)
        first = 1 + self._shuffles
        return Instability(
            float(values[0]),
            parts[0],
            values[1:first],
            float(values[first:-1].mean()),
            float(values[-1]),
        )

    def _draw(self, images: int) -> tuple[np.ndarray, np.ndarray]:
        """Permutations (S, n) and random places (R, n, 2), the same for all units."""
        if images not in self._drawn:
            random = np.random.default_rng([self._seed, images])
            permutations = [random.permutation(images) for _ in range(self._shuffles)]
            chosen = self._grid[random.integers(len(self._grid), size=(RANDOM, images))]
            self._drawn[images] = np.array(permutations, np.int64).reshape(-1, images), chosen
        return self._drawn[images]


def _shuffled(places: np.ndarray, excited: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Shuffle places (n, 2) among the images that excite a unit, (n,) bool: (S, n, 2)."""
    shape = len(permutations), int(excited.sum())
    order = permutations[excited[permutations]].reshape(shape)
    found = np.tile(places, (len(permutations), 1, 1))
    found[:, excited] = places[order]
    return found


def smallest(found: list[Instability]) -> Instability:
    """Take the smallest of several categories, the chance levels' smallest likewise."""
    best = min(found, key=lambda one: one.value)
    return Instability(
        best.value,
        best.parts,
        np.min([one.shuffled for one in found], axis=0),
        min(one.uniform for one in found),
        min(one.centre for one in found),
    )


# -- how often a mask is a part


class PartMaskCache:
    """All part masks of a data set, one bit a pixel, at the network's input size."""

    def __init__(self, data: PartSet, size: tuple[int, int]) -> None:
        self._data, self.size = data, size
        self._bits: dict[int, np.ndarray] = {}

    def masks(self, index: int) -> np.ndarray:
        """(P, H·W) bool of one object."""
        pixels = self.size[0] * self.size[1]
        if index not in self._bits:
            flat = self._data.part_masks(index, self.size).reshape(-1, pixels)
            self._bits[index] = np.packbits(flat, axis=1)
        return np.unpackbits(self._bits[index], axis=1, count=pixels).astype(bool)

    def share(self) -> float:
        """Mean share of the image that a part takes, over all parts that are shown."""
        areas = np.concatenate([self.masks(i).mean(axis=1) for i in range(len(self._data.paths))])
        return float(areas[areas > 0].mean()) if (areas > 0).any() else 0.0


@dataclass(frozen=True)
class PartInterpretability:
    """Part interpretability of a layer's units at one quantile."""

    quantile: float  #: share of a unit's activations above its threshold
    #: (C, P) P_fk; NaN where the unit is dead or its category does not show the part
    by_part: np.ndarray
    bound: np.ndarray  #: (C, P) what the masks' area allows
    chance: np.ndarray  #: (C, P) the same with the masks of another object of the category

    def best(self, values: np.ndarray) -> np.ndarray:
        """(C,) the largest over parts; NaN for units without any."""
        known = ~np.isnan(values).all(axis=1)
        found = np.full(len(values), np.nan)
        found[known] = np.nanmax(values[known], axis=1)
        return found


class PartCounter:
    """Counts, image by image, which units' masks fit which parts.

    Parameters
    ----------
    book : PartMaskCache
        The parts.
    thresholds : numpy.ndarray
        (C,) float32.
    quantile : float
        What the thresholds stand for.
    category : numpy.ndarray
        (C,) each unit's category; -1 for units that are not measured.
    labels : numpy.ndarray
        (N,) each image's.
    partner : numpy.ndarray
        (N,) for each image another one of its category.
    """

    def __init__(
        self,
        book: PartMaskCache,
        thresholds: np.ndarray,
        quantile: float,
        category: np.ndarray,
        labels: np.ndarray,
        partner: np.ndarray,
    ) -> None:
        self._book, self._thresholds, self._quantile = book, thresholds, quantile
        self._category, self._labels, self._partner = category, labels, partner
        shape = len(thresholds), len(book.masks(0))
        self._fits, self._by_chance = np.zeros(shape), np.zeros(shape)
        self._mask_area = np.zeros(shape)
        self._shown, self._paired = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._smallest = np.full(shape, np.inf)

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W) of images at `positions` (B,)."""
        for position, found in zip(positions.tolist(), maps, strict=True):
            units = np.flatnonzero(self._category == self._labels[position])
            if not len(units):
                continue
            bright = mask_pixels(
                np.ascontiguousarray(found[units]), self._thresholds[units], self._book.size
            )
            own = self._book.masks(position)
            fits, shown, area = _fits(own, bright.pixels, bright.ends)
            self._fits[units] += fits
            self._shown[units] += shown
            self._mask_area[units] += area[:, None] * shown
            sizes = np.where(shown, own.sum(axis=1), np.inf)
            self._smallest[units] = np.minimum(self._smallest[units], sizes)
            other = self._book.masks(int(self._partner[position]))
            fits, shown, _ = _fits(other, bright.pixels, bright.ends)
            self._by_chance[units] += fits
            self._paired[units] += shown

    def result(self, fewest: int) -> PartInterpretability:
        """Shares over the images; parts on fewer images than `fewest` do not count."""
        counts = self._shown >= fewest
        limit = self._mask_area / (FITS * self._smallest * np.maximum(self._shown, 1))
        return PartInterpretability(
            self._quantile,
            np.where(counts, self._fits / np.maximum(self._shown, 1), np.nan),
            np.where(counts, np.minimum(limit, 1.0), np.nan),
            np.where(counts, self._by_chance / np.maximum(self._paired, 1), np.nan),
        )


def _fits(
    parts: np.ndarray, pixels: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each unit's mask fits each part (U, P), parts that are shown (P,), areas (U,)."""
    inside = np.zeros((len(parts), len(pixels) + 1), np.int64)
    np.cumsum(parts[:, pixels], axis=1, out=inside[:, 1:])  # (P, M + 1)
    common = (inside[:, ends[1:]] - inside[:, ends[:-1]]).T  # (U, P)
    area = np.diff(ends)  # (U,)
    size = parts.sum(axis=1)  # (P,)
    union = area[:, None] + size - common
    shown = size > 0
    return (common > FITS * union) & shown, shown, area
