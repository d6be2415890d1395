from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlens.attribution.deconv import Projector, project
from cnnlens.attribution.projections import as_colours, failures
from cnnlens.attribution.rules import RULES
from cnnlens.errors import CnnlensError
from cnnlens.model.trace import Place
from tests.model.nets import filled, layers_of, network, pictures
from tests.reference import deconv as literal

METHODS = list(RULES)
SMALL = (literal.Functional, literal.Reused, literal.Residual, literal.Dense)


def place(path: str = "", call: int = 0) -> Place:
    return Place(path=path, call=call)


def error(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape and float(wanted.abs().max()) > 0
    return float((found - wanted).abs().max() / wanted.abs().max())


def live_unit(maps: Tensor) -> int:
    """The unit whose weakest peak is highest: alive on every image."""
    return int(maps.amax((2, 3)).amin(0).argmax())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "size", "end"), [("alexnet", 96, 12), ("vgg11", 48, 15), ("vgg11_bn", 48, 18)]
)
def test_alexnet_and_vgg_are_the_transposed_network_written_out(
    name: str, size: int, end: int, method: str
) -> None:
    net = network(name)
    x = pictures(2, (size, size))
    with torch.no_grad():
        unit = live_unit(net.features[:end](x))
        wanted = literal.sequential(net.features[:end], x, unit, method)
    found = project(net, x, place(f"features.{end - 1}"), unit, method=method)
    assert error(found, wanted) <= 1e-5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", SMALL, ids=lambda kind: kind.__name__)
def test_functional_reused_residual_and_dense_nets_follow_the_literal_pass(
    kind: type[nn.Module], method: str
) -> None:
    net = filled(kind())
    x = pictures(3, (30, 26))
    with torch.no_grad():
        unit = live_unit(net(x))
        wanted = net.project(x, unit, method)  # type: ignore[operator]
    found = project(net, x, place(), unit, method=method)
    assert error(found, wanted) <= 1e-5


@pytest.mark.parametrize("kind", SMALL, ids=lambda kind: kind.__name__)
def test_the_three_methods_differ(kind: type[nn.Module]) -> None:
    net, x = filled(kind()), pictures(1, (30, 26))
    seen = Projector(net, x, place())
    unit = live_unit(seen.maps)
    one, two, three = (seen.project([unit], method=method) for method in METHODS)
    assert min(error(one, two), error(one, three), error(two, three)) > 0.05


def test_overlapping_windows_that_share_a_switch_add() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.MaxPool2d(3, 2))
    net[0].weight.data.fill_(1)
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 3  # in all four windows
    found = project(net.eval(), x, place("1"), 0, whole=True)
    assert found[0, 0, 2, 2] == 4 * 3 and found.sum() == 12


def _own_rectifiers() -> nn.Sequential:
    net = network("vgg11").features[:10]
    for index, layer in enumerate(net):
        if isinstance(layer, nn.ReLU):
            net[index] = nn.ReLU()  # captum's hooks do not work in place
    return net


@pytest.mark.parametrize(
    ("method", "oracle"),
    [("deconvnet", captum.attr.Deconvolution), ("guided", captum.attr.GuidedBackprop)],
)
@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_captum_agrees_where_every_rectifier_is_its_own_module(method: str, oracle: type) -> None:
    net, x = _own_rectifiers(), pictures(1, (40, 40))
    seen = Projector(net, x, place("9"))
    unit = live_unit(seen.maps)
    y, z = seen.peaks(unit)[0]
    wanted = oracle(net).attribute(x.clone().requires_grad_(), target=(unit, y, z))
    wanted = wanted.detach() * seen.maps[0, unit, y, z]
    assert error(seen.project([unit], method=method), wanted) <= 1e-5


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "squeezenet1_0"])
def test_hooks_leave_nothing_behind(name: str) -> None:
    net, x = network(name), pictures(1)
    with torch.no_grad():
        before = net(x)
    layer = layers_of(net).resolve("conv4")
    seen = Projector(net, x, layer.place)
    plain = seen.project([1], method="gradient")
    seen.project([1], method="deconvnet")
    assert torch.equal(seen.project([1], method="gradient"), plain)
    with torch.no_grad():
        assert torch.equal(net(x), before)
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())


def test_rows_are_independent_and_may_have_units_of_their_own() -> None:
    net, x = filled(literal.Residual()), pictures(3, (20, 20))
    units, at = [1, 4, 2], [None, (2, 3), None]
    together = Projector(net, x, place()).project(units, at)
    for row in range(3):
        alone = project(net, x[row : row + 1], place(), units[row], at[row])
        assert torch.allclose(together[row : row + 1], alone, rtol=1e-4, atol=1e-6)


def test_whole_map_is_the_sum_of_its_positions_where_rules_are_linear() -> None:
    net, x = filled(literal.Dense()), pictures(1, (12, 12))
    seen = Projector(net, x, place())
    parts = [
        seen.project([2], [(y, z)], method="gradient")
        for y in range(seen.maps.shape[2])
        for z in range(seen.maps.shape[3])
    ]
    whole = seen.project([2], method="gradient", whole=True)
    assert error(torch.stack(parts).sum(0), whole) <= 1e-5


class Rectified(nn.Module):
    """Every spelling of max(x, 0); negative weights, so that the rule shows."""

    def __init__(self, rectifier: object) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.rectifier = rectifier

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.rectifier(self.one(x)))  # type: ignore[operator]


SPELLINGS = {
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "in place": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clip": lambda x: torch.clip(x, 0.0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "threshold_": lambda x: F.threshold(x, 0, 0, inplace=True),
    "hardtanh": lambda x: F.hardtanh(x, 0, 1e6),
    "relu6": lambda x: F.relu6(x, inplace=True),
    "in place on a view": lambda x: F.relu_(x.view(x.shape)),
    "clamp by a tensor": lambda x: x.clamp(min=torch.zeros(())),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum, 0 first": lambda x: torch.maximum(torch.zeros(()), x),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "where, a number": lambda x: torch.where(x >= 0, x, 0.0),
    "where, 0 first": lambda x: torch.where(x <= 0, 0.0, x),
    "mask": lambda x: x * (x > 0),
    "mask first": lambda x: (x > 0).float() * x,
    "filled": lambda x: x.masked_fill(x < 0, 0),
    "filled in place": lambda x: x.masked_fill_(x < 0, 0),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_rectifier_has_the_rule(spelling: str) -> None:
    plain = filled(Rectified(nn.ReLU()))
    other = filled(Rectified(SPELLINGS[spelling]))
    x = pictures(2, (16, 16)) * 0.5
    for method in METHODS:
        wanted = project(plain, x, place(), 1, method=method)
        assert error(project(other, x, place(), 1, method=method), wanted) <= 1e-5


def test_a_functional_rectifier_that_no_module_returns_can_be_projected_from() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.one(x), inplace=True)
            x = F.relu(self.two(x), inplace=True)
            return x.mean((2, 3))

    net, x = filled(Twice()), pictures(2, (16, 16))
    layer = layers_of(net, (16, 16)).resolve("conv2")
    assert layer.place.op >= 0
    seen = Projector(net, x, layer.place)
    with torch.no_grad():
        a = net.one(x).clamp(min=0)
        b = net.two(a).clamp(min=0)
        assert torch.equal(seen.maps, b)
        unit = live_unit(b)
        signal = literal.conv_back(literal.only_peak(b, unit), net.two, a.shape[2:])
        wanted = literal.conv_back(signal.clamp(min=0), net.one, x.shape[2:])
    assert error(seen.project([unit]), wanted) <= 1e-5


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.SiLU(), "SiLU"),
        (nn.GELU(), "GELU"),
        (nn.LeakyReLU(0.1), "leaky ReLU"),
        (nn.PReLU(), "PReLU"),
        (nn.Hardswish(), "hard swish"),
        (nn.Softmax(1), "softmax"),
        (nn.GroupNorm(2, 6), "group norm"),
        (nn.LocalResponseNorm(3), "power (a local normalization?)"),
        (nn.Hardtanh(), "hard tanh"),
    ],
)
def test_nonlinearities_without_a_rule_are_named_and_keep_the_gradient(
    layer: nn.Module, name: str
) -> None:
    net, x = filled(Rectified(layer)), pictures(1, (16, 16))
    seen = Projector(net, x, place())
    assert name in seen.undefined
    assert torch.equal(seen.project([1]), seen.project([1], method="gradient"))


class Custom(torch.autograd.Function):
    """Rectifies; what its backward pass does is its own."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, above: Tensor) -> Tensor:
        return above


class Add(Custom):
    """Bears a linear operation's name."""


def _assigned(x: Tensor) -> Tensor:
    # what x[x < 0] = 0 was until PyTorch 2.15, which makes a masked_fill_ of it
    return x.index_put_((x < 0,), torch.zeros(()))


def _in_part(x: Tensor) -> Tensor:
    x[:, :2].sin_()
    return x


HIDDEN = {
    "sine": torch.sin,
    "GLU": lambda x: F.glu(torch.cat([x, x], 1), 1),
    "maximum": lambda x: torch.maximum(x, 0.1 * x),
    "maximum, a constant": lambda x: torch.maximum(x, torch.ones(())),
    "autograd function Custom": Custom.apply,
    "autograd function Add": Add.apply,
    "where by values": lambda x: torch.where(x > 0.1, x, 0.0),
    "mul by values": lambda x: x * (x.flip(1) > 0),
    "mul by values, detached": lambda x: x * x.sigmoid().detach(),
    "add by values": lambda x: x + (x.round() - x).detach(),
    "index_put by values": _assigned,
    "sin in place on a part": _in_part,
    "norm by the images": lambda x: F.instance_norm(x),
    "division": lambda x: x / (1 + x.square()),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_no_list_of_nonlinearities_has_is_named_too(name: str) -> None:
    seen = Projector(filled(Rectified(HIDDEN[name])), pictures(1, (16, 16)), place())
    assert any(one.startswith(name.partition(",")[0]) for one in seen.undefined)


LINEAR = {
    "a number": lambda x: x * 3 - 1,
    "constant mask": lambda x: x * (torch.arange(14) > 5),
    "constant choice": lambda x: torch.where(torch.arange(14) > 5, x, 0.0),
    "learned scale": nn.BatchNorm2d(6),
    "noise of its shape": lambda x: x * torch.ones_like(x) + torch.rand_like(x),
    "frequencies": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[2:]),
    "turned": lambda x: x.flip(2).rot90(1, (2, 3)).roll(2, 3),
    "switches": lambda x: F.max_pool2d(x, 3, 2) + x.topk(6, 3).values[:, :, :6],
    "resampled": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", antialias=True),
    "padded": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "chosen": lambda x: x[:, [5, 4, 3, 2, 1, 0]],
    "mixed": lambda x: torch.einsum("nchw,kc->nkhw", x, torch.ones(6, 6)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_maps_are_no_alarm(name: str) -> None:
    net = filled(Rectified(LINEAR[name]))
    assert any(p.requires_grad for p in net.parameters())  # weights of their own count as constants
    assert Projector(net, pictures(1, (16, 16)), place()).undefined == []


def test_a_scale_that_is_learned_is_no_gate() -> None:
    net = filled(Rectified(lambda x: x * scale))
    scale = nn.Parameter(torch.rand(1, 6, 1, 1))
    assert Projector(net, pictures(1, (16, 16)), place()).undefined == []


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "densenet121", "googlenet"])
def test_networks_of_rectifiers_raise_no_warning(name: str) -> None:
    net = network(name)
    place_ = layers_of(net).resolve("conv5").place
    assert Projector(net, pictures(1), place_).undefined == []


def test_gates_are_named() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x)
            return x * self.two(x.mean((2, 3), keepdim=True)).sigmoid() * 2.0

    found = Projector(filled(Gated()), pictures(1, (16, 16)), place()).undefined
    assert found == ["product of activations (a gate?)", "sigmoid"]


def test_a_layer_that_the_input_does_not_reach_is_named() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.prior = nn.Conv2d(3, 4, 3), nn.Conv2d(2, 4, 3)
            self.register_buffer("grid", torch.ones(1, 2, 16, 16))

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) + self.prior(self.grid)

    with pytest.raises(CnnlensError, match="prior does not depend on the input"):
        Projector(filled(Apart()).requires_grad_(False), pictures(1, (16, 16)), place("prior"))


def test_a_network_that_changes_its_input_in_place_is_projected() -> None:
    class Careless(Rectified):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    x = pictures(1, (16, 16))
    before = x.clone()
    found = project(filled(Careless(nn.ReLU())), x, place(), 1)
    with torch.no_grad():
        wanted = project(filled(Rectified(nn.ReLU())), x * 2, place(), 1) * 2
    assert error(found, wanted) <= 1e-5 and torch.equal(x, before)


def test_unknown_methods_and_wrong_counts_are_the_callers_mistake() -> None:
    seen = Projector(filled(Rectified(nn.ReLU())), pictures(3, (16, 16)), place())
    with pytest.raises(ValueError, match="deconvnet, guided, gradient"):
        seen.project([0], method="lrp")
    with pytest.raises(ValueError, match="2 units for 3 images"):
        seen.project([0, 1])


def test_colours_of_other_numbers_of_channels() -> None:
    planes = np.arange(6, dtype=np.float32)[:, None, None] * np.ones((6, 2, 2), np.float32)
    assert as_colours(planes[:3])[0, 0].tolist() == [0, 1, 2]
    assert as_colours(planes[:3], bgr=True)[0, 0].tolist() == [2, 1, 0]
    assert as_colours(planes)[0, 0].tolist() == [3, 5, 7]  # repeated colours add
    assert as_colours(planes[4:5])[0, 0].tolist() == [4, 4, 4]


def test_what_could_not_be_projected_is_summed_up():
    entries = [
        {"unit": 3, "dead": "never above 0", "undefined": ["gelu"]},
        {"unit": 1, "dead": None, "undefined": ["elu", "gelu"]},
        {"unit": 2, "dead": "0 there", "position": [0, 1]},  # at one position only
    ]
    assert failures(entries) == {"undefined": ["elu", "gelu"], "dead_units": [3]}
