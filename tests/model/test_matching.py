"""Classes of data held against a network's outputs: by name, by synset, by number, by order."""

from __future__ import annotations

import numpy as np
import pytest
from torchvision.models import ResNet18_Weights

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.matching import (
    category_of,
    check_order,
    chosen,
    in_order,
    judge,
    named_outputs,
    readings,
    target_outputs,
)

TWELVE = [str(n) for n in range(1, 13)]


def answers(outputs: list[int], count: int, sure: float = 8.0) -> np.ndarray:
    """Scores of a network that says these outputs, as sure as wanted."""
    return (sure * np.eye(count)[outputs]).astype(np.float32)


def test_categories_are_outputs_by_name():
    assert target_outputs(["dog", "ant"], ["cat", "dog", "ant"], 3).tolist() == [1, 2]


def test_categories_are_outputs_by_order_where_no_name_fits():
    assert target_outputs(["b", "a", "b"], None, 2).tolist() == [1, 0, 1]
    assert target_outputs(["b", "a"], ["0", "1"], 2).tolist() == [1, 0]


def test_one_output_says_yes_to_the_category_it_is_named_after():
    assert target_outputs(["bird", "none", "bird"], ["bird"], 1).tolist() == [1, 0, 1]
    assert target_outputs(["a", "b"], None, 1).tolist() == [0, 1]


def test_categories_that_do_not_fit_are_named():
    with pytest.raises(CnnlensError, match=r"2 classes \(b, …\) do not fit the model's 3 outputs"):
        target_outputs(["a", "b"], ["a", "c", "d"], 3)


def test_names_are_compared_without_case_and_underscores_and_by_each_of_several():
    classes = ["tench, Tinca tinca", "great white shark", "tabby"]
    found = named_outputs(["Great_White-Shark", "tinca TINCA", "dog"], classes)
    assert found == {"Great_White-Shark": 1, "tinca TINCA": 0}


def test_synsets_are_imagenets_classes():
    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    folders = ["n01440764", "n02124075", "n04540053_volleyball", "n03126707"]
    found = named_outputs(folders, names)
    assert [names[n] for n in found.values()] == ["tench", "Egyptian cat", "volleyball", "crane"]
    assert found["n03126707"] == 517 and names[134] == "crane bird"
    assert named_outputs(["n01440764"], ["bird", "n01440764"]) == {"n01440764": 1}
    assert named_outputs(["n01440764"], ["bird", "tench"]) == {"n01440764": 1}


def test_folders_that_are_numbers_are_outputs_of_that_number():
    (way,) = readings(["7", "0"], None, 8)
    assert way.outputs == {"7": 7, "0": 0}
    one, other = readings(["7", "2"], None, 10)
    assert (one.by, other.by) == ("number", "number less one") and other.outputs["7"] == 6
    assert category_of(7, None, 10, ["7", "2"]) == "7"
    assert category_of(0, None, 10, ["7", "2"]) is None


def test_orders_are_alphabetical_first_and_natural_where_that_differs():
    assert [way.by for way in readings(["a", "b"], None, 2)] == ["alphabetical"]
    first, second, *_ = readings(TWELVE, None, 12)
    assert (first.outputs["10"], second.outputs["10"]) == (1, 9)
    assert in_order(["class10", "class9", "Class1"], "natural") == ["Class1", "class9", "class10"]
    assert readings(["a", "b"], ["a", "c", "d"], 3) == []  # b is no class of the network


def test_order_that_another_explains_far_better_is_asked_for():
    shown = [name for name in TWELVE for _ in range(3)]
    logits = answers([int(name) - 1 for name in shown], 12)
    with pytest.raises(UsageError, match="alphabetical order it is right on 8% of 36") as caught:
        check_order(readings(TWELVE, None, 12), logits, shown, "numbers")
    assert "natural order 100%" in caught.value.message and "--classes" in caught.value.hint
    check_order(readings(TWELVE, TWELVE, 12), logits, shown, "numbers")  # names say it


def test_order_that_no_images_bear_out_is_asked_for_where_the_network_is_sure():
    shown = ["a", "b", "c"] * 20
    ways = readings(shown, None, 3)
    turned = [{"a": 1, "b": 2, "c": 0}[name] for name in shown]
    with pytest.raises(UsageError, match="though the network is sure of itself"):
        check_order(ways, answers(turned, 3), shown, "data")
    with pytest.raises(UsageError, match="though the network is sure of itself"):
        check_order(ways, answers([2] * 60, 3), shown, "data")  # it says one thing to all
    right = [{"a": 0, "b": 1, "c": 2}[name] for name in shown]
    judged = check_order(ways, answers(right, 3), shown, "data")
    assert (
        judged is not None
        and judged.is_above_chance
        and judged.right == {"in alphabetical order": 1.0}
    )


def test_fresh_network_is_unsure_and_not_asked_about():
    rng = np.random.default_rng(0)
    for count in (2, 3, 12):
        names = [str(n + 1) for n in range(count)]
        shown = names * 12
        for _ in range(20):
            of = rng.integers(0, count, count)  # one answer per class, any
            logits = answers([of[names.index(name)] for name in shown], count, sure=0.7)
            judged = check_order(readings(names, None, count), logits, shown, "data")
            assert judged is not None and judged.sure < 0.6


def test_one_output_is_two_classes():
    shown = ["no", "yes"] * 10
    logits = np.array([[-9.0 if name == "no" else 9.0] for name in shown])
    (way,) = readings(shown, None, 1)
    assert judge([way], logits, shown).right == {"in alphabetical order": 1.0}
    with pytest.raises(UsageError, match="right on 0%"):
        check_order([way], -logits, shown, "data")


def test_judged_images_are_of_every_class_and_bounded():
    many = [name for name in TWELVE for _ in range(50)]
    rows = chosen(many)
    assert len(rows) == 60 and {many[row] for row in rows} == set(TWELVE)
    assert len(chosen([str(n) for n in range(5000)])) == 128
    assert chosen(["a", "b"]) == [0, 1]
