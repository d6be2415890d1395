"""Splits of a data set: parts of it for training and testing, which are never categories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnnlens.data.walk import is_leftover, list_files
from cnnlens.errors import UsageError, did_you_mean

# folders of one meaning, in lower case
_SISTERS = (
    ("train", "training"),
    ("val", "valid", "validation"),
    ("test", "testing"),
)
NAMES = frozenset(name for names in _SISTERS for name in names)


def splits_in(root: Path) -> tuple[str, ...]:
    """Name the splits of a folder: its subfolders, where all that hold images are called so."""
    inside = sorted(
        entry.name for entry in root.iterdir() if not is_leftover(entry.name) and entry.is_dir()
    )
    found = tuple(name for name in inside if name.lower() in NAMES)
    if not found or list_files(root, deep=False).images:
        return ()
    others = (name for name in inside if name not in found)
    return () if any(list_files(root, f"{name}/").images for name in others) else found


def chosen(root: Path, asked: str, known: Sequence[str]) -> str:
    """Find the split that was asked for: as it is called, in any case, or by a sister's name.

    Raises
    ------
    UsageError
        When there is none.
    """
    lower = asked.lower()
    sisters = next((names for names in _SISTERS if lower in names), ())
    for fits in (
        lambda name: name == asked,
        lambda name: name.lower() == lower,
        lambda name: name.lower() in sisters,
    ):
        if found := [name for name in known if fits(name)]:
            return found[0]
    there = f"it has {', '.join(known)}" if known else "it has none"
    raise UsageError(f"{root} has no split '{asked}'", did_you_mean(asked, known) or there)


def unchosen(root: Path, known: Sequence[str]) -> UsageError:
    """Say that a folder has splits, of which one is to be named."""
    return UsageError(
        f"the subfolders of {root} are splits, not categories: {', '.join(known)}",
        f"name one of them with --split {known[0]}",
    )
