from __future__ import annotations

import numpy as np
import pytest

from cnnlens.errors import UsageError
from cnnlens.model.classes import class_name, find_class, is_correct

NAMES = ["tench", "crane", "tabby, tabby cat", "Crane", "crane", "7", "Great Dane", "Caf\u00e9"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tench", 0),
        ("TENCH", 0),
        (" great-dane ", 6),
        ("cafe\u0301", 7),
        ("tabby", 2),
        ("Tabby_cat", 2),
        ("tabby, tabby cat", 2),
        ("4", 4),
        ("7", 5),  # a name comes before a number
        ("Crane", 3),
    ],
)
def test_classes_are_found_by_number_and_name(text: str, number: int) -> None:
    assert find_class(text, NAMES, len(NAMES)) == number


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("crane", "2 classes are named 'crane'", "1, 4"),
        ("9", "no class 9", "0 to 7"),
        ("-1", "no class '-1'", ""),
        ("tensh", "no class 'tensh'", "did you mean tench"),
        ("dane", "no class 'dane'", "Great Dane"),
        ("zzzz", "no class 'zzzz'", "a number works too"),
    ],
)
def test_what_is_no_class_is_said_with_a_way_out(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        find_class(text, NAMES, len(NAMES))
    assert hint in caught.value.hint


def test_without_names_only_numbers_are_known() -> None:
    assert find_class("2", None, 3) == 2
    with pytest.raises(UsageError, match="names of the network's classes are not known"):
        find_class("cat", None, 3)
    assert class_name(2, None) == "2" and class_name(1, NAMES) == "crane"


def test_largest_score_is_the_answer_and_one_score_answers_yes_above_zero():
    assert is_correct(np.array([[1.0, 2], [3, 2]]), np.array([1, 1])).tolist() == [True, False]
    assert is_correct(np.array([[0.5], [-0.5]]), np.array([1, 1])).tolist() == [True, False]
