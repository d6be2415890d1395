"""Names that stand for several archives: ``shards-{000..099}.tar``, ``shards-*.tar``."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Sequence

from cnnlens.errors import UsageError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(name: str) -> bool:
    """Whether a name stands for several archives."""
    return name.lower().endswith((".tar", ".zip")) and ("*" in name or bool(_BRACES.search(name)))


def _on_disk(pattern: str) -> list[str]:
    folder, name = os.path.split(pattern)
    start = glob.escape(folder) if os.path.isdir(folder) else folder  # noqa: PTH112
    return glob.glob(os.path.join(start, name))  # noqa: PTH118, PTH207


def expanded(pattern: str, listed: Callable[[str], Iterable[str]] = _on_disk) -> list[str]:
    """Name the archives that a pattern stands for; a folder that is there is called what it is.

    Parameters
    ----------
    pattern : str
        A path or an address.
    listed : callable
        Names what fits one with ``*``, where it lies.

    Examples
    --------
    >>> expanded("s-{08..10}.tar")
    ['s-08.tar', 's-09.tar', 's-10.tar']
    """
    folder, name = os.path.split(pattern)
    start = pattern[: len(pattern) - len(name)]
    fixed = start if os.path.isdir(folder) else ""  # noqa: PTH112
    found: list[str] = []
    for one in _unbraced(pattern[len(fixed) :]):
        found += sorted(listed(fixed + one)) if "*" in one else [fixed + one]
    return found


def _unbraced(pattern: str) -> list[str]:
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [one for part in _parts(found[1]) for one in _unbraced(f"{before}{part}{after}")]


def _parts(inside: str) -> Iterable[str]:
    ends = _RANGE.fullmatch(inside)
    if ends is None:
        return inside.split(",")
    first, last, width = int(ends[1]), int(ends[2]), len(ends[1])
    return (f"{number:0{width}d}" for number in range(first, last + 1))


def check_once(
    pattern: str, archives: Sequence[str], real: Callable[[str], str] = os.path.realpath
) -> None:
    """See that a pattern names no archive twice, also by a link.

    Raises
    ------
    UsageError
        When it does: each of its images would count twice.
    """
    known: dict[str, str] = {}
    for one in archives:
        other = known.get(place := real(one))
        if other is not None:
            doubled = "named twice" if other == one else f"the same as {other}"
            raise UsageError(f"{pattern}: {one} is {doubled}", "name each archive once")
        known[place] = one
