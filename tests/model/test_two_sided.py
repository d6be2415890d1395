from __future__ import annotations

import torch

from cnnlens.model.two_sided import both_sides, side_names


def test_the_softmax_of_both_sides_is_the_sigmoid_and_what_it_leaves() -> None:
    scores = torch.tensor([[-3.0], [0.0], [0.2], [40.0]], dtype=torch.float64)
    shares = both_sides(scores).softmax(1)
    torch.testing.assert_close(shares[:, 1:], scores.sigmoid())
    torch.testing.assert_close(shares.sum(1), torch.ones(4, dtype=torch.float64))
    several = torch.randn(3, 4)
    assert both_sides(several) is several


def test_the_other_side_is_the_other_of_two_categories() -> None:
    assert side_names(["dog"], ["cat", "dog"]) == ["cat", "dog"]
    assert side_names(["dog"], ["cat", "cow", "dog"]) == ["not dog", "dog"]
    assert side_names(["dog"], ["cat", "cow"]) == ["not dog", "dog"]
    assert side_names(["dog"]) == ["not dog", "dog"]
    assert side_names(["big_dog"], ["Big Dog", "cat"]) == ["cat", "big_dog"]
    assert side_names(["dog"], ["Dog", "dog"]) == ["Dog", "dog"]
    assert side_names(["DOG"], ["Dog", "dog"]) == ["not DOG", "DOG"]
    assert side_names(None, ["cat", "dog"]) is None
    assert side_names(["bad", "good"], ["cat", "dog"]) == ["bad", "good"]
