"""What a network returns while it is trained: its scores, often beside those of auxiliary heads.

Code may answer otherwise in training mode: with several outputs, or without the softmax that it
ends in. Which of them is the classes' is what the same network returns in evaluation mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.errors import UsageError
from cnnlens.model.architectures.registry import reason_of
from cnnlens.model.ending import run_before_link
from cnnlens.model.model import Model
from cnnlens.model.outputs import choose, named_tensors
from cnnlens.model.trace import as_input
from cnnlens.model.twin import copied

_WRAP = "wrap it: --arch file.py:factory of a module that returns class scores alone"


@dataclass(frozen=True)
class Returned:
    """Where class scores are in what a network returns in training mode."""

    name: str = ""  #: of the output (see `outputs.named_tensors`); "" for one alone
    link: str = ""  #: what they have gone through there (see `ending`)
    unused: tuple[str, ...] = ()  #: names of the other outputs

    def said(self) -> str:
        """Say by what it learns where there are several outputs; "" for one."""
        if not self.unused:
            return ""
        others = ", ".join(self.unused)
        return f"in training it returns {self.name} and {others}: it learns by {self.name} alone"


@torch.no_grad()
def returned_in_training(model: Model, link: str = "") -> Returned:
    """Find the class scores among what a network returns in training mode.

    A copy is run once, whose norms and dropouts are as in evaluation: the scores are then what the
    network answers, or that before its `link`. Where code draws in its own way, they are of the
    same shape, and the usual ones among these (see `outputs.choose`).

    Parameters
    ----------
    model : Model
        That returns one row of scores per image in evaluation mode; it stays as it is.
    link : str
        What it ends with then (see `ending`).

    Raises
    ------
    UsageError
        When it fails in training mode, or returns no such scores.
    """
    x = model.example()
    x = as_input(model.net, x.repeat(2, *[1] * (x.ndim - 1)) if len(x) == 1 else x)
    after, before = model.net(x), run_before_link(model.net, x, link)
    outputs = named_tensors(_run(model, x))
    shapes = {name: tuple(one.shape) for name, one in outputs.items()}
    alike = {name: shape for name, shape in shapes.items() if shape == after.shape}
    for scores, left in ((after, link), (before, "")):
        same = {name: shape for name, shape in alike.items() if _equal(outputs[name], scores)}
        if (name := choose(same, len(x), None)) is not None:
            return _named(name, left, shapes)
    name = choose(alike, len(x), None)
    if name is None:
        listed = ", ".join(
            f"{n or 'one'}: {'×'.join(map(str, s)) or 'a number'}" for n, s in shapes.items()
        )
        raise UsageError(
            f"{model.spec} returns no class scores in training mode ({listed or 'no tensor'})",
            _WRAP,
        )
    return _named(name, link, shapes)


def _named(name: str, link: str, shapes: dict[str, Any]) -> Returned:
    return Returned(name, link, tuple(other for other in shapes if other != name))


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), rtol=1e-4, atol=1e-6)


def _run(model: Model, x: Tensor) -> Any:
    """Run a copy in training mode, its innermost modules in evaluation mode."""
    net = copied(model.net).train()
    for module in net.modules():
        if module is not net and not any(True for _ in module.children()):
            module.eval()
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        return _explained(model, net, x)


def _explained(model: Model, net: nn.Module, x: Tensor) -> Any:
    try:
        return net(x)
    except Exception as error:  # whatever its own code raises
        raise UsageError(
            f"{model.spec} fails in training mode: {reason_of(error)}", _WRAP
        ) from error
