from __future__ import annotations

import gc
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnlens.model.borrowed import _loans, borrowed, random_states
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module


class Counting(nn.Module):
    """Has everything that a loan must leave as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.drop(self.norm(self.conv(x))).mean((2, 3)))


def state_of(net: nn.Module) -> dict[str, object]:
    return {
        "modes": [m.training for m in net.modules()],
        "needs": [p.requires_grad for p in net.parameters()],
        "same": [id(p) for p in net.parameters()],
        "data": [p.data_ptr() for p in net.parameters()],
        "grads": [
            None if p.grad is None else (id(p.grad), p.grad.tolist()) for p in net.parameters()
        ],
        "buffers": [(name, id(b), b.tolist()) for name, b in net.named_buffers()],
        "modules": [(name, id(m)) for name, m in net.named_modules()],
        "hooks": [
            (list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks))
            for m in net.modules()
        ],
        "devices": [p.device for p in net.parameters()],
        "types": [p.dtype for p in net.parameters()],
    }


def mixed() -> Counting:
    net = Counting().train()
    net.norm.eval()  # a mode of its own
    net.conv.bias.requires_grad_(False)
    net.head.register_forward_hook(lambda *_: None)
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    return net


def spoil(net: Counting) -> None:
    net(torch.rand(2, 3, 8, 8))
    net.norm.train()
    net.norm(torch.rand(2, 4, 3, 3))  # moves the running mean
    net.conv.register_forward_hook(lambda *_: None)
    net.head.register_full_backward_hook(lambda *_: None)
    net.conv.weight.requires_grad_(True)
    net.conv.weight.grad = None
    net.drop = nn.Identity()
    net.head.register_parameter("more", nn.Parameter(torch.zeros(1)))
    net.double()


@pytest.mark.parametrize("how", ["well", "error", "abandoned"])
def test_a_borrowed_module_comes_back_as_it_was(how: str) -> None:
    net = mixed()
    before = state_of(net)

    def use() -> object:
        with borrowed(net):
            assert not any(m.training for m in net.modules())
            assert not any(p.requires_grad for p in net.parameters())
            spoil(net)
            if how == "error":
                raise KeyError("within")
            yield

    if how == "error":
        with pytest.raises(KeyError):
            next(use())  # type: ignore[call-overload]
    elif how == "well":
        list(use())  # type: ignore[call-overload]
    else:
        steps = use()
        next(steps)  # type: ignore[call-overload]
        assert state_of(net) != before
        del steps
        gc.collect()
    assert state_of(net) == before


def test_the_last_borrower_puts_it_back_whatever_the_order() -> None:
    net = mixed()
    before = state_of(net)
    first, second = borrowed(net), borrowed(net)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(m.training for m in net.modules())  # it is in use
    second.__exit__(None, None, None)
    assert state_of(net) == before
    assert net not in _loans


def test_a_module_is_moved_and_moved_back() -> None:
    net = mixed()
    before = state_of(net)
    with borrowed(net, "meta"):
        assert {p.device.type for p in net.parameters()} == {"meta"}
    assert state_of(net) == before


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def seed() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


@pytest.mark.parametrize("within", [lambda: borrowed(mixed()), random_states])
def test_random_states_come_back_also_after_an_error(within: object) -> None:
    seed()
    context = within()  # type: ignore[operator]
    seed()
    wanted = draws()
    seed()
    with pytest.raises(KeyError), context:
        draws()
        raise KeyError
    assert draws() == wanted


def test_a_model_of_a_caller_s_module_is_ready_only_while_it_is_in_use() -> None:
    net = mixed()
    before = state_of(net)
    lent = wrap_module(net)
    assert state_of(net) == before
    with lent.in_use():
        assert not net.training
    assert state_of(net) == before


def test_a_model_of_ours_stays_as_it_is() -> None:
    ours = Model(nn.Conv2d(3, 2, 3), "m", "m", Preprocess((8, 8)), None, "f" * 16)
    ours.net.train()
    with ours.in_use():
        assert ours.net.training


@pytest.mark.parametrize("trains", [True, False])
def test_what_its_owner_makes_of_it_while_a_generator_stands_still_stays(trains: bool) -> None:
    def steps() -> Iterator[None]:
        with borrowed(net):
            yield

    net = mixed()
    stands = steps()
    next(stands)
    if trains:
        net.train().requires_grad_(True)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        net(torch.rand(2, 3, 8, 8)).sum().backward()
        optimizer.step()
    else:
        others = {k: v + 1 for k, v in net.state_dict().items()}
        net.load_state_dict(others)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    drawn, owned = torch.get_rng_state(), state_of(net)
    stands.close()
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    if trains:
        assert state_of(net) == owned and torch.equal(torch.get_rng_state(), drawn)
    else:  # as it was lent, but for the weights
        assert net.training and not net.norm.training
        assert [p.requires_grad for p in net.parameters()].count(False) == 1
