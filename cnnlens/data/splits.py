"""Splits of a data set: parts of it for training and testing, which are never categories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnlens.data.walk import is_leftover, list_files
from cnnlens.errors import CnnlensError, UsageError, did_you_mean

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet

# names of one meaning, in lower case, and what may stand beside them: ``val2017``, ``test_set``
_SISTERS = (
    ("train", "training"),
    ("val", "valid", "validation", "dev"),
    ("test", "testing"),
)
_BESIDE = ("set", "data", "dataset", "image", "images", "img", "imgs", "photos", "seg", "split")
LEARNED = 0.7  # share of images to learn on where the data names no splits, as in Broden


def meaning(name: str) -> str:
    """Return the split that a folder of this name is, ``train``, ``val`` or ``test``; else ""."""
    words = [word for word in re.split(r"[\W\d_]+", name.lower()) if word]
    own = [word for word in words if word not in _BESIDE]
    found = own[0].removesuffix("set") if len(own) == 1 else ""
    return next((names[0] for names in _SISTERS if found in names), "")


def splits_in(root: Path) -> tuple[str, ...]:
    """Name the splits of a folder: its subfolders, where all that hold images are called so.

    Beside two kinds of splits (``train``, ``val``) any other (``extra``) is one, too.
    """
    inside = sorted(
        entry.name for entry in root.iterdir() if not is_leftover(entry.name) and entry.is_dir()
    )
    found = tuple(name for name in inside if meaning(name))
    if not found or list_files(root, deep=False).images:
        return ()
    others = [name for name in inside if name not in found]
    more = [name for name in others if list_files(root, f"{name}/").images]
    if more and len(set(map(meaning, found))) < 2:
        return ()
    return tuple(sorted((*found, *more)))


def splits_within(paths: Sequence[str]) -> tuple[str, ...]:
    """Name the splits that lie in every class (``cat/train/1.jpg``); where all images are in one,
    and there are two kinds.
    """
    inside = {path.split("/")[1] if path.count("/") > 1 else "" for path in paths}
    meant = {meaning(name) for name in inside}
    return tuple(sorted(inside)) if "" not in meant and len(meant) > 1 else ()


def within(images: ImageSet, split: str) -> ImageSet:
    """Return the images of a split that lies in every class, however it is called there."""
    means = meaning(split)
    kept = [k for k, p in enumerate(images.paths) if meaning(p.split("/")[1]) == means]
    return images.take(kept, split)


def chosen(root: Path, asked: str, known: Sequence[str]) -> str:
    """Find the split that was asked for: as it is called, in any case, or by a sister's name.

    Raises
    ------
    UsageError
        When there is none.
    """
    lower, means = asked.lower(), meaning(asked)
    for fits in (
        lambda name: name == asked,
        lambda name: name.lower() == lower,
        lambda name: means and meaning(name) == means,
    ):
        if len(found := [name for name in known if fits(name)]) == 1:
            return found[0]
    there = f"it has {', '.join(known)}" if known else "it has none"
    raise UsageError(f"{root} has no split '{asked}'", did_you_mean(asked, known) or there)


def unchosen(root: Path, known: Sequence[str], where: str = "subfolders") -> UsageError:
    """Say that a folder has splits, of which one is to be named."""
    return UsageError(
        f"the {where} of {root} are splits, not categories: {', '.join(known)}",
        f"name one of them with --split {known[0]}",
    )


def two_splits(data: ImageSet, seed: int, held_out: float | None = None) -> tuple[np.ndarray, str]:
    """Divide images into those to learn on and those to validate on.

    The data's own splits count where both are there; else a hash of each image's path and the seed
    decides: three of ten are held out, so that an image's part is the same whatever others there
    are; or the share that is to be `held_out`, to the image.

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
    kinds = [meaning(name) for name in names]
    train, *others = ([kind == sisters[0] for kind in kinds] for sisters in _SISTERS)
    validated = next((one for one in others if any(one)), [])
    if any(train) and validated:
        of = np.where(train, 0, np.where(validated, 1, -1))
        return of, f"its own splits: {sum(train)} images to learn on, {sum(validated)} to validate"
    if len(data.paths) < 2:
        raise CnnlensError(
            f"{data.name} has {len(data.paths)} image: some are learned from, others validate",
            "name data of more images with -d DIR",
        )
    hashes = [sha256(f"{seed}:{path}".encode("utf-8", "surrogateescape")) for path in data.paths]
    shares = np.array([int.from_bytes(one.digest()[:8], "big") / 2**64 for one in hashes])
    limit = LEARNED if held_out is None else float(np.quantile(shares, 1 - held_out))
    learned = shares < limit
    learned[shares.argmin()], learned[shares.argmax()] = True, False  # some of each
    there = f"all are '{names[0]}'" if len(set(names)) == 1 and names[0] else "it names no two"
    words = f"{there}: by a hash of their paths {learned.sum()} of its images are learned from, "
    return np.where(learned, 0, 1), f"{words}{(~learned).sum()} validate"
