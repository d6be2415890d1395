"""Nested trees as files, however deep."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnlens.cluster.tree import Pairs, nested, walk
from cnnlens.errors import CnnlensError
from cnnlens.files import write_json


def write_tree(
    path: Path,
    pairs: Pairs,
    leaves: Sequence[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]],
) -> None:
    """Write a tree as nested JSON (see `cnnlens.cluster.tree.nested`), whole or not at all."""
    with room_for(len(nodes)):
        write_json(path, nested(pairs, leaves, nodes))


@contextmanager
def room_for(depth: int) -> Iterator[None]:
    """Let the JSON of a tree be nested `depth` deep; the interpreter's usual limit is 1,000."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 4 * depth + 1000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def read_tree(path: Path, inner: Sequence[str] = ("distance",)) -> dict[str, Any]:
    """Read a nested tree; a damaged or foreign one is named as such.

    Raises
    ------
    CnnlensError
        When the file is missing or is no tree.
    """
    try:
        text = path.read_text(encoding="utf-8")
        with room_for(text.count("[")):
            tree = json.loads(text)
    except FileNotFoundError:
        raise CnnlensError(f"{path} does not exist", "`cnnlens cluster` makes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    for node in walk(tree):
        if not isinstance(node, dict):
            raise _damaged(path, "a node is no mapping")
        if "children" in node and (
            not isinstance(node["children"], list) or any(key not in node for key in inner)
        ):
            raise _damaged(path, "a node has no children or no " + ", ".join(inner))
    return dict(tree)


def _damaged(path: Path, why: str) -> CnnlensError:
    return CnnlensError(
        f"{path} is damaged: {why}", "remove it, or redo `cnnlens cluster` with --force"
    )
