from __future__ import annotations

from cnnlens.report.contents import file_names
from cnnlens.report.label_files import LabelledUnit


def test_names_are_safe_and_never_the_same_twice():
    names = ["a/b", "a_b", "A_B", "..", "", "ключ 猫", "x" * 400, "a\\b", ".hidden"]
    found = file_names(names)
    assert found["a/b"] == "a_b"
    assert found["a_b"] == "a_b-2"
    assert found["A_B"] == "A_B-3"
    assert found["ключ 猫"] == "ключ 猫"
    assert len({name.casefold() for name in found.values()}) == len(names)
    for name in found.values():
        assert name
        assert not name.startswith(".")
        assert not set(name) & set("/\\:")
        assert len(name.encode()) <= 124


def test_numbers_step_over_names_that_have_them_already():
    assert file_names(["a?", "a_-2", "a!"]) == {"a?": "a_", "a_-2": "a_-2", "a!": "a_-3"}


def test_weights_stay_behind_names_that_are_written_from_right_to_left():
    unit = LabelledUnit(
        0, "", 0.9, "", None, None, None, (("חתול", 2.0), ("cat", 1.0)), "חתול", 0.5
    )
    assert unit.said == "חתול 2 + cat 1"
    assert unit.isolated == "\u2068חתול\u2069 2 + cat 1"
