"""Binary trees as tables of merges, and the forms they are written in: nested JSON and Newick.

Merge i joins two earlier nodes, as in scipy's linkage matrices: numbers below n are leaves, n + i
is merge i. Everything here goes bottom up along the table, so that no tree is too deep, and trees
that have not grown together (several roots) are as good as any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Pairs = np.ndarray  # (n - 1, 2) integers, fewer where several roots are left


def roots(pairs: Pairs, leaves: int) -> list[int]:
    """Numbers of the nodes that no merge joins, ascending."""
    joined = set(np.asarray(pairs, int).ravel().tolist())
    return [node for node in range(leaves + len(pairs)) if node not in joined]


def nested(
    pairs: Pairs, leaves: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Nest a tree as JSON does: what each node says, and its children.

    Parameters
    ----------
    pairs : numpy.ndarray
        (merges, 2).
    leaves : sequence of mapping
        What each leaf says.
    nodes : sequence of mapping
        What each merge says.

    Returns
    -------
    dict
        The root. Where several subtrees remain, a node over all of them whose entries are None.
    """
    made: list[dict[str, Any]] = [dict(leaf) for leaf in leaves]
    for (a, b), said in zip(np.asarray(pairs, int).tolist(), nodes, strict=True):
        made.append({**said, "children": [made[a], made[b]]})
    top = roots(pairs, len(leaves))
    if len(top) == 1:
        return made[top[0]]
    unsaid: dict[str, Any] = dict.fromkeys(nodes[0] if len(nodes) else ("distance",))
    return {**unsaid, "children": [made[node] for node in top]}


def newick(
    pairs: Pairs,
    names: Sequence[str],
    distances: Sequence[float],
    labels: Sequence[str] | None = None,
) -> str:
    """Write a tree in Newick's format; a branch is half as long as the merges it joins differ.

    Parameters
    ----------
    pairs : numpy.ndarray
        (merges, 2).
    names : sequence of str
        Of the leaves.
    distances : sequence of float
        Of the merges; leaves are at 0.
    labels : sequence of str, optional
        Of the merges: their support.
    """
    heights = [0.0] * len(names) + [float(d) for d in distances]
    text = [quoted(name) for name in names]
    for merge, (a, b) in enumerate(np.asarray(pairs, int).tolist()):
        height = heights[len(names) + merge]
        inside = ",".join(f"{text[c]}:{_length((height - heights[c]) / 2)}" for c in (a, b))
        text[a] = text[b] = ""  # each is needed once; a chain of a thousand stays small
        text.append(f"({inside}){quoted(labels[merge]) if labels else ''}")
    top = roots(pairs, len(names))
    if len(top) == 1:
        return text[top[0]] + ";\n"
    return "(" + ",".join(text[node] for node in top) + ");\n"


def _length(value: float) -> str:
    return repr(0.0 if value == 0 else value)


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")


def quoted(name: str) -> str:
    """Quote a name as Newick wants it: anything but plain letters and digits in single quotes."""
    if name and _PLAIN.issuperset(name):
        return name
    return "'" + name.replace("'", "''") + "'" if name else ""


def clades(pairs: Pairs, leaves: int) -> list[int]:
    """The leaves under each merge, as bits of an integer: equal sets are equal numbers."""
    under = [1 << leaf for leaf in range(leaves)]
    for a, b in np.asarray(pairs, int).tolist():
        under.append(under[a] | under[b])
    return under[leaves:]


def walk(tree: Any) -> Iterator[Any]:
    """Visit every node of a nested tree, parents first, without recursion."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, dict) and isinstance(node.get("children"), list):
            waiting += reversed(node["children"])
