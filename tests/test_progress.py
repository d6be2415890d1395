"""Long loops that are watched, renamed and stopped."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest

from cnnlens.progress import Step, followed, relayed

ended: list[int] = []


def loop() -> Generator[Step, None, str]:
    try:
        for done in range(3):
            yield Step(done, 3, "counting", limit=8)
        return "result"
    finally:
        ended.append(1)


def test_steps_are_passed_on_changed_and_the_result_as_it_is():
    seen: list[Step] = []
    renamed = relayed(loop(), lambda step: replace(step, stage=f"conv1: {step.stage}"))
    assert followed(renamed, seen.append) == "result"
    assert seen == [Step(done, 3, "conv1: counting", limit=8) for done in range(3)]


def test_a_loop_that_nobody_watches_is_carried_out():
    assert followed(loop(), None) == "result"


def test_who_stops_stops_the_loop_inside():
    ended.clear()
    steps = relayed(loop(), lambda step: step)
    next(steps)
    steps.close()
    assert ended == [1]


def test_what_a_change_raises_stops_the_loop_inside():
    ended.clear()

    def fail(step: Step) -> Step:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(relayed(loop(), fail))
    assert ended == [1]
