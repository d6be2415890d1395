"""One thread at a time: a network's mode, its weights and what is known of it are everybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Lock, RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

_guard = Lock()
_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_had: ContextVar[frozenset[Any]] = ContextVar("had", default=frozenset())  # of these locks
_Result = TypeVar("_Result")


@contextmanager
def alone(thing: object) -> Iterator[None]:
    """Have a network, or another object, to this thread alone; others wait until the block ends.

    A thread that has it already has it again, as have its `Helpers`. Not for generators: they may
    stand still within the block, and be ended by another thread.
    """
    with _guard:
        lock = _locks.setdefault(thing, RLock())
    if lock in _had.get():
        yield
        return
    with lock:
        token = _had.set(_had.get() | {lock})
        try:
            yield
        finally:
            _had.reset(token)


class Helpers(ThreadPoolExecutor):
    """Threads that work for the one that waits for them: what that has to itself, they have, too.

    For all that runs code of the user's, as a data set in memory, which may ask for the network.
    """

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """Have a call made, in the caller's context."""
        return super().submit(copy_context().run, fn, *args, **kwargs)
