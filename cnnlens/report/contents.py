"""What a workspace holds, and how its documents and lists of pictures are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.model.layers import file_name

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


def data_name(summary: Mapping[str, Any]) -> str:
    """Name what a summary was measured on; empty where it does not say."""
    data = summary.get("data")
    if isinstance(data, Mapping):
        data = data.get("name") or data.get("path")
    return str(data or "")


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
    document = read_object(file, ("pictures",))
    entries = document["pictures"]
    if not isinstance(entries, list):
        raise CnnlensError(f"{file} is damaged: it lists no pictures", REDO)
    if not all(isinstance(e, dict) and isinstance(e.get("file"), str) for e in entries):
        raise CnnlensError(f"{file} is damaged: a picture has no file", REDO)
    paths = [(entry, file.parent / entry["file"]) for entry in entries]
    return document, [(entry, path) for entry, path in paths if path.is_file()]


# -- layers --------------------------------------------------------------------------------------


def layer_names(document: Mapping[str, Any]) -> list[str]:
    """List the layers a workspace names, whether as strings or as objects with a name."""
    layers = document.get("layers") or []
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in layers]
    return [name for name in names if isinstance(name, str)]


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key under which ``layer10`` follows ``layer9``."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


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


def listed_layers(workspace: Path, command: str) -> Iterator[tuple[Path, dict[str, Any], Entries]]:
    """Yield file, document and pictures of every layer that has some, in order."""
    name = f"{command}.json"
    for folder in in_order(workspace, finished(workspace, command, name)):
        document, entries = listed(folder / name)
        if entries:
            yield folder / name, document, entries
