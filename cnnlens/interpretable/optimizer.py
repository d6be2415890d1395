"""Which weights learn, and how fast: new layers at the full rate, old ones at a share of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from cnnlens.interpretable.method import Method
from cnnlens.settings.finetune import FinetuneSettings


@dataclass(frozen=True)
class Rates:
    """How fast the modules of a network learn.

    Attributes
    ----------
    new : sequence of str or None
        Modules that learn at the full rate, all others at the trunk's share of it; None: all do.
    factors : mapping of str to float
        Factors on the rate of single modules, where their inputs are not of the usual scale.
    """

    new: Sequence[str] | None = None
    factors: Mapping[str, float] = field(default_factory=dict)

    def is_new(self, name: str) -> bool:
        """Whether a module or parameter of that name is new, or lies in a new one."""
        return self.new is None or any(_within(name, module) for module in self.new)

    def of(self, name: str, trunk: float) -> float:
        """Return the factor on the highest rate of the parameter `name`."""
        own = (factor for module, factor in self.factors.items() if _within(name, module))
        return next(own, 1.0) * (1.0 if self.is_new(name) else trunk)


def learning_rate(schedule: str, progress: float) -> float:
    """Return the factor on the highest rate when `progress` (0 to 1) of the training is done."""
    if schedule == "onecycle":  # a fifth up, then a cosine down
        if progress < 0.2:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / 0.2)) / 2
        return (1 + math.cos(math.pi * (progress - 0.2) / 0.8)) / 2
    if schedule == "steps":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.8 else 0.01
    return 1.0


def freeze(net: nn.Module, rates: Rates, trunk: float) -> list[nn.Module]:
    """Let new parameters learn, and old ones where they may; return the norms that stay as is."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(rates.is_new(name) or trunk > 0)
    if rates.new is None or trunk > 0:
        return []
    return [
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not rates.is_new(name)
    ]


def build_optimizer(
    net: nn.Module, method: Method, s: FinetuneSettings, rates: Rates
) -> torch.optim.Optimizer:
    """Build the rule of steps; each of its groups has a ``highest`` rate.

    Weights decay, biases and norms do not, nor what the method holds small in its own way.
    """
    spared = {id(p) for p in method.undecayed(net)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and id(parameter) not in spared
            groups.setdefault((rates.of(name, s.trunk), decays), []).append(parameter)
    own = [p for p in method.parameters() if p.requires_grad]
    if own:
        groups.setdefault((1.0, False), []).extend(own)
    parts = [
        {
            "params": parameters,
            "highest": s.lr * factor,
            "weight_decay": s.weight_decay if decays else 0.0,
        }
        for (factor, decays), parameters in groups.items()
    ]
    if s.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=s.lr, momentum=0.9)
    return torch.optim.AdamW(parts, lr=s.lr)


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
