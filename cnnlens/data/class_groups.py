"""Groups of classes: from a file, or the branches of a tree of categories."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError, UsageError, did_you_mean

_SHOWN = 3  # classes of a branch that its name spells out
_HINT = 'JSON {"animal": ["cat", "dog"]}, or lines such as `animal: cat, dog`'


def read_class_groups(path: Path, classes: Iterable[str]) -> dict[str, list[str]]:
    """Read groups of classes from JSON, or from lines ``name: class, class``.

    Raises
    ------
    UsageError
        When there is no such file, or a group names a class that is none.
    CnnlensError
        When it is written otherwise.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UsageError(f"{path} cannot be read: {reason}", f"it holds {_HINT}") from error
    known = sorted(set(classes))
    groups = _parsed(path, text)
    for name, members in groups.items():
        if name in known:
            raise UsageError(f"{path}: group '{name}' is called like a class", "rename it")
        for member in members:
            if member not in known:
                hint = did_you_mean(member, known) or f"there are {', '.join(known[:8])}"
                raise UsageError(f"{path}: group '{name}' has no class '{member}'", hint)
    return groups


def _parsed(path: Path, text: str) -> dict[str, list[str]]:
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise CnnlensError(f"{path} is not JSON: {error}", f"it holds {_HINT}") from error
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        pairs = [line.partition(":") for line in lines if not line.startswith("#")]
        found = {
            name.strip(): [one.strip() for one in rest.split(",") if one.strip()] if colon else None
            for name, colon, rest in pairs
        }
    good = isinstance(found, dict) and all(_is_group(members) for members in found.values())
    if not found or not good:
        raise CnnlensError(f"{path} holds no groups of classes", f"it holds {_HINT}")
    return dict(found)


def _is_group(members: Any) -> bool:
    return isinstance(members, list) and bool(members) and all(isinstance(m, str) for m in members)


def branches(tree: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name every branch of a nested tree of categories by its classes; the root is left out."""
    found: dict[str, list[str]] = {}
    waiting: list[tuple[Mapping[str, Any], list[str]]] = []

    def leaves(node: Mapping[str, Any]) -> list[str]:
        names, left = [], [node]
        while left:
            one = left.pop()
            left += reversed(one.get("children", ()))
            names += [] if one.get("children") else [str(one["name"])]
        return names

    waiting = [(child, leaves(child)) for child in tree.get("children", ())]
    while waiting:
        node, members = waiting.pop()
        if len(members) > 1:
            found[_name(members, found)] = members
            waiting += [(child, leaves(child)) for child in node["children"]]
    return found


def _name(members: Sequence[str], taken: Mapping[str, Any]) -> str:
    shown = "/".join(members[:_SHOWN])
    name = shown if len(members) <= _SHOWN else f"{shown}/… ({len(members)})"
    return name if name not in taken else "/".join(members)
