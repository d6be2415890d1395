from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlens.errors import CnnlensError
from cnnlens.model.hooks import read, read_live
from cnnlens.model.trace import Place, trace

from .nets import filled, layers_of, network, pictures


class InPlace(nn.Module):
    """Every value but the last is overwritten after it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x), inplace=True)
        return F.relu(self.two(x), inplace=True).mean((2, 3))


def op(net: nn.Module, x: Tensor, name: str, which: int) -> Place:
    numbers = [n for n, op in enumerate(trace(net, x).ops) if op.name == name]
    return Place(op=numbers[which], op_name=name)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize(("name", "which"), [("convolution", 0), ("relu", 0), ("relu", 1)])
def test_values_and_gradients_are_those_of_the_moment(name: str, which: int, stop: bool) -> None:
    net, x = filled(InPlace()), pictures(2, (12, 12)).requires_grad_()
    (live,), output = read_live(net, x, [op(net, x, name, which)], stop)
    first = net.one(x)
    wanted = {
        ("convolution", 0): lambda: first,
        ("relu", 0): lambda: first.clamp(min=0),
        ("relu", 1): lambda: net.two(first.clamp(min=0)).clamp(min=0),
    }[name, which]()
    assert torch.equal(live.value, wanted) and not live.value.requires_grad
    seed = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(0))
    assert live.edge is not None
    (found,) = torch.autograd.grad(live.edge, x, seed)
    assert torch.allclose(found, torch.autograd.grad(wanted, x, seed)[0], atol=1e-6)
    assert (output is None) == stop


def test_the_pass_stops_at_the_last_place() -> None:
    net, x = network("resnet18"), pictures(1).requires_grad_()
    ran: list[str] = []
    for name in ("layer2", "layer3"):
        net.get_submodule(name).register_forward_pre_hook(lambda *_, n=name: ran.append(n))
    read_live(net, x, [Place(path="layer1"), Place(path="layer2.0")])
    assert ran == ["layer2"]


def test_gradients_of_the_output_reach_a_place_that_is_overwritten() -> None:
    net, x = network("vgg11"), pictures(1).requires_grad_()
    lives, output = read_live(net, x, [Place(path="features.3")], stop=False)
    assert lives[0].edge is not None
    (found,) = torch.autograd.grad(output[0, 1], lives[0].edge)
    with torch.no_grad():
        before = net.features[:4](x)
    assert torch.equal(lives[0].value, before)
    maps = before.clone().requires_grad_()
    rest = nn.Sequential(nn.ReLU(), *list(net.features)[5:], net.avgpool, nn.Flatten())
    (wanted,) = torch.autograd.grad(net.classifier(rest(maps))[0, 1], maps)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-7)


def test_the_calls_of_a_reused_module_are_told_apart() -> None:
    net, x = network("resnet18"), pictures(1).requires_grad_()
    places = [Place(path="layer1.0.relu", call=call) for call in (0, 1)]
    lives, _ = read_live(net, x, places)
    assert not torch.equal(lives[0].value, lives[1].value)
    assert torch.equal(lives[1].value, read_live(net, x, [Place(path="layer1.0")])[0][0].value)


def test_aliases_of_networks_full_of_in_place_rectifiers_are_read() -> None:
    net, x = network("densenet121"), pictures(1).requires_grad_()
    place = layers_of(net).resolve("conv120").place
    (live,), _ = read_live(net, x, [place])
    assert live.edge is not None and live.value.shape[1] == 32


def test_a_place_that_is_never_reached_is_named() -> None:
    net, x = filled(InPlace()), pictures(1, (12, 12)).requires_grad_()
    with pytest.raises(CnnlensError, match="never reached one"):
        read_live(net, x, [Place(path="one", call=1)])


class Two(nn.Module):
    """Two rectified convolutions, and something in between."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.between, self.two = nn.Conv2d(3, 6, 3), nn.Identity(), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.two(self.between(F.relu(self.one(x)))))


class Scaled(nn.Module):
    """Rectifies a table of its own, and scales by it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.tensor([-1.0, 2.0]))

    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu(self.table).sum()


def test_places_are_found_anew_after_surgery() -> None:
    net, x = filled(Two()), pictures(1, (12, 12)).requires_grad_()
    place = op(net, x, "relu", -1)
    assert place.op == 3
    read_live(net, x, [place])  # it is the second rectifier
    net.between = nn.Sequential(nn.ReLU(), Scaled())
    assert [o.name for o in trace(net, x).ops][:4] == ["convolution", "relu", "relu", "relu"]
    (live,), _ = read_live(net, x, [place])  # now the third: of the table
    assert live.value.tolist() == [0, 2]


def test_modules_and_operations_are_live_from_the_first_pass_on():
    """The pass that looks for operations is none in which modules are read."""
    net, x = filled(InPlace()), pictures(1, (12, 12)).requires_grad_()
    lives, _ = read_live(net, x, [Place(path="one"), op(net, x, "relu", 0)], stop=False)
    assert all(live.edge is not None for live in lives)


class Looping(nn.Module):
    """Runs its layers on one image after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(one[None]).mean((2, 3)) for one in x])


def test_a_network_that_takes_its_batch_apart_is_read_image_by_image_or_not_at_all() -> None:
    net, x = Looping().eval(), pictures(3, (6, 6))
    with torch.no_grad():
        for one in x:  # what is to be read of each image
            assert torch.equal(read(net, one[None], [Place("conv")])[0], net.conv(one[None]))
    for ask in (read, lambda *asked: read_live(asked[0], x.clone().requires_grad_(), asked[2])):
        with pytest.raises(CnnlensError, match="conv gives 1 row for 3 images") as error:
            ask(net, x, [Place("conv")])
        assert "--batch-size 1" in error.value.hint
