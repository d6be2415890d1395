"""Which output of training mode is the classes', against networks that know it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import googlenet

from cnnlens.errors import UsageError
from cnnlens.model.in_training import Returned, returned_in_training
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module


class Aided(nn.Module):
    """Two heads of four classes; in training mode it returns what is asked."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.drop, self.head, self.side = nn.Dropout(0.5), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> object:
        x = self.drop(self.trunk(x).mean((2, 3)))
        if self.form == "drawn" and self.training:
            x = F.dropout(x, 0.5)
        main, side = self.head(x), self.side(x)
        if not self.training:
            return main.softmax(1) if self.form in ("ends", "bare") else main
        return {
            "pair": (main, side),
            "reversed": (side, main),
            "named": {"aux": side, "species": main},
            "alone": main,
            "bare": main,
            "ends": {"main": main.softmax(1), "side": side.softmax(1)},
            "drawn": {"aux": side, "species": main},
            "loss": main.mean(),
        }[self.form]


@pytest.mark.parametrize(
    ("form", "link", "expected"),
    [
        ("pair", "", Returned("0", "", ("1",))),
        ("reversed", "", Returned("1", "", ("0",))),
        ("named", "", Returned("species", "", ("aux",))),
        ("alone", "", Returned()),
        ("bare", "softmax", Returned()),  # it ends in none when it is trained
        ("ends", "softmax", Returned("main", "softmax", ("side",))),
        ("drawn", "", Returned("species", "", ("aux",))),
    ],
)
def test_scores_in_training_are_what_is_answered_otherwise(form, link, expected):
    torch.manual_seed(0)
    net = Aided(form).eval()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    found = returned_in_training(wrap_module(net, Preprocess(size=(16, 16))), link)
    assert found == expected
    assert all(name in found.said() for name in found.unused)
    assert torch.equal(torch.get_rng_state(), state) and not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_googlenet_learns_by_its_logits():
    torch.manual_seed(0)
    net = googlenet(num_classes=4, aux_logits=True, init_weights=False).eval()
    found = returned_in_training(wrap_module(net, Preprocess(size=(64, 64))))
    assert found.name == "logits" and set(found.unused) == {"aux_logits1", "aux_logits2"}


def test_what_cannot_be_trained_is_named():
    with pytest.raises(UsageError, match=r"no class scores in training mode \(one: a number\)"):
        returned_in_training(wrap_module(Aided("loss").eval(), Preprocess(size=(16, 16))))
    with pytest.raises(UsageError, match="fails in training mode: KeyError"):
        returned_in_training(wrap_module(Aided("nothing").eval(), Preprocess(size=(16, 16))))
