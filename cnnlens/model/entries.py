"""State dicts in a checkpoint's content: at any depth, under any key; which one is usual.

Training scripts put weights beside optimizers, averages and other networks. Everything that looks
like the weights of a network is found; ``--weights KEY`` chooses, by the dotted path of keys, or by
the beginning that the names of one network share within a dict (``module.encoder_k``).

Within a state dict, a network's own names may begin below a prefix of a wrapper or a library:
``backbone.conv1.weight`` beside ``criterion.weight`` is a network, with something beside it that is
none of its weights. Each beginning below which there are convolutions is a view.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnlens.errors import UsageError, did_you_mean

State = dict[str, torch.Tensor]
# what training scripts call the weights, the most usual first; DINO evaluates its teacher
USUAL = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights",
    "params", "module", "teacher", "encoder_q", "online_encoder", "online_network", "student",
)  # fmt: skip
# averages, the second network of a pair, and what judges one: named where there is another
SECOND = re.compile(
    r"ema|swa|averag|shadow|moment|target|encoder_k|discriminator|netd|"
    r"loss|criterion|percep|lpips|metric|(^|[._])(fid|kid)($|[._])",
    re.I,
)
# of an optimizer, whose averages have the shapes of weights
_NO_WEIGHTS = re.compile(
    r"opt|sched|scaler|amp|callback|loops|rng|grad|criterion|loss|metric", re.I
)
_DEEP = 6  # levels that are searched
_LONG = 64  # entries of a list that are
_PREFIXES, _VIEWS = 4, 16  # how deep, and how many, at most
# how the names of known networks begin; a prefix before them is none of theirs
_FIRST = re.compile(
    r"(conv1|bn1|layer1|features|conv_proj|stem\w*|trunk_output|Conv2d_1a_3x3|conv_stem|"
    r"patch_embed|blocks|stages|conv2d?_?0|res2|block1)\."
)
_PART = re.compile(r"(layer|stage|block|denseblock|res|level)s?_?\d*|\d+|features|encoder_layer.*")
# how names of whole networks begin
_WHOLE = re.compile(
    r"(layer1\.0|features|stages|stage2|blocks|inception3a|trunk_output|conv_stem)\."
)
# children of torchvision's ResNets in a Sequential, as ``nn.Sequential(*net.children())`` has them
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
# how names in the ``features`` of a network begin: numbers of a sequence, and DenseNet's
_IN_FEATURES = re.compile(r"(\d+|conv0|norm\d|denseblock\d|transition\d)\.")


@dataclass(frozen=True)
class Entry:
    """A state dict in a file: the keys that lead to it, its tensors, its list of modules if any."""

    path: str
    state: State
    modules: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[object, ...]:
        """Sorts first what people mean by the weights of a file."""
        parts = self.path.split(".") if self.path else []
        second = any(SECOND.search(part) for part in parts)
        known = [USUAL.index(p) if p in USUAL else len(USUAL) for p in parts]
        return not has_maps(self.state), second, max(known, default=0), len(parts)


def has_maps(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether a state dict holds weights of convolutions."""
    return any(tensor.ndim >= 3 for tensor in state.values())


def find_entries(content: Any) -> list[Entry]:
    """Find everything in a checkpoint that may be a network's weights, the usual one first."""
    found = list(_walk(content, "", _DEEP))
    large = [e for e in found if any(t.ndim >= 2 for t in e.state.values())]
    return sorted(large or found, key=lambda entry: entry.rank)


def _walk(content: Any, path: str, deep: int) -> Iterator[Entry]:
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, argparse.Namespace):
        content = vars(content)
    if isinstance(content, list | tuple) and len(content) <= _LONG:
        content = {str(n): v for n, v in enumerate(content) if isinstance(v, Mapping)}
    if not isinstance(content, Mapping) or not deep:
        return
    named = {k: v for k, v in content.items() if isinstance(k, str)}
    tensors = {k: t for k, v in named.items() if (t := _tensor(v)) is not None}
    if tensors:
        listed = getattr(content, "_metadata", None)  # of `nn.Module.state_dict`
        yield Entry(path, tensors, tuple(listed) if isinstance(listed, Mapping) else ())
    for key, value in named.items():
        if key not in tensors and not _NO_WEIGHTS.match(key):
            yield from _walk(value, f"{path}.{key}" if path else key, deep - 1)


def _tensor(value: Any) -> torch.Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value))
    return value if isinstance(value, torch.Tensor) else None


def choose(entries: list[Entry], key: str | None, path: Path) -> tuple[Entry, list[Entry]]:
    """Take the entry that `key` names, or the usual one.

    Parameters
    ----------
    entries : list of Entry
        At least one, the usual one first.
    key : str or None
        A path of keys, a beginning of one, or either followed by the beginning of names.
    path : Path
        The file, for messages.

    Returns
    -------
    (Entry, list of Entry)
        It, and the others that may be networks.

    Raises
    ------
    UsageError
        When nothing is of that name; says what there is.
    """
    if key is None:
        first, *rest = entries
        own = {id(t) for t in first.state.values()}
        others = [e for e in rest if has_maps(e.state) and not own >= {*map(id, e.state.values())}]
        return first, others
    inside = [e for e in entries if e.path == key or e.path.startswith(f"{key}.")]
    if inside:
        return inside[0], []
    for entry in entries:
        if state := _below(entry, key):
            return Entry(key, state), []
    names = [e.path for e in entries if e.path] + beginnings(entries[0].state)
    known = f"it has {', '.join(names[:8])}" if names else "leave out --weights: it holds one"
    raise UsageError(f"{path} has no weights '{key}'", did_you_mean(key, names) or known)


def _below(entry: Entry, key: str) -> State:
    """Tensors of an entry whose names begin with what is left of `key`."""
    rest = key.removeprefix(f"{entry.path}.") if entry.path else key
    start = f"{rest.removesuffix('.')}."
    found = {k.removeprefix(start): v for k, v in entry.state.items() if k.startswith(start)}
    if found:
        return found
    bare = {plain(k): v for k, v in entry.state.items()}
    return {k.removeprefix(start): v for k, v in bare.items() if k.startswith(start)}


#: parts of names that wrappers put in: DataParallel, torch.compile, FSDP, activation checkpoints
_WRAPPED = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)


def plain(name: str) -> str:
    """Take what wrappers put into a tensor's name out of it, wherever it stands."""
    return _WRAPPED.sub("", name)


def beginnings(state: Mapping[str, torch.Tensor]) -> list[str]:
    """First parts of the names in a state dict below which there are convolutions."""
    found = dict.fromkeys(plain(k).partition(".")[0] for k, v in state.items() if v.ndim >= 3)
    return [name for name in found if name]


# ---- below which prefix of its names a network is


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
    modules : frozenset of str
        Names of all modules of the network, where the file lists them.
    """

    prefix: str
    state: State
    beside: State = field(default_factory=dict)
    stripped: tuple[str, ...] = ()
    modules: frozenset[str] = frozenset()

    @property
    def rank(self) -> tuple[object, ...]:
        """Sorts first what has names of known networks, and is no average or second network."""
        first = {m[1] for name in self.state if (m := _FIRST.match(name))}
        return not first, bool(SECOND.search(self.prefix)), self.prefix.count("."), -len(first)


def find_views(state: Mapping[str, torch.Tensor]) -> list[View]:
    """Find the beginnings in a state dict below which a network may be, the likeliest first."""
    bare = {plain(name): tensor for name, tensor in state.items()}
    wrapped = () if list(bare) == list(state) else ("names of wrappers (module., _orig_mod.)",)
    found = _views_below(View("", bare, stripped=wrapped), _PREFIXES)
    named = [other for view in found for other in (_renamed(view), *_features(view))]
    return sorted(named, key=lambda view: view.rank)[:_VIEWS]


def _views_below(view: View, deep: int) -> list[View]:
    found = [view]
    for start in dict.fromkeys(_starts(view.state)) if deep else ():
        inside = {k: v for k, v in view.state.items() if k.startswith(start)}
        part = _PART.fullmatch(start[:-1]) and not _is_body(start, view.state)
        if not has_maps(inside) or (part and not _network_in(start, inside)):
            continue
        rest = {view.prefix + k: v for k, v in view.state.items() if k not in inside}
        cut = {k.removeprefix(start): v for k, v in inside.items()}
        prefix = view.prefix + start
        lines = (*view.stripped[: 1 if view.stripped and "wrappers" in view.stripped[0] else 0],
                 f"the prefix {prefix}")  # fmt: skip
        found += _views_below(View(prefix, cut, view.beside | rest, lines), deep - 1)
    return found


def _starts(names: Iterable[str]) -> Iterable[str]:
    return (f"{name.partition('.')[0]}." for name in names if "." in name)


def _is_body(start: str, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether what comes first in a sequence is a body before a head, or all there is, as fastai
    has them.
    """
    head = [tensor.ndim for name, tensor in state.items() if not name.startswith(start)]
    return start == "0." and {*_starts(state)} <= {"0.", "1."} and (not head or max(head) == 2)


def _network_in(start: str, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether what seems a part is a network: one in a sequence, behind a normalization."""
    whole = any(_WHOLE.match(name.removeprefix(start)) for name in state)
    return (whole and start[:-1].isdigit()) or _children_in(state)


def _children_in(state: Mapping[str, torch.Tensor]) -> bool:
    return any(re.match(r"(\w+\.)?4\.0\.conv1\.weight", name) for name in state)


def _renamed(view: View) -> View:
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


def _features(view: View) -> list[View]:
    """Take what may be a network's ``features``, saved alone, for a part of it."""
    if not all(_IN_FEATURES.match(name) for name in view.state) or _children_in(view.state):
        return []
    state = {f"features.{name}": tensor for name, tensor in view.state.items()}
    return [
        replace(
            view,
            state=state,
            stripped=(*view.stripped, "names of features alone (0 is features.0)"),
        )
    ]


def listed(names: Iterable[str], shown: int = 4) -> str:
    """Name what tensors belong to: ``criterion (1 tensor), queue (1 tensor)``."""
    groups: dict[str, int] = {}
    for name in names:
        group = name.rpartition(".")[0].partition(".")[0] or name
        groups[group] = groups.get(group, 0) + 1
    text = [f"{g} ({n} tensors)" if n > 1 else g for g, n in list(groups.items())[:shown]]
    return ", ".join(text) + (", …" if len(groups) > shown else "")
