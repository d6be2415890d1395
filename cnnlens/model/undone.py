"""What surgery did to a network, taken back: the tensors that its own architecture has.

A module may have several names (``self.model``, and ``self.features`` of its children): a state
dict has its tensors under each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cnnlens.model.architectures import Architecture, shapes_of
from cnnlens.model.outline import skeleton
from cnnlens.model.surgery import INNER, Plan

State = Mapping[str, Tensor]


def before_surgery(known: Architecture, state: State, plans: Sequence[Plan]) -> dict[str, Tensor]:
    """Return a state dict as before the operations, a replaced head's numbers being anything."""
    if not plans:
        return dict(state)
    own = _undone(dict(state), [(plan, plan.at) for plan in plans])
    net = skeleton(known, next(iter(known.options(shapes_of(own)))))
    places = [(plan, at) for plan in plans for at in operated_names(net, plan.at, state)]
    before = _undone(dict(state), places)
    heads = {name for plan in plans if plan.head for name in names_of(net, plan.head)}
    want = {n: t for n, t in net.state_dict().items() if n.rpartition(".")[0] in heads}
    if want:
        there = {n.rpartition(".")[0] for n in want}
        before = {n: t for n, t in before.items() if n.rpartition(".")[0] not in there}
    return before | {n: torch.zeros(t.shape, dtype=t.dtype) for n, t in want.items()}


def _undone(state: dict[str, Tensor], places: Sequence[tuple[Plan, str]]) -> dict[str, Tensor]:
    for plan, at in reversed(places):
        if plan.insert or plan.mask:
            state = undo_names(state, at)
    return state


def undo_names(state: State, at: str) -> dict[str, Tensor]:
    """Name a state dict's tensors as before masks or a convolution were put behind the module
    `at`, without those that were added.
    """
    found = {}
    for name, value in state.items():
        inside = name.removeprefix(f"{at}.")
        if inside == name:
            found[name] = value
        elif inside.startswith(f"{INNER}."):
            found[f"{at}.{inside.removeprefix(f'{INNER}.')}"] = value
    return found


def operated_names(net: nn.Module, path: str, state: State) -> list[str]:
    """Names of the module `path` under which a state dict has what surgery made of it.

    Parameters
    ----------
    net : torch.nn.Module
        Whose modules have those names: as before surgery, or after some of it.
    path : str
        Where something was done; it comes first.
    state : mapping
        Of the network after it.
    """
    mine = _below(state, path)
    return [name for name in names_of(net, path) if _below(state, name) == mine]


def names_of(net: nn.Module, path: str) -> list[str]:
    """All names of the module at a path, the path first; of what is in one that surgery made, the
    path's end behind all names of that one.
    """
    named = dict(net.named_modules(remove_duplicate=False))
    outer, inner = path, ""
    while outer not in named:
        outer, _, last = outer.rpartition(".")
        inner = f".{last}{inner}"
    same = [name for name, module in named.items() if module is named[outer] and name != outer]
    return [path, *(f"{name}{inner}" for name in same)] if outer else [path]


def with_surgery_of(state: State, net: nn.Module, plan: Plan) -> bool:
    """Whether a state dict has what a plan made under every name of its module."""
    paths = [path for path in (plan.at, plan.head) if path]
    return all(
        operated_names(net, path, state) == names_of(net, path) and _is_one(state, net, path)
        for path in paths
    )


def _is_one(state: State, net: nn.Module, path: str) -> bool:
    """Whether all names of a module have the same numbers: a new head may be of the old one's size,
    and stand under one of the names alone.
    """
    inside = _below(state, path)
    first, *others = ([state[f"{name}.{one}"] for one in inside] for name in names_of(net, path))
    return all(all(map(torch.equal, first, other)) for other in others)


def _below(state: State, path: str) -> dict[str, tuple[int, ...]]:
    return {
        name.removeprefix(f"{path}."): tuple(value.shape)
        for name, value in state.items()
        if name.startswith(f"{path}.")
    }
