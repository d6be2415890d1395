"""Networks that cut the gradient: behind the cut Grad-CAM is had, before it that is said."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cnnlens.attribution.cam import ClassMaps
from cnnlens.attribution.deconv import Projector
from cnnlens.errors import CnnlensError
from cnnlens.model.layers import find_layers
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from cnnlens.synthesize.answers import Answers
from cnnlens.synthesize.fool import ascend


class Backbone(nn.Module):
    """Two convolutions; the first runs in some way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.one, self.two, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), nn.Linear(5, 4)

    def first(self, x: Tensor) -> Tensor:
        return F.relu(self.one(x))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "no_grad":
            with torch.no_grad():
                x = self.first(x)
        elif self.way == "inference_mode":
            with torch.inference_mode():
                x = self.first(x)
            x = x.clone()
        elif self.way == "checkpoint":
            x = checkpoint(self.first, x, use_reentrant=True)
        else:
            x = self.first(x)
        return self.head(F.relu(self.two(x)).mean((2, 3)))


FED = Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", ["two", "last"])  # a module's value, an operation's
@pytest.mark.parametrize("way", ["no_grad", "inference_mode"])
def test_grad_cam_behind_a_backbone_without_gradients_is_that_of_the_same_network(way, layer):
    net, plain = Backbone(way), Backbone("plain")
    found, wanted = (
        ClassMaps(wrap_module(one, FED), "gradcam", layer)(X, classes=[1, 2]).maps
        for one in (net, plain)
    )
    assert wanted.any() and torch.equal(found, wanted)
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("way", ["no_grad", "inference_mode"])
def test_a_gradient_that_is_cut_on_the_way_to_the_image_is_said(way):
    model = wrap_module(Backbone(way), FED)
    place = find_layers(model).resolve("two").place
    with pytest.raises(CnnlensError, match="from two to the image: the network depends on it, but"):
        Projector(model.net, X, place)
    with model.in_use(), pytest.raises(CnnlensError, match="no gradient leads from the score of"):
        list(ascend(Answers(model), X[0], 1, 0.1, 3, 0.9))
    with pytest.raises(CnnlensError, match=r"no gradient leads from the class scores of .* to one"):
        ClassMaps(model, "gradcam", "one")(X, classes=[1])


def test_a_reentrant_checkpoint_is_said():
    model = wrap_module(Backbone("checkpoint"), FED)
    with model.in_use(), pytest.raises(CnnlensError, match="a reentrant checkpoint"):
        list(ascend(Answers(model), X[0], 1, 0.1, 3, 0.9))
