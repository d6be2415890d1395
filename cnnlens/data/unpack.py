"""Unpack a zip or tar archive without trusting anything it says about itself."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cnnlens.data.fetch import Progress
from cnnlens.data.zip_names import member_name
from cnnlens.errors import CnnlensError

MOST_GROWTH = 200  # times the archive's own size; honest data sets stay under 20
ALWAYS_ALLOWED = 1 << 28  # bytes that are too few to do harm, whatever the ratio
_BLOCK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    ValueError,
    RuntimeError,  # encrypted; NotImplementedError: a compression that nobody knows
)


class DamagedArchive(CnnlensError):  # noqa: N818
    """The archive is not what it should be; another try with the same bytes would fail again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "try again, or name another address with --url")


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    folder: bool
    handle: Any


def unpack(archive: Path, into: Path, progress: Progress | None = None) -> None:
    """Unpack `archive` into the existing folder `into`.

    Only plain files and folders whose paths stay inside are accepted; one member of another kind
    refuses the whole archive.

    Raises
    ------
    CnnlensError
        When it is no archive, damaged, hostile, or larger than the disk has room for.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _extract(archive, into, _zip_members(opened), opened.open, progress)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as opened_tar:
                _extract(archive, into, _tar_members(opened_tar), opened_tar.extractfile, progress)
                _read_out(opened_tar.fileobj)
        else:
            raise DamagedArchive("what came is neither a zip nor a tar archive")
    except _DAMAGE as error:
        raise DamagedArchive(f"the archive is damaged ({error})") from error


def _extract(
    archive: Path, into: Path, members: Iterator[_Member], open_: Any, progress: Progress | None
) -> None:
    allowed = max(MOST_GROWTH * archive.stat().st_size, ALWAYS_ALLOWED)
    free = shutil.disk_usage(into).free
    listed, total = [], 0
    for member in members:
        listed.append(member)
        total += member.size
        if total > allowed:  # at once: reading a tar to its end means decompressing it
            raise DamagedArchive(f"the archive claims {total:,} bytes, too many to be true")
    if total > free:
        raise CnnlensError(
            f"the archive unpacks to {total / 1e9:.1f} GB, and only {free / 1e9:.1f} GB are free",
            "free some space; the same command then goes on",
        )
    done = 0
    for member in listed:
        target = into / _inside(member.name)
        if member.folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_(member.handle) as source, target.open("wb") as sink:
            done += _copy(source, sink, member)
        if progress is not None:
            progress("unpack", done, total)


def _read_out(file: Any) -> None:
    """Read to the very end, where a compressed file's checksum is."""
    while file.read(_BLOCK):
        pass


def _copy(source: IO[bytes], sink: IO[bytes], member: _Member) -> int:
    """Copy a member, never more than it announced."""
    copied = 0
    while block := source.read(_BLOCK):
        copied += len(block)
        if copied > member.size:
            raise DamagedArchive(f"the archive's member {member.name!r} is larger than it claims")
        sink.write(block)
    if copied < member.size:
        raise DamagedArchive(f"the archive's member {member.name!r} ends early")
    return copied


def _inside(name: str) -> str:
    """Return a member's path if it can only lead into the folder."""
    parts = name.split("/")
    unsafe = name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]
    if unsafe or "\0" in name:
        raise DamagedArchive(f"the archive's member {name!r} leads out of the folder")
    return name


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DamagedArchive(f"the archive's member {info.filename!r} is a link or a device")
        yield _Member(_inside(member_name(info)), info.file_size, info.is_dir(), info)


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:
        if not (info.isreg() or info.isdir()):
            raise DamagedArchive(f"the archive's member {info.name!r} is a link or a device")
        yield _Member(_inside(info.name), info.size, info.isdir(), info)
