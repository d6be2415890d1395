"""A network as a notebook has it: state that no state dict knows, and code of the user's own."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1  # read by the code of `Net`


def curve(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class Base(nn.Module):
    def scaled(self, x: Tensor) -> Tensor:
        return x * 1.5


class Keeper:
    """What a hook may belong to."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.seen: list[Tensor] = []

    def hook(self, module: nn.Module, args: object, output: Tensor) -> Tensor:
        self.seen.append(output.detach())
        return output * self.factor


class Net(Base):
    power = 1.0
    act = staticmethod(curve)

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3, padding=1)
        self.c2 = nn.Conv2d(8, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.mask = torch.ones(1, 8, 1, 1)
        self.gain = 1.0
        self.options = {"skip": False, "names": {"a", "b", "c"}}
        self.last = functools.partial(torch.mul, other=1.0)
        self.calls = 0
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        h = self.act(self.c1(x * self.scale)) * self.gain * self.mask
        self.kept = h
        h = Straight.apply(self.scaled(h)) * self.power
        if not self.options["skip"]:
            h = self.last(self.c2(h))
        return self.fc(F.relu(h)[:, :6].mean((2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def keeping() -> Net:
    """One with hooks that keep what they see, in four ways."""
    one = net()
    kept: dict[str, Tensor] = {}
    one.c1.register_forward_hook(lambda m, i, o: kept.update(c1=o.detach()))
    one.c2.register_forward_hook(Keeper(0.5).hook)
    one.c2.register_full_backward_hook(lambda m, i, o: kept.update(gradient=o[0]))
    one.fc.register_forward_pre_hook(lambda m, i: None)
    return one
