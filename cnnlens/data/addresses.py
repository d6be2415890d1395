"""Addresses that fsspec opens, and the file system behind each: ``s3://…``, ``https://…``.

https://filesystem-spec.readthedocs.io
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from cnnlens.data.answers import tried
from cnnlens.data.signed import hidden, signed
from cnnlens.errors import CnnlensError, UsageError

_PACKAGES = {
    **dict.fromkeys(("http", "https"), "cnnlens[remote]"),
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "adl"), "adlfs"),
    "hf": "huggingface_hub",
}
_REFUSED = re.compile(r"credentials|forbidden|unauthori[sz]ed|access denied|\b40[13]\b", re.I)
_ADDRESS = re.compile(r"([A-Za-z][\w.+-]+::)*[A-Za-z][\w.+-]+:/")
_SCHEME = re.compile(r"(^|::)([A-Za-z][\w.+-]+):/(?!/)")
_NO_HOST = re.compile(r"(^|::)hdfs:///")
_HERE = ("file", "local")


def as_address(text: str) -> str:
    """Return an address as it was typed: a path has lost one of two slashes, or two of three where
    no host stands before a place on this machine.

    Of ``hdfs:///photos`` a path would lose that no host is named: it gets the name of that.
    """
    text = _NO_HOST.sub(r"\1hdfs://default/", text)
    return _SCHEME.sub(lambda at: f"{at[0]}//" if at[2] in _HERE else f"{at[0]}/", text)


def is_address(text: str) -> bool:
    """Whether it is an address, and no path on this machine."""
    return _ADDRESS.match(text) is not None


def is_web(address: str) -> bool:
    """Whether it is one of a web server."""
    return address.startswith(("http://", "https://"))


class Place:
    """What is at an address, as fsspec knows it; each process has a file system of its own."""

    def __init__(self, address: str) -> None:
        self.address, self._signed = address, signed(address)
        self._opened: dict[int, tuple[Any, str]] = {}

    def opened(self) -> tuple[Any, str]:
        """Return the file system, and the path in it."""
        process = os.getpid()
        if process not in self._opened:
            self._opened[process] = _file_system(self.address, self._signed)
        return self._opened[process]

    @property
    def fs(self) -> Any:
        """The file system."""
        return self.opened()[0]

    @property
    def base(self) -> str:
        """The path in it, without a slash at the end."""
        path = self.opened()[1]
        return path if self._signed != self.address else path.rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": {}}


def _file_system(address: str, signed: str) -> tuple[Any, str]:
    import fsspec

    # a signature holds for an address as it is written, character by character
    as_is = {"encoded": True} if signed != address and "::" not in address else {}
    try:
        fs, path = fsspec.core.url_to_fs(signed, **as_is)
    except ImportError as error:
        package = package_of(address)
        hint = f"pip install '{package}'" if package else str(error)
        raise UsageError(f"{address} needs a package that is missing ({error})", hint) from error
    except ValueError as error:  # a protocol that nobody knows
        words = f"{address} cannot be opened: {error}"
        raise UsageError(words, "name a folder with -d DIR") from error
    except Exception as error:  # whatever a file system raises where it cannot be reached
        raise unreachable(address, error) from error
    return fs, str(path)


def package_of(address: str) -> str:
    """Name the package that opens addresses of this kind."""
    return _PACKAGES.get(re.split(r":/|::", address)[0], "")


def unreachable(address: str, error: BaseException) -> CnnlensError:
    """Say why what is at an address cannot be read."""
    reason = hidden(str(error)) or type(error).__name__
    hint = "the same command tries again"
    refused = isinstance(error, PermissionError)
    if is_web(address):
        hint = "it asks for a signature (after '?') that holds, or is private" if refused else hint
    elif refused or _REFUSED.search(reason):
        hint = f"say who asks, where {package_of(address) or 'its package'} looks for credentials"
    return CnnlensError(f"{address} cannot be read: {reason}", hint)


def all_below(place: Place) -> Mapping[str, Any]:
    """List all files below an address, with what their folders say of them."""
    if is_web(place.base) or _has_no_list(place.fs):
        return _walked(place)
    return dict(tried(lambda: place.fs.find(place.base, detail=True)))


def _has_no_list(fs: Any) -> bool:
    """Whether a file system lists a folder at a time, and fsspec goes from one to the next."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.implementations.cached import CachingFileSystem
    from fsspec.spec import AbstractFileSystem

    kind: Any = type(fs)
    if isinstance(fs, AsyncFileSystem):
        return kind._find is AsyncFileSystem._find and kind.find is AbstractFileSystem.find
    return kind.find is AbstractFileSystem.find and not issubclass(kind, CachingFileSystem)


def _walked(place: Place) -> dict[str, Any]:
    """Look into folder after folder; fsspec's own walk passes over those that fail for a moment."""
    found: dict[str, Any] = {}
    seen, waiting = {place.base}, [place.base]
    while waiting:
        folder = waiting.pop()
        try:
            listed = tried(partial(place.fs.ls, folder, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            continue  # a link that leads nowhere
        for about in listed:
            name = about["name"].rstrip("/")
            if about["type"] != "directory":
                found[name] = about
            elif name not in seen:
                seen.add(name)
                waiting.append(name)
    return dict(sorted(found.items()))
