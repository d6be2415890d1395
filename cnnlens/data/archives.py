"""Zip and tar archives, read where they lie: listed once, each member read when it is needed.

Nothing an archive says about itself is trusted: names that lead out of it, links to elsewhere and
devices are passed over; a member that swells beyond reason is not read.
"""

from __future__ import annotations

import io
import lzma
import os
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

from cnnlens.data.container import (
    Container,
    Member,
    Positioned,
    check_size,
    inner_path,
    passed_over,
    whole,
)
from cnnlens.data.seconds import await_after
from cnnlens.data.unread import may_pass
from cnnlens.data.zip_names import member_name
from cnnlens.errors import CnnlensError

PACKED_TARS = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst"),
    *(".tar.lzma", ".tar.z"),
)
_BLOCK = 512  # bytes; a tar consists of such
_HEADER, _ROOM = 30, 256  # bytes of a zip's own header of a member; of what may be beside its name
_AGAIN = "copy or download it again"


class LocalFile(Positioned):
    """A file on this machine, open as long as it is needed; not `kept`, only while it is read."""

    def __init__(self, path: Path, kept: bool = True) -> None:
        self.path, self.kept = path, kept
        if kept:
            self._descriptor = self._open()
        found = path.stat()
        self.size, self.written = found.st_size, int(found.st_mtime)
        self.state = f"{self.size}:{self.written}"  # copies keep seconds on every disk

    def _open(self) -> int:
        return os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def read_at(self, offset: int, count: int) -> bytes:
        """Return at most so many bytes from a position on."""
        if self.kept:
            return os.pread(self._descriptor, count, offset)
        descriptor = self._open()
        try:
            return os.pread(descriptor, count, offset)
        finally:
            os.close(descriptor)

    def is_there(self) -> bool:
        """Whether the file still has its name."""
        return self.path.exists()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.kept)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


class Archive(Container):
    """What zips and tars have in common."""

    def __init__(self, address: str, source: Positioned) -> None:
        super().__init__(address)
        self.source = source

    def is_there(self) -> bool:
        """Whether the file can still be reached."""
        return self.source.is_there()

    @property
    def title(self) -> str:
        """The archive's name without its ending."""
        return title_of(self.address)


class ZipArchive(Archive):
    """A zip archive; its members' checksums are their states."""

    def __init__(self, address: str, source: Positioned) -> None:
        super().__init__(address, source)
        outside, twice, links, locked = [], [], [], []
        try:
            listed = zipfile.ZipFile(source.window()).infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            if (read := error.__context__) is not None and may_pass(read):
                raise read from None  # which zipfile takes for a file that is none
            raise CnnlensError(f"{address} is damaged ({error})", _AGAIN) from error
        for info in listed:
            path = inner_path(name := member_name(info))
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            if path is None:
                outside.append(name)
            elif kind not in (0, stat.S_IFREG):
                links.append(path)
            else:
                locked += [path] if info.flag_bits & 1 else []
                twice += [path] if path in self.members else []
                state = f"{info.file_size}:{info.CRC:08x}"
                self.members[path] = Member(info.file_size, state, info, info.compress_size, True)
        if locked:
            raise CnnlensError(
                f"{address} is encrypted ({locked[0]})",
                "unpack it with its password, and name the folder",
            )
        self.notes += _oddities(outside, twice, links)

    def open_member(self, member: Member) -> IO[bytes]:
        """Open a member; reading it to its end checks its checksum."""
        info = cast("zipfile.ZipInfo", member.place)
        return self._unpacked(self.source.window(info.header_offset), info)

    def read_member(self, member: Member) -> bytes:
        """Return the content of a member, which is fetched in one piece."""
        info = cast("zipfile.ZipInfo", member.place)
        check_size(member)
        likely = _HEADER + len(info.filename.encode()) + len(info.extra) + _ROOM
        piece = self.source.read_at(info.header_offset, likely + info.compress_size)
        start = _data_start(piece)
        if start + info.compress_size > len(piece):  # what stands before it is unusually long
            piece = self.source.read_at(info.header_offset, start + info.compress_size)
        with self._unpacked(io.BytesIO(piece), info) as file:
            return whole(file.read(member.size), member)

    def _unpacked(self, raw: IO[bytes], info: zipfile.ZipInfo) -> IO[bytes]:
        """Unpack a member whose own header is at the start of a file."""
        raw.seek(_data_start(raw.read(_HEADER)))
        with _as_os_error():
            # of ZipFile one alone would be read at a time, and by one process
            return io.BufferedReader(_Unpacked(zipfile.ZipExtFile(raw, "r", info)))


def _data_start(header: bytes) -> int:
    """Return how far behind the start of its header a member's data begins."""
    if len(header) < _HEADER or not header.startswith(b"PK\3\4"):
        raise OSError("its header is damaged")
    return _HEADER + sum(struct.unpack("<HH", header[26:_HEADER]))


class _Unpacked(io.RawIOBase):
    """A member of a zip, whose damage is an error as that of any file."""

    def __init__(self, member: zipfile.ZipExtFile) -> None:
        self._member = member

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._member.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _as_os_error():
            return self._member.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _as_os_error():
            block = self._member.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        # RuntimeError: encrypted; NotImplementedError, one of its kind: an unknown compression
        raise OSError(str(error)) from error


class TarArchive(Archive):
    """A tar archive that is not compressed; sizes and times are its members' states.

    Where these times tell nothing, the archive's own state is part of them.
    """

    def __init__(self, address: str, source: Positioned) -> None:
        super().__init__(address, source)
        outside, twice, odd, last = [], [], [], ""
        links: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=source.window(), mode="r:") as tar:
                for info in tar:
                    tar.members = []  # type: ignore[attr-defined]  # which grow without an end
                    path = inner_path(info.name)
                    last = info.name
                    if info.isdir():
                        continue
                    if path is None:
                        outside.append(info.name)
                    elif info.islnk() or info.issym():
                        folder = "" if info.islnk() else posixpath.dirname(path)
                        links[path] = posixpath.normpath(posixpath.join(folder, info.linkname))
                    elif not info.isreg() or info.issparse():
                        odd.append(path)
                    else:
                        twice += [path] if path in self.members else []
                        state = f"{info.size}:{info.mtime or 0}"
                        self.members[path] = Member(info.size, state, info.offset_data, info.size)
                end = tar.offset
        except (tarfile.TarError, EOFError, ValueError, OSError) as error:
            if may_pass(error):
                raise
            after = f", after {ascii(last)[1:-1]}" if last else ""
            raise CnnlensError(f"{address} is damaged ({error}{after})", _AGAIN) from error
        if source.read_at(end, _BLOCK).strip(b"\0"):
            raise CnnlensError(f"{address} is damaged after {ascii(last)[1:-1]}", _AGAIN)
        self._tell_undated()
        for path, target in links.items():
            if target in self.members:
                self.members[path] = self.members[target]
            else:
                odd.append(path)
        self.notes += _oddities(outside, twice, odd)

    def _tell_undated(self) -> None:
        """Let members without a time (0), or whose time is that of all, change with the archive.

        Who packs reproducibly gives all one time: another content of equal size would not show.
        """
        times = {path: m.state.rpartition(":")[2] for path, m in self.members.items()}
        is_one = len(set(times.values())) == 1
        undated = [path for path, time in times.items() if is_one or time == "0"]
        for path in undated:
            member = self.members[path]
            self.members[path] = replace(member, state=f"{member.state}:{self.source.state}")
        if undated:
            await_after(self.source.written)

    def open_member(self, member: Member) -> IO[bytes]:
        """Open a member where it lies."""
        return self.source.window(cast("int", member.place), member.size)

    def read_member(self, member: Member) -> bytes:
        """Return the content of a member, which is fetched in one piece."""
        check_size(member)
        return whole(self.source.read_at(cast("int", member.place), member.size), member)


def open_archive(address: str, source: Positioned) -> Archive:
    """Open an archive of either kind, by what it is.

    Raises
    ------
    CnnlensError
        When it is damaged, encrypted, compressed as a whole, or no archive.
    OSError
        When it cannot be read for now.
    """
    start = source.read_at(0, 6)
    if start.startswith((b"PK\3\4", b"PK\5\6")) or address.lower().endswith(".zip"):
        return ZipArchive(address, source)
    packed = start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
    if packed or address.lower().endswith(PACKED_TARS):
        raise CnnlensError(
            f"{address} is compressed as a whole: no member of it can be read alone",
            "unpack it (tar -xf), and name the folder; or pack it as .zip or plain .tar",
        )
    if not source.size:
        raise CnnlensError(f"{address} is damaged (an empty file)", _AGAIN)
    return TarArchive(address, source)


def title_of(address: str) -> str:
    """Name data after its archive: no ending, nothing in braces."""
    name = address.rstrip("/").rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return re.sub(r"[-_.]*(\{[^{}]*\}|\*)[-_.]*", "", stem) or "data"


def _oddities(outside: list[str], twice: list[str], odd: list[str]) -> list[str]:
    return [
        *passed_over("passed over, whose names lead out of the archive", outside),
        *passed_over("passed over, links or no plain files", odd),
        *passed_over("there more than once, of which the last counts", twice),
    ]
