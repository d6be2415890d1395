"""Which of several outputs is the classes', and what `last` then is."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.segmentation import fcn_resnet50

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.classes import class_scores, count_scores
from cnnlens.model.layers import find_layers
from cnnlens.model.outputs import choose, named_tensors, said_of
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from tests.model.nets import filled, layers_of

SCORES, OTHER, MAPS = torch.rand(2, 6), torch.rand(2, 4), torch.rand(2, 8, 5, 5)
Pair = namedtuple("Pair", "species colour")


@dataclass
class Answer:
    hidden: Tensor
    logits: Tensor


class ModelOutput(OrderedDict):
    """As transformers' outputs are: a mapping whose entries are attributes too."""

    def __getattr__(self, name: str) -> Tensor:
        if name not in self:
            raise AttributeError(name)
        return self[name]


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (SCORES, [""]),
        ((SCORES, OTHER), ["0", "1"]),
        ([MAPS, SCORES], ["0", "1"]),
        ({"species": SCORES, "colour": OTHER}, ["species", "colour"]),
        (Pair(SCORES, OTHER), ["species", "colour"]),
        ({"a": {"b": SCORES}, "c": None}, ["a.b"]),
        (Answer(OTHER, SCORES), ["hidden", "logits"]),
        (ModelOutput(loss=None, hidden=OTHER, logits=SCORES), ["hidden", "logits"]),
        (SimpleNamespace(hidden=OTHER, logits=SCORES), ["hidden", "logits"]),
        ((MAPS, {"logits": SCORES}), ["0", "1.logits"]),
        ({"aux": OTHER, "species": SCORES}, ["aux", "species"]),
    ],
)
def test_the_scores_are_found_in_any_form(output, names):
    assert list(named_tensors(output)) == names
    assert torch.equal(class_scores(output, 2), SCORES)


def test_a_head_is_named_or_numbered():
    output = {"species": SCORES, "colour": OTHER}
    for head in ("colour", "1"):
        assert torch.equal(class_scores(output, 2, head), OTHER)
    with pytest.raises(UsageError, match="no output 'color'") as caught:
        class_scores(output, 2, "color")
    assert "colour" in caught.value.hint
    with pytest.raises(UsageError, match="has one only"):
        class_scores(SCORES, 2, "1")


def test_lists_of_detections_are_no_scores():
    boxes = [{"boxes": torch.rand(1, 4), "scores": torch.rand(1)}]
    with pytest.raises(CnnlensError, match="no class scores"):
        class_scores(boxes, 1)


def test_maps_are_no_scores():
    with pytest.raises(CnnlensError, match="8×5×5 numbers per image"):
        class_scores(MAPS, 2)


def test_which_output_counts_is_said_where_there_are_several():
    shapes = {"species": (2, 6), "colour": (2, 4), "aux": (2, 6)}
    said = said_of(shapes, choose(shapes, 2, None))
    assert said.startswith("it returns several outputs: species (6), colour (4); species is")
    assert not said_of({"out": (2, 6), "aux": (2, 6)}, "out") and not said_of({"": (2, 6)}, "")


class Heads(nn.Module):
    """A trunk, and two heads with a convolution each."""

    def __init__(self, form: str = "dict") -> None:
        super().__init__()
        self.form = form
        self.trunk = nn.Conv2d(3, 8, 3, stride=2)
        self.one, self.two = nn.Conv2d(8, 6, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> object:
        x = self.trunk(x).relu()
        one, two = (head(x).relu() for head in (self.one, self.two))
        a, b = one.mean((2, 3)), two.mean((2, 3))
        return {
            "dict": {"species": a, "colour": b},
            "aux": {"out": one, "aux": two},
            "maps": [one, two],
            "one": a[:, :1],
        }[self.form]


def test_last_leads_to_the_chosen_head():
    net = filled(Heads())
    model = wrap_module(net, Preprocess(size=(32, 32)))
    assert layers_of(net).resolve("last").units == 6 and count_scores(model) == 6
    chosen = wrap_module(net, Preprocess(size=(32, 32)), head="colour")
    assert find_layers(chosen).resolve("last").units == 4 and count_scores(chosen) == 4
    assert [find_layers(one).resolve("conv3").units for one in (model, chosen)] == [4, 4]
    assert "colour" in find_layers(model).notes[0]


def test_convolutions_of_auxiliary_heads_have_no_alias():
    layers = layers_of(filled(Heads("aux")))
    assert [layer.alias for layer in layers if layer.alias] == ["conv1", "conv2"]
    assert layers.resolve("last").units == 6 and layers.resolve("two").units == 4
    assert not layers.notes


def test_last_of_a_segmentation_network_is_the_main_branchs():
    with torch.device("meta"):
        net = fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True, num_classes=5)
    layers = layers_of(filled(net.to_empty(device="cpu")))
    assert layers.resolve("last").place.path.startswith("classifier.")
    assert not any(name.startswith("aux") for name in (a.name for a in layers if a.alias))


def test_feature_maps_all_lead_to_an_output():
    layers = layers_of(filled(Heads("maps")))
    assert [layer.alias for layer in layers if layer.alias] == ["conv1", "conv2", "conv3"]
