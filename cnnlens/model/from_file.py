"""Files as MODEL: recognised by their content (extensions lie), then opened as each kind needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from cnnlens.errors import CnnlensError
from cnnlens.model.architectures import (
    Opened,
    described,
    first_convolution,
    shapes_of,
)
from cnnlens.model.architectures.own_code import is_factory
from cnnlens.model.beside import unsure
from cnnlens.model.called import called_in, called_otherwise, plain_name
from cnnlens.model.checkpoint import is_checkpoint, open_checkpoint
from cnnlens.model.dense import MAY_BE_DILATED, as_torchvision_dilates, may_be_dilated, pad_as_smp
from cnnlens.model.entries import Entry, View, choose, find_entries, find_views, listed
from cnnlens.model.exported import open_exported
from cnnlens.model.fed import as_noted, fed_as_said, is_said
from cnnlens.model.file_kinds import EXPORTED, PICKLE, SAFETENSORS, kind_of
from cnnlens.model.fit import Fit, build
from cnnlens.model.hub import folder_of, open_folder, read_parts, unnamed_in
from cnnlens.model.module_names import unsure as called_unlike
from cnnlens.model.module_names import with_modules
from cnnlens.model.noted import noted_in
from cnnlens.model.other_names import renamed
from cnnlens.model.output_names import with_names
from cnnlens.model.parametrized import refuse_transformers, refuse_unfinished, whole_weights
from cnnlens.model.parts import networks_beside
from cnnlens.model.recognise import held_against, is_known, recognise
from cnnlens.model.timm_folder import CONFIG, full_name
from cnnlens.model.unpickled import open_unpickled
from cnnlens.model.weights_file import (
    State,
    find_module,
    read_header,
    read_pickle,
    read_safetensors,
    read_torch,
)

NAMELESS = f"{CONFIG} names no known architecture and is not read: the weights alone are"


def open_file(
    path: Path,
    arch: str | None = None,
    allow_pickle: bool = False,
    weights: str | None = None,
) -> Opened:
    """Open whatever kind of model file this is; `weights` names an entry of it.

    Raises
    ------
    UsageError
        When several architectures fit, `arch` does not exist, or does not go with this file.
    CnnlensError
        When the file is no model that can be opened; says what it seems to be.
    """
    if arch is None and (folder := folder_of(path)) is not None:
        return open_folder(folder, None, weights, path.name)
    if (parts := read_parts(path)) is not None:
        return _from_content(parts, path, arch, weights)
    if (unnamed := unnamed_in(path, weights)) is not None:
        file, key = unnamed
        opened = open_file(file, arch, allow_pickle, key)
        return replace(opened, notes=[*opened.notes, NAMELESS])
    if path.is_dir():
        return open_folder(path, arch, weights)
    kind = kind_of(path)
    if kind == EXPORTED:
        return _needless(open_exported(path, allow_pickle), arch, path)
    if kind == SAFETENSORS:
        header = read_header(path)
        return _from_content(read_safetensors(path), path, arch, weights, header)
    read = read_pickle if kind == PICKLE else read_torch
    return _from_content(read(path, allow_pickle), path, arch, weights)


def _from_content(
    content: Any,
    path: Path,
    arch: str | None,
    weights: str | None = None,
    told: Any = None,
) -> Opened:
    """Open what was read; `told` is said of it elsewhere: in the header of a safetensors file."""
    told = told or content
    return replace(_network_in(content, path, arch, weights, told), epoch=epoch_in(content))


def epoch_in(content: Any) -> float | None:
    """Read how far a training was when it wrote a file: a number under ``epoch``, at the top."""
    found = content.get("epoch") if isinstance(content, Mapping) else None
    if isinstance(found, torch.Tensor) and found.numel() == 1:
        found = found.item()
    if not isinstance(found, Real) or isinstance(found, bool):
        return None
    epoch = float(found)
    if not isfinite(epoch) or epoch < 0:
        return None
    return int(epoch) if epoch.is_integer() else epoch


def _network_in(
    content: Any, path: Path, arch: str | None, weights: str | None, told: Any
) -> Opened:
    if is_checkpoint(content) and weights is None:
        return _needless(open_checkpoint(path, content, arch), arch, path)
    module, beside = find_module(content, weights)
    if module is not None and arch is None:  # only where pickles are allowed
        return open_unpickled(module, content, path, beside)
    refuse_unfinished(path, content)
    entries = find_entries(content)
    if not entries:
        raise CnnlensError(
            f"{path} holds {_holds(content)}, but no state dict",
            "save net.state_dict(), alone or under the key 'state_dict'",
        )
    entry, others = choose(entries, weights, path)
    opened = _from_state(entry, path, arch, told)
    if others:
        opened.notes = [*opened.notes, _said_of_others(entry, others, arch, told)]
    return with_names(opened, told)


def _said_of_others(entry: Entry, others: Sequence[Entry], arch: str | None, told: Any) -> str:
    """Name what a file holds beside the weights that are opened; which of it opens, too."""
    own = shapes_of(entry.state)
    opening: dict[bool, list[str]] = {True: [], False: []}
    for one in others:
        opens = shapes_of(one.state) == own or (arch is None and _opens(one.state, told))
        opening[opens].append(one.path)
    parts = [
        f"{entry.path or 'its top level'} is opened",
        *([f"--weights opens {', '.join(opening[True])}"] if opening[True] else ()),
        *([f"beside it lies {', '.join(opening[False])}"] if opening[False] else ()),
    ]
    return "; ".join(parts)


def _opens(state: State, told: Any) -> bool:
    """Whether weights are those of a network that is quickly told to be known."""
    try:
        whole, _ = whole_weights(state)
        return is_known(find_views(renamed(whole).state), _named_in(told))
    except CnnlensError:
        return False


def _named_in(content: Any) -> str | None:
    """The plain name by which a file calls its architecture."""
    name = called_in(content)
    return None if name is None else plain_name(name)


def _holds(content: Any) -> str:
    if isinstance(content, dict):
        keys = ", ".join(str(key) for key in list(content)[:5])
        return f"a dict of {keys}" if keys else "an empty dict"
    return f"one {type(content).__name__}"


def _needless(opened: Opened, arch: str | None, path: Path) -> Opened:
    """Say that `arch` changes nothing, where a file itself says how it is built."""
    if arch is not None and arch.rpartition(":")[2] != opened.arch.rpartition(":")[2]:
        said = f"{path.name} says itself that it is {opened.arch}; --arch {arch} is not used"
        opened.notes = [*opened.notes, said]
    return opened


def _from_state(entry: Entry, path: Path, arch: str | None, told: Any) -> Opened:
    whole, merged = whole_weights(entry.state)
    other = renamed(whole)
    views = [with_modules(view, entry.modules) for view in find_views(other.state)]
    hint = other.hint or _named_in(told)
    built = None
    if arch is None:
        refuse_transformers(path, whole)
        noted = noted_in(told, 3)
        built = as_noted(views, hint, noted)
        view, found = built or recognise(views, str(path), hint)
    else:
        # a wrapper of the user's own may hold everything under `model.`, rightly
        view, found = held_against(arch, [View("", whole), *views])
        _check_exact(found, path, arch)
    found, dilated = as_torchvision_dilates(view, found) if arch is None else (found, [])
    net = build(found, view.state)
    dilated += pad_as_smp(view, found, net) if arch is None else []
    extra = [*found.architecture.finish(net), *other.assumed, *dilated]
    name = full_name(found) if built else found.architecture.name
    if arch is None:
        twins = unsure(view, found, f"{path.parent.name} {path.name} {hint or ''}")
        own = not (
            found.has_features or built or other.hint
        )  # a part has another name than the whole
        extra += twins or (called_otherwise(told, name) if own else [])
        extra += [] if twins else called_unlike(with_modules(view, entry.modules), found, hint)
    notes = [f"{path.name} is {name}"] if arch is None else []
    if found.channels is not None:
        count = "1 channel" if found.channels == 1 else f"{found.channels} channels"
        notes.append(f"its first convolution takes {count}")
    notes += _number_types(view.state)
    opened = described(found.architecture, net, [*notes, *extra])
    opened.arch = name
    opened.decides("".join([*(change.said for change in found.changes), *dilated]))
    noted = noted_in(told, stem[1].in_channels if (stem := first_convolution(net)) else 3)
    opened, read = fed_as_said(opened, view, found.left_out, noted, built is not None)
    view = replace(view, beside={k: v for k, v in view.beside.items() if k not in read})
    found = replace(found, left_out=[k for k in found.left_out if view.prefix + k not in read])
    others = networks_beside(view, found, views)
    return _recorded(opened, view, found, [*merged, *other.said], extra, others)


def _number_types(state: State) -> list[str]:
    """Say what weights were kept in, where they are computed in another type of number."""
    kept = {t.dtype for t in state.values() if t.is_floating_point()} - {torch.float32}
    names = ", ".join(sorted(str(d).removeprefix("torch.") for d in kept))
    return [f"weights kept in {names}, computed in float32"] if names else []


def _recorded(
    opened: Opened,
    view: View,
    found: Fit,
    merged: Sequence[str],
    extra: Sequence[str],
    others: Sequence[str],
) -> Opened:
    """Note what was stripped and assumed."""
    left = [*view.beside, *found.left_out]
    opened.stripped = [*merged, *view.stripped, *opened.stripped]
    opened.stripped += [f"left out: {listed(left)}"] * bool(left)
    changed = [change for change in found.changes if change.said]
    opened.assumed = [
        *(said for said in extra if said in opened.notes),
        *(change.said for change in changed if change.assumed),
    ]
    known = len(opened.assumed)  # which are notes already
    own = found.channels or any(change.stem for change in changed)
    if own and opened.preprocess is not None and not is_said(opened.preprocess):
        opened.preprocess = replace(opened.preprocess, source="assumed")
        opened.assumed.append(f"preprocessing: that of {opened.arch}, which has another stem")
    if said := _of_contrast(view, found):
        opened.assumed.append(said)
    if found.headless or said:
        opened.classes, opened.classes_source, opened.headless = None, "", True
    if opened.headless and may_be_dilated(view, found):
        opened.assumed.append(MAY_BE_DILATED)
    opened.notes = [
        *opened.notes,
        *([f"read: {'; '.join(opened.stripped)}"] if opened.stripped else ()),
        *(change.said for change in changed),
        *opened.assumed[known:],
        *([f"it also holds {', '.join(others)}: --weights opens it"] if others else ()),
    ]
    return opened


_CONTRAST = re.compile(
    r"(^|[._])(queue|encoder_k|prototypes|predictor|projector|projection_head)(_ptr)?($|\.)"
)


def _of_contrast(view: View, found: Fit) -> str:
    """Say that what comes out is no classes, where what stands beside learns without labels."""
    beside = [name for name in view.beside if _CONTRAST.search(name)]
    if found.headless or not beside:
        return ""
    return (
        f"{listed(beside)} beside it: it learned by contrast, without classes; its outputs are "
        "features"
    )


def _check_exact(found: Fit, path: Path, arch: str) -> None:
    if found.exact:
        return
    own = is_factory(arch) and not found.lacks_statistics
    raise CnnlensError(
        f"{path} does not fit {found.architecture.name}: {found.describe()}",
        "its code builds another network than was saved, where these differ"
        if own
        else found.hint(),
    )
