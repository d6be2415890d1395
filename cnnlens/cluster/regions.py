"""Where categories lie in a layer, and clusters that are named after them; random images.

Clusters of representatives know nothing of categories (Dai 2020, §2.5). They are named by optimal
assignment, and as a stable marriage. How pure they are, and how often their names are right, stands
beside what shuffled categories give: as many names as clusters fit some images by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cnnlens.cluster.embed import flat_vectors
from cnnlens.cluster.vectors import Firsts, Groups, MapSource
from cnnlens.errors import CnnlensError
from cnnlens.model.matching import usual_outputs


def radii(vectors: np.ndarray, groups: Groups) -> np.ndarray:
    """Radius of each category's region, (K,): root mean square distance from its mean vector."""
    found = np.full(len(groups.names), np.nan)
    for category in range(len(groups.names)):
        mine = vectors[groups.of_image == category].astype(np.float64)
        if len(mine):
            found[category] = np.sqrt(((mine - mine.mean(0)) ** 2).sum(1).mean())
    return found


_SHUFFLES = 200
_LEAST_SHUFFLES = 20  # of vectors so large that more would take longer than the clusters
_SHUFFLED = 10**10  # values that are summed at most, beyond the least
_SHARES = ("agreement", "optimal_accuracy", "stable_accuracy", "purity")


class ByChance(NamedTuple):
    """What a share comes to where the categories are shuffled among the images."""

    mean: float
    p95: float  #: the 95th percentile


@dataclass(frozen=True)
class Clusters:
    """Clusters of representatives, and what they are called."""

    of_image: np.ndarray  #: (N,): the cluster of each image
    optimal: np.ndarray  #: (K,): the category that each cluster is named after
    stable: np.ndarray  #: (K,): that, in the stable marriage
    agreement: float  #: share of clusters that both ways name alike
    optimal_accuracy: float  #: share of images whose cluster bears their category's name
    stable_accuracy: float  #: that, in the stable marriage
    purity: float  #: share of images that belong to the most frequent category of their cluster
    radius: np.ndarray  #: (K,): each cluster's radius
    chance: Mapping[str, ByChance]  #: of each share, by its name: the same clusters, named anew
    shuffles: int  #: how often the categories were shuffled

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; `names` of the K categories."""
        chance = {key: one._asdict() for key, one in self.chance.items()}
        images = np.bincount(self.of_image, minlength=len(names))
        columns = (self.optimal, self.stable, images, self.radius)
        named = [
            {"optimal": names[a], "stable": names[b], "images": int(n), "radius": float(r)}
            for a, b, n, r in zip(*columns, strict=True)
        ]
        shares = {key: getattr(self, key) for key in _SHARES}
        return {**shares, "chance": {"shuffles": self.shuffles, **chance}, "named": named}


@dataclass(frozen=True)
class Regions:
    """Where the categories of known images lie in a layer.

    Attributes
    ----------
    groups : Groups
        The categories.
    radius : numpy.ndarray
        (G,): of each category's region.
    projected : int or None
        Length of the vectors where they were projected, see `flat_vectors`.
    clusters : Clusters or None
        Clusters that are named after the categories.
    unclustered : str
        Why there are none.
    """

    groups: Groups
    radius: np.ndarray
    projected: int | None
    clusters: Clusters | None
    unclustered: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        names = self.groups.names
        return {
            "images": len(self.groups.of_image),
            "projected": self.projected,
            "radius": dict(zip(names, map(float, self.radius), strict=True)),
            "clusters": self.clusters.as_dict(names) if self.clusters else None,
        }

    def radius_of(self, classes: Sequence[str] | None, count: int) -> np.ndarray | None:
        """Radius of the region of each of `count` classes' category, (K,), NaN where it has none;
        None where it is known of no class.
        """
        names, found = self.groups.names, np.full(count, np.nan)
        for category, number in usual_outputs(names, classes, count).items():
            found[number] = self.radius[names.index(category)]
        return found if np.isfinite(found).any() else None


def find_regions(
    source: MapSource, groups: Groups, seed: int = 0, firsts: Firsts | None = None
) -> Regions:
    """Measure the categories' regions in a layer (N, C, H, W), and cluster the images."""
    vectors, projected = flat_vectors(source, seed)
    once = None if firsts is None else groups.once(firsts(vectors))
    radius = radii(vectors, groups)
    try:
        clusters = name_clusters(vectors, groups, seed, once)
    except CnnlensError as error:  # too few different images: the rest holds all the same
        return Regions(groups, radius, projected, None, error.message)
    return Regions(groups, radius, projected, clusters)


def name_clusters(
    vectors: np.ndarray, groups: Groups, seed: int = 0, once: np.ndarray | None = None
) -> Clusters:
    """Cluster images by k-means, as many clusters as categories, and name the clusters.

    Both ways go by the distance of a cluster's centre to a category's mean vector: the optimal
    assignment minimizes their sum; in the stable marriage no cluster and category are nearer to
    each other than to their partners (Gale and Shapley 1962; clusters propose).

    Parameters
    ----------
    vectors : numpy.ndarray
        (N, D).
    groups : Groups
        K categories, each with an image.
    seed : int
        Of the clusters, and of what chance gives.
    once : numpy.ndarray, optional
        Rows by which clusters are named, and of which the shares are: without copies, which lie
        in one cluster whatever their category. Left out: all.

    Raises
    ------
    CnnlensError
        When there are fewer different images than categories.
    """
    from sklearn.cluster import KMeans

    count = len(groups.names)
    if len(np.unique(vectors, axis=0)) < count:
        raise CnnlensError(
            f"there are fewer different images than the {count} categories to cluster them into",
            "name data with more images",
        )
    fitted = KMeans(count, n_init=10, random_state=seed).fit(vectors)
    of_image = fitted.labels_.astype(np.int64)
    rows = slice(None) if once is None or len(once) == len(vectors) else once
    found, own = _Found(vectors[rows], fitted.cluster_centers_, of_image[rows]), groups.among(rows)
    optimal, stable = found.named(own.of_image)
    chance, shuffles = found.by_chance(own.of_image, seed)
    return Clusters(
        of_image=of_image,
        optimal=optimal,
        stable=stable,
        **found.shares(own.of_image, optimal, stable),
        radius=radii(vectors, Groups(tuple(map(str, range(count))), of_image)),
        chance=chance,
        shuffles=shuffles,
    )


@dataclass(frozen=True)
class _Found:
    """Clusters that were found, as many as categories, to be named after these."""

    vectors: np.ndarray  # (N, D)
    centres: np.ndarray  # (K, D)
    of_image: np.ndarray  # (N,)

    def named(self, categories: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Name the clusters, (K,) each: by optimal assignment, and as a stable marriage.

        `categories` (N,) are the images'; each of the K has one.
        """
        from scipy.optimize import linear_sum_assignment
        from scipy.sparse import csr_array
        from scipy.spatial.distance import cdist

        count, images = len(self.centres), len(categories)
        ones = np.ones(images, self.vectors.dtype)
        belong = csr_array((ones, (categories, np.arange(images))), shape=(count, images))
        means = belong @ self.vectors / np.bincount(categories)[:, None]  # (K, D)
        distances = cdist(self.centres, means)  # (clusters, categories)
        wants, wanted = distances.argsort(1, kind="stable"), distances.argsort(0, kind="stable").T
        return linear_sum_assignment(distances)[1], gale_shapley(wants, wanted)

    def shares(
        self, categories: np.ndarray, optimal: np.ndarray, stable: np.ndarray
    ) -> dict[str, float]:
        """Measure how well clusters and names fit the images' categories."""
        count, images = len(self.centres), len(categories)
        table = np.zeros((count, count), np.int64)  # clusters × categories
        np.add.at(table, (self.of_image, categories), 1)
        clusters = np.arange(count)
        return {
            "agreement": float((optimal == stable).mean()),
            "optimal_accuracy": float(table[clusters, optimal].sum() / images),
            "stable_accuracy": float(table[clusters, stable].sum() / images),
            "purity": float(table.max(1).sum() / images),
        }

    def by_chance(self, categories: np.ndarray, seed: int) -> tuple[dict[str, ByChance], int]:
        """Shuffle the categories among the images, name the same clusters anew, so many times."""
        times = int(np.clip(_SHUFFLED // self.vectors.size, _LEAST_SHUFFLES, _SHUFFLES))
        rng = np.random.default_rng(seed)
        found: dict[str, list[float]] = {key: [] for key in _SHARES}
        for _ in range(times):
            shuffled = rng.permutation(categories)
            for key, share in self.shares(shuffled, *self.named(shuffled)).items():
                found[key].append(share)
        levels = {
            key: ByChance(float(np.mean(some)), float(np.quantile(some, 0.95)))
            for key, some in found.items()
        }
        return levels, times


def gale_shapley(proposers: np.ndarray, receivers: np.ndarray) -> np.ndarray:
    """Marry as many receivers as proposers, stably.

    Parameters
    ----------
    proposers, receivers : numpy.ndarray
        (K, K): row i lists the other side from i's most to its least wanted.

    Returns
    -------
    numpy.ndarray
        (K,): each proposer's partner. Of all stable marriages the best for every proposer.
    """
    if proposers.shape != receivers.shape or proposers.ndim != 2:
        raise ValueError(f"two (K, K) rankings, not {proposers.shape} and {receivers.shape}")
    count = len(proposers)
    rank = np.empty_like(receivers)
    np.put_along_axis(rank, receivers, np.arange(count)[None], axis=1)
    partner = np.full(count, -1)  # of each receiver
    asked = [0] * count
    free = list(range(count - 1, -1, -1))
    while free:
        one = free.pop()
        wanted = proposers[one, asked[one]]
        asked[one] += 1
        other = partner[wanted]
        if other < 0 or rank[wanted, one] < rank[wanted, other]:
            partner[wanted] = one
            one = other
        if one >= 0:
            free.append(one)
    found = np.empty(count, np.int64)
    found[partner] = np.arange(count)
    return found


# -- random images of several kinds, from white noise to plain colours ----------------------------


NoiseMaker = Callable[[np.random.Generator, tuple[int, int, int, int]], np.ndarray]


def _smooth(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Noise whose frequencies fall off as natural images' do, 1/f."""
    _, _, height, width = shape
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency
    values = np.fft.irfft2(spectrum, s=(height, width))
    spread = values.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(0.5 + 0.25 * (values - values.mean((1, 2, 3), keepdims=True)) / spread)


def _coarse(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Squares of random colours, eight to a side."""
    count, channels, height, width = shape
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return np.asarray(rng.random((count, channels, 8, 8))[:, :, rows][:, :, :, columns])


# each makes images (N, C, H, W), in [0, 1] once they are clipped
NOISES: dict[str, NoiseMaker] = {
    "uniform noise": lambda rng, shape: rng.random(shape),
    "gaussian noise": lambda rng, shape: 0.5 + 0.25 * rng.standard_normal(shape),
    "1/f noise": _smooth,
    "coarse noise": _coarse,
    "plain colours": lambda rng, shape: np.broadcast_to(rng.random((*shape[:2], 1, 1)), shape),
}


def noise_images(kind: str, shape: tuple[int, int, int, int], seed: int) -> np.ndarray:
    """Make random images of a kind of `NOISES`, (N, C, H, W) uint8."""
    rng = np.random.default_rng([seed, list(NOISES).index(kind)])
    return np.rint(255 * np.clip(NOISES[kind](rng, shape), 0, 1)).astype(np.uint8)
