"""Images laid out by UMAP, from a layer's vectors and from raw pixels (Dai 2020, Fig. 9).

A picture of clusters proves little: how well categories are separated is said in numbers, the
silhouette and the share of images whose nearest neighbours are of their own category, in the
vectors themselves and in their layouts, beside what shuffled categories give.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.cluster.vectors import Groups, MapSource, numbered
from cnnlens.errors import CnnlensError
from cnnlens.progress import Step, followed, staged

FEWEST = 5  # images that a layout needs
PIXELS = 64  # longest side at which raw pixels are compared
_LARGE = 2**30  # bytes of float32 vectors from which they are projected
_PROJECTED = 1024  # length of projected vectors
_SAMPLED = 5000  # images above which the silhouette is that of a sample
_SHUFFLES = 20


@dataclass(frozen=True)
class Separation:
    """How well categories are separated somewhere; None where that is not defined."""

    silhouette: float | None  #: mean silhouette (Euclidean), from −1 to 1
    #: share of images whose k nearest others are mostly of their own category
    neighbours: float | None
    chance: float | None  #: that share after the categories were shuffled among the images


@dataclass(frozen=True)
class Layout:
    """Layouts of one kind of vectors.

    Attributes
    ----------
    flat, deep : numpy.ndarray
        (N, 2) and (N, 3) float32.
    separation : dict of str to Separation
        "vectors", "2d", "3d".
    neighbours : int
        k, of the layout and of the shares.
    """

    flat: np.ndarray
    deep: np.ndarray
    separation: dict[str, Separation]
    neighbours: int

    def as_dict(self) -> dict[str, Any]:
        """Return how separated the categories are, as plain numbers for JSON."""
        return {name: asdict(found) for name, found in self.separation.items()}


@dataclass(frozen=True)
class Layouts:
    """Where images lie, by a layer's vectors and (where they were given) by their raw pixels."""

    layer: Layout
    pixels: Layout | None
    projected: int | None  #: length of the layer's vectors where they were projected

    def as_dict(self) -> dict[str, Any]:
        """Sum the layouts up in plain numbers, for JSON."""
        return {
            "images": len(self.layer.flat),
            "neighbours": self.layer.neighbours,
            "projected": self.projected,
            "layer": self.layer.as_dict(),
            "pixels": self.pixels.as_dict() if self.pixels else None,
        }


def flat_vectors(source: MapSource, seed: int = 0) -> tuple[np.ndarray, int | None]:
    """Read all vectors of a source, (N, D) float32.

    Beyond 1 GiB they are projected to 1,024 random directions on the way, which keeps distances
    to a few per cent; the second value then says 1,024, else it is None.
    """
    count, *shape = source.shape
    length = int(np.prod(shape))
    if count * length * 4 <= _LARGE or length <= _PROJECTED:
        parts = (maps.reshape(len(maps), -1) for _, maps in numbered(source))
        return _filled(count, length, parts), None
    from sklearn.random_projection import SparseRandomProjection

    projection = SparseRandomProjection(_PROJECTED, random_state=seed, dense_output=True)
    projection.fit(np.zeros((1, length), np.float32))
    parts = (projection.transform(maps.reshape(len(maps), -1)) for _, maps in numbered(source))
    return _filled(count, _PROJECTED, parts), _PROJECTED


def _filled(count: int, length: int, parts: Iterator[np.ndarray]) -> np.ndarray:
    found = np.empty((count, length), np.float32)
    done = 0
    for part in parts:
        found[done : done + len(part)] = part
        done += len(part)
    return found


def pixel_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width at which images of a size are compared: at most `PIXELS`."""
    share = min(1.0, PIXELS / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def pixel_vectors(images: Iterable[np.ndarray]) -> np.ndarray:
    """Lay the raw pixels of images flat.

    Parameters
    ----------
    images : iterable of numpy.ndarray
        (H, W, C) uint8 each, all of one size; large ones are made smaller, see `pixel_size`.

    Returns
    -------
    numpy.ndarray
        (N, h·w·C) float32 in [0, 1].
    """
    return np.stack([pixel_vector(pixels) for pixels in images])


def read_pixels(
    read: Callable[[int], np.ndarray], rows: Iterable[int], workers: int = 1
) -> np.ndarray:
    """Do what `pixel_vectors` does, for images that are read by their rows, several at once."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        return np.stack(list(pool.map(lambda row: pixel_vector(read(row)), rows)))


def pixel_vector(pixels: np.ndarray) -> np.ndarray:
    """Do what `pixel_vectors` does, for one image."""
    height, width = pixel_size((pixels.shape[0], pixels.shape[1]))
    if pixels.shape[:2] != (height, width):
        one = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        pixels = np.asarray(one.resize((width, height), Image.Resampling.BOX))
    return pixels.reshape(-1).astype(np.float32) / 255


def lay_out(
    vectors: np.ndarray,
    groups: Groups | None,
    neighbours: int = 15,
    seed: int = 0,
    progress: Callable[[Step], None] | None = None,
) -> Layout:
    """Lay vectors out in two and in three dimensions, and measure how separated they are.

    Parameters
    ----------
    vectors : numpy.ndarray
        (N, D) float32, distances Euclidean.
    groups : Groups or None
        Categories; without them nothing is measured.
    neighbours : int
        Size of a neighbourhood; N − 1 where there are fewer.
    seed : int
        Equal seeds, equal layouts.
    progress : callable
        Told what begins, in a step's note.

    Raises
    ------
    CnnlensError
        When there are fewer than five images.
    """
    return followed(layout_steps(vectors, groups, neighbours, seed), progress)


def embed_steps(
    source: MapSource,
    groups: Groups | None,
    pixels: Callable[[], np.ndarray] | None = None,
    neighbours: int = 15,
    seed: int = 0,
) -> Generator[Step, None, Layouts]:
    """Lay out the images of a source (N, C, H, W), then `pixels`, read when their turn comes."""
    if (count := source.shape[0]) < FEWEST:
        raise CnnlensError(
            f"{count} images are too few for a layout",
            f"{FEWEST} or more are needed; --only categories or filters works without",
        )
    yield Step(0, 4, "embedding", note="UMAP compiles itself", unit="stages")
    vectors, projected = flat_vectors(source, seed)
    steps = layout_steps(vectors, groups, neighbours, seed)
    layer = yield from staged("embedding", steps)
    del vectors
    if pixels is None:
        return Layouts(layer, None, projected)
    steps = layout_steps(pixels(), groups, neighbours, seed)
    return Layouts(layer, (yield from staged("embedding of pixels", steps)), projected)


def layout_steps(
    vectors: np.ndarray, groups: Groups | None, neighbours: int = 15, seed: int = 0
) -> Generator[Step, None, Layout]:
    """Do what `lay_out` does; each step says what begins."""
    if len(vectors) < FEWEST:
        raise CnnlensError(
            f"{len(vectors)} images are too few for a layout", f"{FEWEST} or more are needed"
        )
    k = min(neighbours, len(vectors) - 1)
    yield _begins(0, "neighbours")
    near = nearest(vectors, k)
    found = {}
    for number, (name, dimensions) in enumerate(((("2d", 2), ("3d", 3))), 1):
        yield _begins(number, f"UMAP {name}")
        found[name] = _umap(vectors, near, dimensions, seed)
    yield _begins(3, "separation")
    separation = {"vectors": separate(vectors, groups, k, seed, near)}
    separation |= {name: separate(places, groups, k, seed) for name, places in found.items()}
    return Layout(found["2d"], found["3d"], separation, k)


def _begins(number: int, what: str) -> Step:
    return Step(number, 4, note=what, unit="stages")


def nearest(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Each row's k nearest others: row numbers (N, k + 1), the row itself first, and distances."""
    from sklearn.neighbors import NearestNeighbors

    distances, rows = NearestNeighbors(n_neighbors=k + 1).fit(vectors).kneighbors(vectors)
    for place, row in enumerate(rows):  # among equal rows another one may stand first
        if row[0] != place:
            others = row[row != place][:k]
            rows[place] = np.concatenate([[place], others])
    return rows.astype(np.int32), distances.astype(np.float32)


def _umap(
    vectors: np.ndarray, near: tuple[np.ndarray, np.ndarray], dimensions: int, seed: int
) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread; that no index was given
        from umap import UMAP

        k = near[0].shape[1]
        method = UMAP(
            n_neighbors=k,
            n_components=dimensions,
            random_state=seed,
            n_jobs=1,
            init="spectral" if len(vectors) > 3 * dimensions + 10 else "random",
            precomputed_knn=(near[0], near[1]),
        )
        found = method.fit_transform(vectors)
    return np.asarray(found, np.float32)


def separate(
    vectors: np.ndarray,
    groups: Groups | None,
    k: int,
    seed: int = 0,
    near: tuple[np.ndarray, np.ndarray] | None = None,
) -> Separation:
    """Measure how well categories are separated among vectors (N, D)."""
    if groups is None or len(groups.names) < 2 or len(groups.names) >= len(vectors):
        return Separation(None, None, None)
    rows, _ = near if near is not None else nearest(vectors, k)
    rng = np.random.default_rng(seed)
    labels = groups.of_image
    shuffled = [neighbour_accuracy(rows[:, 1:], rng.permutation(labels)) for _ in range(_SHUFFLES)]
    return Separation(
        _silhouette(vectors, labels, seed),
        neighbour_accuracy(rows[:, 1:], labels),
        float(np.mean(shuffled)),
    )


def neighbour_accuracy(near: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose neighbours (N, k), the nearest first, mostly have their label.

    Of labels that are equally frequent, the one that is met first counts.
    """
    votes = labels[near]  # (N, k)
    count = len(votes)
    agree = (votes[:, :, None] == votes[:, None, :]).sum(2)  # (N, k): votes for each one's label
    first = agree.argmax(1)  # the nearest of the most frequent
    return float((votes[np.arange(count), first] == labels).mean())


def _silhouette(vectors: np.ndarray, labels: np.ndarray, seed: int) -> float | None:
    from sklearn.metrics import silhouette_score

    if len(vectors) > _SAMPLED:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:_SAMPLED])
        vectors, labels = vectors[chosen], labels[chosen]
    present = len(np.unique(labels))
    if not 2 <= present < len(vectors):
        return None
    return float(silhouette_score(vectors, labels))
