from __future__ import annotations

import numpy as np
import pytest

from cnnlens.errors import CnnlensError
from cnnlens.measure.accuracy import right, targets


def test_categories_are_outputs_by_name():
    assert targets(["dog", "ant"], ["cat", "dog", "ant"], 3).tolist() == [1, 2]


def test_categories_are_outputs_by_order_where_no_name_fits():
    assert targets(["b", "a", "b"], None, 2).tolist() == [1, 0, 1]
    assert targets(["b", "a"], ["0", "1"], 2).tolist() == [1, 0]


def test_one_output_says_yes_to_the_category_it_is_named_after():
    assert targets(["bird", "none", "bird"], ["bird"], 1).tolist() == [1, 0, 1]
    assert targets(["a", "b"], None, 1).tolist() == [0, 1]


def test_categories_that_do_not_fit_are_named():
    with pytest.raises(CnnlensError, match=r"2 classes \(b, …\) do not fit the model's 3 outputs"):
        targets(["a", "b"], ["a", "c", "d"], 3)


def test_largest_score_is_the_answer_and_one_score_answers_yes_above_zero():
    assert right(np.array([[1.0, 2], [3, 2]]), np.array([1, 1])).tolist() == [True, False]
    assert right(np.array([[0.5], [-0.5]]), np.array([1, 1])).tolist() == [True, False]
