"""The folder that was named for data, or what stands in its place."""

from __future__ import annotations

import os
from pathlib import Path

from cnnlens.data.formats import endings
from cnnlens.data.member_path import MemberPath, located
from cnnlens.data.walk import ending
from cnnlens.errors import CnnlensError, UsageError, meant_file

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_UNPACK = "unpack it, and name its folder"


def existing_folder(root: Path | str) -> Path:
    """Return `root` when it is a folder or archive that can be listed, else say what is wrong."""
    root = located(root)
    try:
        if isinstance(root, MemberPath):
            next(iter(root.entries()), None)
        else:
            os.scandir(root).close()
    except FileNotFoundError:
        raise UsageError(f"no folder {root}", _near(root)) from None
    except NotADirectoryError:
        raise _no_folder(root) from None
    except PermissionError:
        raise CnnlensError(f"{root} cannot be read: permission denied") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CnnlensError(f"{root} cannot be read: {reason}") from error
    return root


def check_unpacked(path: Path) -> None:
    """Raise UsageError where a path leads into an archive."""
    if isinstance(located(path), MemberPath):
        raise UsageError(f"{path} is an archive, not a folder", _UNPACK)


def _no_folder(file: Path) -> UsageError:
    """Say what a file is that was named for a folder."""
    if ending(file.name) in _ARCHIVES:
        return UsageError(f"{file} is an archive, not a folder", _UNPACK)
    if ending(file.name) in endings():
        return UsageError(f"{file} is an image, not a folder", "name the folder it is in")
    return UsageError(f"{file} is a file, not a folder", "name the folder it is in")


def _near(root: Path) -> str:
    """Offer folders beside the missing one, or name the first part of the path that is missing."""
    parent = root.parent
    try:
        inside = parent.entries() if isinstance(parent, MemberPath) else os.scandir(parent)
        beside = [
            entry.name for entry in inside if entry.is_dir() or ending(entry.name) in _ARCHIVES
        ]
    except OSError:
        return f"there is no folder {parent} either"
    return meant_file(root.name, beside) or "name a folder of images"
