"""Where a network runs, in batches that memory allows, on how many threads."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from cnnlens.errors import CnnlensError, UsageError

if TYPE_CHECKING:
    import torch

    from cnnlens.model.model import Model

Result = TypeVar("Result")


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda[:N]`` or ``mps`` into a device that exists here.

    Raises
    ------
    UsageError
        When the name is no device.
    CnnlensError
        When this machine has none of that kind.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device '{name}'", "choose auto, cpu, cuda[:N] or mps") from None
    if device.type == "cuda":
        _check_cuda(device)
    elif device.type == "mps" and not _mps():
        raise _not_here(device)
    elif device.type not in ("cpu", "mps"):
        raise UsageError(f"no device '{name}'", "choose auto, cpu, cuda[:N] or mps")
    return device


def _not_here(device: torch.device) -> CnnlensError:
    """The words were right, and the machine is another: a script may go on elsewhere."""
    said = f"device '{device}' is not available on this machine"
    return CnnlensError(said, "use --device auto")


def _mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


def _check_cuda(device: torch.device) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise _not_here(device)
    if device.index is not None and device.index >= count:
        raise UsageError(
            f"device '{device}' does not exist: this machine has {count}",
            f"choose cuda:0 to cuda:{count - 1}",
        )


def in_batches(
    count: int,
    limit: int,
    run: Callable[[slice], Result],
    model: Model,
    before_retry: Callable[[slice], None] | None = None,
) -> tuple[list[Result], int]:
    """Run `count` rows, at most `limit` at once; half as many whenever memory runs out.

    Parameters
    ----------
    count, limit : int
        Rows in all; rows at once.
    run : callable
        From a slice of the rows to its result.
    model : Model
        Says where, and whether it takes one size of batch only.
    before_retry : callable, optional
        Undoes what a run that failed has left, given its slice: lets go of tensors, sets random
        states back.

    Returns
    -------
    (list, int)
        The results in order, and the limit that served.

    Raises
    ------
    CnnlensError
        When memory does not suffice for one row, or for the only batch that the network takes.
    """
    parts: list[Result] = []
    start = 0
    while start < count:
        rows = slice(start, start + limit)
        try:
            parts.append(run(rows))
            start += limit
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_memory_error(error):
                raise
            if limit == 1 or model.batch:
                raise _no_memory(model) from error
        # only here, when the error is gone and with it the frames that held the tensors
        limit = max(1, limit // 2)
        if before_retry is not None:
            before_retry(rows)
        free_memory()
    return parts, limit


def _no_memory(model: Model) -> CnnlensError:
    what = f"its fixed batch of {model.batch}" if model.batch else "even one image"
    return CnnlensError(
        f"not enough memory on {model.device} for {what}",
        "use --device cpu, a smaller --image-size, or close what else uses the memory",
    )


def free_memory() -> None:
    """Give back to the device what nothing refers to any more."""
    import torch

    gc.collect()  # frames of an error may stand in a circle
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_memory_error(error: BaseException) -> bool:
    """Whether a device or the machine ran out of memory: with less at once it may still work."""
    import torch

    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


@contextmanager
def own_threads() -> Iterator[None]:
    """Leave torch as many threads as it had: UMAP sets how many the process has."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """On so small a network several threads only wait for each other, on busy cores for long."""
    import torch

    with own_threads():
        torch.set_num_threads(1)
        yield
