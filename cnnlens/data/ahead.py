"""A function over many things, worked out ahead and in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

from cnnlens.model.alone import Helpers

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def read_ahead(
    work: Callable[[Thing], Result], order: Sequence[Thing], workers: int | Executor, ahead: int
) -> Generator[Result, None, None]:
    """Map `work` over `order`, in order, never more than `ahead` results waiting.

    Parameters
    ----------
    work : callable
        What is done with each.
    order : sequence
        The things.
    workers : int or concurrent.futures.Executor
        Threads, 0 for the calling one; or whoever works, who is dismissed at the end.
    ahead : int
        Results that wait, at most.
    """
    if not workers:
        yield from map(work, order)
        return
    waiting: deque[Future[Result]] = deque()
    rest = iter(order)
    pool: Executor = (
        Helpers(workers, thread_name_prefix="cnnlens-decode")
        if isinstance(workers, int)
        else workers
    )
    try:
        waiting.extend(pool.submit(work, one) for one in itertools.islice(rest, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, one) for one in itertools.islice(rest, 1))
            yield result
    finally:  # also when the consumer stops early or Ctrl-C strikes
        pool.shutdown(wait=True, cancel_futures=True)
