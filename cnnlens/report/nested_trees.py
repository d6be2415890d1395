"""Trees as nested JSON, however deep: written and read in linear time, without recursion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.cluster.tree import Pairs, between, roots, spell, walk
from cnnlens.errors import CnnlensError
from cnnlens.files import write_text
from cnnlens.report.contents import parse_nested

REDO = "redo `cnnlens cluster` with --force"


def write_tree(
    path: Path,
    pairs: Pairs,
    leaves: Sequence[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]],
) -> None:
    """Write a tree as nested JSON, a node to a line, whole or not at all.

    `pairs` are (merges, 2), see `cnnlens.cluster.tree`; `leaves` and `nodes` are what each leaf and
    each merge says, which its children join. Where several subtrees remain, a node over all of them
    is the root, whose entries are None.
    """
    text = _nested(pairs, leaves, nodes)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is no Unicode: JSON has escapes for it
        text = _nested(pairs, leaves, nodes, only_ascii=True)
    write_text(path, text)


def _nested(
    pairs: Pairs,
    leaves: Sequence[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]],
    only_ascii: bool = False,
) -> str:
    count, top = len(leaves), roots(pairs, len(leaves))
    unsaid: dict[str, Any] = dict.fromkeys(nodes[0] if len(nodes) else ("distance",))

    def said(entry: Mapping[str, Any]) -> str:
        return json.dumps(dict(entry), ensure_ascii=only_ascii, allow_nan=False)

    def inner(entry: Mapping[str, Any], children: Sequence[int]) -> list[int | str]:
        return [said(entry)[:-1] + ', "children": [\n', *between(children, ",\n"), "\n]}"]

    def expand(node: int) -> Sequence[int | str]:
        if node < count:
            return [said(leaves[node])]
        if node == count + len(nodes):
            return inner(unsaid, top)
        return inner(nodes[node - count], pairs[node - count].tolist())

    return spell(top[0] if len(top) == 1 else count + len(nodes), expand) + "\n"


def read_tree(path: Path, inner: Sequence[str] = ("distance",)) -> dict[str, Any]:
    """Read a nested tree; a damaged or foreign one is named as such.

    Raises
    ------
    CnnlensError
        When the file is missing or is no tree.
    """
    try:
        tree = parse_nested(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CnnlensError(f"{path} does not exist", "`cnnlens cluster` makes it") from None
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    for node in walk(tree):
        if not isinstance(node, dict):
            raise _damaged(path, "a node is no mapping")
        if "children" in node and (
            not isinstance(node["children"], list) or any(key not in node for key in inner)
        ):
            raise _damaged(path, "a node has no children or no " + ", ".join(inner))
        if not isinstance(unit := node.get("critical_filter"), int | None):
            raise _damaged(path, f"a filter is called {unit!r}")
    return dict(tree)


def _damaged(path: Path, why: str) -> CnnlensError:
    return CnnlensError(f"{path} is damaged: {why}", f"remove it, or {REDO}")
