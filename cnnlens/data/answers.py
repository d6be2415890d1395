"""Asking what is far away: again, a little later each time, where that may help."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TypeVar

from cnnlens.data.signed import hidden
from cnnlens.data.unread import Refused, Unanswered

TRIES = 4
FIRST_WAIT = 0.2  # seconds before the second try; four times as long before each later one
LONGEST_WAIT = 30  # seconds that a server may ask to be waited for, before each try

_GONE = (404, 410)
_PRIVATE = (401, 403, 407)
_BUSY = (408, 425, 429)  # and all from 500 on: what may be otherwise in a moment
_FINAL = (FileNotFoundError, NotImplementedError, IsADirectoryError)

Found = TypeVar("Found")


def tried(read: Callable[[], Found]) -> Found:
    """Do what may fail for a moment, several times.

    Raises
    ------
    FileNotFoundError
        When the answer is that nothing is there.
    Refused
        When it is that one may not read it.
    Unanswered
        When it fails every time, or the answer is that no other try will help.
    """
    for number in range(TRIES):
        try:
            return read()
        except Exception as found:  # each file system has errors of its own
            error = _cause(found)
            status = _status(error)
            _raise_final(error, status)
            is_last = number == TRIES - 1
            if is_last or (status and status < 500 and status not in _BUSY):
                raise Unanswered(_words(error, status)) from error
            time.sleep(max(FIRST_WAIT * 4**number, _asked_for(error)))
    raise AssertionError("unreachable")


def _cause(error: BaseException) -> BaseException:
    """Find what a web server said: fsspec calls not there whatever has no size.

    What stands behind another store's word that nothing is there, as s3fs and huggingface_hub have
    it, says the same in their libraries' own words.
    """
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or cause is None:
        return error
    of_web = isinstance(cause, ConnectionError | TimeoutError)
    return cause if of_web or type(cause).__module__.partition(".")[0] == "aiohttp" else error


def _status(error: BaseException) -> int | None:
    """The number of a web server's answer; aiohttp says 0 where there is none."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) and status > 0 else None


def _raise_final(error: BaseException, status: int | None) -> None:
    """Raise what another try will not change."""
    if isinstance(error, PermissionError) or status in _PRIVATE:
        raise Refused(_words(error, status)) from error
    if status in _GONE:
        raise FileNotFoundError(hidden(str(error))) from error
    if isinstance(error, _FINAL):
        error.args = tuple(hidden(one) if isinstance(one, str) else one for one in error.args)
        raise error


def _words(error: BaseException, status: int | None) -> str:
    if status is not None:
        with suppress(ValueError):  # a number of its own
            return f"the server says {status} {HTTPStatus(status).phrase}"
        return f"the server says {status}"
    if isinstance(error, TimeoutError):
        return "there was no answer in time"
    said = getattr(error, "strerror", None) if isinstance(error, PermissionError) else None
    return hidden(said or str(error)) or type(error).__name__


def _asked_for(error: BaseException) -> float:
    """Seconds that a server asks to be waited for, in reason."""
    headers = getattr(error, "headers", None) or {}
    with suppress(ValueError, TypeError, AttributeError):  # it may be a date
        return min(float(headers.get("Retry-After", 0)), LONGEST_WAIT)
    return 0.0
