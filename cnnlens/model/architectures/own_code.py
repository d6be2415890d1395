"""What a user's code computes by: its text without remarks, and that of the code it imports.

The key of a network from ``file.py:factory`` holds both, so that a comment changes nothing, and
another activation in a file that the factory's imports does.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import all_suffixes
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cnnlens.model.architectures.code_text import text_of

# whose text the versions of a workspace stand for, wherever they are installed from
_LIBRARIES = {"cnnlens", "torch", "torchvision", "timm", "transformers"}


def is_factory(spec: str) -> bool:
    """Whether a spec has the form of a factory (a file that exists under that name comes first)."""
    place, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier() or place in ("torchvision", "timm", "zoo"):
        return False
    return place.endswith(".py") or all(part.isidentifier() for part in place.split("."))


def folder_of(spec: str) -> Path:
    """Return the folder whose modules a factory's code can import: its file's, or the working one,
    which the console script, unlike `python -m`, leaves out.
    """
    place = spec.rpartition(":")[0]
    return Path(place).expanduser().resolve().parent if place.endswith(".py") else Path.cwd()


def imported_by(name: str, file: Path) -> dict[str, Path]:
    """Find a user's own modules that a module imports, wherever in it, and those that they import.

    Parameters
    ----------
    name : str
        The module's, with its packages; empty of a file that is none.
    file : pathlib.Path
        Where it is. Its folder must be in ``sys.path`` where its neighbours are to be found.

    Returns
    -------
    dict
        Names and files, without the module itself, Python's own and installed libraries.
    """
    if not is_own(name, file):
        return {}
    found: dict[str, Path] = dict(find_own(name)) if name else {}
    todo = [(name, file), *((n, f) for n, f in found.items() if f != file)]
    while todo:
        for wanted in _imports(*todo.pop()):
            for full, where in find_own(wanted):
                if full not in found:
                    found[full] = where
                    todo.append((full, where))
    return {full: where for full, where in found.items() if where != file}


def is_own(name: str, file: Path) -> bool:
    """Whether a module is a user's own code: neither Python's nor an installed library's."""
    first = name.partition(".")[0]
    if first in _LIBRARIES or first in sys.stdlib_module_names:
        return False
    return not any(file.is_relative_to(folder) for folder in _installed()) and not (
        {"site-packages", "dist-packages"} & {*file.parts}
    )


@cache
def _installed() -> tuple[Path, ...]:
    return tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def _imports(name: str, file: Path) -> Iterator[str]:
    """Yield the full names that a file imports; of names taken from a module, as if modules."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # compiled, for one
        return
    is_package = file.name == "__init__.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - is_package  # from . is the file's own package
            parts = name.split(".")[: -up if up > 0 else None] if node.level else []
            start = ".".join([*parts, *filter(None, [node.module])])
            if start:
                yield from (f"{start}.{alias.name}" for alias in node.names)


def find_own(name: str) -> Iterator[tuple[str, Path]]:
    """Yield a module's packages and itself, as far as they are a user's own, and their files."""
    folders = [Path(place or ".") for place in sys.path]
    parts = name.split(".")
    for number, part in enumerate(parts, 1):
        full = ".".join(parts[:number])
        file, folders = _find(part, folders)
        if file is not None:
            file = file.resolve()
            if not is_own(full, file):
                return
            yield full, file
        if not folders:
            return


def _find(part: str, folders: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """Find a module or package in folders, as Python does; and where its submodules are."""
    without_file = []
    for folder in folders:
        package = folder / part
        if (package / "__init__.py").is_file():
            return package / "__init__.py", [package]
        for suffix in all_suffixes():
            if (folder / f"{part}{suffix}").is_file():
                return folder / f"{part}{suffix}", []
        if package.is_dir():
            without_file.append(package)
    return None, without_file


@dataclass(frozen=True)
class Code:
    """What a factory's code computes by.

    Attributes
    ----------
    text : str
        Its own and that of the user's modules it imports, as far as they decide.
    before : str or None
        As fingerprints had it once: its file as it is; None where it imports others.
    """

    text: str
    before: str | None = None


_LOADED: dict[Path, dict[str, Path]] = {}  # what a file was seen to import when it was first loaded


def code_of(name: str, file: str | None, loaded: Mapping[str, Path]) -> Code:
    """Read the code behind a factory, while its folder is in ``sys.path``.

    Parameters
    ----------
    name : str
        Of its module, with its packages; empty where it is a file by itself.
    file : str or None
        Where it is.
    loaded : mapping
        Modules, and their files, that came with it.
    """
    if not file:
        return Code("")
    path = Path(file).resolve()
    _LOADED.setdefault(path, {}).update(loaded)
    others = {**_LOADED[path], **imported_by(name, path)}
    others = {n: f for n, f in others.items() if f != path and _read(f)}
    try:
        before = None if others else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        before = ""
    return Code(_read(path) + _joined(others), before)


def code_of_classes(net: nn.Module) -> Code:
    """Read the code of a network whose classes were imported as it was unpickled."""
    found: dict[str, Path] = {}
    for name in {type(module).__module__ for module in net.modules()}:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and is_own(name, path := Path(file).resolve()):
            found |= {name: path, **imported_by(name, path)}
    return Code(_joined(found), "")


def printed(net: nn.Module) -> str:
    """Print a network, for what neither its state dict nor its code say: sizes that were read
    elsewhere, strides, rates; and plain attributes of a user's own modules.
    """
    lines = [re.sub(r" at 0x[0-9a-f]+", "", repr(net))]
    for name, module in net.named_modules():
        own = sys.modules.get(type(module).__module__)
        file = getattr(own, "__file__", None)
        if file and is_own(type(module).__module__, Path(file).resolve()):
            held = {**vars(module), **module._buffers, "training": None}
            said = {key: _value(one) for key, one in held.items() if not key.startswith("_")}
            lines += [f"{name}.{key} {one}" for key, one in sorted(said.items()) if one]
    return "\n".join(lines)


def _value(one: object) -> str:
    """Say a plain value; empty of others, and of paths, which are not the same everywhere."""
    if isinstance(one, bool | int | float | complex | str):
        return "" if isinstance(one, str) and Path(one).is_absolute() else repr(one)
    if isinstance(one, list | tuple):
        return f"[{', '.join(map(_value, one))}]"
    if isinstance(one, dict):
        return f"{{{', '.join(f'{key!s} {_value(of)}' for key, of in one.items())}}}"
    if isinstance(one, np.ndarray) and one.dtype.kind in "biuf":
        return f"{one.dtype} {one.shape} {hashlib.sha256(one.tobytes()).hexdigest()}"
    if isinstance(one, torch.Tensor) and one.layout == torch.strided and not one.is_meta:
        array = one.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"{one.dtype} {tuple(one.shape)} {hashlib.sha256(array.data).hexdigest()}"
    return ""


def _joined(files: Mapping[str, Path]) -> str:
    return "".join(f"\0{name}\0{_read(file)}" for name, file in sorted(files.items()))


def _read(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError:
        return ""
    return text_of(content) if file.suffix == ".py" else hashlib.sha256(content).hexdigest()
