"""What a workspace holds: its document, its layers in order, what each command left in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.model.layers import file_name


def read_workspace(workspace: Path) -> dict[str, Any]:
    """Read ``workspace.json``; an empty dict where there is none."""
    path = workspace / "workspace.json"
    return read_object(path) if path.exists() else {}


def read_object(path: Path, keys: tuple[str, ...] = (), redo: str = "") -> dict[str, Any]:
    """Read a JSON object that has some keys.

    Raises
    ------
    CnnlensError
        Naming the file, when it is damaged; `redo` is its hint.
    """
    document = read_json(path)
    redo = redo or "redo the command with --force"
    if not isinstance(document, dict):
        raise CnnlensError(f"{path} is damaged: not a JSON object", redo)
    if missing := [key for key in keys if key not in document]:
        raise CnnlensError(f"{path} is damaged: it lacks {', '.join(missing)}", redo)
    return document


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


def listed(file: Path) -> tuple[dict[str, Any], list[tuple[dict[str, Any], Path]]]:
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
        raise CnnlensError(f"{file} is damaged: it lists no pictures", "redo it with --force")
    if not all(isinstance(e, dict) and isinstance(e.get("file"), str) for e in entries):
        raise CnnlensError(f"{file} is damaged: a picture has no file", "redo it with --force")
    paths = [(entry, file.parent / entry["file"]) for entry in entries]
    return document, [(entry, path) for entry, path in paths if path.is_file()]


def listed_layers(
    workspace: Path, command: str
) -> Iterator[tuple[Path, dict[str, Any], list[tuple[dict[str, Any], Path]]]]:
    """Yield file, document and pictures of every layer that has some, in order."""
    name = f"{command}.json"
    for folder in in_order(workspace, finished(workspace, command, name)):
        document, entries = listed(folder / name)
        if entries:
            yield folder / name, document, entries


def finite(value: Any) -> float | None:
    """Return a number as a float, and None for what is missing, empty or not finite."""
    if value is None or isinstance(value, bool) or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None


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
    if not re.match(_ROOT, path):
        return path
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or path


@contextmanager
def reading(file: Path, redo: str = "redo the command with --force") -> Iterator[None]:
    """Name a file as damaged where what was read of it is not as it should be."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CnnlensError(f"{file} is damaged: {error!r}", redo) from error


def number(value: Any, digits: int = 0) -> str:
    """Write a number for people: thousands apart, a dash for what is not known."""
    return "–" if value is None else f"{value:,.{digits}f}"


def signed(value: float, digits: int = 0) -> str:
    """Write a difference with its sign; one that rounds to 0 has none."""
    text = f"{value:+,.{digits}f}"
    return text[1:] if not text.strip("+-0.,") else text.replace("-", "−")


def percent(value: Any) -> str:
    """Write a share as per cent."""
    return "–" if value is None else f"{100 * value:.1f} %"


class Clustering(NamedTuple):
    """What ``cluster`` found of one kind on a layer, and the summary that says so."""

    layer: str
    folder: Path
    file: Path
    found: dict[str, Any]


def read_clustering(workspace: Path, kind: str) -> list[Clustering]:
    """Read what ``cluster`` found of a kind (categories, filters, embed) on every layer.

    Raises
    ------
    CnnlensError
        When a summary is damaged.
    """
    layers = []
    for folder in finished(workspace, "cluster"):
        document = read_object(
            file := folder / "summary.json", redo="redo `cnnlens cluster --force`"
        )
        if isinstance(found := document.get(kind), dict):
            layers.append(Clustering(str(document.get("layer", folder.name)), folder, file, found))
    return layers
