"""One file over HTTP, resumed where it broke off.

pooch, the usual choice, starts a broken download from the beginning; for archives of gigabytes
the standard library's client with Range requests is the better tool.
"""

from __future__ import annotations

import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import write_json, writing_error

Progress = Callable[[str, int, int | None], None]  # stage, bytes done, bytes in all if known

TRIES = 6  # in a row without a byte of progress
TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 18
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # worth another try


@dataclass(frozen=True)
class _State:
    """What is known about the file that a partial download belongs to."""

    url: str
    total: int | None = None
    validator: str = ""  # a strong ETag, or Last-Modified


class _Broken(Exception):  # noqa: N818
    """The connection failed in a way that another try may mend."""


def fetch(url: str, part: Path, progress: Progress | None = None) -> Path:
    """Download `url` into `part`, continuing what an earlier run left there.

    Parameters
    ----------
    url : str
        ``http:`` or ``https:``.
    part : pathlib.Path
        Holds the file; beside it ``<part>.json`` remembers which file it is a part of.
    progress : callable, optional
        Called with ("download", bytes so far, bytes in all or None).

    Raises
    ------
    CnnlensError
        When the server refuses, the connection keeps breaking (the part is kept), or the disk
        is full.
    """
    if not url.startswith(("http://", "https://")):
        raise CnnlensError(f"{url} is not an address", "it must begin with http:// or https://")
    failures = 0
    while True:
        before = _size(part)
        try:
            _attempt(url, part, progress)
            return part
        except _Broken as broken:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= TRIES:
                raise CnnlensError(
                    f"{url}: {broken} after {_size(part):,} bytes, {TRIES} times in a row",
                    "the same command resumes the download",
                ) from broken
            time.sleep(min(2.0 ** (failures - 1), 30.0))


def discard(part: Path) -> None:
    """Forget a download, finished or not."""
    part.unlink(missing_ok=True)
    _memory(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, progress: Progress | None) -> None:
    """Get what is missing, or raise _Broken with as much as came."""
    state = _remembered(url, part)
    have = _size(part)
    if have and have == state.total:
        return
    try:
        with urllib.request.urlopen(_request(state, have), timeout=TIMEOUT) as response:
            have, state = _begin(response, part, have, state)
            _receive(response, part, have, state, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            _out_of_range(error, part, have, state)
        elif error.code in _PASSING:
            raise _Broken(f"the server answered {error.code} {error.reason}") from error
        else:
            raise CnnlensError(
                f"{url}: the server answered {error.code} {error.reason}",
                "name another address with --url",
            ) from error
    except http.client.InvalidURL as error:
        raise CnnlensError(f"{url} is not an address: {error}") from error
    except (http.client.HTTPException, OSError) as error:  # URLError and timeouts are OSErrors
        reason = getattr(error, "reason", None) or error
        raise _Broken(f"the connection failed ({reason})") from error


def _request(state: _State, have: int) -> urllib.request.Request:
    headers = {"User-Agent": "cnnlens", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.validator:
            headers["If-Range"] = state.validator
    return urllib.request.Request(state.url, headers=headers)


def _begin(response: Any, part: Path, have: int, state: _State) -> tuple[int, _State]:
    """Decide whether the answer continues the part or starts over, and remember what it is of."""
    start, total = 0, _number(response.headers.get("Content-Length"))
    if response.status == 206:
        rest = total
        start, total = _content_range(response.headers.get("Content-Range", ""))
        total = start + rest if total is None and rest is not None else total
        other = state.total is not None and total is not None and total != state.total
        if start != have or other:
            discard(part)
            raise _Broken("the server sent another piece than the missing one")
    etag = response.headers.get("ETag", "")
    strong = "" if etag.startswith("W/") else etag
    validator = strong or response.headers.get("Last-Modified", "") or state.validator
    now = _State(state.url, total, validator)
    _check_space(part.parent, (total or 0) - start)
    if start == 0:
        discard(part)
    write_json(_memory(part), asdict(now))
    return start, now


def _receive(
    response: Any, part: Path, have: int, state: _State, progress: Progress | None
) -> None:
    total = state.total
    with _opened(part) as file:
        while True:
            if progress is not None:
                progress("download", have, total)
            block = response.read(_BLOCK)
            if not block:
                break
            try:
                file.write(block)
            except OSError as error:
                raise writing_error(part, error) from error
            have += len(block)
    if total is not None and have < total:
        raise _Broken("the connection was closed")
    if total is None:  # the end was not announced; what came is all there is
        write_json(_memory(part), asdict(replace(state, total=have)))


def _opened(part: Path) -> Any:
    try:
        return part.open("ab", buffering=0)
    except OSError as error:
        raise writing_error(part, error) from error


def _out_of_range(error: urllib.error.HTTPError, part: Path, have: int, state: _State) -> None:
    """Nothing lies beyond what is there: it is whole if its size says so, else of another file."""
    _, _, total = error.headers.get("Content-Range", "").partition("/")
    if _number(total) != have:
        discard(part)
        raise _Broken("the file on the server changed") from error
    write_json(_memory(part), asdict(replace(state, total=have)))


def _check_space(folder: Path, wanted: int) -> None:
    """Refuse to begin what cannot end: the rest of the archive and, at least, as much unpacked."""
    free = shutil.disk_usage(folder).free
    if 2 * wanted > free:
        raise CnnlensError(
            f"{folder} has {free / 1e9:.1f} GB free; download and unpacking take at least "
            f"{2 * wanted / 1e9:.1f} GB",
            "free some space, or set CNNLENS_HOME to a folder on a larger disk",
        )


def _remembered(url: str, part: Path) -> _State:
    """The state of an earlier run, unless it was of another address or is unreadable."""
    try:
        state = _State(**json.loads(_memory(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        state = _State("")
    if state.url != url:
        discard(part)
        return _State(url)
    return state


def _memory(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None


def _content_range(text: str) -> tuple[int, int | None]:
    """Parse ``bytes 100-199/200`` into (100, 200); (-1, None) when it makes no sense."""
    span, _, total = text.removeprefix("bytes").strip().partition("/")
    start = _number(span.partition("-")[0])
    return (-1 if start is None else start), _number(total)
