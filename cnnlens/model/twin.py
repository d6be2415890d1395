"""A network's copy, and its twin of random weights: what its architecture alone makes of images."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from cnnlens.model.architectures import seeded
from cnnlens.model.model import Model, fingerprint


def copied(net: nn.Module) -> nn.Module:
    """Copy a network, also where weights that are computed from parts (`torch.nn.utils`'
    ``weight_norm``) still know of what.
    """
    tensors = (t for m in net.modules() for t in vars(m).values() if isinstance(t, Tensor))
    computed = {id(t): t.detach().clone() for t in tensors if not t.is_leaf}
    return copy.deepcopy(net, computed)


def untrained(model: Model, seed: int = 0) -> Model:
    """Copy a network and draw its weights anew, as its layers draw them.

    Weights of layers that do not say how are put into another order. Seed 0 gives other weights
    than those that a registry's untrained network has.
    """
    net = copied(model.net)
    with seeded(seed + 1), torch.no_grad():
        drawn: set[int] = set()
        for module in net.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                before = [(p, p.clone()) for p in module.parameters(recurse=False)]
                reset()
                drawn |= {id(p) for p, was in before if _is_drawn(p, was)}
        for parameter in net.parameters():
            if id(parameter) not in drawn:
                flat = parameter.flatten()
                parameter.copy_(flat[torch.randperm(len(flat))].view_as(parameter))
    # a file's architecture says how it computes; of a module in memory its definition does
    defined = "" if model.lent_to is None else f" {model.fingerprint}"
    mark = fingerprint(f"{model.arch} untrained{defined}", net)
    notes = [*model.notes, f"{model.arch} has random weights"]
    return replace(model, net=_as_it_was(net, model.net), fingerprint=mark, notes=notes)


def _is_drawn(now: Tensor, before: Tensor) -> bool:
    """Whether drawing anew reached a parameter: not the parts that a weight is computed from."""
    return not torch.equal(now, before) or bool((now == now.flatten()[:1]).all())


def _as_it_was(net: nn.Module, original: nn.Module) -> nn.Module:
    for own, parameter in zip(net.parameters(), original.parameters(), strict=True):
        own.requires_grad_(parameter.requires_grad)
    return net.train(original.training)
