"""What a network's outputs are called: as is said, as its file says, or as ImageNet's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnlens.errors import UsageError, counted
from cnnlens.model.architectures import Opened, count_outputs, layer_outputs
from cnnlens.model.class_names import (
    given_names,
    imagenet_classes,
    imagenet_synsets,
    names_in,
    read_classes,
    unread_in,
)
from cnnlens.model.classes import misfit
from cnnlens.model.gradients import in_own_mode
from cnnlens.model.model import NAMES_ASSUMED, Model

FROM_CHECKPOINT = "the checkpoint's "  # who says the names of a network's outputs


def with_names(opened: Opened, content: Any) -> Opened:
    """Give a network the class names that its file holds, where it has as many outputs."""
    known = names_in(content)
    if opened.headless:
        return opened
    if known is None:
        return _without_names(opened, content)
    names, key = known
    outputs = count_outputs(opened.net)
    if len(names) not in layer_outputs(opened.net) and (len(names), outputs) != (2, 1):
        note = _left_out(len(names), key, outputs)
        return replace(opened, notes=[*opened.notes, note])
    return replace(opened, classes=names, classes_source=FROM_CHECKPOINT + key)


def _without_names(opened: Opened, content: Any) -> Opened:
    """Say where a file keeps what may be meant for names, and cannot be read as such."""
    key = unread_in(content)
    if key is None:
        return opened
    note = f"what is kept under {key} is not read as names of outputs: --classes FILE names them"
    return replace(opened, notes=[*opened.notes, note])


def _left_out(names: int, key: str, outputs: int | None) -> str:
    """Say that a file's names do not fit."""
    has = "other outputs" if outputs is None else counted(outputs, "output")
    return f"the {names} names under {key} are left out: the network has {has}"


def named(model: Model, classes: str | Sequence[str] | Mapping[Any, Any] | None) -> Model:
    """Give the outputs the names that are said; else ImageNet's, where there are a thousand."""
    if classes is not None:
        names = read_classes(classes) if isinstance(classes, str) else given_names(classes)
        model.classes_source = f"--classes {classes}" if isinstance(classes, str) else "given"
        model.classes, real = fitting(model, names)
        if real is not None:
            raise misnamed(len(names), real)
    elif model.classes is None and not model.headless:
        # only where some layer has a thousand outputs is it worth a pass to see if they come out
        thousand = len(imagenet_synsets())
        if thousand in layer_outputs(model.net) and misfit(model, thousand) is None:
            model.classes, model.classes_source = imagenet_classes(), "assumed: ImageNet's"
    elif model.classes and model.classes_source.startswith(FROM_CHECKPOINT):
        _check_checkpoints_names(model)
    if model.has_assumed_classes and model.classes:
        whose = model.classes_source.removeprefix("assumed: ")
        model.notes.append(f"{NAMES_ASSUMED}{whose} (--classes says others)")
    return model


@in_own_mode()
def renamed(model: Model, names: list[str]) -> Model:
    """Return a network with the names of its outputs that somebody gives; see `fitting`.

    Raises
    ------
    UsageError
        When it has another number of outputs.
    """
    found = replace(model.called(names, "given"), assumed=[*model.assumed])
    return named(found, names)


def misnamed(names: int, outputs: int) -> UsageError:
    """Say that so many names are not those of so many outputs."""
    return UsageError(
        f"{names} names of classes for {counted(outputs, 'output')}",
        "one name per output, in their order",
    )


def _check_checkpoints_names(model: Model) -> None:
    """Leave out names that a file holds for other outputs than the network gives."""
    names = model.classes or []
    if len(names) == count_outputs(model.net):
        return
    model.classes, real = fitting(model, names)
    if real is not None:
        key = model.classes_source.removeprefix(FROM_CHECKPOINT)
        model.notes.append(_left_out(len(names), key, real))
        model.classes, model.classes_source = None, ""


def fitting(model: Model, names: list[str]) -> tuple[list[str], int | None]:
    """Give the names of a network's outputs, and how many it has where these are others.

    One output answers yes or no: of two names it has the second.
    """
    real = misfit(model, len(names))
    if real != 1 or len(names) != 2:
        return names, real
    said = (
        f"it has one output: of {names[0]} and {names[1]} the second is taken for what it says "
        "above 0 (--classes with one name says otherwise)"
    )
    model.notes.append(said)
    model.assumed.append(said)
    return names[1:], None
