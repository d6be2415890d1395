"""The head of the page: which model, which data, when, and the command lines that made it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnlens.report.contents import local, local_path


def header(document: Mapping[str, Any], sources: Iterable[Path], workspace: Path) -> dict[str, Any]:
    """Turn ``workspace.json`` into what the head of the page shows.

    Parameters
    ----------
    document : mapping
        ``workspace.json``; any of it may be missing, unknown keys are passed over.
    sources : iterable of pathlib.Path
        Result files; the newest dates the page, so that equal results make equal pages.
    workspace : pathlib.Path
        Paths are given from the folder it is in (see `cnnlens.report.contents.local`).
    """
    model = _mapping(document.get("model"))
    spec = str(model.get("spec") or "")
    facts = _facts(model, document, _date(sources), workspace)
    commands = [_command(entry) for entry in _list(document.get("commands"))]
    return {
        "eyebrow": "What the filters of a trained network have learned",
        "title": _short(spec) or "a model",
        "facts": [(term, local(text, workspace)) for term, text in facts],
        "commands": [local(line, workspace) for line in commands],
        "versions": [f"{name} {version}" for name, version in _versions(document)],
    }


def _facts(
    model: Mapping[str, Any], document: Mapping[str, Any], date: str, workspace: Path
) -> list[tuple[str, str]]:
    classes = model.get("classes")
    count = len(classes) if isinstance(classes, (list, dict)) else classes
    facts = [
        ("Model", local_path(str(model.get("spec") or ""), workspace)),
        ("Architecture", str(model.get("arch") or "")),
        ("Fingerprint", str(model.get("fingerprint") or "")),
        ("Input", preprocessing(_mapping(model.get("preprocess")))),
        ("Classes", str(count or "")),
        *(("Data", data_line(entry, workspace)) for entry in _list(document.get("data"))),
        ("Results of", date),
    ]
    return [(term, text) for term, text in facts if text]


def preprocessing(settings: Mapping[str, Any]) -> str:
    """Write preprocessing as one line: size first, what is at its default left out."""
    parts = []
    if size := settings.get("size"):
        parts.append(" × ".join(_number(side) for side in _list(size)))
    for key in ("mean", "std"):
        if values := settings.get(key):
            parts.append(f"{key} " + ", ".join(_number(value) for value in _list(values)))
    if resize := settings.get("resize"):
        parts.append(f"photos: shorter side {_number(resize)}, centre crop; with labels: squashed")
    for key, value in settings.items():
        if key not in ("size", "mean", "std", "source", "scale", "resize") and value not in (
            None,
            False,
            "",
        ):
            parts.append(key if value is True else f"{key} {_plain(value)}")
    if settings.get("scale") not in (None, 1, 1.0):
        parts.append(f"scale {_number(settings['scale'])}")
    if source := settings.get("source"):
        parts.append(f"({source})")
    return " · ".join(parts)


def data_line(entry: Any, workspace: Path) -> str:
    """Write a data set as one line: name, kind, number of images, folder."""
    if not isinstance(entry, Mapping):
        return local_path(str(entry), workspace)
    path = local_path(str(entry.get("path") or ""), workspace)
    name = str(entry.get("name") or _short(path))
    path = "" if path == name else path
    parts = [name, str(entry.get("kind") or "")]
    if isinstance(entry.get("images"), int):
        parts.append(f"{entry['images']:,} images")
    return " · ".join(part for part in [*parts, path] if part)


def _date(sources: Iterable[Path]) -> str:
    times = [path.stat().st_mtime for path in sources if path.exists()]
    return f"{datetime.fromtimestamp(max(times), UTC):%Y-%m-%d %H:%M} UTC" if times else ""


def _short(spec: str) -> str:
    return re.split(r"[\\/]", spec.rstrip("\\/"))[-1]


def _command(entry: Any) -> str:
    if isinstance(entry, Mapping):
        entry = entry.get("command") or entry.get("line") or ""
    return " ".join(str(word) for word in entry) if isinstance(entry, list) else str(entry)


def _versions(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(_mapping(document.get("versions")).items())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    return ", ".join(_number(item) for item in _list(value))
