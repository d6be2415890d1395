"""State dicts in a checkpoint's content: at any depth, under any key; which one is usual.

Training scripts put weights beside optimizers, averages and other networks. Everything that looks
like the weights of a network is found; ``--weights KEY`` chooses, by the dotted path of keys, or by
the beginning that the names of one network share within a dict (``module.encoder_k``).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
# averages, and the second network of a pair: named where there is another
SECOND = re.compile(r"ema|swa|averag|shadow|moment|target|encoder_k|discriminator|netd", re.I)
# of an optimizer, whose averages have the shapes of weights
_NO_WEIGHTS = re.compile(
    r"opt|sched|scaler|amp|callback|loops|rng|grad|criterion|loss|metric", re.I
)
_DEEP = 6  # levels that are searched
_LONG = 64  # entries of a list that are


@dataclass(frozen=True)
class Entry:
    """A state dict in a file: the keys that lead to it, joined by dots, and its tensors."""

    path: str
    state: State

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
    found = [Entry(path, state) for path, state in _walk(content, "", _DEEP)]
    large = [e for e in found if any(t.ndim >= 2 for t in e.state.values())]
    return sorted(large or found, key=lambda entry: entry.rank)


def _walk(content: Any, path: str, deep: int) -> Iterator[tuple[str, State]]:
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
        yield path, tensors
    for key, value in named.items():
        if key not in tensors and not _NO_WEIGHTS.match(key):
            yield from _walk(value, f"{path}.{key}" if path else key, deep - 1)


def _tensor(value: Any) -> torch.Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value))
    return value if isinstance(value, torch.Tensor) else None


def choose(entries: list[Entry], key: str | None, path: Path) -> tuple[Entry, list[str]]:
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
    (Entry, list of str)
        It, and the paths of the others.

    Raises
    ------
    UsageError
        When nothing is of that name; says what there is.
    """
    if key is None:
        first, *rest = entries
        own = {id(t) for t in first.state.values()}
        others = [e for e in rest if has_maps(e.state) and not own >= {*map(id, e.state.values())}]
        return first, [e.path for e in others]
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
