"""How the network of a file is fed: by what the file says, and else as its architecture's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnlens.model.architectures import (
    Architecture,
    Opened,
    built_for,
    first_convolution,
    shapes_of,
    timm,
)
from cnnlens.model.cifar import SIZE as CIFAR
from cnnlens.model.entries import View
from cnnlens.model.fit import Fit, fit
from cnnlens.model.normalization import Normalization, find_normalization
from cnnlens.model.noted import Noted
from cnnlens.model.preprocess import Preprocess

_FED = ("size", "mean", "std")  # what makes a preprocessing
_OURS = ("torchvision", "timm")  # whose preprocessing is that of their weights, and not the file's


def as_noted(views: Sequence[View], name: str | None, noted: Noted) -> tuple[View, Fit] | None:
    """Build a network of timm with the arguments that a file notes, where that fits it exactly."""
    if not noted.builder or name not in timm.names():
        return None
    plain = timm.architecture(name)
    arguments = {"num_classes": plain.outputs, **noted.builder}
    known: Architecture = replace(plain, options=lambda _: (arguments,))
    for view in views:
        try:
            found = fit(known, shapes_of(view.state))
        except Exception:  # whatever a builder makes of arguments of another version
            return None
        if found.exact:
            return view, found
    return None


def fed_as_said(
    opened: Opened, view: View, left: list[str], noted: Noted, built: bool
) -> tuple[Opened, tuple[str, ...]]:
    """Give a network the preprocessing that its file says; what it does not say is assumed.

    Parameters
    ----------
    opened : Opened
        As its architecture describes it.
    view : View
        Its tensors, and those beside it.
    left : list of str
        Names of its own that its architecture lacks.
    noted : Noted
        What its training script noted.
    built : bool
        Whether it was built with the arguments noted.

    Returns
    -------
    (Opened, tuple of str)
        And names of the tensors that were read for it.
    """
    notes, first = [], first_convolution(opened.net)
    known = opened.preprocess
    if known is None or first is None:
        return opened, ()
    if known.source in _OURS:
        known = replace(known, source="assumed")
    own, odd = find_normalization(view, left, first[1].in_channels)
    fed = _said(opened, noted, own)
    if len(fed.get("mean", fed.get("std", known.mean))) != known.channels:
        known = known.with_channels(first[1].in_channels)
    if {"mean", "std"} <= fed.keys():
        known = replace(known, scale=1.0, bgr=False)
    known = replace(known, **fed, source=_source(known.source, fed, noted, own))
    if odd:
        notes.append(f"{', '.join(odd)}: this looks like a normalization of the input, and is left "
                     "out; --mean and --std say it, or --arch file.py:factory")  # fmt: skip
    if unread := _unread(noted, built, fed):
        notes.append(f"{noted.place} says {', '.join(unread)}: not used")
    if own is not None:
        taken = f"{' and '.join(own.names)} taken for mean and std of the input"
        opened.stripped = [*opened.stripped, taken]
    if any(key in fed for key in _FED):
        opened.assumed = [said for said in opened.assumed if said != CIFAR]
        opened.notes = [said for said in opened.notes if said != CIFAR]
    return replace(
        opened, preprocess=known, notes=[*opened.notes, *notes]
    ), own.names if own else ()


def is_said(preprocess: Preprocess) -> bool:
    """Whether a file said any of it."""
    return preprocess.source not in ("assumed", "zoo", *_OURS)


def _said(opened: Opened, noted: Noted, own: Normalization | None) -> dict[str, Any]:
    """Fields of the preprocessing that the file says; its own layer counts before options."""
    fed = dict(noted.fed)
    if own is not None:
        fed |= {"mean": own.mean, "std": own.std}
    if (
        opened.fixed_size
        and "size" in fed
        and fed["size"] != (built_for(opened.net) or fed["size"])
    ):
        fed = {key: value for key, value in fed.items() if key not in ("size", "resize")}
    if "size" not in fed and opened.preprocess is not None:
        resize = noted.resize(opened.preprocess.size)  # a share, of the size that is assumed
        fed |= {} if resize is None else {"resize": resize}
    return fed


def _unread(noted: Noted, built: bool, fed: Mapping[str, Any]) -> list[str]:
    """What is noted and not used, with its values."""
    unread = list(noted.unread)
    unread += [f"{k} {noted.fed[k]}" for k in _FED if k in noted.fed and fed.get(k) != noted.fed[k]]
    return unread + ([] if built else [f"{key} {value}" for key, value in noted.builder.items()])


def _source(before: str, fed: Mapping[str, Any], noted: Noted, own: Normalization | None) -> str:
    """Who says how a network is fed, for people; it begins with "assumed" where nobody says its
    size.
    """
    said = [key for key in _FED if key in fed]
    if not said:
        return before
    whose = dict.fromkeys(noted.place for key in said if fed[key] is noted.fed.get(key))
    if own is not None:
        whose[own.names[0].rpartition(".")[0] or own.names[0]] = None
    by = ", ".join(whose)
    if len(said) == len(_FED):
        return by
    if "size" in said:
        lacking = " and ".join(key for key in _FED if key not in said)
        return f"{by}; {lacking} assumed"
    return f"assumed; {' and '.join(said)}: {by}"
