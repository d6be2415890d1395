"""What is odd about the images of a folder and does no harm by itself: said, never mended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cnnlens.data.checked import named
from cnnlens.data.dataset import ImageSet

_TINY = 8  # pixels of a shorter side
_NAMED = 3
_LONG = 4  # times the shorter side


def odd_sizes(images: ImageSet, sizes: Mapping[int, tuple[int, int]]) -> Iterator[str]:
    """Name images that little is left of, by the width and height of each that can be read."""
    shown = {k: f"{images.paths[k]} ({h}×{w})" for k, (w, h) in sorted(sizes.items())}
    tiny = [shown[k] for k in shown if min(sizes[k]) < _TINY]
    long = [shown[k] for k in shown if max(sizes[k]) > _LONG * min(sizes[k])]
    if tiny:
        yield named(f"images of less than {_TINY} pixels a side", tiny)
    if long and not images.aligned:
        yield named("images so long that a crop of their centre shows little", long)


def same_images(images: ImageSet) -> Iterator[str]:
    """Name images that are there several times, those of several classes first."""
    of = dict(zip(images.paths, images.image_categories or images.paths, strict=True))
    groups = same_files(images.root, images.paths)
    apart = [one for one in groups if images.image_categories and len({of[p] for p in one}) > 1]
    if apart:
        yield named("the same image in several classes", list(map(equated, apart)))
    if again := [equated(one) for one in groups if one not in apart]:
        yield named("the same image several times", again)


def same_files(root: Path, paths: Sequence[str]) -> list[tuple[str, ...]]:
    """Group files of equal content; only those of equal size are read."""
    by_size = _grouped(paths, lambda path: (root / path).stat().st_size)
    return [
        same
        for one in by_size
        for same in _grouped(one, lambda path: hashlib.sha256((root / path).read_bytes()).digest())
    ]


def equated(paths: Sequence[str]) -> str:
    """Write files of equal content."""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return " = ".join(paths[:_NAMED]) + more


def _grouped(paths: Sequence[str], key: Callable[[str], object]) -> list[tuple[str, ...]]:
    """Group paths by a key; those that stand alone or cannot be read are left out."""
    found: dict[object, list[str]] = {}
    for path in paths:
        with suppress(OSError):
            if value := key(path):
                found.setdefault(value, []).append(path)
    return [tuple(one) for one in found.values() if len(one) > 1]
