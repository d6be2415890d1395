"""Files of several networks: the main one is opened, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model import recognise, zoo
from cnnlens.model.fit import fit
from cnnlens.model.open import open_model

from .nets import network

State = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is timm's, which takes seconds to say."""
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        recognise, "search", lambda shapes: [fit(zoo.architecture("shapes_net"), shapes)]
    )


def under(prefix: str, net: nn.Module) -> State:
    return {f"{prefix}.{k}": v for k, v in net.state_dict().items()}


@pytest.fixture(scope="module")
def known() -> nn.Module:
    return network("squeezenet1_1")


OWN = nn.Sequential(nn.Conv2d(3, 24, 5), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))


def opened(tmp_path: Path, state: State, **options: Any) -> Any:
    torch.save(state, tmp_path / "m.pt")
    return open_model(str(tmp_path / "m.pt"), device="cpu", **options)


@pytest.mark.parametrize("loss", ["loss.vgg", "perceptual", "model.criterion.net", "second"])
@pytest.mark.parametrize("part", ["net", "mine"])
def test_a_loss_beside_an_unknown_network_is_not_taken_for_it(
    tmp_path: Path, known: nn.Module, loss: str, part: str
) -> None:
    state = {**under(part, OWN), **under(loss, known)}
    with pytest.raises(CnnlensError, match=f"holds {part}, of no known architecture") as caught:
        opened(tmp_path, state)
    assert f"--weights {loss} opens torchvision:squeezenet1_1" in caught.value.hint
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(opened(tmp_path, state, weights=loss).net(x), known(x))


@pytest.mark.parametrize(
    ("main", "beside"), [("model", "loss.net"), ("net", "mine"), ("backbone", "decoder")]
)
def test_what_stands_behind_the_main_network_is_left_out(
    tmp_path: Path, known: nn.Module, main: str, beside: str
) -> None:
    model = opened(tmp_path, {**under(main, known), **under(beside, OWN)})
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(model.net(x), known(x))
    assert not any("also holds" in note for note in model.notes)  # it could not be opened


def test_the_main_network_comes_first_and_the_others_that_open_are_named(
    tmp_path: Path, known: nn.Module
) -> None:
    main = network("resnet18")
    model = opened(tmp_path, {**under("loss.net", known), **under("net.base", main)})
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(model.net(x), main(x))
    assert "it also holds loss.net: --weights opens it" in model.notes


def test_entries_are_said_to_open_where_they_do(tmp_path: Path, known: nn.Module) -> None:
    main = zoo.shapes_net().state_dict()
    ema = {name: tensor + 1 for name, tensor in main.items()}
    beside = {"ema": ema, "features": known.state_dict(), "mine": OWN.state_dict()}
    whole: Any = {"model": main, **beside}
    (note,) = (n for n in opened(tmp_path, whole).notes if "is opened" in n)
    said, _, others = note.partition("; --weights opens ")[2].partition("; beside it lies ")
    assert note.startswith("model is opened") and others == "mine"
    for name in beside:
        if name in said.split(", "):
            opened(tmp_path, whole, weights=name)
        else:
            with pytest.raises(CnnlensError):
                opened(tmp_path, whole, weights=name)
    assert said == "features, ema"


def test_a_decoder_is_not_said_to_open(tmp_path: Path) -> None:
    body = {f"encoder.{k}": v for k, v in network("resnet18").state_dict().items() if k[:2] != "fc"}
    decoder = {f"decoder.blocks.0.conv{n}.0.weight": torch.zeros(8, 8, 3, 3) for n in (1, 2)}
    notes = " ".join(opened(tmp_path, {**body, **decoder}).notes)
    assert "left out: decoder" in notes and "--weights" not in notes
