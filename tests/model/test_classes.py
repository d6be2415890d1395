from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnnlens.errors import UsageError
from cnnlens.model.classes import class_name, find_class, is_correct
from cnnlens.model.open import open_model
from cnnlens.model.wrap import wrap_module

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


class Beside(nn.Module):
    """Four classes, then three others; a layer that no score comes from is registered last."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.conv, self.head, self.other = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), nn.Linear(6, 3)
        self.codebook = nn.Linear(6, last)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.conv(x).mean((2, 3))
        return self.head(x), self.other(x)


def test_classes_are_as_many_as_the_network_answers_not_as_its_last_layer_has(monkeypatch):
    net = Beside(7).train()
    for head, names in ((None, "abcd"), ("0", "abcd"), ("1", "abc")):
        assert wrap_module(net, classes=list(names), head=head).classes == list(names)
    for names in ("abc", "abcdefg"):
        with pytest.raises(UsageError, match=f"{len(names)} names of classes for 4 outputs"):
            wrap_module(net, classes=list(names))
    assert net.training
    monkeypatch.setitem(globals(), "seven", lambda: Beside(7))
    with pytest.raises(UsageError, match="7 names of classes for 4 outputs"):
        open_model(f"{__name__}:seven", classes=list("abcdefg"), device="cpu")


def test_a_thousand_outputs_of_a_layer_beside_the_head_are_not_imagenets():
    assert wrap_module(Beside(1000)).classes is None
    thousand = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 1000, 1), nn.Flatten())
    assert wrap_module(thousand).classes_source == "assumed: ImageNet's"


def test_names_of_maps_of_classes_fit_their_channels_and_those_of_no_pass_some_layer():
    assert wrap_module(nn.Conv2d(3, 5, 1), classes=list("abcde")).classes is not None
    flat = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 4))  # not at 224 pixels
    assert wrap_module(flat, classes=list("abcd")).classes is not None
    with pytest.raises(UsageError, match="3 names of classes for 4 outputs"):
        wrap_module(flat, classes=list("abc"))
