"""What torch keeps once for all threads, another while any of them computes here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, Generic, TypeVar

import torch

_Value = TypeVar("_Value")


class Lent(Generic[_Value]):
    """A setting of the whole process; the last thread to leave the block puts it back.

    Parameters
    ----------
    read, write : callable
        Of the setting.
    ours : callable
        From the caller's to what it is within the block.
    """

    def __init__(
        self,
        read: Callable[[], _Value],
        write: Callable[[_Value], Any],
        ours: Callable[[_Value], _Value],
    ) -> None:
        self._read, self._write, self._ours = read, write, ours
        self._lock, self._inside = RLock(), 0
        self._before: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = self._read()
            self._set(self._ours(self._before))
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            # code of the user's may have set it within: whoever is still inside has ours
            self._set(self._ours(self._before) if self._inside else self._before)

    def _set(self, value: _Value) -> None:
        if value != self._read():
            self._write(value)


_number_type = Lent(torch.get_default_dtype, torch.set_default_dtype, lambda _: torch.float32)

Determined = tuple[bool, bool]  # whether algorithms must be, and whether others only warn


def _determined() -> Determined:
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), warns


def _determine(value: Determined) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


#: a caller's order for his own training: what has no such algorithm warns, and is computed
_determinism = Lent(_determined, _determine, lambda theirs: (theirs[0], theirs[0] or theirs[1]))


@contextmanager
def in_float32() -> Iterator[None]:
    """Make tensors in float32 where no type is named, whatever type the caller has as default."""
    with _number_type:
        yield


@contextmanager
def undemanding() -> Iterator[None]:
    """Let operations without a deterministic algorithm warn, where a caller has them fail."""
    with _determinism:
        yield
