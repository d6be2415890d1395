from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cnnlens.errors import CnnlensError
from cnnlens.measure.meaning import read_meaning

NAMES = ("car", "bus", "road", "crane (bird)", "airplane/bird/… (6)", "black and white")
KNOWN = {name: name for name in NAMES}
#: every combination of three concepts, one a row
GRID = dict(
    zip(("car", "bus", "road"), np.array(list(product([0, 1], repeat=3)), bool).T, strict=True)
)


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("car", "car"),
        ("(car OR bus) AND NOT road", "(car | bus) & ~road"),
        ("car OR bus AND road", "car | (bus & road)"),
        ("NOT (car AND bus) AND road", "~(car & bus) & road"),
        ("((car OR bus) AND NOT road) OR road", "((car | bus) & ~road) | road"),
        ("Car + bus", "car | bus"),
    ],
)
def test_labels_are_read_as_python_would(text: str, python: str) -> None:
    found = read_meaning(text, KNOWN).where(GRID.__getitem__)
    assert (found == eval(python, {}, dict(GRID))).all()


def test_concepts_may_hold_parentheses_and_words() -> None:
    found = read_meaning("(crane (bird) OR car) AND NOT airplane/bird/… (6)", KNOWN)
    assert found.concepts == ["crane (bird)", "car", "airplane/bird/… (6)"]
    assert read_meaning("black and white", KNOWN).formula is None
    assert read_meaning("airplane/bird/… (6) + car", KNOWN).formula is None


@pytest.mark.parametrize(
    "text", ["cra", "car + cra", "car AND", "(car OR bus", "car) OR bus", "OR"]
)
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(CnnlensError, match=r"no concept|no formula"):
        read_meaning(text, KNOWN)
    with pytest.raises(CnnlensError) as caught:
        read_meaning("cra", KNOWN)
    assert "car" in (caught.value.hint or "")


def test_formulas_are_equal_in_whatever_order_they_are_written() -> None:
    def same(one: str, other: str) -> bool:
        return bool(read_meaning(one, KNOWN).canonical == read_meaning(other, KNOWN).canonical)

    assert same("(car OR bus) AND NOT road", "NOT road AND (bus OR car)")
    assert same("(car OR bus) OR road", "car OR (road OR bus)") and same("Car", "car")
    assert not same("car OR bus", "car AND bus") and not same("car AND NOT bus", "bus AND NOT car")


def test_not_holds_nowhere_if_it_is_not_told_where_a_concept_is() -> None:
    found = read_meaning("car AND NOT road", KNOWN)
    assert not found.where(GRID.__getitem__, lambda name: name != "road").any()
    assert found.where(GRID.__getitem__).any()
