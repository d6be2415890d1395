"""How far a long loop is; every loop that can be watched or stopped yields these."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

Result = TypeVar("Result")


class Words:
    """A note that is worded when somebody reads it: its numbers may still be on their way."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def __str__(self) -> str:
        return self._read()


@dataclass(frozen=True)
class Step:
    """How far a long loop is.

    Attributes
    ----------
    done, total : int
        In the unit of the loop (images, damaged ones included; units; passes).
    stage : str
        Which of several stages is under way; empty where there is one.
    limit : int
        The largest batch that went through a network at once; 0 where none runs.
    note : str or Words
        A figure worth watching, with its name: ``"error 0.12"``.
    unit : str
        What `done` counts, for people: "images", "pictures", "units".
    milestone : bool
        Whether it is worth a line where no bars are shown: an epoch is done.
    """

    done: int
    total: int
    stage: str = ""
    limit: int = 0
    note: str | Words = ""
    unit: str = "images"
    milestone: bool = False


def followed(
    steps: Generator[Step, None, Result], progress: Callable[[Step], None] | None
) -> Result:
    """Carry a loop out to its result, telling `progress` of every step."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if progress is not None:
            progress(step)


def relayed(
    steps: Generator[Step, None, Result], change: Callable[[Step], Step]
) -> Generator[Step, None, Result]:
    """Pass a loop's steps on, each as `change` makes it; return what the loop returns."""
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            yield change(step)


def staged(name: str, steps: Generator[Step, None, Result]) -> Generator[Step, None, Result]:
    """Pass on steps with a name for their stage, or before the one they have."""
    return relayed(
        steps, lambda step: replace(step, stage=f"{name}: {step.stage}" if step.stage else name)
    )
