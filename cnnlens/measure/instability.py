"""How steadily a unit's peak keeps its distance from an object's parts.

Location instability of unit f and part k: the standard deviation (n − 1), over the images that show
the part and where the unit peaks highest, of the distance between the part's centre and the
receptive-field centre of the peak, divided by the image's diagonal. Over parts: the mean.

Zhang et al., "Interpretable Convolutional Neural Networks", CVPR 2018, §5.2.2 (whose tables 3–5
were divided by the side instead: a factor √2 too large).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOP = 100  # images per unit and part
FEWEST = 10  # images with a part below which it does not count
RANDOM = 10  # random places of the baseline, per image


@dataclass(frozen=True)
class Category:
    """The images of one category, and where their parts are.

    Attributes
    ----------
    images : numpy.ndarray
        (n,) int64, rows of the peaks.
    centres : numpy.ndarray
        (n, P, 2) float64, y and x in pixels of the input; NaN where a part is not shown.
    counting : tuple of int
        Parts shown on at least `FEWEST` of the images.
    """

    images: np.ndarray
    centres: np.ndarray
    counting: tuple[int, ...]


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
    """One unit on one category, in shares of the diagonal.

    Attributes
    ----------
    value : float
        Location instability.
    parts : numpy.ndarray
        (P,) per part; NaN for parts that do not count.
    shuffled : numpy.ndarray
        (S,) the same with the unit's places shuffled across images.
    uniform, centre : float
        The same for random places and for the image's centre.
    """

    value: float
    parts: np.ndarray
    shuffled: np.ndarray
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
        middle = np.broadcast_to(np.array(self._size) / 2, places.shape)
        every = np.concatenate(
            [places[None], places[permutations], random, middle[None]]
        )  # (S+…, n, 2)
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
