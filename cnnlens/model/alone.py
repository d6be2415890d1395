"""One thread at a time: a network's mode, its weights and what is known of it are everybody's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from threading import Lock, RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

_guard = Lock()
_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_had: ContextVar[frozenset[Any]] = ContextVar("had", default=frozenset())  # of these locks
_PATIENCE = 30.0  # seconds
_Result = TypeVar("_Result")


@contextmanager
def alone(*things: object) -> Iterator[None]:
    """Have networks, or other objects, to this thread alone; others wait until the block ends.

    Several are waited for in one order, whoever wants them: two never wait for each other.

    A thread that has it already has it again, as have its `Helpers`. Not for generators: they may
    stand still within the block, and be ended by another thread.
    """
    with _guard:
        locks = [_locks.setdefault(thing, RLock()) for thing in sorted(things, key=id)]
    had = _had.get()
    with ExitStack() as more:
        for lock in locks:
            if lock not in had:
                _wait_for(lock)
                more.callback(lock.release)
        token = _had.set(had.union(locks))
        try:
            yield
        finally:
            _had.reset(token)


def _wait_for(lock: Any) -> None:
    """Acquire a lock; who waits for long is told what for, as it may be himself in disguise."""
    if not lock.acquire(timeout=_PATIENCE):
        warnings.warn(
            "a call waits for another thread's on the same network or Investigation; it waits for "
            "ever where that one reads a data set that asks for them in threads of its own",
            RuntimeWarning,
            stacklevel=2,
        )
        lock.acquire()


class Helpers(ThreadPoolExecutor):
    """Threads that work for the one that waits for them: what that has to itself, they have, too.

    For all that runs code of the user's, as a data set in memory, which may ask for the network.
    """

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """Have a call made, in the caller's context."""
        return super().submit(copy_context().run, fn, *args, **kwargs)
