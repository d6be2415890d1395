"""What a workspace holds: how its files are named, its documents and lists of pictures read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar, cast

from cnnlens.errors import CnnlensError
from cnnlens.files import free_name, read_json
from cnnlens.files.ledger import read_list
from cnnlens.model.layer import file_name
from cnnlens.model.matching import natural

T = TypeVar("T")
Entries = list[tuple[dict[str, Any], Path]]  # of a list of pictures, each with its file

REDO = "redo the command with --force"


@contextmanager
def reading(file: Path, redo: str = REDO) -> Iterator[None]:
    """Name a file as damaged where what is read of it is not as it should be."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OSError, RuntimeError) as error:
        raise CnnlensError(f"{file} is damaged: {error!r}", redo) from error


# -- documents -----------------------------------------------------------------------------------


def read_object(path: Path, keys: Sequence[str] = (), redo: str = REDO) -> dict[str, Any]:
    """Read a JSON object that has some keys.

    Raises
    ------
    CnnlensError
        Naming the file, when it is damaged; `redo` is its hint.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise CnnlensError(f"{path} is damaged: not a JSON object", redo)
    if missing := [key for key in keys if key not in document]:
        raise CnnlensError(f"{path} is damaged: it lacks {', '.join(missing)}", redo)
    return document


def read_workspace(workspace: Path) -> dict[str, Any]:
    """Read ``workspace.json``; an empty dict where there is none."""
    path = workspace / "workspace.json"
    return read_object(path) if path.exists() else {}


def listed(file: Path) -> tuple[dict[str, Any], Entries]:
    """Read the JSON that lists a command's pictures, and those of them that are there.

    Returns
    -------
    dict, list of (dict, pathlib.Path)
        The document; entry and file of every picture.

    Raises
    ------
    CnnlensError
        When it lists none, or a picture has no file.
    """
    document, entries = read_list(file, "pictures", REDO)
    paths = [(entry, file.parent / entry["file"]) for entry in entries]
    return document, [(entry, path) for entry, path in paths if path.is_file()]


_STRING_OR_BRACE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}]', re.DOTALL)


def parse_nested(text: str) -> Any:
    """Parse JSON whose objects may be nested to any depth.

    Python's own parser recurses, and a tree that is a chain of thousands is too deep for it. Here
    it only ever sees one object: those inside were parsed before it and are ``NaN`` in its text, a
    word that is no JSON.

    Raises
    ------
    ValueError
        When it is no JSON, or lists are nested in one object deeper than Python's parser goes.
    """
    texts: list[list[str]] = [[]]  # of every open object, what was read of it
    inside: list[list[Any]] = [[]]  # and the objects inside it, in their order
    end = 0
    for token in _STRING_OR_BRACE.finditer(text):
        if token[0] == "{":
            texts[-1] += [text[end : token.start()], "NaN"]
            texts.append([])
            inside.append([])
            end = token.start()
        elif token[0] == "}" and len(texts) > 1:
            texts[-1].append(text[end : token.end()])
            made = _shallow("".join(texts.pop()), inside.pop())
            inside[-1].append(made)
            end = token.end()
    if len(texts) > 1:
        raise ValueError("it ends inside an object")
    return _shallow("".join(texts[0]) + text[end:], inside[0])


def _shallow(text: str, inside: list[Any]) -> Any:
    """Parse one object, putting those inside where ``NaN`` stands."""
    waiting = iter(inside)

    def take(word: str) -> Any:
        made = next(waiting, None)
        if word != "NaN" or made is None:
            raise ValueError(f"{word} is no JSON")
        return made

    try:
        return json.loads(text, parse_constant=take)
    except RecursionError as error:
        raise ValueError("its lists are nested too deep") from error


# -- layers --------------------------------------------------------------------------------------


def layer_names(document: Mapping[str, Any]) -> list[str]:
    """List the layers a workspace names, whether as strings or as objects with a name."""
    layers = document.get("layers") or []
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in layers]
    return [name for name in names if isinstance(name, str)]


def finished(workspace: Path, command: str, file: str = "summary.json") -> list[Path]:
    """List the folders of layers that a command has finished, by name.

    Those without `file` are not finished; hidden ones are what a killed run left.
    """
    found = (path.parent for path in (workspace / command).glob(f"*/{file}"))
    return sorted(folder for folder in found if not folder.name.startswith("."))


def in_order(workspace: Path, folders: list[Path]) -> list[Path]:
    """Sort layers' folders as the workspace names the layers, then by name."""
    known = layer_names(read_workspace(workspace))
    order = {file_name(name): index for index, name in enumerate(known)}
    return sorted(folders, key=lambda p: (order.get(p.name, len(order)), natural(p.name)))


_known: ContextVar[dict[tuple[Any, Path], Any] | None] = ContextVar("_known", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Within this block `read_layers` reads each folder once: one state of it, and no file twice.

    What it gives is then several readers' own, who leave it as it is.
    """
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def read_layers(workspace: Path, command: str, read: Callable[[Path], T]) -> list[T]:
    """Read the folder of every layer that a command has finished, in order."""
    known = _known.get()

    def of(folder: Path) -> T:
        if known is None:
            return read(folder)
        if (read, folder) not in known:
            known[read, folder] = read(folder)
        return cast("T", known[read, folder])

    return [of(folder) for folder in in_order(workspace, finished(workspace, command))]


def read_summary(folder: Path, redo: str) -> tuple[str, dict[str, Any]]:
    """Read ``summary.json`` of a layer's folder: the layer's name, and all of it."""
    summary = read_object(folder / "summary.json", redo=redo)
    return str(summary.get("layer") or folder.name), summary


def check_numbers(found: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse something else where people expect a number (`ValueError`)."""
    for key in keys:
        value = found.get(key)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value)):
            raise ValueError(f"{key} is {value!r}, not a number")


def write_scales(file: Any, axes: Sequence[str], tables: Sequence[str]) -> None:
    """Name the axes of an HDF5 file's tables, and say by arrays of those names what is where."""
    for axis, name in enumerate(axes):
        file[name].make_scale(name)
        for table in tables:
            file[table].dims[axis].attach_scale(file[name])
            file[table].dims[axis].label = name


def listed_layers(workspace: Path, command: str) -> Iterator[tuple[Path, dict[str, Any], Entries]]:
    """Yield file, document and pictures of every layer that has some, in order."""
    name = f"{command}.json"
    for folder in in_order(workspace, finished(workspace, command, name)):
        document, entries = listed(folder / name)
        if entries:
            yield folder / name, document, entries


# -- paths, without the machine they were written on ---------------------------------------------

_ROOT = r"(?:/|[A-Za-z]:\\)"
_PATH = re.compile(
    rf"(?P<before>^|[\s=,(\[])(?P<quote>['\"])(?P<quoted>{_ROOT}[^'\"]*)(?P=quote)"
    rf"|(?P<start>^|[\s='\",(\[])(?P<plain>{_ROOT}[^\s'\",)\]]*)"
)


def local(text: str, workspace: Path) -> str:
    """Say a text without the machine it was written on (see `local_path`), for pages to share."""

    def shorter(found: re.Match[str]) -> str:
        if found["plain"] is not None:
            return found["start"] + local_path(found["plain"], workspace)
        quote = found["quote"]
        return found["before"] + quote + local_path(found["quoted"], workspace) + quote

    return _PATH.sub(shorter, text)


def local_path(path: str, workspace: Path) -> str:
    """Name a path from the folder the workspace is in, or the home (``~``); else its last part."""
    for base, mark in ((workspace.resolve().parent, ""), (Path.home(), "~/")):
        if len(base.parts) > 1 and path.startswith(f"{base}/"):
            return mark + path[len(str(base)) + 1 :].rstrip("/")
    return last_part(path) or path if re.match(_ROOT, path) else path


def last_part(path: str) -> str:
    """Give the last part of a path of any system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


# -- file names ----------------------------------------------------------------------------------

_LONGEST = 120  # bytes; with an ending and a mark beside it, still below what disks allow


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Give every name a file name of its own, without ending: safe on any disk.

    Letters and digits of any script stay, all else becomes ``_``. Names that would then be equal,
    to a disk that does not tell cases apart either, get numbers: ``a_b``, ``a_b-2``.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        free = free_name(_plain(name), lambda free: free.casefold() in taken)
        taken.add(free.casefold())
        found[name] = free
    return found


def _plain(name: str) -> str:
    text = re.sub(r"[^\w.@+ -]", "_", name, flags=re.UNICODE).strip()
    text = text.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore").rstrip(" .")
    return f"_{text}" if text.startswith(".") or not text else text
