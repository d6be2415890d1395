"""How far a measurement is, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """Which of the stages is under way, and how far."""

    stage: str
    done: int
    total: int


def followed(
    steps: Generator[Progress, None, Result], progress: Callable[[Progress], None] | None
) -> Result:
    """Carry a measurement out to its result, telling `progress` of every step."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if progress is not None:
            progress(step)
