"""From what a user types as MODEL to a network ready to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    first_convolution,
    is_headless,
    registry,
    seeded,
    timm,
    torchvision,
)
from cnnlens.model.architectures.own_code import is_factory, printed
from cnnlens.model.class_names import given_names
from cnnlens.model.device import borrowed, resolve_device
from cnnlens.model.exported import ARCH as EXPORTED
from cnnlens.model.from_file import PICKLED, open_file
from cnnlens.model.gradients import in_own_mode
from cnnlens.model.model import Model, fingerprint
from cnnlens.model.opened_from import opened_from
from cnnlens.model.output_names import fitting, misnamed, named
from cnnlens.model.outputs import as_features
from cnnlens.model.preprocess import Preprocess, check_unit
from cnnlens.model.refused import check_initialized
from cnnlens.model.spoilt import spoilt
from cnnlens.model.steady import marked
from cnnlens.model.surgery import repeated
from cnnlens.model.trace import as_input
from cnnlens.model.uncompiled import take_apart


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
        check_initialized(opened.net)
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


@in_own_mode()
def wrap_module(
    net: nn.Module,
    preprocess: Any = None,
    classes: Sequence[str] | Mapping[Any, Any] | None = None,
    device: torch.device | str | None = None,
    head: str | None = None,
    image_size: tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Model:
    """Describe a caller's own module, without touching it.

    Parameters
    ----------
    net : torch.nn.Module
        DataParallel, DistributedDataParallel and compiled ones are unwrapped; what of it is
        compiled runs as it was written.
    preprocess : Preprocess, transforms or mapping, optional
        How pixels become its input: a `Preprocess`, the ``transforms()`` of a weights entry of
        torchvision, or a data config of timm. ImageNet's at 224 where it is left out.
    classes : sequence of str or mapping, optional
        Names of its outputs, or a dict of their numbers (see `class_names.given_names`).
    device : device, optional
        Where it is to run; by default where it is.
    head : str, optional
        Which of several outputs is the classes', by name or number.
    image_size, mean, std
        As in `open_model`.

    Returns
    -------
    Model
        To be used ``with model.in_use():``, which puts the module back as it was.

    Raises
    ------
    UsageError
        When there is no such device, `net` is no module or TorchScript, or `preprocess` is nothing
        that can be read.
    """
    return named(
        marked(unmarked(net, preprocess, classes, device, head, image_size, mean, std)), None
    )


@in_own_mode()
def unmarked(
    net: nn.Module,
    preprocess: Any = None,
    classes: Sequence[str] | Mapping[Any, Any] | None = None,
    device: torch.device | str | None = None,
    head: str | None = None,
    image_size: tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Model:
    """Do as `wrap_module`, with all its errors, but for the mark, which takes passes."""
    net = _plain(net)
    kind = f"{type(net).__module__}.{type(net).__qualname__}"
    settings, notes = _described(net, preprocess)
    model = Model(
        net=net,
        spec=kind,
        arch=kind,
        preprocess=settings.overridden(image_size, mean, std),
        classes=None if classes is None else given_names(classes),
        fingerprint="",
        notes=notes,
        classes_source="" if classes is None else "given",
        head=head,
        headless=is_headless(net),
    )
    model.lent_to = model.device if device is None else resolve_device(str(device))
    if model.classes is not None:
        model.classes, real = fitting(model, model.classes)
        if real is not None:
            raise misnamed(len(model.classes), real)
    return model


def _plain(net: nn.Module) -> nn.Module:
    """Return what is wrapped; refuse what cannot be looked into."""
    net = registry.unwrapped(net)
    if isinstance(net, torch.jit.ScriptModule):
        raise UsageError(
            "a TorchScript module cannot be looked into: its layers answer to no hooks",
            "give the module that it was made from, or its weights in one: "
            "net.load_state_dict(script.state_dict())",
        )
    check_initialized(net)
    return net


def _described(net: nn.Module, preprocess: Any) -> tuple[Preprocess, list[str]]:
    if isinstance(preprocess, Preprocess):
        if preprocess.scale == 1:
            check_unit(preprocess.mean, preprocess.std)
        said = preprocess.source == Preprocess.source
        return (replace(preprocess, source="given") if said else preprocess), []
    if isinstance(preprocess, Mapping) and {"input_size", "mean", "std"} <= preprocess.keys():
        return _read(timm.from_config, preprocess), []
    if all(hasattr(preprocess, name) for name in ("crop_size", "resize_size", "mean", "std")):
        return _read(torchvision.from_transforms, preprocess), []
    if preprocess is not None:
        raise UsageError(
            f"preprocess is a {type(preprocess).__name__}",
            "it may be a cnnlens.Preprocess, the transforms() of a weights entry of torchvision, "
            "or a data config of timm",
        )
    settings = _fed(net, Preprocess(size=built_for(net) or Preprocess.size))
    at = "×".join(map(str, dict.fromkeys(settings.size)))
    return settings, [f"how it is fed is not known: ImageNet's mean and std at {at} are assumed"]


def _read(read: Callable[[Any], Preprocess], settings: Any) -> Preprocess:
    """Read what another library says of its pixels."""
    try:
        return read(settings)
    except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise UsageError(
            f"preprocess is a {type(settings).__name__} that cannot be read: {error}",
            "say it by a cnnlens.Preprocess",
        ) from error


def _single(opened: Opened) -> tuple[nn.Module, list[str]]:
    """Compute in float32, whatever the weights were kept in; an exported program cannot."""
    kept = {t.dtype for t in opened.net.state_dict().values() if t.is_floating_point()}
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
    return _fed(opened.net, opened.preprocess or known)


def _fed(net: nn.Module, settings: Preprocess) -> Preprocess:
    """Give the settings as many channels as the network takes."""
    first = first_convolution(net)
    if first is None or first[1].in_channels == settings.channels:
        return settings
    # the first convolution may see what was made of the image (its blocks, its frequencies)
    other = settings.with_channels(first[1].in_channels)
    return settings if _runs(net, settings) and not _runs(net, other) else other


def _runs(net: nn.Module, settings: Preprocess) -> bool:
    """Whether a network takes images as these settings make them."""
    black = torch.zeros(1, settings.channels, *settings.size)
    try:
        with borrowed(net), torch.no_grad():
            net(as_input(net, black))
    except Exception:  # whatever its layers raise
        return False
    return True


def _fixed(spec: str, size: tuple[int, int]) -> UsageError:
    height, width = size
    return UsageError(f"{spec} takes pictures of {height}x{width} only", "leave out --image-size")
