"""Data at an address that fsspec opens: ``s3://…``, ``gs://…``, ``hf://datasets/…``, ``https://…``.

What is at an address is listed once in a process. A read that fails is tried again, a little later
each time, before the run ends; it goes on when it is given again.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, cast
from urllib.parse import unquote

from cnnlens.data.addresses import Place, all_below, is_web, package_of, unreachable
from cnnlens.data.answers import tried
from cnnlens.data.archives import PACKED_TARS, Archive, open_archive
from cnnlens.data.container import (
    Container,
    Member,
    Positioned,
    check_size,
    inner_path,
    passed_over,
)
from cnnlens.data.formats import endings
from cnnlens.data.shard_names import check_once, expanded, is_pattern
from cnnlens.data.shards import Shards, as_samples
from cnnlens.errors import CnnlensError, UsageError

READERS = 16  # threads that wait for what is far away
_ENDINGS = (".zip", ".tar", *PACKED_TARS)

# what tells one content from another, as file systems call it; the first that is there counts
_TAGS = (
    *("ETag", "etag", "e_tag", "md5Hash", "md5", "Content-MD5", "content_md5", "crc32c"),
    *("checksum", "sha256", "blob_id", "oid", "generation"),
)
_TIMES = (
    *("LastModified", "Last-Modified", "last_modified", "mtime", "modified", "updated"),
    "created",
)
# those made of the content alone; a web server may make its ETags of time and size, hashed or not
_CHECKSUMS = {
    *("md5Hash", "md5", "Content-MD5", "content_md5", "crc32c"),
    *("checksum", "sha256", "blob_id", "oid"),
}


class RemoteFolder(Container):
    """All files below an address."""

    readers = READERS

    def __init__(self, address: str, place: Place) -> None:
        super().__init__(address)
        self.place = place
        base = place.base
        try:
            found = all_below(place)
        except FileNotFoundError:
            found = {}
        except (OSError, NotImplementedError) as error:
            raise unreachable(address, error) from error
        start = f"{base}/" if base else ""
        names = [name for name in found if name.startswith(start) and name != start]
        if not names:
            known = "" if is_web(base) else package_of(address)
            private = f", or it is private: {known} says where it looks for credentials"
            hint = f"nothing is listed there{private if known else ''}"
            raise UsageError(f"no folder {address}", hint)
        outside: list[str] = []
        for name, about in zip(names, self._about(names, found), strict=True):
            below = name[len(start) :].lstrip("/")
            below = unquote(below) if is_web(base) else below
            path = inner_path(below, is_key=True)
            if path is None:
                outside.append(below)
            elif about is not None:
                size = -1 if about.get("size") is None else int(about["size"])  # not said: -1
                self.members[path] = _member(address, size, about, name)
        self.notes += passed_over("passed over, whose names lead out of the folder", outside)

    def _about(
        self, names: Sequence[str], found: Mapping[str, Any]
    ) -> list[Mapping[str, Any] | None]:
        """Say what is known of every file; where a listing has no sizes, each is asked for."""

        def ask(name: str) -> Mapping[str, Any] | None:
            if found[name].get("size") is not None:
                return cast("Mapping[str, Any]", found[name])
            try:
                return cast("Mapping[str, Any]", tried(lambda: self.place.fs.info(name)))
            except FileNotFoundError:
                return None  # a link that leads nowhere
            except OSError as error:
                raise unreachable(name, error) from error

        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(ask, names))

    def open_member(self, member: Member) -> IO[bytes]:
        """Open a file to read some of it."""
        if member.size < 0:
            return io.BytesIO(self.read_member(member))
        return RemoteFile(self.place, str(member.place), member.size, member.state).window()

    def read_member(self, member: Member) -> bytes:
        """Return a file's content."""
        check_size(member)
        name = str(member.place)
        content = tried(lambda: self.place.fs.cat_file(name))
        if 0 <= member.size != len(content):
            raise OSError("truncated")
        return bytes(content)

    def is_there(self) -> bool:
        """Whether anything answers at the address."""
        return _answers(self.place, self.place.base)

    @property
    def title(self) -> str:
        """The last part of the address that is a name."""
        return (
            re.sub(r"\W+", "-", self.place.base.partition("?")[0].rpartition("/")[2]).strip("-")
            or "data"
        )


class RemoteImage(RemoteFolder):
    """One image at an address, whose folder is not listed: of a web page there may be no list."""

    folders: dict[str, dict[str, bool]] = {}  # noqa: RUF012  (none: it is a file)

    def __init__(self, address: str, place: Place) -> None:
        Container.__init__(self, address)
        self.place = place
        try:
            about = tried(lambda: place.fs.info(place.base))
        except FileNotFoundError:
            raise UsageError(f"no image {address}", "nothing is there") from None
        except OSError as error:
            raise unreachable(address, error) from error
        size = -1 if about.get("size") is None else int(about["size"])
        self.members[""] = _member(address, size, about, place.base)


class RemoteFile(Positioned):
    """A file at an address, read in parts."""

    def __init__(self, place: Place, name: str, size: int, state: str) -> None:
        self.place, self.name, self.size, self.state = place, name, size, state

    def read_at(self, offset: int, count: int) -> bytes:
        """Return at most so many bytes from a position on."""
        end = min(offset + count, self.size)
        if end <= offset:
            return b""
        block = tried(lambda: self.place.fs.cat_file(self.name, start=offset, end=end))
        if len(block) == self.size > end - offset:  # a server that gives no parts of files
            block = block[offset:end]
        return bytes(block)

    def is_there(self) -> bool:
        """Whether the file can still be reached."""
        return _answers(self.place, self.name)


def _answers(place: Place, name: str) -> bool:
    try:
        place.fs.invalidate_cache()  # s3fs says of what it has listed that it is there
        tried(lambda: place.fs.exists(name) or _refuse(name))
    except Exception:
        return False
    return True


def _refuse(name: str) -> bool:
    raise OSError(f"{name} is not there")


def _member(address: str, size: int, about: Mapping[str, Any], name: str) -> Member:
    """Describe a file; S3 makes its ETags of the content, or of chance."""
    kind = next((key for key in (*_TAGS, *_TIMES) if about.get(key)), "")
    is_sum = kind in _CHECKSUMS or (kind == "ETag" and address.startswith(("s3:", "s3a:")))
    tag = str(about.get(kind) or "")
    return Member(size, f"{size}:{tag}", name, size, is_sum, kind in _TAGS and _tells(tag, size))


def _tells(tag: str, size: int) -> bool:
    """Whether a tag may say more than a time and a size: a weak one does not, nor nginx's, which
    are hexadecimal numbers.
    """
    return not tag.startswith("W/") and f"{size:x}" not in tag.strip('"').split("-")


def open_address(address: str) -> tuple[str, Container]:
    """Open what is at an address: a folder, an archive, several archives, or an image.

    Returns
    -------
    (str, Container)
        The address of what was opened, and that: an archive's, where a folder in it was named.

    Raises
    ------
    UsageError
        When there is nothing, or a package is missing.
    CnnlensError
        When it cannot be read.
    """
    parts = address.split("/")
    for number in range(3, len(parts) + 1):
        name, whole = parts[number - 1], "/".join(parts[:number])
        if "::" not in address and is_pattern(name):
            return whole, _waiting(Shards(whole, list(map(_archive, _named(whole)))))
        if "::" not in address and name.lower().endswith(_ENDINGS):
            return whole, _waiting(as_samples(_archive(whole)))
    address = address.rstrip("/") if not address.endswith("://") else address
    is_image = os.path.splitext(parts[-1])[1].lower() in endings()  # noqa: PTH122
    kind = RemoteImage if is_image else RemoteFolder
    return address, kind(address, Place(address))


def _named(pattern: str) -> list[str]:
    """The addresses of the archives that a pattern stands for."""

    def listed(one: str) -> list[str]:
        place = Place(one)
        try:
            return [place.fs.unstrip_protocol(path) for path in tried(lambda: place.fs.glob(one))]
        except FileNotFoundError:
            return []
        except (OSError, NotImplementedError) as error:
            raise unreachable(pattern, error) from error

    archives = expanded(pattern, listed)
    if not archives:
        raise UsageError(f"no archives {pattern}: there is none", "name those that are there")
    check_once(pattern, archives, str)
    return archives


def _archive(address: str) -> Archive:
    place = Place(address)
    try:
        about = tried(lambda: place.fs.info(place.base))
        size = about.get("size")
    except FileNotFoundError:
        raise UsageError(f"no archive {address}", "nothing is there") from None
    except OSError as error:
        raise unreachable(address, error) from error
    if size is None:
        raise CnnlensError(f"{address} does not say how large it is", "download it, and name that")
    try:
        state = _member(address, int(size), about, place.base).state
        return open_archive(address, RemoteFile(place, place.base, int(size), state))
    except OSError as error:
        raise unreachable(address, error) from error


def _waiting(archive: Container) -> Container:
    archive.readers = READERS
    return archive
