"""Images laid out by UMAP, from a layer's vectors and from raw pixels (Dai 2020, Fig. 9).

A picture of clusters proves little: how well categories are separated is said in numbers, the
silhouette and the share of images whose nearest neighbours are of their own category, in the
vectors themselves and in their layouts, beside what shuffled categories give.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.cluster.neighbours import FEW, nearest
from cnnlens.cluster.separation import Separation, separate
from cnnlens.cluster.umap_layout import umap_layout
from cnnlens.cluster.vectors import Firsts, Groups, MapSource, numbered
from cnnlens.errors import CnnlensError, counted
from cnnlens.model.alone import Helpers
from cnnlens.progress import Step, followed, staged

FEWEST = 5  # images that a layout needs
PIXELS = 64  # longest side at which raw pixels are compared
_LARGE = 2**30  # bytes of float32 vectors from which they are projected
_PROJECTED = 1024  # length of projected vectors
_BATCH = 256  # images whose pixels are read at once


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
    recall : float or None
        Share of the vectors' true neighbours that were found; None where all were compared.
    """

    flat: np.ndarray
    deep: np.ndarray
    separation: dict[str, Separation]
    neighbours: int
    recall: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return how separated the categories are, as plain numbers for JSON."""
        found: dict[str, Any] = {name: asdict(one) for name, one in self.separation.items()}
        return found if self.recall is None else {**found, "recall": self.recall}


@dataclass(frozen=True)
class Layouts:
    """Where images lie, by a layer's vectors and (where they were given) by their raw pixels."""

    layer: Layout
    pixels: Layout | None
    projected: int | None  #: length of the layer's vectors where they were projected
    projected_pixels: int | None = None  #: the same of the pixels' vectors

    def as_dict(self) -> dict[str, Any]:
        """Sum the layouts up in plain numbers, for JSON."""
        return {
            "images": len(self.layer.flat),
            "neighbours": self.layer.neighbours,
            "projected": self.projected,
            **({"projected_pixels": self.projected_pixels} if self.projected_pixels else {}),
            "layer": self.layer.as_dict(),
            "pixels": self.pixels.as_dict() if self.pixels else None,
        }


def flat_vectors(source: MapSource, seed: int = 0) -> tuple[np.ndarray, int | None]:
    """Read all vectors of a source, (N, D) float32.

    Beyond 1 GiB they are projected to 1,024 random directions on the way, which keeps distances
    to a few per cent; the second value then says 1,024, else it is None.
    """
    count, *shape = source.shape
    parts = (maps.reshape(len(maps), -1) for _, maps in numbered(source))
    return _laid(count, int(np.prod(shape)), parts, seed)


def _laid(
    count: int, length: int, parts: Iterator[np.ndarray], seed: int
) -> tuple[np.ndarray, int | None]:
    """Put parts (B, length) together, projected where they are large: see `flat_vectors`."""
    if count * length * 4 <= _LARGE or length <= _PROJECTED:
        return _filled(count, length, parts), None
    from sklearn.random_projection import SparseRandomProjection

    projection = SparseRandomProjection(_PROJECTED, random_state=seed, dense_output=True)
    projection.fit(np.zeros((1, length), np.float32))
    return _filled(count, _PROJECTED, map(projection.transform, parts)), _PROJECTED


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
    read: Callable[[int], np.ndarray], rows: Sequence[int], workers: int = 1, seed: int = 0
) -> tuple[np.ndarray, int | None]:
    """Do what `pixel_vectors` does, for images that are read by their rows, several at once, but
    for 0 workers.

    Beyond 1 GiB they are projected as in `flat_vectors`; the second value is the same.
    """
    with Helpers(max(1, workers)) as pool:
        cuts = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
        each: Callable[..., Iterator[np.ndarray]] = pool.map if workers else map
        parts = (np.stack(list(each(lambda row: pixel_vector(read(row)), c))) for c in cuts)
        first = next(parts)  # (B, h·w·C)
        return _laid(len(rows), first.shape[1], chain([first], parts), seed)


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
    exact: int = FEW,
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
    exact : int
        Vectors up to which all are compared with all for their neighbours, see `nearest`.

    Raises
    ------
    CnnlensError
        When there are fewer than five images.
    """
    return followed(layout_steps(vectors, groups, neighbours, seed, exact), progress)


def embed_steps(
    source: MapSource,
    groups: Groups | None,
    pixels: Callable[[], tuple[np.ndarray, int | None]] | None = None,
    neighbours: int = 15,
    seed: int = 0,
    exact: int = FEW,
    firsts: Firsts | None = None,
) -> Generator[Step, None, Layouts]:
    """Lay out the images of a source (N, C, H, W), then `pixels`, read when their turn comes.

    `firsts` says which images equal each other: separation is measured without copies.
    """
    if (count := source.shape[0]) < FEWEST:
        raise CnnlensError(
            f"{counted(count, 'image')}: too few for a layout",
            f"{FEWEST} or more are needed; --only categories or filters works without",
        )
    yield Step(0, 4, "embedding", note="UMAP begins", unit="stages")
    vectors, projected = flat_vectors(source, seed)
    once = None if groups is None or firsts is None else groups.once(firsts(vectors))
    steps = layout_steps(vectors, groups, neighbours, seed, exact, once)
    layer = yield from staged("embedding", steps)
    del vectors, steps
    if pixels is None:
        return Layouts(layer, None, projected)
    vectors, of_pixels = pixels()
    steps = layout_steps(vectors, groups, neighbours, seed, exact, once)
    laid = yield from staged("embedding of pixels", steps)
    return Layouts(layer, laid, projected, of_pixels)


def layout_steps(
    vectors: np.ndarray,
    groups: Groups | None,
    neighbours: int = 15,
    seed: int = 0,
    exact: int = FEW,
    once: np.ndarray | None = None,
) -> Generator[Step, None, Layout]:
    """Do what `lay_out` does; each step says what begins, the last one nothing. Separation is
    measured on the rows `once` alone, where they are given: copies are each other's neighbours,
    whatever their category.
    """
    if len(vectors) < FEWEST:
        raise CnnlensError(
            f"{counted(len(vectors), 'image')}: too few for a layout",
            f"{FEWEST} or more are needed",
        )
    k = min(neighbours, len(vectors) - 1)
    yield _begins(0, "neighbours")
    near = nearest(vectors, k, exact, seed)
    found = {}
    for number, (name, dimensions) in enumerate(((("2d", 2), ("3d", 3))), 1):
        yield _begins(number, f"UMAP {name}")
        found[name] = umap_layout(vectors, near, dimensions, seed)
    yield _begins(3, "separation")
    few, places = k, {"vectors": vectors, **found}
    if groups is not None and once is not None and len(once) < len(vectors):
        places = {name: some[once] for name, some in places.items()}
        groups, few = groups.among(once), min(k, len(once) - 1)
        near = replace(nearest(places["vectors"], few, exact, seed), recall=near.recall)
    separation = {
        name: separate(some, groups, few, seed, near if name == "vectors" else None)
        for name, some in places.items()
    }
    yield _begins(4, "")
    return Layout(found["2d"], found["3d"], separation, k, near.recall)


def _begins(number: int, what: str) -> Step:
    return Step(number, 4, note=what, unit="stages")


def recalled(found: Mapping[str, Any]) -> str:
    """Say how many neighbours were found, from `Layouts.as_dict`; empty where all were compared."""
    shares = {side: (found[side] or {}).get("recall") for side in ("layer", "pixels")}
    if shares["layer"] is None:
        return ""
    pixels = "" if shares["pixels"] is None else f" ({shares['pixels']:.1%} among raw pixels)"
    return f"{shares['layer']:.1%} of a sample's nearest neighbours were found{pixels}"
