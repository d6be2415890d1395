"""Images decoded ahead by processes of their own, beside a network on a GPU: threads that decode
hold, now and then, the interpreter's lock, and the network's next kernels are not launched.

The processes are forked, so that nothing is imported again and a person's script needs no main
guard. Pixels come through memory that all of them share; it has no name and no limit of its own.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

import numpy as np

from cnnlens.data.ahead import read_ahead
from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    from cnnlens.data.batches import Decoded

WORTH = 256  # images from which on processes are begun
TOGETHER = 8  # images of a task, at most: what a task costs besides them is then little

Decode = Callable[[int], "Decoded"]
Task = tuple[int, Sequence[int]]  # the number of a room for its pixels, the images

_own: list[tuple[Decode, np.ndarray]] = []  # of a process of a pool: what it was begun with


def are_worth(images: int) -> bool:
    """Say whether processes should decode so many images in files: where they can be forked."""
    return images >= WORTH and sys.platform == "linux"


def decoded_apart(
    decode: Decode,
    order: Sequence[int],
    workers: int,
    ahead: int,
    shape: tuple[int, ...],
    dtype: str,
) -> Generator[Decoded, None, None]:
    """Map `decode` over `order` in processes, in order.

    Parameters
    ----------
    decode : callable
        Gives an image's pixels, or its damage.
    order : sequence of int
        Images.
    workers : int
        Processes, at least 1.
    ahead : int
        Results that wait, at most.
    shape, dtype
        Of an image's pixels.

    Raises
    ------
    CnnlensError
        What `decode` raises; or when a process was killed.
    """
    together = max(1, min(TOGETHER, ahead // (2 * workers)))
    waiting = max(workers, ahead // together)  # tasks; while they wait, one more is read
    room = _shared((waiting + 1, together, *shape), np.dtype(dtype))
    tasks: list[Task] = [
        (number % len(room), order[start : start + together])
        for number, start in enumerate(range(0, len(order), together))
    ]
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, _begin, (decode, room))
    try:
        with closing(read_ahead(_decoded, tasks, pool, waiting)) as results:
            for (place, _), found in zip(tasks, results, strict=True):
                if isinstance(found, CnnlensError):
                    raise found
                for pixels, one in zip(room[place], found, strict=False):
                    yield pixels.copy() if one is None else one
    except BrokenProcessPool as error:
        raise CnnlensError(
            "a process that decodes images was killed",
            "if memory was short, give --workers a smaller number; the same command goes on",
        ) from error


def _shared(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Make an array that forked processes share, of which only what is used takes memory."""
    return np.frombuffer(mmap.mmap(-1, math.prod(shape) * dtype.itemsize), dtype).reshape(shape)


def _begin(decode: Decode, room: np.ndarray) -> None:
    """Make a process ready: it ends when it is told to, or with the one that it is forked from."""
    _own.append((decode, room))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other answers it
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # more than one would wait for those left behind
    end_with_parent()


def end_with_parent() -> None:
    """Let this process end when the one that began it does, even if that is killed."""
    parent = multiprocessing.parent_process()

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _decoded(task: Task) -> list[Decoded | None] | CnnlensError:
    """Decode a task's images: None for those whose pixels are in their room."""
    decode, room = _own[0]
    place, images = task
    found: list[Decoded | None] = []
    for pixels, image in zip(room[place], images, strict=False):
        try:
            one = decode(image)
        except CnnlensError as error:
            return CnnlensError(error.message, error.hint)
        fits = isinstance(one, np.ndarray) and one.shape == pixels.shape and one.dtype == room.dtype
        if fits:
            pixels[:] = one
        found.append(None if fits else one)
    return found
