"""Where in a state dict's names a network's own begin: prefixes of wrappers and of libraries.

``backbone.conv1.weight`` beside ``criterion.weight`` is a network below a prefix, with something
beside it that is none of its weights. Each beginning below which there are convolutions is a view.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch

from cnnlens.model.entries import SECOND, has_maps, plain

State = dict[str, torch.Tensor]
_DEEP, _MOST = 4, 16
# how the names of known networks begin; a prefix before them is none of theirs
_FIRST = re.compile(
    r"(conv1|bn1|layer1|features|conv_proj|stem\w*|trunk_output|Conv2d_1a_3x3|conv_stem|"
    r"patch_embed|blocks|stages|conv2d?_?0|res2|block1)\."
)
_FIRST_AFTER = re.compile(rf"(.+?)\.{_FIRST.pattern}")
_PART = re.compile(r"(layer|stage|block|denseblock|res|level)s?_?\d*|\d+|features|encoder_layer.*")
# children of torchvision's ResNets in a Sequential, as ``nn.Sequential(*net.children())`` has them
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


@dataclass(frozen=True)
class View:
    """A network's tensors under its own names.

    Attributes
    ----------
    prefix : str
        What was before them, without what wrappers put in.
    state : dict
        The tensors.
    beside : dict
        What is in the state dict beside them.
    stripped : tuple of str
        What was taken off or renamed, for people.
    """

    prefix: str
    state: State
    beside: State = field(default_factory=dict)
    stripped: tuple[str, ...] = ()

    def networks_beside(self) -> list[str]:
        """Beginnings of other networks beside it, as ``--weights`` takes them."""
        found: dict[str, int] = {}
        for name, tensor in self.beside.items():
            if tensor.ndim >= 3 and (match := _FIRST_AFTER.match(name)):
                found[match[1]] = found.get(match[1], 0) + 1
        return [n for n in found if not any(n.startswith(f"{other}.") for other in found)]

    @property
    def rank(self) -> tuple[object, ...]:
        """Sorts first what has names of known networks, and is no average or second network."""
        first = {m[1] for name in self.state if (m := _FIRST.match(name))}
        return not first, bool(SECOND.search(self.prefix)), self.prefix.count("."), -len(first)


def find_views(state: Mapping[str, torch.Tensor]) -> list[View]:
    """Find the beginnings in a state dict below which a network may be, the likeliest first."""
    bare = {plain(name): tensor for name, tensor in state.items()}
    wrapped = () if list(bare) == list(state) else ("names of wrappers (module., _orig_mod.)",)
    found = _below(View("", bare, stripped=wrapped), _DEEP)
    return sorted([_named(view) for view in found], key=lambda view: view.rank)[:_MOST]


def _below(view: View, deep: int) -> list[View]:
    found = [view]
    for start in dict.fromkeys(_starts(view.state)) if deep else ():
        inside = {k: v for k, v in view.state.items() if k.startswith(start)}
        if not has_maps(inside) or (_PART.fullmatch(start[:-1]) and not _children_in(inside)):
            continue
        rest = {view.prefix + k: v for k, v in view.state.items() if k not in inside}
        cut = {k.removeprefix(start): v for k, v in inside.items()}
        prefix = view.prefix + start
        lines = (*view.stripped[: 1 if view.stripped and "wrappers" in view.stripped[0] else 0],
                 f"the prefix {prefix}")  # fmt: skip
        found += _below(View(prefix, cut, view.beside | rest, lines), deep - 1)
    return found


def _starts(names: Iterable[str]) -> Iterable[str]:
    return (f"{name.partition('.')[0]}." for name in names if "." in name)


def _children_in(state: Mapping[str, torch.Tensor]) -> bool:
    return any(re.match(r"(\w+\.)?4\.0\.conv1\.weight", name) for name in state)


def _named(view: View) -> View:
    """Name a ResNet's children in a sequence as the ResNet does."""
    if "0.weight" not in view.state or "4.0.conv1.weight" not in view.state:
        return view
    names = {k: f"{_CHILDREN.get(k.partition('.')[0], '-')}.{k.partition('.')[2]}"
             for k in view.state}  # fmt: skip
    lines = (*view.stripped, "numbers of a Sequential for a ResNet's names (0 is conv1)")
    return replace(
        view,
        state={n: view.state[k] for k, n in names.items() if n[0] != "-"},
        beside=view.beside | {k: view.state[k] for k, n in names.items() if n[0] == "-"},
        stripped=lines,
    )


def listed(names: Iterable[str], shown: int = 4) -> str:
    """Name what tensors belong to: ``criterion (1 tensor), queue (1 tensor)``."""
    groups: dict[str, int] = {}
    for name in names:
        group = name.rpartition(".")[0].partition(".")[0] or name
        groups[group] = groups.get(group, 0) + 1
    text = [f"{g} ({n} tensors)" if n > 1 else g for g, n in list(groups.items())[:shown]]
    return ", ".join(text) + (", …" if len(groups) > shown else "")
