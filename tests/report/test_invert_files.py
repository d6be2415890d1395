"""The order of inversions on sheets and pages."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

from cnnlens.report.invert_files import Row, rows


def _inverted(image: str, kind: str, layer: str) -> Any:
    return SimpleNamespace(image=image, kind=kind, layer=layer, state=image)


def test_images_stand_by_their_names_whichever_was_inverted_first() -> None:
    ones = [
        _inverted("cat", "none", "conv1"),
        _inverted("dog", "none", "conv1"),
        _inverted("dog", "upconv", "conv1"),
    ]
    later = [_inverted("dog", "none", "conv3")]
    for order in permutations(ones):
        found = rows([list(order), later])
        assert list(found) == [
            ("cat", "none", "cat"), ("dog", "none", "dog"), ("dog", "upconv", "dog")
        ]  # fmt: skip
        assert list(found[Row("dog", "none", "dog")]) == ["conv1", "conv3"]
