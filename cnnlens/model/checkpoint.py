"""Checkpoints of cnnlens' own, with all that is needed to open them again."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.files import atomic
from cnnlens.model.adapt import adapt
from cnnlens.model.architectures import Architecture, Opened, described, registry, shapes_of
from cnnlens.model.architectures.own_code import is_factory
from cnnlens.model.architectures.trusted import check_trusted
from cnnlens.model.fit import build, fit
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.surgery import Plan, operate
from cnnlens.model.undone import before_surgery, with_surgery_of

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
    write_torch(Path(path), content)


def write_torch(path: Path, content: Any) -> None:
    """Write what ``torch.load`` reads, whole or not at all.

    Raises
    ------
    CnnlensError
        When the file cannot be written.
    """
    buffer = io.BytesIO()  # torch's writer hides why a file cannot be written
    torch.save(_as_values(content, {}), buffer)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _as_values(content: Any, texts: dict[str, str]) -> Any:
    """Give equal contents equal bytes: a pickle also tells which equal parts are one object, and
    those of a resumed training are others.
    """
    if isinstance(content, str):  # names of labels too, which know their numbers
        return texts.setdefault(str(content), str(content))
    if type(content) is dict:
        return {_as_values(k, texts): _as_values(v, texts) for k, v in content.items()}
    if type(content) in (list, tuple):
        return type(content)(_as_values(v, texts) for v in content)
    return content


def is_checkpoint(content: Any) -> bool:
    """Whether what ``torch.load`` read is a checkpoint of cnnlens."""
    return isinstance(content, Mapping) and all(key in content for key in _OWN)


def open_checkpoint(path: Path, content: Mapping[str, Any], arch: str | None = None) -> Opened:
    """Build the network of a checkpoint.

    Parameters
    ----------
    path : Path
        Where it was read.
    content : mapping
        What it holds.
    arch : str, optional
        What builds it in the place of code that it names, which is then not run.

    Raises
    ------
    CnnlensError
        When it is of a later version, incomplete, or does not fit its architecture; when code that
        it names is not there.
    UsageError
        When the user has not named that code himself.
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
        return _built(path, content, arch)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise CnnlensError(f"{path} is a damaged cnnlens checkpoint: {error}") from error


def _built(path: Path, content: Mapping[str, Any], arch: str | None) -> Opened:
    state, own = content["state_dict"], content["arch"]
    other = arch is not None and arch != own and is_factory(own)
    if arch is not None and other:
        known = registry.architecture(arch)
    else:
        known = _own_architecture(path, own, named=arch == own)
    plans = [Plan.from_dict(plan) for plan in content.get("surgery") or ()]
    before = before_surgery(known, state, plans)
    found = fit(known, shapes_of(before))
    exactly = other and arch is not None and is_factory(arch)
    if not found.exact and not exactly:
        # what it was made from may have had a head or a stem of its own
        found = adapt(found, shapes_of(before)) or found
    if not found.exact:
        its = arch if other else f"its own architecture {own}"
        raise CnnlensError(
            f"{path} does not fit {its}: {found.describe()}",
            f"it was {own}" if other else "has the code that builds it changed since?",
        )
    net = build(found, before)
    if plans:
        for plan in plans:
            operate(net, plan, alone=not with_surgery_of(state, net, plan))
        _load(path, net, state)
    opened = described(found.architecture, net)
    found.architecture.finish(opened.net)
    _say(content, opened)
    if other:
        opened.notes = [*opened.notes, f"{path.name} was {own}; its weights fit --arch {arch}"]
    opened.surgery = [plan.as_dict() for plan in plans]
    opened.decides("".join(map(str, plans)))  # a mask's position is in no state dict
    return opened


def _say(content: Mapping[str, Any], opened: Opened) -> None:
    """Put in what a checkpoint says of how its network is fed and what its outputs are."""
    opened.preprocess = Preprocess.from_dict({**content["preprocess"], "source": "checkpoint"})
    classes = content.get("classes")
    opened.classes = None if classes is None else [str(c) for c in classes]
    opened.classes_source = "" if classes is None else "the checkpoint's classes"
    made = (content.get("interpretable") or {}).get("layers") or ()
    opened.interpretable = [str(layer) for layer in made]


def _own_architecture(path: Path, own: str, named: bool) -> Architecture:
    if not named:  # whoever made the file may have named anything
        check_trusted(own, f"{path} is built by", f"--arch {own}")
    try:
        return registry.architecture(own)
    except CnnlensError as error:
        if not is_factory(own):
            raise
        raise CnnlensError(
            f"{path} is built by {own}, and that is not to be had: {error.message}",
            "name the code where it is now: --arch file.py:factory",
        ) from error


def _load(path: Path, net: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CnnlensError(f"{path} does not fit what was done to it: {reason}") from error


def read_training(path: Path) -> Mapping[str, Any]:
    """Read what a checkpoint of cnnlens says of its training, without its tensors; {} of others."""
    with suppress(Exception), warnings.catch_warnings():  # whatever file it is
        warnings.simplefilter("ignore")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if is_checkpoint(content) and isinstance(content.get("training"), Mapping):
            return dict(content["training"])
    return {}
