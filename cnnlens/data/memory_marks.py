"""The mark of images in memory: equal marks, the same images.

What is in memory is hashed whole, which is little beside a pass on a processor. Of a Dataset that
computes its items that would be another pass over all of them, before every call and to say no more
than "done before"; there its own code and everything that it holds are hashed, and some of its
items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.utils.data import ConcatDataset, TensorDataset

from cnnlens.data.memory_sequence import Chosen
from cnnlens.model.definition import Slots, digest_of, slots

SAMPLE = 16  # items of a Dataset that stand, beside its definition, for all of it
TWICE = 8  # of them are read again: of one that is mirrored by chance every second is the same

_written: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # by earlier readings
Content = Callable[[int], np.ndarray]


def mark_of(items: Any, count: int, content: Content) -> str:
    """Hash images in memory.

    Parameters
    ----------
    items : sequence
        What gives them.
    count : int
        How many there are.
    content : callable
        Gives what the image of a number is hashed by, an array.

    Returns
    -------
    str
        16 hexadecimal digits, the same in every process.
    """
    digest = hashlib.sha256(f"{count}\0".encode())
    held: list[Slots] = []
    for index in looked_at(items, count):
        array = content(index)
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        if not held and not is_in_memory(items):
            held.append(slots(items))
    if held:
        digest.update(_definition(items, held[0]).encode())
    return digest.hexdigest()[:16]


def _definition(items: Any, before: Slots) -> str:
    """Hash what a Dataset is, less what it writes where it is read (a cache, a counter)."""
    after = slots(items)
    written = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    with suppress(TypeError):  # one that cannot be a key
        written |= _written.get(items, set())
        _written[items] = written
    return digest_of(after, written)


def is_in_memory(items: Any) -> bool:
    """Whether items lie in memory as they are, so that to read them is to look there."""
    if isinstance(items, ConcatDataset):
        return all(map(is_in_memory, items.datasets))
    if hasattr(items, "dataset") and hasattr(items, "indices"):  # some of another's
        return is_in_memory(items.dataset)
    return isinstance(items, list | tuple | np.ndarray | torch.Tensor | TensorDataset)


def looked_at(items: Any, count: int) -> list[int]:
    """Number the images that are hashed: all that lie in memory, else some, evenly spaced."""
    if is_in_memory(items) or count <= SAMPLE:
        return list(range(count))
    return [round(at) for at in np.linspace(0, count - 1, SAMPLE)]


def marked_by(items: Any, count: int, content: Content) -> list[str]:
    """Say what the mark does not see, where it does not see everything; a line or none."""
    if is_in_memory(items):
        return []
    kind = type(items.dataset if isinstance(items, Chosen) else items).__name__
    if any(not np.array_equal(content(at), content(at)) for at in looked_at(items, count)[:TWICE]):
        return [
            f"{kind} gives other images at each reading (augmentation?): results are of one "
            "reading, and none is found again"
        ]
    if count <= SAMPLE:
        return []
    return [
        f"{kind} computes its items: whether they are those of before is seen by its code, what it "
        f"holds, and {SAMPLE} of {count:,} items (force=True redoes what is done)"
    ]
