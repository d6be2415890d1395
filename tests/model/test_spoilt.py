from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnnlens.model.open import open_model
from cnnlens.model.spoilt import spoilt
from cnnlens.model.zoo import ZOO


def saved(path: Path, **changed: float) -> str:
    """The demo's network with random weights, of which some are multiplied."""
    torch.manual_seed(0)
    state = ZOO["demo_net"].make(3).state_dict()
    for name, factor in changed.items():
        state[name.replace("__", ".")] *= factor
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_said(tmp_path: Path, factor: float) -> None:
    spec = saved(tmp_path / "a.pt", conv2__weight=factor)
    said = "numbers that are not finite (NaN, infinite) are in 1 tensor of it: conv2.weight"
    assert said in open_model(spec, arch="zoo:demo_net", device="cpu").notes
    whole = open_model(saved(tmp_path / "b.pt"), arch="zoo:demo_net", device="cpu")
    assert not any("finite" in note or "are 0" in note for note in whole.notes)


def test_zeros_alone_are_said(tmp_path: Path) -> None:
    names = [name for name, _ in ZOO["demo_net"].make(3).named_parameters()]
    zeros = {name.replace(".", "__"): 0.0 for name in names}
    model = open_model(saved(tmp_path / "a.pt", **zeros), arch="zoo:demo_net", device="cpu")
    assert "all its weights are 0: it answers the same to every image" in model.notes
    del zeros[names[-1].replace(".", "__")]
    model = open_model(saved(tmp_path / "b.pt", **zeros), arch="zoo:demo_net", device="cpu")
    assert not any("are 0" in note for note in model.notes)


def test_large_numbers_and_infinite_masks_are_as_they_should_be() -> None:
    net = torch.nn.Linear(2, 2)
    net.weight.data.fill_(3e38)  # whose sum is infinite
    net.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    assert spoilt(net) == []
    net.register_buffer("mask", torch.tensor([float("nan")]))
    assert spoilt(net) == [
        "numbers that are not finite (NaN, infinite) are in 1 tensor of it: mask"
    ]
