"""Passes that go on from a place: bit for bit what the whole pass gives, on any architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlens.errors import CnnlensError
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.restart import Restart, is_repeatable
from cnnlens.model.trace import Place, trace
from cnnlens.model.wrap import wrap_module

from .nets import filled, network, pictures
from .transformers import Plain, swin_net, timm_net

HALF = (0.5, 0.5, 0.5)


def opened(net: nn.Module, size: tuple[int, int] = (32, 32)) -> Model:
    return wrap_module(net, Preprocess(size, HALF, HALF))


class Skips(nn.Module):
    """Skip connections by functions, values overwritten later, a module twice, a dict returned."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.block, self.act = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> dict[str, Any]:
        side = self.side(x)
        x = self.stem(x)
        skipped = x[:, 2:] * 2
        joined = torch.zeros(len(x), 16, *x.shape[2:])
        x = self.act(self.block(F.relu(x, inplace=True)))
        x = x + side  # as it is before it is rectified
        F.relu(side, inplace=True)
        joined[:, :8] = x
        joined[:, 8:] = self.act(self.block(x)).sub_(side)
        joined[:, 2:8] += skipped
        scores = self.head(joined.flatten(2).permute(2, 0, 1).mean(0))
        return {"aux": x.mean((1, 2, 3)), "logits": scores, "maps": [joined]}


class Asks(nn.Module):
    """What it computes depends on what it sees: `how` says by what."""

    def __init__(self, how: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.head, self.how = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), how

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        return self.head(maps.mean((2, 3))) * self.how(maps)


def by_value(maps: Tensor) -> float:
    return 2.0 if maps.mean() > 0.1 else -1.0


def by_numpy(maps: Tensor) -> Tensor:
    return torch.from_numpy(maps.numpy().max((1, 2, 3)).copy())[:, None]


def place(model: Model, name: str) -> Place:
    """A layer's; or that of the how-manieth operation of a name."""
    if " " not in name:
        return find_layers(model).resolve(name, vectors=True).place
    passed, (called, number) = trace(model.net, model.example()), name.split()
    return passed.place([n for n, op in enumerate(passed.ops) if op.name == called][int(number)])


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "resnet18": (lambda: network("resnet18"), ("layer2.0.conv1", "layer4")),
    "squeezenet": (lambda: network("squeezenet1_1"), ("features.6.squeeze", "classifier")),
    "densenet": (lambda: network("densenet121"), ("features.denseblock4.denselayer9.norm2",)),
    "mobilenet": (lambda: network("mobilenet_v3_small"), ("features.9.block.1",)),
    "timm": (lambda: timm_net(img_size=32), ("block1", "mlp2", "block1:cls")),
    "swin": (swin_net, ("features.1.1",)),
    "plain": (Plain, ("block1",)),
    "skips": (
        lambda: filled(Skips()),
        ("stem", "relu 0", "relu 1", "mul 0", "side", "act", "head"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_it_gives_what_the_whole_pass_gives(name: str) -> None:
    make, places = NETS[name]
    model, x = opened(make()), pictures(2, (32, 32))
    for where in places:
        at = place(model, where)
        restart, whole = Restart(model, at, x), Restart(model, at, x, whole=True)
        assert whole.is_whole and not restart.is_whole, where
        assert torch.equal(restart.maps, whole.maps) and torch.equal(restart.first, whole.first)
        assert torch.equal(restart.scores(), whole.first)
        for unit in (0, 3):  # one after the other: nothing is left behind
            before = restart.maps[:, unit].clone()
            for one in (restart, whole):
                one.maps[:, unit] = one.maps[:, unit].mean() + 0.5
            assert torch.equal(restart.scores(), whole.scores()), (where, unit)
            for one in (restart, whole):
                one.maps[:, unit] = before
        assert torch.equal(restart.scores(), whole.first)
        assert is_repeatable(restart, whole)
        assert torch.equal(restart.scores(), whole.first)


def test_what_lies_before_the_place_is_not_run_again() -> None:
    net = network("resnet18")
    restart = Restart(opened(net), Place(path="layer4"), pictures(2, (32, 32)))
    restart.maps[:, 5] = 0
    for module in net.modules():
        module.register_forward_pre_hook(lambda *_: pytest.fail("a module was run"))
    assert not torch.equal(restart.scores(), restart.first)


def test_the_network_is_left_as_it_was() -> None:
    net, x = filled(Skips()), pictures(2, (32, 32))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    restart = Restart(opened(net), Place(path="act", call=1), x)
    restart.maps.zero_()
    restart.scores()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_pass_that_asks_for_values_is_run_whole() -> None:
    net, x = filled(Asks(by_value)), pictures(2, (32, 32))
    restart = Restart(opened(net), Place(path="conv"), x)
    assert restart.is_whole
    restart.maps.fill_(7.0)
    literal = net.head(torch.full((2, 4), 7.0)) * 2
    assert torch.allclose(restart.scores(), literal)


def test_a_pass_that_hides_what_it_computes_is_noticed() -> None:
    model, x = opened(filled(Asks(by_numpy))), pictures(2, (32, 32))
    restart, whole = (Restart(model, Place(path="conv"), x, whole=one) for one in (False, True))
    assert not restart.is_whole and not is_repeatable(restart, whole)
    assert torch.equal(restart.maps, whole.maps)


def test_a_layer_that_leads_nowhere_is_refused() -> None:
    net = filled(Asks(lambda maps: 1.0))
    net.aux = nn.Conv2d(4, 2, 1)
    net.conv.register_forward_hook(lambda _, given, out: [net.aux(out), out][1])
    with pytest.raises(CnnlensError, match="do not depend on aux"):
        Restart(opened(net), Place(path="aux"), pictures(2, (32, 32)))
