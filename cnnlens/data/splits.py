"""Splits of a data set: parts of it for training and testing, which are never categories."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnlens.data.walk import is_leftover, list_files
from cnnlens.errors import CnnlensError, UsageError, did_you_mean

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet

# folders of one meaning, in lower case
_SISTERS = (
    ("train", "training"),
    ("val", "valid", "validation"),
    ("test", "testing"),
)
LEARNED = 0.7  # share of images to learn on where the data names no splits, as in Broden
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


def two_splits(data: ImageSet, seed: int) -> tuple[np.ndarray, str]:
    """Divide images into those to learn on and those to validate on.

    The data's own splits count where both are there; else seven of ten images are learned on, by a
    hash of their path and the seed.

    Returns
    -------
    (numpy.ndarray, str)
        (N,) int64: 0 to learn on, 1 to validate on, -1 for neither; and in words what was taken.

    Raises
    ------
    CnnlensError
        When there are fewer than two images.
    """
    names = [name.lower() for name in getattr(data, "splits", ())]
    train, *others = ([name in sisters for name in names] for sisters in _SISTERS)
    held_out = next((one for one in others if any(one)), [])
    if any(train) and held_out:
        of = np.where(train, 0, np.where(held_out, 1, -1))
        return of, f"its own splits: {sum(train)} images to learn on, {sum(held_out)} to validate"
    if len(data.paths) < 2:
        raise CnnlensError(
            f"{data.name} has {len(data.paths)} image: some are learned from, others validate",
            "name data of more images with -d DIR",
        )
    hashes = [sha256(f"{seed}:{path}".encode("utf-8", "surrogateescape")) for path in data.paths]
    shares = np.array([int.from_bytes(one.digest()[:8], "big") / 2**64 for one in hashes])
    learned = shares < LEARNED
    learned[shares.argmin()], learned[shares.argmax()] = True, False  # some of each
    there = f"all are '{names[0]}'" if len(set(names)) == 1 and names[0] else "it names no two"
    words = f"{there}: by a hash of their paths {learned.sum()} of its images are learned from, "
    return np.where(learned, 0, 1), f"{words}{(~learned).sum()} validate"
