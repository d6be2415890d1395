"""Paths that lead into archives and to addresses, and are read as paths in a folder are.

``photos.zip/cats/1.jpg`` is the member ``cats/1.jpg`` of ``photos.zip``. What the path leads into
is opened and listed once in a process, however many paths lead there.
"""

from __future__ import annotations

import fnmatch
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cnnlens.data.addresses import as_address, is_address
from cnnlens.data.archives import PACKED_TARS, LocalFile, open_archive
from cnnlens.data.container import Container
from cnnlens.data.remote import open_address
from cnnlens.data.shard_names import check_once, expanded, is_pattern
from cnnlens.data.shards import MANY, Shards, as_samples
from cnnlens.data.signed import unsigned
from cnnlens.errors import CnnlensError, UsageError

if TYPE_CHECKING:
    from pathlib import Path as _Path
else:
    _Path = type(Path())  # the system's own kind, which may be inherited from before Python 3.12

_ARCHIVES = (".zip", ".tar", *PACKED_TARS)

# what was opened in this process, by address, with the state of its file then
_OPENED: dict[str, tuple[object, Container]] = {}
ADDRESS = "address"  # the state of what may change without a sign


class MemberPath(_Path):
    """A file or folder in a `Container`; what reads a path reads from there.

    `open`, `read_bytes`, `read_text`, `stat`, `is_file`, `is_dir`, `exists`, `iterdir` and `glob`
    are those of a path; ``os`` knows nothing of it and finds no such file.
    """

    content: bytes | None = None  #: where it was read already

    def _inside(self) -> tuple[Container, str] | None:
        """Find what it leads into, and the path there; None where it leads into nothing."""
        whole = _key(str(self))
        place = whole
        while place not in _OPENED:
            above = os.path.dirname(place)  # noqa: PTH120
            if above == place:
                anchor = None if is_address(whole) else _anchor(Path(whole))
                return None if anchor is None else (_opened(anchor), whole[len(str(anchor)) + 1 :])
            place = above
        return _OPENED[place][1], whole[len(place) + 1 :]

    def _member(self) -> tuple[Container, str]:
        found = self._inside()
        if found is None:
            raise FileNotFoundError(2, "No such file", str(self))
        return found

    def __str__(self) -> str:
        return as_address(super().__str__())

    def __fspath__(self) -> str:
        return str(self)

    def resolve(self, strict: bool = False) -> MemberPath:
        """Return it without links and without ``..``; an address is what it is."""
        return self if is_address(str(self)) else MemberPath(super().resolve(strict))

    @property
    def container(self) -> Container | None:
        """What it leads into."""
        found = self._inside()
        return found and found[0]

    @property
    def is_whole(self) -> bool:
        """Whether it is all of what it leads into."""
        found = self._inside()
        return found is not None and not found[1]

    @property
    def is_wrapping(self) -> bool:
        """Whether it is all of it, and one folder in it may hold the data."""
        found = self._inside()
        return found is not None and not found[1] and not found[0].has_classes

    @property
    def state(self) -> str:
        """The size and a checksum, a tag or a time: another content, another state."""
        container, path = self._member()
        return container.member(path).state

    @property
    def has_checksum(self) -> bool:
        """Whether its state holds a checksum: equal states anywhere, equal content."""
        container, path = self._member()
        return container.member(path).has_checksum

    @property
    def is_told(self) -> bool:
        """Whether its state holds more of its content than a size and a time."""
        container, path = self._member()
        member = container.member(path)
        return member.has_checksum or member.has_tag

    def held(self) -> MemberPath:
        """Return the same path with its content, which is read now and not again."""
        found = MemberPath(self)
        found.content = self.read_bytes()
        return found

    def open(self, mode: str = "r", *args: Any, **more: Any) -> IO[Any]:  # type: ignore[override]
        """Open it for reading."""
        if self.content is not None:
            raw: IO[bytes] = io.BytesIO(self.content)
        else:
            container, path = self._member()
            raw = container.open(path)
        if "b" in mode:
            return raw
        return io.TextIOWrapper(raw, *args[1:], **more)

    def read_bytes(self) -> bytes:
        """Return its content, which is checked where the container has checksums."""
        if self.content is not None:
            return self.content
        container, path = self._member()
        return container.read(path)

    def read_text(self, *args: Any, **more: Any) -> str:
        """Return its content as text."""
        with io.TextIOWrapper(io.BytesIO(self.read_bytes()), *args, **more) as file:
            return file.read()

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return its kind and size; times are unknown: see `state`."""
        container, path = self._member()
        if path in container.folders:
            return os.stat_result((stat.S_IFDIR | 0o555, *[0] * 9))
        size = container.member(path).size
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def is_file(self, **_: Any) -> bool:
        """Whether it is a file."""
        found = self._inside()
        return found is not None and found[1] in found[0].members

    def is_dir(self, **_: Any) -> bool:
        """Whether it is a folder."""
        found = self._inside()
        return found is not None and found[1] in found[0].folders

    def exists(self, **_: Any) -> bool:
        """Whether it is there."""
        return self.is_file() or self.is_dir()

    def is_symlink(self) -> bool:
        """Links were followed when the container was listed."""
        return False

    def entries(self) -> list[MemberEntry]:
        """List a folder as `os.scandir` does."""
        container, path = self._member()
        if path not in container.folders:
            kind = NotADirectoryError if path in container.members else FileNotFoundError
            raise kind(20, "No such folder", str(self))
        inside = container.folders[path]
        return [MemberEntry(name, self / name, folder) for name, folder in inside.items()]

    def iterdir(self) -> Iterator[MemberPath]:  # type: ignore[override]
        """Yield what is in a folder."""
        for entry in self.entries():
            yield entry.path

    def glob(self, pattern: str, **_: Any) -> Iterator[MemberPath]:  # type: ignore[override,unused-ignore]
        """Yield what is below a folder by a pattern of names, without ``**``."""
        first, _slash, rest = pattern.partition("/")
        for entry in self.entries() if self.is_dir() else ():
            if fnmatch.fnmatchcase(entry.name, first):
                if not rest:
                    yield entry.path
                elif entry.is_dir():
                    yield from entry.path.glob(rest)

    def __reduce__(self) -> tuple[Any, ...]:
        container = self.container
        return _rebuilt, (str(self), container and (_key(container.address), container))


@dataclass(frozen=True, slots=True)
class MemberEntry:
    """An entry of a folder, with what `os.DirEntry` says of one."""

    name: str
    path: MemberPath
    folder: bool

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.folder

    def is_symlink(self) -> bool:
        """Links were followed when the container was listed."""
        return False


def located(path: Path | str) -> Path:
    """Return a path as it is read: itself, or one that leads into an archive or to an address.

    Raises
    ------
    CnnlensError
        When the archive is damaged, encrypted, or none whose members can be read alone.
    """
    if is_address(str(path)) and not Path(path).exists():
        return _at_address(as_address(str(path)))
    path = Path(path).expanduser()
    anchor = None if path.is_dir() else _anchor(path.absolute())
    if anchor is None:
        return path
    _opened(anchor, anew=True)
    return MemberPath(path)


def _at_address(address: str) -> Path:
    """Open what is at an address, unless it was in this process."""
    if address.startswith("file://"):
        return located(address.removeprefix("file://"))
    address, renewed = unsigned(address)
    path = MemberPath(address)
    if path.container is None or renewed:
        whole, found = open_address(address)
        _OPENED[whole] = ADDRESS, found
    return path


def forget_addresses() -> None:
    """Let what is at addresses be listed anew, when it is named next."""
    for key in [key for key, (state, _) in _OPENED.items() if state == ADDRESS]:
        del _OPENED[key]


def _anchor(path: Path) -> Path | None:
    """Find the archive that an absolute path leads into."""
    for place in (path, *path.parents):
        several = is_pattern(place.name) and not place.exists()
        if several or (place.name.lower().endswith(_ARCHIVES) and place.is_file()):
            return Path(os.path.abspath(place))  # noqa: PTH100
    return None


def _opened(anchor: Path, anew: bool = False) -> Container:
    """Open an archive, once; `anew` where its file is another one by now."""
    key = str(anchor)
    if key in _OPENED and not anew:
        return _OPENED[key][1]
    try:
        files = _files(key)
        stats = [os.stat(file) for file in files]  # noqa: PTH116
        state = [(one.st_size, one.st_mtime_ns, one.st_ino) for one in stats]
        if key not in _OPENED or _OPENED[key][0] != state:
            kept = len(files) <= MANY
            every = [open_archive(file, LocalFile(Path(file), kept)) for file in files]
            whole = Shards(key, every) if files != [key] else as_samples(every[0])
            _OPENED[key] = state, whole
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CnnlensError(f"{anchor} cannot be read: {reason}") from error
    return _OPENED[key][1]


def _files(address: str) -> list[str]:
    """Name the archives at an address, all of which must be there."""
    if not is_pattern(os.path.basename(address)) or os.path.exists(address):  # noqa: PTH110, PTH119
        return [address]
    files = expanded(address)
    lost = [file for file in files if not os.path.exists(file)]  # noqa: PTH110
    if lost or not files:
        some = f"{lost[0]} is missing ({len(lost)} of {len(files)})" if lost else "there is none"
        raise UsageError(f"no archives {address}: {some}", "name those that are there")
    check_once(address, files)
    return files


def _key(address: str) -> str:
    """Return the key of an address, or of a path on this machine: links lead to others."""
    return address.rstrip("/") if is_address(address) else os.path.abspath(address)  # noqa: PTH100


def _rebuilt(path: str, opened: tuple[str, Container] | None) -> MemberPath:
    """Make a path that came from another process, with what it leads into."""
    if opened is not None:
        _OPENED.setdefault(opened[0], (None, opened[1]))
    return MemberPath(path)
