"""What a network takes images for that belong to none of its classes (Dai 2020, §2.5, Table 1).

Random images tend to fall to one class. Two guesses of the paper stand beside that class here: the
highest bias of the last layer, and the largest region. And clusters of representatives, which know
nothing of categories, are named after them: by optimal assignment, and as a stable marriage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.cluster.vectors import Groups
from cnnlens.errors import CnnlensError

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


def shuffled_pixels(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Shuffle each image's pixels (N, C, H, W): its colours without any of its shapes."""
    rng = np.random.default_rng(seed)
    flat = pixels.reshape(*pixels.shape[:2], -1)
    order = rng.permuted(np.tile(np.arange(flat.shape[2]), (len(flat), 1)), axis=1)  # (N, H·W)
    return np.take_along_axis(flat, order[:, None], axis=2).reshape(pixels.shape)


@dataclass(frozen=True)
class Taken:
    """What the images of one source are taken for.

    Attributes
    ----------
    source : str
        A category of the out-of-sample images, or a kind of noise.
    images : int
        How many.
    shares : numpy.ndarray
        (K,): share of them predicted as each class.
    confidence : float
        Mean probability of the predicted class.
    logits : numpy.ndarray
        (K,): mean scores.
    """

    source: str
    images: int
    shares: np.ndarray
    confidence: float
    logits: np.ndarray

    @property
    def first(self) -> int:
        """The class that most of them are taken for."""
        return int(self.shares.argmax())


def taken_for(source: str, logits: np.ndarray) -> Taken:
    """Sum up what images are taken for, from their scores (N, K) before the softmax."""
    if logits.ndim != 2 or not len(logits):
        raise ValueError(f"scores (N, K), not {logits.shape}")
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(1)  # of the highest: exp(0) over the sum
    shares = np.bincount(logits.argmax(1), minlength=logits.shape[1]) / len(logits)
    return Taken(source, len(logits), shares, float(confidence.mean()), logits.mean(0))


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
    """Clusters of representatives, and what they are called.

    Attributes
    ----------
    of_image : numpy.ndarray
        (N,): the cluster of each image.
    optimal, stable : numpy.ndarray
        (K,): the category that each cluster is named after.
    agreement : float
        Share of clusters that both ways name alike.
    optimal_accuracy, stable_accuracy : float
        Share of images whose cluster bears their category's name.
    purity : float
        Share of images that belong to the most frequent category of their cluster.
    radius : numpy.ndarray
        (K,): each cluster's radius.
    """

    of_image: np.ndarray
    optimal: np.ndarray
    stable: np.ndarray
    agreement: float
    optimal_accuracy: float
    stable_accuracy: float
    purity: float
    radius: np.ndarray


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


def rank_of(values: Sequence[float] | np.ndarray, number: int) -> int | None:
    """Rank of one value among all, 1 for the largest; None where it is not known."""
    array = np.asarray(values, float)
    if not np.isfinite(array[number]):
        return None
    return int((array > array[number]).sum()) + 1


def correlation(a: np.ndarray, b: np.ndarray) -> dict[str, float] | None:
    """Spearman's correlation with its p-value, over where both are known; None where undefined."""
    from scipy.stats import spearmanr

    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 4 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return None
    found = spearmanr(a[known], b[known])
    return {"rho": float(found.statistic), "p_value": float(found.pvalue)}
