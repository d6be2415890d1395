"""Networks that take no image: the cause is named, not the size of the input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError
from cnnlens.model.classes import count_scores, scores_on_black
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.surgery import head_of
from cnnlens.model.wrap import wrap_module


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return (self.conv(left) - self.conv(right)).mean((2, 3))


def headed(first: nn.Module) -> nn.Module:
    return nn.Sequential(first, nn.Flatten(), nn.LazyLinear(3))


NETS = {
    "takes 2 inputs": Siamese(),
    r"takes video or volumes \(N×C×T×H×W\), not images: its first layer is 0 \(Conv3d": (
        nn.Sequential(nn.Conv3d(3, 4, 3))
    ),
    "takes one-dimensional signals": nn.Sequential(nn.Conv1d(1, 4, 3)),
    "takes sequences": nn.Sequential(nn.Embedding(9, 4)),
}


@pytest.mark.parametrize("cause", NETS)
def test_the_cause_is_named_and_not_the_size(cause):
    model = wrap_module(NETS[cause], Preprocess(size=(32, 32)))
    with pytest.raises(CnnlensError, match=cause) as caught:
        find_layers(model)
    assert "--image-size" not in caught.value.hint and "factory" in caught.value.hint


@pytest.mark.parametrize("ask", [find_layers, count_scores, scores_on_black, head_of])
def test_whoever_runs_it_first_says_which_size_it_takes(ask):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 32 * 32, 5))
    with pytest.raises(CnnlensError, match=r"input: (addmm: )?mat1") as caught:
        ask(wrap_module(net, Preprocess(size=(64, 64))))
    assert "it does run on 32" in caught.value.hint


def test_a_volume_of_one_channel_is_not_taken_for_an_image():
    net = nn.Sequential(nn.Conv3d(1, 4, 1))
    net(torch.zeros(1, 3, 8, 8))  # runs: one channel of three slices, without a batch
    with pytest.raises(CnnlensError, match="video or volumes"):
        find_layers(wrap_module(net, Preprocess(size=(8, 8))))


def test_lazy_networks_say_so(tmp_path):
    with pytest.raises(CnnlensError, match=r"is lazy: 2\.weight gets its shape"):
        wrap_module(headed(nn.Conv2d(3, 4, 3)), Preprocess())
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make():\n"
        "    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))\n"
    )
    with pytest.raises(CnnlensError, match="is lazy"):
        open_model(f"{tmp_path}/net.py:make", device="cpu")


class Weighing(nn.Module):
    """Makes a tensor of the default type."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3)) @ torch.ones(4, 2)


def test_a_network_of_doubles_that_makes_floats_is_told_how_not_to():
    find_layers(wrap_module(Weighing(), Preprocess(size=(8, 8))))
    with pytest.raises(CnnlensError, match="dtype") as error:
        find_layers(wrap_module(Weighing().double(), Preprocess(size=(8, 8))))
    assert "dtype=x.dtype" in error.value.hint


def test_weights_without_values_are_named():
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(CnnlensError, match=r"0\.weight of the network is on the meta device"):
        wrap_module(net, Preprocess())


def test_the_module_of_an_exported_program_is_refused():
    program = torch.export.export(nn.Conv2d(3, 4, 3).eval(), (torch.rand(1, 3, 8, 8),))
    for net in (program.module(), nn.Sequential(program.module())):
        with pytest.raises(CnnlensError, match="exported program") as error:
            wrap_module(net, Preprocess())
        assert "torch.export.save" in error.value.hint


@pytest.mark.parametrize("channels", [1, 13])
def test_other_channels_make_preprocessing_assumed(tmp_path, channels):
    """torchvision's own is for three."""
    import torchvision

    net = torchvision.models.squeezenet1_1(num_classes=4)
    net.features[0] = nn.Conv2d(channels, 64, 3, stride=2)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model: Model = open_model(str(tmp_path / "net.pt"), arch="torchvision:squeezenet1_1")
    assert model.preprocess.channels == channels and model.preprocess.source == "assumed"


def test_a_transformer_of_a_factory_is_fed_what_it_was_built_for(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torchvision.models import VisionTransformer as V\n"
        "def make():\n    return V(32, 8, 1, 2, 8, 16, num_classes=3)\n"
    )
    model = open_model(f"{tmp_path}/net.py:make", device="cpu")
    assert model.preprocess.size == (32, 32)
    assert find_layers(model).resolve("last").shape == (8, 4, 4)
