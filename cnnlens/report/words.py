"""How numbers, paths and names are written: for people, for pages to share, and as file names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def number(value: Any, digits: int = 0) -> str:
    """Write a number for people: thousands apart, a dash for what is not known."""
    return "–" if value is None else f"{value:,.{digits}f}"


def signed(value: float, digits: int = 0) -> str:
    """Write a difference with its sign; one that rounds to 0 has none."""
    text = f"{value:+,.{digits}f}"
    return text[1:] if not text.strip("+-0.,") else text.replace("-", "−")


def percent(value: Any) -> str:
    """Write a share as per cent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def format_p(value: float) -> str:
    """Write a p-value as papers do: two significant digits, and never 0."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


# -- paths, without the machine they were written on ---------------------------------------------

_ROOT = r"(?:/|[A-Za-z]:\\)"
_PATH = re.compile(
    rf"(?P<before>^|[\s=,(\[])(?P<quote>['\"])(?P<quoted>{_ROOT}[^'\"]*)(?P=quote)"
    rf"|(?P<start>^|[\s='\",(\[])(?P<plain>{_ROOT}[^\s'\",)\]]*)"
)


def local(text: str, workspace: Path) -> str:
    """Say a text without the machine it was written on (see `local_path`), for pages to share."""

    def shorter(found: re.Match[str]) -> str:
        if found["plain"] is not None:
            return found["start"] + local_path(found["plain"], workspace)
        quote = found["quote"]
        return found["before"] + quote + local_path(found["quoted"], workspace) + quote

    return _PATH.sub(shorter, text)


def local_path(path: str, workspace: Path) -> str:
    """Name a path from the folder the workspace is in, or the home (``~``); else its last part."""
    for base, mark in ((workspace.resolve().parent, ""), (Path.home(), "~/")):
        if len(base.parts) > 1 and path.startswith(f"{base}/"):
            return mark + path[len(str(base)) + 1 :].rstrip("/")
    return last_part(path) or path if re.match(_ROOT, path) else path


def last_part(path: str) -> str:
    """Give the last part of a path of any system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


# -- file names ----------------------------------------------------------------------------------

_LONGEST = 120  # bytes; with an ending and a mark beside it, still below what disks allow


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Give every name a file name of its own, without ending: safe on any disk.

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
