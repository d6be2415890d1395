"""Binary trees as tables of merges, and the way they are written out: Newick.

Merge i joins two earlier nodes, as in scipy's linkage matrices: numbers below n are leaves, n + i
is merge i. Nothing here recurses, so that no tree is too deep, and trees that have not grown
together (several roots) are as good as any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Pairs = np.ndarray  # (n - 1, 2) integers, fewer where several roots are left


def roots(pairs: Pairs, leaves: int) -> list[int]:
    """Numbers of the nodes that no merge joins, ascending."""
    joined = set(np.asarray(pairs, int).ravel().tolist())
    return [node for node in range(leaves + len(pairs)) if node not in joined]


def spell(start: int | str, expand: Callable[[int], Sequence[int | str]]) -> str:
    """Write out a tree from its root, without recursion and in linear time.

    Parameters
    ----------
    start : int
        The root; a string is written as it is.
    expand : callable
        Gives what a node is written as: strings, and the numbers of its children between them.
    """
    written: list[str] = []
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            written.append(one)
        else:
            waiting += reversed(expand(one))
    return "".join(written)


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
    count = len(names)
    heights = [0.0] * count + [float(d) for d in distances]
    top = roots(pairs, count)

    def expand(node: int) -> Sequence[int | str]:
        if node < count:
            return [quoted(names[node])]
        if node == len(heights):  # over several roots
            return ["(", *_between(top, ","), ")"]
        a, b = map(int, pairs[node - count])
        lengths = [f":{_length((heights[node] - heights[child]) / 2)}" for child in (a, b)]
        label = quoted(labels[node - count]) if labels else ""
        return ["(", a, f"{lengths[0]},", b, f"{lengths[1]}){label}"]

    return spell(top[0] if len(top) == 1 else len(heights), expand) + ";\n"


def _between(nodes: Sequence[int], text: str) -> list[int | str]:
    """Put a text between any two nodes."""
    found: list[int | str] = [nodes[0]]
    for node in nodes[1:]:
        found += [text, node]
    return found


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
