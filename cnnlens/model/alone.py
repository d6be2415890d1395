"""One thread at a time: a network's mode, its weights and what is known of it are everybody's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

_guard = Lock()
_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


@contextmanager
def alone(thing: object) -> Iterator[None]:
    """Have a network, or another object, to this thread alone; others wait until the block ends.

    A thread that has it already has it again. Not for generators: they may stand still within the
    block, and be ended by another thread.
    """
    with _guard:
        lock = _locks.setdefault(thing, RLock())
    with lock:
        yield
