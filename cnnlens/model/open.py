"""From what a user types as MODEL to a network ready to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnlens.errors import UsageError, meant_file
from cnnlens.model.architectures import (
    Opened,
    built_for,
    described,
    registry,
    seeded,
)
from cnnlens.model.architectures.own_code import is_factory, printed
from cnnlens.model.channels import as_many_channels
from cnnlens.model.device import resolve_device
from cnnlens.model.exported import ARCH as EXPORTED
from cnnlens.model.from_file import open_file
from cnnlens.model.gradients import in_own_mode
from cnnlens.model.model import Model, fingerprint
from cnnlens.model.opened_from import opened_from
from cnnlens.model.output_names import named
from cnnlens.model.outputs import as_features
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.refused import check_weights
from cnnlens.model.spoilt import spoilt
from cnnlens.model.surgery import repeated
from cnnlens.model.uncompiled import take_apart
from cnnlens.model.unpickled import PICKLED


@in_own_mode()
def open_model(
    spec: str,
    *,
    arch: str | None = None,
    weights: str | None = None,
    allow_pickle: bool = False,
    image_size: tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: str | Sequence[str] | Mapping[Any, Any] | None = None,
    head: str | None = None,
    device: str = "auto",
) -> Model:
    """Open a network from any form of MODEL.

    Parameters
    ----------
    spec : str
        A file (checkpoint, state dict, ``.safetensors``, exported program), a folder of timm's or
        transformers' hub (``config.json`` and weights), ``torchvision:NAME``,
        ``torchvision:NAME@WEIGHTS``, ``timm:NAME``, ``zoo:NAME``, ``file.py:factory`` or
        ``package.module:factory``.
    arch : str, optional
        The architecture of a bare state dict, where it cannot be inferred; of a checkpoint of
        cnnlens, in the place of code that it names.
    weights : str, optional
        Which entry of a file holds the weights, where it holds several: ``teacher``, ``model.ema``.
    allow_pickle : bool
        Whether the file may be unpickled, which can run any code.
    image_size : (int, int), optional
        Height and width of the input in pixels, instead of what the model says.
    mean, std : sequence of float, optional
        Per channel, in units of [0, 1], instead of what the model says.
    classes : str, sequence of str or mapping, optional
        Names of the outputs, or a dict of their numbers, or the file that holds them (see
        `class_names.read_classes`), instead of what the model says.
    head : str, optional
        Which of several outputs is the classes', by name or number.
    device : str
        ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.

    Returns
    -------
    Model
        In evaluation mode, parameters frozen, on the device.

    Raises
    ------
    UsageError
        For names that do not exist and state dicts that fit several architectures.
    CnnlensError
        For files that cannot be opened.
    """
    place = resolve_device(device)
    with opened_from(spec) as files:
        opened = _open(spec, arch, allow_pickle, weights)
        check_weights(opened.net)
        preprocess = _settings(opened).overridden(image_size, mean, std)
        if opened.fixed_size and preprocess.size != _settings(opened).size:
            raise _fixed(spec, _settings(opened).size)
        model = named(_as_model(opened, spec, preprocess, place, head), classes)
    return replace(model, files=files)


def _as_model(
    opened: Opened, spec: str, preprocess: Preprocess, place: torch.device, head: str | None
) -> Model:
    """Make the network of a file ready: in evaluation mode, frozen, on its device."""
    net, notes = _single(opened)
    take_apart(net)
    net = net.eval().requires_grad_(False)
    if opened.headless:
        net.register_forward_hook(as_features)
    arch, source, before = _from_anywhere(opened.arch), opened.source, opened.source_before
    if is_factory(opened.arch) or opened.arch.startswith(PICKLED):
        source += printed(net)  # what its code may have read elsewhere: a dilation, a rate
    model = Model(
        net=net.to(place),
        spec=spec,
        arch=opened.arch,
        preprocess=preprocess,
        classes=opened.classes,
        fingerprint=fingerprint(arch, net, source),
        fingerprint_before=None if before is None else partial(fingerprint, arch, net, before),
        batch=opened.batch,
        notes=[*opened.notes, *notes, *spoilt(net)],
        surgery=list(opened.surgery),
        classes_source=opened.classes_source,
        stripped=list(opened.stripped),
        assumed=list(opened.assumed),
        head=head,
        headless=opened.headless,
        epoch=opened.epoch,
        interpretable=list(opened.interpretable),
    )
    model.notes += repeated(model)
    return model


def _single(opened: Opened) -> tuple[nn.Module, list[str]]:
    """Compute in float32, whatever the weights were kept in; an exported program cannot."""
    state = opened.net.state_dict().values()  # of modules' extra state, too
    tensors = [t for t in state if isinstance(t, torch.Tensor)]
    kept = {t.dtype for t in tensors if t.is_floating_point()}
    other = [
        str(d).removeprefix("torch.") for d in kept & {torch.float16, torch.bfloat16, torch.float64}
    ]
    if not other or opened.arch == EXPORTED:
        return opened.net, []
    return opened.net.float(), [f"weights kept in {', '.join(sorted(other))}, computed in float32"]


def _from_anywhere(arch: str) -> str:
    """Leave out where the file of a factory lies: the same file by another path is the same."""
    file, colon, name = arch.rpartition(":")
    return f"{Path(file).name}:{name}" if colon and file.endswith(".py") else arch


def _open(spec: str, arch: str | None, allow_pickle: bool, weights: str | None) -> Opened:
    path = Path(spec).expanduser()
    if path.exists():
        return open_file(path, arch, allow_pickle, weights)
    if not registry.is_spec(spec):
        raise _no_such_file(path)
    if arch is not None:
        raise UsageError(f"--arch goes with a file of weights, and {spec} is none", "leave it out")
    if weights is not None:
        raise UsageError(f"--weights names an entry of a file, and {spec} is none", "leave it out")
    return _from_registry(spec)


def _no_such_file(path: Path) -> UsageError:
    folder = path.parent
    near = meant_file(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
    return UsageError(
        f"{path} does not exist",
        near or "MODEL is a file, torchvision:NAME, timm:NAME, zoo:NAME or file.py:factory",
    )


def _from_registry(spec: str) -> Opened:
    name, _, weights = spec.partition("@")
    known = registry.architecture(name)
    if weights:
        net, preprocess = registry.pretrained(name, weights)
        opened = described(known, net, [])
        whose = f"those of {name}@{weights}" if opened.classes else ""
        return replace(opened, preprocess=preprocess, classes_source=whose)
    with seeded():
        net = known.make()
    notes = [] if is_factory(spec) else [f"{spec} has random weights"]
    return described(known, net, notes)


def _settings(opened: Opened) -> Preprocess:
    known = Preprocess(size=built_for(opened.net) or Preprocess.size)
    return as_many_channels(opened.net, opened.preprocess or known)


def _fixed(spec: str, size: tuple[int, int]) -> UsageError:
    height, width = size
    return UsageError(f"{spec} takes pictures of {height}x{width} only", "leave out --image-size")
