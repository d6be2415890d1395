"""Part of a long command, worked out by another process meanwhile, where a core is left for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cnnlens.cli.allocator import keep_freed
from cnnlens.settings.run import cores


class Beside:
    """Calls a function in a process of its own, which ends with the block, or with this process.

    What it makes must be kept in files, and making it once more must do no harm: whoever needs it
    calls the function again where it did not succeed, and meets the error that it met.

    Parameters
    ----------
    function : callable
        Of a module.
    arguments
        For it.
    """

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_call, args=(function, arguments))

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join()

    @property
    def runs(self) -> bool:
        """Whether it is not finished yet."""
        return self._process.is_alive()

    def succeeds(self) -> bool:
        """Wait for its end, and say whether the function came to its own."""
        self._process.join()
        return self._process.exitcode == 0


def has_room() -> bool:
    """Whether a core is left for another process."""
    return cores() > 1


def _call(function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Call a function and say nothing of what goes wrong: it is called again by who can say it."""
    from cnnlens.data.processes import end_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other one answers, and ends this one
    end_with_parent()
    keep_freed()
    try:
        function(*arguments)
    except BaseException:
        os._exit(1)
