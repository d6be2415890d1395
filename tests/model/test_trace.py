from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlens.errors import CnnlensError
from cnnlens.model.hooks import read, read_and_run
from cnnlens.model.trace import Place, trace

from .nets import filled, layers_of, pictures


class Mined(nn.Module):
    """Blows up behind its second convolution, and swallows what may be swallowed."""

    def __init__(self, swallow: bool = False) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(4, 4, 3)
        self.armed, self.swallow, self.exploded = False, swallow, 0

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = F.relu(self.b(F.relu(self.a(x))), inplace=True)
        except Exception:
            if not self.swallow:
                raise
        if self.armed:
            self.exploded += 1
            raise AssertionError("the forward pass went on")
        return x


@pytest.mark.parametrize("swallow", [False, True])
@pytest.mark.parametrize("names", [["b"], ["a", "b"], ["conv1"], ["conv2"], ["conv2", "a", "b"]])
def test_nothing_runs_behind_the_deepest_place(names, swallow):
    net = filled(Mined(swallow))
    layers = layers_of(net)
    x = pictures()
    with torch.no_grad():
        a = net.a(x)
        b = net.b(a.relu())
    truth = {"a": a, "b": b, "conv1": a.relu(), "conv2": b.relu()}
    net.armed = True
    with torch.no_grad():
        values = read(net, x, [layers.resolve(name).place for name in names])
    for name, ours in zip(names, values, strict=True):
        assert torch.equal(ours, truth[name]), name
    assert net.exploded == 0


def test_the_output_comes_along_when_asked_for():
    net = filled(Mined())
    x, layers = pictures(), layers_of(net)
    (value,), output = read_and_run(net, x, [layers.resolve("a").place], stop=False)
    with torch.no_grad():
        assert torch.equal(output, net(x)) and torch.equal(value, net.a(x))
    assert read_and_run(net, x, [layers.resolve("a").place], stop=True)[1] is None


def test_no_hook_stays_behind():
    net = filled(Mined())
    layers = layers_of(net)
    net.armed = True
    with pytest.raises(AssertionError):
        read(net, pictures(), [layers.resolve("a").place], stop=False)
    with pytest.raises(AssertionError):
        read_and_run(net, pictures(), [layers.resolve("conv1").place], stop=False)
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_place_that_is_never_reached_is_named():
    with pytest.raises(CnnlensError, match="never reached a"):
        read(filled(Mined()), pictures(), [Place(path="a", call=3)])


class Fickle(nn.Module):
    """Does something else from the second call on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return F.relu(self.conv(x)) if self.calls < 2 else F.silu(self.conv(x))


def test_a_changing_forward_pass_is_not_read_at_the_wrong_place():
    net = filled(Fickle())
    place = layers_of(net).resolve("conv1").place
    with pytest.raises(CnnlensError, match="changes from call to call"):
        read(net, pictures(), [place])


def test_inputs_of_the_wrong_size_are_the_data_s_fault():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    trace(net, torch.rand(1, 3, 8, 8))
    with pytest.raises(CnnlensError, match="3×9×9") as error:
        trace(net, torch.rand(1, 3, 9, 9))
    assert "--image-size" in error.value.hint
    assert all(not m._forward_hooks for m in net.modules())


def test_values_are_gone_when_nobody_keeps_them():
    net = filled(Mined())
    place = layers_of(net).resolve("a").place
    value = read(net, pictures(), [place])[0]
    gone = weakref.ref(value)
    del value
    gc.collect()
    assert gone() is None


def test_a_trace_keeps_no_tensor_and_needs_no_gradient():
    passed = trace(filled(Mined()), pictures(1))
    flat = [a for op in passed.ops for a in op.arguments]
    assert not any(isinstance(a, Tensor) for a in flat)
    assert [op.name for op in passed.ops if op.name in ("convolution", "relu")] == [
        *("convolution", "relu", "convolution", "relu")
    ]


class Outputs(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.form = form

    def forward(self, x: Tensor) -> object:
        x = F.relu(self.conv(x))
        score = x.mean((2, 3))
        forms = {"tuple": (score, x), "dict": {"logits": score}, "nothing": None, "text": "done"}
        return forms[self.form]


@pytest.mark.parametrize("form", ["tuple", "dict", "nothing", "text"])
def test_whatever_a_network_returns_its_layers_can_be_read(form):
    net = filled(Outputs(form))
    x, layers = pictures(), layers_of(net)
    truth = net.conv(x).relu().detach()
    for stop in (True, False):
        (value,), _ = read_and_run(net, x, [layers.resolve("conv1").place], stop)
        assert torch.equal(value, truth)


class Broken(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("expected scalar type Half but found Float"), "scalar type Half"),
        (KeyError("stem"), "KeyError: 'stem'"),
        (AttributeError("no attribute 'blocks'"), "AttributeError: no attribute 'blocks'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (
            RuntimeError("expected input[1, 3, 9, 9] to have 4 channels, weight of size [2]"),
            "4 chan",
        ),
    ],
)
def test_what_is_no_matter_of_size_is_not_blamed_on_it(error: Exception, said: str) -> None:
    with pytest.raises(CnnlensError) as caught:
        trace(Broken(error), torch.rand(1, 3, 9, 9))
    assert said in caught.value.message
    assert "--image-size" not in caught.value.hint


def test_a_size_that_the_network_takes_is_offered() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 2))
    with pytest.raises(CnnlensError, match="3×9×9") as caught:
        trace(net, torch.rand(1, 3, 9, 9))
    assert "--image-size" in caught.value.hint and "32" in caught.value.hint


def test_want_of_memory_is_said_as_such() -> None:
    with pytest.raises(CnnlensError, match="not enough memory") as caught:
        trace(Broken(torch.OutOfMemoryError("CUDA out of memory")), torch.rand(1, 3, 9, 9))
    assert "memory" in caught.value.hint and "--device" not in caught.value.hint  # it is the CPU
