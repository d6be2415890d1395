"""Writing nested trees, however deep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.cluster.tree import Pairs, nested, room_for
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
