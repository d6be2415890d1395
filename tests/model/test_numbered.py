"""Labels that are numbers mean outputs, as PyTorch has it; folders called by numbers an order."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cnnlens.data.memory import memory_images
from cnnlens.measure.accuracy import accuracy
from cnnlens.model.checkpoint import write_torch
from cnnlens.model.class_order import check_order
from cnnlens.model.matching import (
    readings,
    said_outputs,
    target_outputs,
    usual_outputs,
)
from cnnlens.model.model import Model
from cnnlens.model.numbered import OutputName, numbered
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module

FASHION = ("T-shirt", "Trouser", "Pullover", "Dress")  # in no alphabetical order


def labels(numbers: range | list[int]) -> list[str]:
    return [OutputName(str(number), number) for number in numbers]


def garments(shown: list[int]) -> list[str]:
    return [OutputName(FASHION[number], number, len(FASHION)) for number in shown]


class Brightness(nn.Module):
    """Says which of twelve brightnesses an image has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middles = (torch.arange(12) + 0.5) / 12
        return -400 * (x.mean((1, 2, 3))[:, None] - middles) ** 2


def network() -> Model:
    return wrap_module(Brightness(), Preprocess((8, 8), (0, 0, 0), (1, 1, 1)))


def test_numbers_are_outputs_and_folders_called_by_them_are_in_alphabetical_order() -> None:
    (way,) = readings(labels(range(12)), None, 12)
    assert way.certain and way.outputs == {str(n): n for n in range(12)}
    assert readings([str(n) for n in range(12)], None, 12)[0].outputs["10"] == 2
    assert target_outputs(labels([11, 2, 10]), None, 12).tolist() == [11, 2, 10]


@pytest.mark.parametrize("wrong", [0.0, 0.6])
def test_accuracy_is_what_one_line_of_pytorch_says(wrong: float) -> None:
    rng = np.random.default_rng(0)
    shown = np.arange(60) % 12
    truth = np.where(rng.random(60) < wrong, rng.integers(0, 12, 60), shown)
    images = [torch.full((3, 8, 8), (n + 0.5) / 12) for n in shown]
    wanted = (Brightness()(torch.stack(images)).argmax(1) == torch.tensor(truth)).float().mean()
    found = accuracy(network(), memory_images(images, torch.tensor(truth)))
    assert found.value == pytest.approx(float(wanted))


def test_a_data_sets_own_names_are_numbered_in_its_order() -> None:
    (way,) = readings(garments([1, 0, 2]), None, 4)
    assert way.certain and way.outputs == {"T-shirt": 0, "Trouser": 1, "Pullover": 2}
    assert readings(garments([1, 0]), None, 1000) == []  # it numbers four classes, not these
    swapped = ["Trouser", "T-shirt", "Pullover", "Dress"]
    assert readings(garments([1, 0]), swapped, 4)[0].outputs == {"T-shirt": 1, "Trouser": 0}
    # some names are the network's: numbers that agree say the others
    assert readings(garments([1, 0]), ["T-shirt", "legs", "b", "c"], 4)[0].outputs["Trouser"] == 1
    assert readings(garments([1, 0]), ["legs", "T-shirt", "b", "c"], 4) == []


def test_numbers_from_one_on_are_in_their_order() -> None:
    first = readings(labels(range(1, 13)), None, 12)[0]
    assert not first.certain and first.outputs["10"] == 9


def test_some_of_the_classes_are_asked_about() -> None:
    first, *_ = readings(labels([2, 7]), None, 1000)
    assert (first.by, first.certain, first.outputs) == ("number", False, {"2": 2, "7": 7})


def test_sure_and_wrong_is_what_it_is_where_labels_say_the_outputs() -> None:
    said = np.eye(12)[(np.arange(60) + 5) % 12] * 50
    shown = labels(np.arange(60).tolist())
    ways = readings(labels(range(12)), None, 12)
    assert check_order(ways, said, [labels(range(12))[int(n) % 12] for n in shown], "mine") is None


def test_a_number_means_the_output_that_has_a_name() -> None:
    names = [f"class-{chr(97 + n)}" for n in range(12)]
    assert usual_outputs(labels(range(12)), names, 12)["10"] == 10
    assert said_outputs(labels([3, 1]), None, 12) == {"3": 3, "1": 1}
    assert usual_outputs(labels([3, 1]), names, 12) == {"3": 3, "1": 1}
    assert usual_outputs(["3", "1"], names, 12) == {}  # folders


def test_one_output_says_the_second_number() -> None:
    pets = [OutputName("dog", 0, 2), OutputName("cat", 1, 2)]
    assert target_outputs(pets, None, 1).tolist() == [0, 1]
    assert target_outputs(pets, ["dog"], 1).tolist() == [1, 0]  # it is named
    assert target_outputs(["dog", "cat"], None, 1).tolist() == [1, 0]  # folders, by the alphabet


def test_other_labels_of_the_same_text_are_other_labels() -> None:
    images = [np.zeros((4, 4, 3), np.uint8)] * 3
    texts = [memory_images(images, [str(n) for n in (10, 2, 1)]), memory_images(images, [10, 2, 1])]
    assert texts[0].image_categories == texts[1].image_categories
    assert texts[0].labels_fingerprint != texts[1].labels_fingerprint


def test_other_processes_and_checkpoints_have_them(tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(garments([2, 1])))
    assert again == ["Pullover", "Trouser"] and numbered(again) == numbered(garments([2, 1]))
    write_torch(tmp_path / "net.pt", {"classes": garments([2, 1])})
    assert torch.load(tmp_path / "net.pt", weights_only=True) == {"classes": again}
