"""A folder of images, flat or with one subfolder per class, as an ordered list."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import ENDINGS
from cnnlens.errors import CnnlensError, UsageError, did_you_mean


def open_folder(root: Path | str) -> ImageSet:
    """List a folder's images in a fixed order.

    Parameters
    ----------
    root : path
        A folder with images in it (kind "images"), or with class subfolders, nested as deep as
        you like (kind "classes"; the class is the first folder's name). With both, the images
        of all depths are one flat list. Hidden files, other files, and folders that cnnlens
        wrote itself are passed over.

    Raises
    ------
    CnnlensError
        When it is missing, no folder, unreadable, or holds no image.
    """
    root = existing_folder(Path(root))
    paths = tuple(sorted(_images(root)))
    if not paths:
        raise CnnlensError(
            f"no images in {root}", f"images end in {' '.join(ENDINGS)} (in any case)"
        )
    if any("/" not in path for path in paths):
        return ImageSet(root, paths, "images")
    categories = tuple(path.split("/", 1)[0] for path in paths)
    return ImageSet(root, paths, "classes", categories)


def existing_folder(root: Path) -> Path:
    """Return `root` when it is a folder that can be listed, else say what is wrong with it."""
    try:
        next(iter(os.scandir(root)), None)
    except FileNotFoundError:
        raise UsageError(f"no folder {root}", _near(root)) from None
    except NotADirectoryError:
        raise UsageError(f"{root} is a file, not a folder", "name the folder it is in") from None
    except PermissionError:
        raise CnnlensError(f"{root} cannot be read: permission denied") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CnnlensError(f"{root} cannot be read: {reason}") from error
    return root


def _near(root: Path) -> str:
    """Offer folders beside the missing one, or name the first part of the path that is missing."""
    parent = root.parent
    try:
        beside = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    except OSError:
        return f"there is no folder {parent} either"
    return did_you_mean(root.name, beside)


def _images(root: Path) -> Iterator[str]:
    """Walk the folder, level by level, real folders before links, none of them twice."""
    waiting = deque([""])
    seen: set[str] = set()
    while waiting:
        below = waiting.popleft()
        folder = root / below
        real = os.path.realpath(folder)
        if real in seen or (below and (folder / "workspace.json").is_file()):
            continue
        seen.add(real)
        for entry in sorted(_listed(folder), key=lambda e: (e.is_symlink(), e.name)):
            if _is_folder(entry):
                waiting.append(f"{below}{entry.name}/")
            elif entry.name.lower().endswith(ENDINGS):
                yield f"{below}{entry.name}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        reason = error.strerror or str(error)
        raise CnnlensError(f"{folder} cannot be read: {reason}") from error
