"""Names of people's things as names of files: safe on any disk, and never the same twice."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST = 120  # bytes; with an ending and a mark beside it, still below what disks allow


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Give every name a file name of its own, without ending.

    Letters and digits of any script stay, all else becomes ``_``. Names that would then be equal,
    to a disk that does not tell cases apart either, get numbers: ``a_b``, ``a_b-2``.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = _plain(name)
        free, number = plain, 2
        while free.casefold() in taken:
            free, number = f"{plain}-{number}", number + 1
        taken.add(free.casefold())
        found[name] = free
    return found


def _plain(name: str) -> str:
    text = re.sub(r"[^\w.@+ -]", "_", name, flags=re.UNICODE).strip()
    text = text.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore").rstrip(" .")
    return f"_{text}" if text.startswith(".") or not text else text
