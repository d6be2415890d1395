"""Processes that share a run: who does what, how they wait for each other, and who speaks.

torchrun starts them and says who they are; PyTorch's process groups carry what they tell each
other. Where nothing started several, one process is the whole run, by the same way.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from cnnlens.errors import CnnlensError, UsageError

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

GOES_ON = "what was finished is kept: the same command goes on, with any number of processes"

_MEET = timedelta(minutes=5)  # until all processes have started
# one that dies closes its connections, which the others notice at once: slow ones are waited for
_PATIENCE = timedelta(days=30)
_PARTING = 2  # seconds
_LOOK = 0.05  # seconds between two looks: whoever waits can be interrupted


@contextmanager
def unheard() -> Iterator[None]:
    """Keep other code off standard output, which may be a document: gloo of older PyTorch (2.8)
    writes there whom it is connected to.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)


class _Joined:
    """What the processes of a run have in common, once they have met."""

    table: Any = None  # what each says of itself


@dataclass(frozen=True)
class Share:
    """This process's part of a run, one of several.

    Attributes
    ----------
    number, of : int
        Which part, from 0, of how many.
    joined : bool
        Whether the other parts are done by processes that this one can wait for; else they are
        done at other times, or on other machines, by ``--shard``.
    """

    number: int = 0
    of: int = 1
    joined: bool = False

    @classmethod
    def parse(cls, text: str | None) -> Share:
        """Read ``I/N``, counted from 1; None: all of it.

        Raises
        ------
        UsageError
            When it is no share.
        """
        if text is None:
            return cls()
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal()):
            raise UsageError(f"--shard {text} is not a share", "write --shard I/N: 1/4, 2/4 … 4/4")
        if not 1 <= int(number) <= int(of):
            raise UsageError(
                f"--shard {text} is not a share: they count from 1/{of} to {of}/{of}",
                f"an array of Slurm counts so with --array=1-{of}",
            )
        return cls(int(number) - 1, int(of))

    def __str__(self) -> str:
        return f"{self.number + 1}/{self.of}"

    def of_numbers(self, numbers: Sequence[int]) -> Sequence[int]:
        """Give those of some numbers that are this share's, whichever are asked for."""
        return [number for number in numbers if number % self.of == self.number]

    def of_items(self, items: Sequence[T]) -> Sequence[T]:
        """Give those of some items that are this share's: every N-th."""
        return items[self.number :: self.of]

    def run_of(self, items: Sequence[T]) -> Sequence[T]:
        """Give those of some items that are this share's, where each has a run of them in turn."""
        first, behind = (len(items) * n // self.of for n in (self.number, self.number + 1))
        return items[first:behind]

    @property
    def leads(self) -> bool:
        """Whether this process writes and shows results."""
        return not self.joined or self.number == 0

    @property
    def is_apart(self) -> bool:
        """Whether nobody waits for the other parts."""
        return self.of > 1 and not self.joined

    def from_first(self, make: Callable[[], T]) -> T:
        """Let the first process make something, and give it to all."""
        if not self.joined:
            return make()
        import torch.distributed as dist

        held: list[Any] = [make() if self.leads else None]
        with together():
            dist.broadcast_object_list(held, 0)
        return held[0]

    def gathered(self, value: T) -> list[T]:
        """Give every process's value, in the order of their numbers, to all."""
        if not self.joined:
            return [value]
        import torch.distributed as dist

        held: list[Any] = [None] * self.of
        with together():
            dist.all_gather_object(held, value)
        return held

    def agree(self, seen: Sequence[tuple[str, Any]]) -> None:
        """See that all processes look at the same: what each thing is called, and what it is there.

        Raises
        ------
        CnnlensError
            When one sees another: their parts would not fit.
        """
        for number, theirs in enumerate(self.gathered(seen)):
            for (name, found), (_, mine) in zip(theirs, seen, strict=True):
                if found != mine:
                    raise CnnlensError(
                        f"process {number} of this run sees another {name} than process "
                        f"{self.number}",
                        "all need the same files, and all of them: on a file system they share",
                    )

    def at_first(self, value: T) -> list[T]:
        """Give every process's value, in the order of their numbers, to the first; else nothing."""
        if not self.joined:
            return [value]
        import torch.distributed as dist

        held: list[Any] = [None] * self.of
        with together():
            dist.gather_object(value, held if self.leads else None, 0)
        return held if self.leads else []

    def add_up(self, counts: np.ndarray) -> None:
        """Replace integers, contiguous, by the sums over all processes: exact, in any order."""
        if not self.joined:
            return
        import torch
        import torch.distributed as dist

        if counts.dtype.kind != "i" or not counts.flags.c_contiguous:
            raise ValueError(f"sums of {counts.dtype} depend on their order, or this is a view")
        with together():
            dist.all_reduce(torch.from_numpy(counts))

    def wait(self) -> Iterator[None]:
        """Wait until all processes are here, in small steps.

        Raises
        ------
        CnnlensError
            When one has ended.
        """
        if not self.joined:
            return
        import torch.distributed as dist

        with together():
            reached: Any = dist.barrier(async_op=True)
            while not reached.is_completed():
                time.sleep(_LOOK)
                yield
            reached.wait()

    def count(self, name: str, more: int = 0) -> int:
        """Add to a number that all processes count together; return it."""
        if not self.joined or _Joined.table is None:
            return more
        with together():
            return int(_Joined.table.add(f"count {name}", more))


ALL = Share()  # of a run that is one process's


@contextmanager
def together() -> Iterator[None]:
    """Say of a connection that breaks what it means."""
    try:
        yield
    except RuntimeError as error:  # dist's errors are of this kind, whatever the backend
        raise CnnlensError(
            "another process of this run has ended",
            GOES_ON,
        ) from error


def processes() -> int:
    """How many processes torchrun started for this run; 1 where it did not."""
    size = os.environ.get("WORLD_SIZE", "1")
    return int(size) if size.isdecimal() and "MASTER_ADDR" in os.environ else 1


def join(backend: str = "gloo") -> Share:
    """Join the other processes where torchrun started several; return this one's share.

    Parameters
    ----------
    backend : str
        What carries their words: "gloo", or "" for the fastest between their devices.

    Raises
    ------
    CnnlensError
        When they do not all start.
    """
    if processes() <= 1:
        return Share()
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    cuda = torch.cuda.is_available()
    if cuda:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local % torch.cuda.device_count())
    if not dist.is_initialized():
        fast = "nccl" if cuda and dist.is_nccl_available() else "gloo"

        def meet() -> Any:
            table, rank, size = next(iter(rendezvous("env://", timeout=_MEET)))
            # a table may outlive those whom torchrun starts again: who is gone has no address
            table = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), table)
            group = dist.PrefixStore("group", table)
            group.set(f"here {rank}", "")
            group.wait([f"here {other}" for other in range(size)], _MEET)
            given = {"store": group, "rank": rank, "world_size": size, "timeout": _PATIENCE}
            with unheard():
                dist.init_process_group(backend or fast, **given)
            return table

        try:
            table = _interruptibly(meet)
        except (RuntimeError, ValueError) as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise CnnlensError(
                f"the {processes()} processes of this run do not find each other ({first})",
                "torchrun must start all of them, on machines that reach each other",
            ) from error
        _Joined.table = dist.PrefixStore("cnnlens", table)
    rank, size = rank_and_size()
    return Share(rank, size, joined=True)


def leave() -> None:
    """Part from the others at the end. What is left to Python's own end is torn down while threads
    of it still run, which now and then aborts the process, and with it those that still write.

    One that waits for somebody who is gone cannot part: that is not waited for.
    """
    if _Joined.table is None:
        return
    import torch.distributed as dist

    parting = threading.Thread(target=dist.destroy_process_group, daemon=True)
    parting.start()
    parting.join(_PARTING)


def _interruptibly(wait: Callable[[], T]) -> T:
    """Let something wait beside this thread, which a signal can then still end."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(wait())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not found.done():
        time.sleep(_LOOK)
    return found.result()


def rank_and_size() -> tuple[int, int]:
    """Return this process's number, from 0, and how many there are."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def speaks() -> bool:
    """Whether this process is to say why the run ends: the first one that knows is."""
    if processes() <= 1:
        return True
    if _Joined.table is None:  # before they have joined all know the same
        return os.environ.get("RANK", "0") == "0"
    with suppress(RuntimeError):
        return bool(_Joined.table.add("spoken", 1) == 1)
    return True  # who kept the table is gone
