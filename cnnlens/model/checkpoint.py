"""cnnlens' own checkpoints: weights with everything that is needed to open them again."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.files import atomic
from cnnlens.model import registry
from cnnlens.model.architecture import Architecture
from cnnlens.model.fit import build, fit, skeleton
from cnnlens.model.opened import Opened, described
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.skeleton import shapes_of
from cnnlens.model.surgery import Plan, operate, undo_names

FORMAT_VERSION = 1
_OWN = ("format_version", "arch", "state_dict")
_METHODS = (None, "none", "cgl", "icnn")


def save_checkpoint(
    path: Path | str,
    net: nn.Module,
    arch: str,
    preprocess: Preprocess,
    classes: Sequence[str] | None = None,
    **more: Any,
) -> None:
    """Write a checkpoint that every command opens, whole or not at all.

    Parameters
    ----------
    path : path
        Where to.
    net : torch.nn.Module
        Its state dict is saved, on the CPU.
    arch : str
        What builds it: ``torchvision:resnet18``, ``zoo:shapes_net``, ``file.py:factory``.
    preprocess : Preprocess
        How pixels become its input.
    classes : sequence of str, optional
        Names of its outputs.
    **more
        Further entries, e.g. ``interpretable`` and ``training``: plain numbers, texts, lists,
        dicts and tensors.

    Raises
    ------
    CnnlensError
        When the file cannot be written.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "arch": arch,
        "state_dict": {k: v.detach().cpu() for k, v in net.state_dict().items()},
        "preprocess": preprocess.as_dict(),
        "classes": None if classes is None else list(classes),
        "interpretable": None,
        "training": None,
        **more,
    }
    buffer = io.BytesIO()  # torch's writer hides why a file cannot be written
    torch.save(content, buffer)
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def is_checkpoint(content: Any) -> bool:
    """Whether what ``torch.load`` read is a checkpoint of cnnlens."""
    return isinstance(content, Mapping) and all(key in content for key in _OWN)


def open_checkpoint(path: Path, content: Mapping[str, Any]) -> Opened:
    """Build the network of a checkpoint.

    Raises
    ------
    CnnlensError
        When it is of a later version, incomplete, or does not fit its own architecture.
    """
    version = content["format_version"]
    if version != FORMAT_VERSION:
        raise CnnlensError(
            f"{path} is a cnnlens checkpoint of format {version}; this version reads "
            f"{FORMAT_VERSION}",
            "update cnnlens",
        )
    if (content.get("interpretable") or {}).get("method") not in _METHODS:
        raise CnnlensError(
            f"{path} holds an interpretable network, which this version cannot build",
            "update cnnlens",
        )
    try:
        return _built(path, content)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise CnnlensError(f"{path} is a damaged cnnlens checkpoint: {error}") from error


def _built(path: Path, content: Mapping[str, Any]) -> Opened:
    state = content["state_dict"]
    known = registry.architecture(content["arch"])
    plans = [Plan.from_dict(plan) for plan in content.get("surgery") or ()]
    before = _before(known, state, plans)
    found = fit(known, shapes_of(before))
    if not found.exact:
        raise CnnlensError(
            f"{path} does not fit its own architecture {content['arch']}: {found.describe()}",
            "has the code that builds it changed since?",
        )
    net = build(found, before)
    if plans:
        for plan in plans:
            operate(net, plan)
        _load(path, net, state)
    opened = described(found.architecture, net)
    found.architecture.finish(opened.net)
    opened.preprocess = Preprocess.from_dict({**content["preprocess"], "source": "checkpoint"})
    classes = content.get("classes")
    opened.classes = None if classes is None else [str(c) for c in classes]
    opened.surgery = [plan.as_dict() for plan in plans]
    opened.source += "".join(str(plan) for plan in plans)  # a mask's position is in no state dict
    return opened


def _before(
    known: Architecture, state: Mapping[str, torch.Tensor], plans: Sequence[Plan]
) -> dict[str, torch.Tensor]:
    """Return the state dict as before the operations, a replaced head's numbers being anything."""
    before = dict(state)
    for plan in reversed(plans):
        before = undo_names(before, plan)
    heads = {plan.head for plan in plans if plan.head}
    if heads:
        want = skeleton(known, {}).state_dict()
        for name in [n for n in before if n.rpartition(".")[0] in heads]:
            del before[name]
        before |= {
            name: torch.zeros(value.shape, dtype=value.dtype)
            for name, value in want.items()
            if name.rpartition(".")[0] in heads
        }
    return before


def _load(path: Path, net: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CnnlensError(f"{path} does not fit what was done to it: {reason}") from error
