"""Files that do not lie in a folder: the members of an archive, or what is at an address.

A `Container` lists its files once, when it is opened, and then gives their bytes to any number of
threads and forked processes. `cnnlens.data.member_path` makes paths of them, which the readers of
folders take as they take others.
"""

from __future__ import annotations

import errno
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import IO

from cnnlens.data.unpack import ALWAYS_ALLOWED, MOST_GROWTH

LARGEST = 1 << 30  # bytes of one member; it is held in memory while it is decoded
_NAMED = 3
_DRIVE = re.compile("[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Member:
    """One file.

    Attributes
    ----------
    size : int
        Bytes of its content; -1 where nobody says.
    state : str
        Its size with a checksum, a tag or a time: another content, another state.
    place : object
        Where its bytes are; the container's own matter.
    stored : int
        Bytes that it takes in the container.
    has_checksum : bool
        Whether its state holds a checksum: equal states anywhere, equal content. A time, or a tag
        that a web server makes of one, tells but one content of this path from another.
    has_tag : bool
        Whether its state holds a server's tag of the content: none need be read to tell it from
        that of a path elsewhere whose size and time are the same.
    """

    size: int
    state: str
    place: object
    stored: int
    has_checksum: bool = False
    has_tag: bool = False


class Container(ABC):
    """Files by their paths, with forward slashes.

    Attributes
    ----------
    address : str
        What opens it again.
    members : dict of str to Member
        All files, by path.
    notes : list of str
        What of it was passed over, for people.
    numbers : dict of str to int
        The outputs that its folders are labels of, where labels say numbers.
    """

    readers = 0  #: threads that read at once where each waits long; 0: as many as decode
    has_classes = False  #: whether its folders are classes for certain

    def __init__(self, address: str) -> None:
        self.address = address
        self.members: dict[str, Member] = {}
        self.notes: list[str] = []
        self.numbers: dict[str, int] = {}

    @abstractmethod
    def open_member(self, member: Member) -> IO[bytes]:
        """Open the bytes of a member, at their start; nothing need be read yet."""

    @abstractmethod
    def is_there(self) -> bool:
        """Whether the container can still be reached."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What data is called that is all of it: ``photos`` of ``photos.zip``."""

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises
        ------
        FileNotFoundError
            When there is none of this path.
        OSError
            When it is larger than can be held, or shorter than announced.
        """
        return self.read_member(self.member(path))

    def read_member(self, member: Member) -> bytes:
        """Return the content of a member, as `read` does."""
        check_size(member)
        with self.open_member(member) as file:
            return whole(file.read(member.size), member)

    def open(self, path: str) -> IO[bytes]:
        """Open a file to read some of it."""
        return self.open_member(self.member(path))

    def member(self, path: str) -> Member:
        """Look a file up."""
        try:
            return self.members[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file", f"{self.address}/{path}") from None

    @cached_property
    def folders(self) -> dict[str, dict[str, bool]]:
        """What is in each folder ("" is the whole): names, and whether each is a folder."""
        found: dict[str, dict[str, bool]] = {"": {}}
        for path in self.members:
            folder, _, name = path.rpartition("/")
            known = folder in found
            found.setdefault(folder, {})[name] = False
            while not known:
                folder, _, name = folder.rpartition("/")
                known = folder in found
                found.setdefault(folder, {})[name] = True
        return found


def check_size(member: Member) -> None:
    """Raise OSError where a member cannot be held, or swells beyond reason."""
    swollen = member.size > max(ALWAYS_ALLOWED, MOST_GROWTH * member.stored)
    if member.size > LARGEST or swollen:
        raise OSError(errno.EFBIG, "File too large")


def whole(content: bytes, member: Member) -> bytes:
    """Return content that is as long as announced; raise OSError where it is not."""
    if len(content) != member.size:
        raise OSError("truncated")
    return content


def inner_path(name: str, is_key: bool = False) -> str | None:
    """Return the path of a member by its name; None where it leads out of the container.

    A key of a store of objects may hold backslashes; elsewhere they stand for slashes, as some
    programs write them.
    """
    name = name if is_key else name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or not parts:
        return None
    return None if not is_key and _DRIVE.fullmatch(parts[0]) else "/".join(parts)


def passed_over(what: str, names: Iterable[str]) -> list[str]:
    """Say which members count for nothing, and why."""
    every = list(names)
    if not every:
        return []
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    shown = ", ".join(ascii(name[:60])[1:-1] for name in every[:_NAMED])
    return [f"{len(every)} member{'' if len(every) == 1 else 's'} {what}: {shown}{more}"]


class Window(io.RawIOBase):
    """A part of a file that is read by position, so that many may read it at once."""

    def __init__(self, source: Positioned, start: int = 0, size: int | None = None) -> None:
        self._source, self._start = source, start
        self._size, self._at = source.size if size is None else size, 0

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(22, "Invalid argument")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as there is something."""
        count = max(0, min(len(buffer), self._size - self._at))
        block = self._source.read_at(self._start + self._at, count) if count else b""
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)


class Positioned(ABC):
    """Bytes that are read by position, by any number of threads and forked processes."""

    size: int
    state: str  #: the size and a checksum, a tag or a time, as of a `Member`
    written: int = 0  #: in which second, by this machine's clock; 0: elsewhere

    @abstractmethod
    def read_at(self, offset: int, count: int) -> bytes:
        """Return at most so many bytes from a position on."""

    @abstractmethod
    def is_there(self) -> bool:
        """Whether they can still be reached."""

    def window(self, start: int = 0, size: int | None = None, block: int = 1 << 16) -> IO[bytes]:
        """Open a part of it, all of it without a size, as a file; `block` bytes at once."""
        return io.BufferedReader(Window(self, start, size), block)
