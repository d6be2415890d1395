"""A network that ends early: whose last stages are not in the file."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from cnnlens.model.architectures import Shapes
from cnnlens.model.fit import COUNTER, Change

_LEAST = 4  # convolutions, so that a network's beginning is told from chance


def cut_off(net: nn.Module, shapes: Shapes) -> list[Change]:
    """Leave out the end of a network that a state dict ends before.

    Parameters
    ----------
    net : torch.nn.Module
        As its architecture builds it.
    shapes : mapping
        Names and shapes of the state dict.

    Returns
    -------
    list of Change
        Empty where what is missing is not its end, or begins within a block.
    """
    there = [k in shapes for k in net.state_dict() if not k.endswith(COUNTER)]
    begins = there.index(False) if False in there else len(there)
    if any(there[begins:]) or sum(len(shape) == 4 for shape in shapes.values()) < _LEAST:
        return []
    try:
        gone = list(_gone(net, "", shapes))
    except ValueError:  # within a block
        return []
    last = [k for k in net.state_dict() if k in shapes][-1].rpartition(".")[0]
    said = f"it ends behind {last}: its outputs are features, not classes"
    return [Change(gone[0], nn.Identity, said, headless=True),
            *(Change(path, nn.Identity) for path in gone[1:])]  # fmt: skip


def _gone(module: nn.Module, path: str, shapes: Shapes) -> Iterator[str]:
    """Paths of the parts behind the last that has its tensors, but for its activation."""
    children = list(module.named_children())
    wanted = [
        [f"{path}{name}.{k}" for k in child.state_dict() if not k.endswith(COUNTER)]
        for name, child in children
    ]
    there = [sum(k in shapes for k in want) for want in wanted]
    last = max(n for n, count in enumerate(there) if count)
    for n, (name, child) in enumerate(children):
        if n > last:
            ran = not wanted[n] and (
                not isinstance(module, nn.Sequential) or _follows(child, n, last)
            )
            yield from () if ran else (f"{path}{name}",)
        elif there[n] < len(wanted[n]):
            if not isinstance(child, nn.Sequential):
                raise ValueError(name)
            yield from _gone(child, f"{path}{name}.", shapes)


def _follows(child: nn.Module, number: int, last: int) -> bool:
    return number == last + 1 and type(child).__module__ == "torch.nn.modules.activation"
