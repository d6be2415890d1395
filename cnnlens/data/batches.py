"""Batches of decoded pixels, read ahead, in order, full although images are damaged."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnlens.data.ahead import read_ahead
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.data.paths import readers_of
from cnnlens.data.processes import TOGETHER, are_worth, decoded_apart
from cnnlens.data.unread import UnreadFile
from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    import torch

    from cnnlens.model.preprocess import Preprocess

TOLERATED = 0.05  # share of damaged images that is skipped; more than this is fatal
ALWAYS_TOLERATED = 3  # damaged images that are skipped whatever their share, while one is left

AHEAD_BYTES = 1 << 28  # of decoded pixels at most, so that huge batches do not fill the memory

Skipped = tuple[str, str]  # the image's path in the data folder, what is wrong with it
Decoded = np.ndarray | Skipped


@dataclass(frozen=True, eq=False)
class Batch:
    """The next images that could be read.

    Attributes
    ----------
    indices : numpy.ndarray
        (B,) int64, positions in ``images.paths``.
    pixels : torch.Tensor
        (B, C, H, W), contiguous; uint8, or float32 in units of [0, 1] where the data is made of
        floats. B is 0 only when not one image of all could be read.
    skipped : tuple of (path, reason)
        Damaged images met on the way.
    next : int
        The position to start at for the batch after this one.
    ends : bool
        Whether it is the last of its block; it may then be empty.
    """

    indices: np.ndarray
    pixels: torch.Tensor
    skipped: tuple[Skipped, ...]
    next: int
    ends: bool = False


def batches(
    images: ImageSet,
    preprocess: Preprocess,
    *,
    batch_size: int,
    workers: int,
    start: int = 0,
    indices: Sequence[int] | None = None,
    blocks: Sequence[range] | None = None,
    apart: bool = False,
) -> Iterator[Batch]:
    """Decode and resample images in order, `batch_size` good ones at a time.

    Parameters
    ----------
    images : ImageSet
        Squashed to the input size where pixels carry labels, else resized and cropped.
    preprocess : Preprocess
        The network's input size and number of channels.
    batch_size : int
        Images per batch; only the last batch is smaller.
    workers : int
        Who decodes ahead, about two batches; 0: the calling thread decodes, as it does what no
        other thread may read (`ImageSet.one_by_one`).
    start : int
        Position to begin at, an earlier batch's `next`.
    indices : sequence of int, optional
        Read only these, in this order; `start` and `next` then count along this sequence.
    blocks : sequence of range, optional
        Read only these positions, block by block: no batch holds images of two blocks.
    apart : bool
        Let the workers be processes, where images are many and lie in files; else they are threads.

    Yields
    ------
    Batch
        The same whatever the number of workers; and the same from an earlier batch's `next` on
        as without a break.
    """
    if batch_size < 1 or workers < 0 or start < 0:
        raise ValueError(f"{batch_size=} must be at least 1, {workers=} and {start=} at least 0")
    order: Sequence[int] = range(len(images.paths)) if indices is None else indices
    ends: frozenset[int] = frozenset()  # along the order: where blocks end
    if blocks is not None:
        order = list(itertools.chain.from_iterable(blocks))
        ends = frozenset(itertools.accumulate(map(len, blocks)))

    def decode(index: int) -> Decoded:
        return _decode(images, preprocess, index)

    plane = images.shape(preprocess)
    workers = 0 if images.one_by_one else readers_of(images.root, workers)
    rest, room = order[start:], AHEAD_BYTES // math.prod(plane)
    if apart and workers > 1 and images.in_files and are_worth(len(rest)):
        ahead = max(workers, min(max(2 * batch_size, 2 * TOGETHER * workers), room))
        kind = images.pixel_type(preprocess)
        decoded = decoded_apart(decode, rest, workers, ahead, plane, kind)
    else:
        decoded = read_ahead(decode, rest, workers, max(workers, min(2 * batch_size, room)))
    return _assembled(decoded, order, start, batch_size, plane, ends)


def check_skipped(skipped: Sequence[Skipped], total: int) -> None:
    """Raise CnnlensError when too many of `total` images are damaged, naming the first few.

    Too many are more than 5 % and more than three; and all.
    """
    if len(skipped) <= max(TOLERATED * total, ALWAYS_TOLERATED) and len(skipped) < max(total, 1):
        return
    named = "; ".join(f"{path}: {reason}" for path, reason in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    raise CnnlensError(
        f"{len(skipped)} of {total} images cannot be used ({named}{more})",
        "`cnnlens data check DIR` lists everything that is wrong with a data set",
    )


def check_classes(images: ImageSet, skipped: Sequence[Skipped]) -> None:
    """Raise CnnlensError when not one image of a category can be read."""
    if not skipped or images.image_categories is None:
        return
    of = dict(zip(images.paths, images.image_categories, strict=True))
    lost = Counter(of[path] for path, _ in skipped)
    every = Counter(images.image_categories)
    for path, reason in skipped:
        if lost[of[path]] == every[of[path]]:
            raise CnnlensError(
                f"no image of category '{of[path]}' can be read ({path}: {reason})",
                "mend them, or move them away; `cnnlens data check DIR` lists all",
            )


def _decode(images: ImageSet, preprocess: Preprocess, index: int) -> Decoded:
    path = images.paths[index]
    try:
        return images.pixels(index, preprocess)
    except DamagedImage as damage:
        images.check_there()
        return path, damage.reason
    except UnreadFile:
        images.check_there()
        raise


def _assembled(
    decoded: Generator[Decoded, None, None],
    order: Sequence[int],
    start: int,
    batch_size: int,
    plane: tuple[int, int, int],
    ends: frozenset[int] = frozenset(),
) -> Iterator[Batch]:
    """Group results into full batches.

    A batch ends just before the next good image, so that damaged ones at the very end belong to
    the last batch and not to an empty one; and where a block ends.
    """
    good: list[np.ndarray] = []
    places: list[int] = []
    skipped: list[Skipped] = []
    position = start
    with closing(decoded):
        for position, result in enumerate(decoded, start):
            if isinstance(result, tuple):
                skipped.append(result)
            else:
                if len(good) == batch_size:
                    yield _batch(good, places, skipped, position, plane)
                    good, places, skipped = [], [], []
                good.append(result)
                places.append(order[position])
            if position + 1 in ends:
                yield _batch(good, places, skipped, position + 1, plane, ends=True)
                good, places, skipped = [], [], []
    if good or skipped:
        yield _batch(good, places, skipped, position + 1, plane)


def _batch(
    good: list[np.ndarray],
    places: list[int],
    skipped: list[Skipped],
    next_: int,
    plane: tuple[int, int, int],
    ends: bool = False,
) -> Batch:
    import torch

    pixels = np.stack(good) if good else np.empty((0, *plane), np.uint8)  # (B, C, H, W)
    return Batch(np.array(places, np.int64), torch.from_numpy(pixels), tuple(skipped), next_, ends)
