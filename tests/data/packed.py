"""A folder packed as people pack them, for the tests."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

Pack = Callable[[Path, Path], Path]


def files_of(folder: Path) -> list[Path]:
    """List the files below a folder, in an order of their own: archives are in none."""
    return sorted((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.name[::-1])


def zipped(folder: Path, out: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Pack what is in a folder."""
    out = out.with_name(f"{out.name}.zip")
    with zipfile.ZipFile(out, "w", compression) as archive:
        for file in files_of(folder):
            archive.write(file, file.relative_to(folder))
    return out


def stored(folder: Path, out: Path) -> Path:
    """Pack without compressing."""
    return zipped(folder, out, zipfile.ZIP_STORED)


def wrapped(folder: Path, out: Path) -> Path:
    """Pack the folder itself, as file managers do, with what macOS adds."""
    out = out.with_name(f"{out.name}.zip")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder.name}/", "")
        archive.writestr(f"__MACOSX/{folder.name}/._1.png", b"\0")
        for file in files_of(folder):
            archive.write(file, Path(folder.name) / file.relative_to(folder))
    return out


def tarred(folder: Path, out: Path) -> Path:
    """Pack as ``tar -C folder .`` does."""
    out = out.with_name(f"{out.name}.tar")
    with tarfile.open(out, "w") as archive:
        archive.add(folder, ".")
    return out


PACKS: tuple[Pack, ...] = (zipped, stored, wrapped, tarred)
