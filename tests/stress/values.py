"""Values in the place of others: the usual suspects, and what hypothesis thinks of."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from random import Random
from typing import Any

USUAL: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, float("nan"), "", "x", "../../up", "a\nb\x1b[31m", "\0"),
    *([], {}, [[]], {"a": []}, [1, "two", None], "9" * 5000),
)
_NUMBER = 400


def strange(dice: Random) -> Any:
    """Draw one of either, as often."""
    return deepcopy(dice.choice(USUAL if dice.random() < 0.5 else found_by_hypothesis()))


@cache
def found_by_hypothesis() -> list[Any]:
    """Documents as JSON has them, small to nested; the same ones every time."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as some

    leaves = some.none() | some.booleans() | some.integers() | some.floats() | some.text()
    nested = some.recursive(
        leaves,
        lambda below: some.lists(below) | some.dictionaries(some.text(), below),
        max_leaves=12,
    )
    found: list[Any] = []

    @settings(
        max_examples=_NUMBER, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(nested)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found
