"""Images asked whether they bear an order of classes out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from cnnlens.errors import UsageError
from cnnlens.model.class_order import check_border, check_order, chosen, judge
from cnnlens.model.matching import readings

TWELVE = [str(n) for n in range(1, 13)]


def answers(outputs: list[int], count: int, sure: float = 8.0) -> np.ndarray:
    """Scores of a network that says these outputs, as sure as wanted."""
    return (sure * np.eye(count)[outputs]).astype(np.float32)


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


def test_one_that_answers_with_probabilities_is_as_sure_as_by_its_scores():
    shown = ["a", "b"] * 20
    ways = readings(shown, None, 2)
    logits = answers([1, 0] * 20, 2, sure=3.0)
    shares = softmax(logits, axis=1)
    assert judge(ways, shares, shown).sure == pytest.approx(judge(ways, logits, shown).sure)
    with pytest.raises(UsageError, match="though the network is sure of itself"):
        check_order(ways, shares, shown, "data")


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


def test_one_image_of_each_of_many_classes_says_nothing_of_another_order():
    """Any answers that differ have an assignment that explains all of them."""
    names = [str(10 * n) for n in range(100)]
    ways, rng = readings(names, None, 1000), np.random.default_rng(0)
    said = [int(name) if rng.random() < 0.6 else int(rng.integers(1000)) for name in names]
    judged = check_order(ways, answers(said, 1000, sure=12.0), names, "data")
    assert judged is not None and judged.sure > 0.9 and judged.best == 0
    wrong = [(int(name) + 7) % 1000 for name in names]
    with pytest.raises(UsageError, match="right on 0% of 100 images"):
        check_order(ways, answers(wrong, 1000, sure=12.0), names, "data")


def test_the_assignment_is_judged_on_images_it_was_not_made_from():
    shown = ["a", "b", "c", "d"] * 40
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 4, 160).tolist()  # says nothing of any class
    assert judge(readings(shown, None, 4), answers(noise, 4), shown).best < 0.35
    turned = [{"a": 1, "b": 2, "c": 3, "d": 0}[name] for name in shown]
    mixed = [said if rng.random() < 0.8 else int(rng.integers(4)) for said in turned]
    right = np.mean(np.array(mixed) == turned)
    found = judge(readings(shown, None, 4), answers(mixed, 4), shown)
    assert found.best == pytest.approx(right)


def test_judged_images_are_of_every_class_and_bounded():
    many = [name for name in TWELVE for _ in range(50)]
    rows = chosen(many)
    assert len(rows) == 60 and {many[row] for row in rows} == set(TWELVE)
    assert len(chosen([str(n) for n in range(5000)])) == 64
    assert len(chosen([str(n) for n in range(5000)] * 3)) == 128
    assert chosen(["a", "b"]) == [0, 1]


def test_the_border_of_a_single_output_is_asked_of_probabilities_alone():
    wanted = np.array([0, 0, 1, 1])
    chances = np.array([[0.1], [0.3], [0.8], [0.9]])
    with pytest.raises(UsageError, match="right on 50% of 4 images, as a probability on 100%"):
        check_border(chances, wanted, "data")
    check_border(chances - 0.5, wanted, "data")  # scores
    check_border(10 * chances, wanted, "data")
    check_border(chances, np.array([1, 1, 1, 1]), "data")  # one half explains no more
    check_border(np.repeat(chances, 2, 1), wanted, "data")  # two outputs
