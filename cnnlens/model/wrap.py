"""From a network in memory to one that is ready to be looked at, and left as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cnnlens.errors import UsageError
from cnnlens.model.architectures import built_for, is_headless, registry, timm, torchvision
from cnnlens.model.channels import as_many_channels
from cnnlens.model.class_names import given_names
from cnnlens.model.device import resolve_device
from cnnlens.model.gradients import in_own_mode
from cnnlens.model.model import Model
from cnnlens.model.output_names import fitting, misnamed, named
from cnnlens.model.preprocess import Preprocess, check_unit
from cnnlens.model.refused import check_weights
from cnnlens.model.steady import marked


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
        When there is no such device, `net` is no module or TorchScript, or holds some, or
        `preprocess` is nothing that can be read.
    CnnlensError
        When it is shared out among processes (FSDP), or lazy and never ran.
    """
    fed = {"image_size": image_size, "mean": mean, "std": std}
    return named(marked(unmarked(net, preprocess, classes, device, head, **fed)), None)


@in_own_mode()
def unmarked(
    net: nn.Module, preprocess: Any, classes: Any, device: Any, head: str | None = None, **fed: Any
) -> Model:
    """Do as `wrap_module`, with all its errors, but for the mark, which takes passes."""
    net = _plain(net)
    kind = f"{type(net).__module__}.{type(net).__qualname__}"
    settings, notes = _described(net, preprocess)
    model = Model(
        net=net,
        spec=kind,
        arch=kind,
        preprocess=settings.overridden(*map(fed.get, ("image_size", "mean", "std"))),
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
    if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
        raise UsageError(
            "a TorchScript module cannot be looked into: its layers answer to no hooks",
            "give the module that it was made from, or its weights in one: "
            "net.load_state_dict(script.state_dict())",
        )
    _check_modes(net)
    check_weights(net)
    return net


def _check_modes(net: nn.Module) -> None:
    """Refuse what `ExportedProgram.module` gives, whose `eval` raises, whatever mode it is in."""
    own = [getattr(vars(module).get("eval"), "__module__", "") for module in net.modules()]
    if any(home.startswith("torch.export.") for home in own):
        raise UsageError(
            "the module of an exported program cannot be put into evaluation mode",
            "torch.export.save(program, 'net.pt2'), and give that file; or the module that it was "
            "exported from",
        )


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
    settings = as_many_channels(net, Preprocess(size=built_for(net) or Preprocess.size))
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
