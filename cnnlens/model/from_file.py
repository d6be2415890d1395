"""Files as MODEL: recognised by their content, then opened the way each kind needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model import filetype, registry
from cnnlens.model.checkpoint import is_checkpoint, open_checkpoint
from cnnlens.model.exported import open_exported
from cnnlens.model.fit import Fit, build, fit
from cnnlens.model.infer import infer
from cnnlens.model.opened import Opened, described
from cnnlens.model.skeleton import shapes_of
from cnnlens.model.state import (
    State,
    find_module,
    modern_names,
    read_pickle,
    read_safetensors,
    read_torch,
    strip_prefixes,
    unwrap,
)

_READS = (
    "cnnlens opens PyTorch checkpoints and state dicts (.pt, .pth, .ckpt, .safetensors) "
    "and torch.export programs (.pt2)"
)
_ADVICE = {
    filetype.SCRIPT: "save net.state_dict(), or export it with torch.export",
    filetype.TEXT: "give Python code as file.py:factory",
}


def open_file(path: Path, arch: str | None = None, allow_pickle: bool = False) -> Opened:
    """Open whatever kind of model file this is.

    Raises
    ------
    UsageError
        When several architectures fit, `arch` does not exist, or does not go with this file.
    CnnlensError
        When the file is no model that can be opened; says what it seems to be.
    """
    kind = _kind(path)
    if kind == filetype.EXPORTED:
        if arch is not None:
            raise _needless(path, "an exported program")
        return open_exported(path, allow_pickle)
    if kind == filetype.SAFETENSORS:
        return _from_state(read_safetensors(path), path, arch)
    read = read_pickle if kind == filetype.PICKLE else read_torch
    return _from_content(read(path, allow_pickle), path, arch)


def _kind(path: Path) -> str:
    if path.is_dir():
        raise CnnlensError(f"{path} is a folder, not a model file", "name a file in it")
    try:
        kind = filetype.file_type(path)
    except OSError as error:
        raise CnnlensError(f"cannot read {path}: {error.strerror or error}") from error
    if kind in filetype.READABLE or kind == filetype.PICKLE:
        return kind
    what = "is empty" if kind == filetype.EMPTY else f"is {kind}, not a model"
    raise CnnlensError(f"{path} {what}", _ADVICE.get(kind, _READS))


def _from_content(content: Any, path: Path, arch: str | None) -> Opened:
    if is_checkpoint(content):
        if arch is not None:
            raise _needless(path, "a cnnlens checkpoint")
        return open_checkpoint(path, content)
    module = find_module(content)
    if module is not None and arch is None:  # only where pickles are allowed
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        return Opened(module, f"pickle:{kind}", notes=[f"unpickled {kind}"])
    state = unwrap(content)
    if state is None:
        raise CnnlensError(
            f"{path} holds {_holds(content)}, but no state dict",
            "save net.state_dict(), alone or under the key 'state_dict'",
        )
    return _from_state(state, path, arch)


def _holds(content: Any) -> str:
    if isinstance(content, dict):
        keys = ", ".join(str(key) for key in list(content)[:5])
        return f"a dict of {keys}" if keys else "an empty dict"
    return f"one {type(content).__name__}"


def _needless(path: Path, what: str) -> UsageError:
    return UsageError(f"{path} is {what} and knows its architecture", "leave out --arch")


def _from_state(state: State, path: Path, arch: str | None) -> Opened:
    stripped = modern_names(strip_prefixes(state))
    if arch is None:
        state = stripped
        found = infer(shapes_of(state), str(path))
    else:
        # a wrapper of the user's own may hold everything under `model.`, rightly
        known = registry.architecture(arch)
        fits = [(fit(known, shapes_of(s)), s) for s in (state, stripped)]
        found, state = max(fits, key=lambda pair: pair[0].closeness)
        _check_exact(found, path)
    net = build(found, state)
    extra = found.architecture.finish(net)
    notes = [f"{path.name} is {found.architecture.name}"] if arch is None else []
    if found.channels is not None:
        notes.append(f"its first convolution takes {found.channels} channels")
    return described(found.architecture, net, [*notes, *extra])


def _check_exact(found: Fit, path: Path) -> None:
    if not found.exact:
        raise CnnlensError(
            f"{path} does not fit {found.architecture.name}: {found.describe()}",
            "leave out --arch to have it inferred, or name the code that builds it",
        )
