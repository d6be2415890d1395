"""Where categories lie in a layer, and clusters that are named after them; random images.

Clusters of representatives know nothing of categories (Dai 2020, §2.5). They are named by optimal
assignment, and as a stable marriage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlens.cluster.embed import flat_vectors
from cnnlens.cluster.vectors import Groups, MapSource
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

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; `names` of the K categories."""
        keys = ("agreement", "optimal_accuracy", "stable_accuracy", "purity")
        images = np.bincount(self.of_image, minlength=len(names))
        columns = (self.optimal, self.stable, images, self.radius)
        named = [
            {"optimal": names[a], "stable": names[b], "images": int(n), "radius": float(r)}
            for a, b, n, r in zip(*columns, strict=True)
        ]
        return {**{key: getattr(self, key) for key in keys}, "named": named}


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


def find_regions(source: MapSource, groups: Groups, seed: int = 0) -> Regions:
    """Measure the categories' regions in a layer (N, C, H, W), and cluster the images."""
    vectors, projected = flat_vectors(source, seed)
    radius = radii(vectors, groups)
    try:
        clusters = name_clusters(vectors, groups, seed)
    except CnnlensError as error:  # too few different images: the rest holds all the same
        return Regions(groups, radius, projected, None, error.message)
    return Regions(groups, radius, projected, clusters)


def name_clusters(vectors: np.ndarray, groups: Groups, seed: int = 0) -> Clusters:
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

    Raises
    ------
    CnnlensError
        When there are fewer different images than categories.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist
    from sklearn.cluster import KMeans

    count = len(groups.names)
    if len(np.unique(vectors, axis=0)) < count:
        raise CnnlensError(
            f"there are fewer different images than the {count} categories to cluster them into",
            "name data with more images",
        )
    fitted = KMeans(count, n_init=10, random_state=seed).fit(vectors)
    means = np.stack([vectors[groups.of_image == k].mean(0) for k in range(count)])
    distances = cdist(fitted.cluster_centers_, means)  # (clusters, categories)
    optimal = linear_sum_assignment(distances)[1]
    stable = gale_shapley(
        distances.argsort(1, kind="stable"), distances.argsort(0, kind="stable").T
    )
    of_image = fitted.labels_.astype(np.int64)
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (of_image, groups.of_image), 1)
    clusters = np.arange(count)
    return Clusters(
        of_image=of_image,
        optimal=optimal,
        stable=stable,
        agreement=float((optimal == stable).mean()),
        optimal_accuracy=float(table[clusters, optimal].sum() / len(vectors)),
        stable_accuracy=float(table[clusters, stable].sum() / len(vectors)),
        purity=float(table.max(1).sum() / len(vectors)),
        radius=radii(vectors, Groups(tuple(map(str, clusters)), of_image)),
    )


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
