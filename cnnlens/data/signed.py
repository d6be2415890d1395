"""Web addresses with a signature: ``https://host/photos/a.jpg?X-Amz-Signature=…``.

What follows ``?`` opens a file for a while. It is a secret and says nothing of the content, so that
a file is known by the address before it, which alone is shown, stored and part of keys; what
follows is kept in this process, to read with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cnnlens.errors import UsageError

_SIGNED = re.compile(r"((?:^|.*::)https?:/[^?]*)\?(.*)", re.DOTALL)
_WITHIN = re.compile(r"(https?:/[^\s?'\"]*)\?[^\s'\"]+")

_QUERIES: dict[str, str] = {}  # what followed an address, by what is known of it


def unsigned(address: str) -> tuple[str, bool]:
    """Take off what follows ``?`` in a web address, and keep it in this process.

    Returns
    -------
    (str, bool)
        The address before it, and whether that was signed otherwise until now.
    """
    found = _SIGNED.fullmatch(address)
    if found is None:
        return address, False
    plain, query = found[1], found[2]
    renewed = _QUERIES.get(plain, query) != query
    _QUERIES[plain] = query
    return plain, renewed


def signed(address: str) -> str:
    """Give back what followed an address; of an archive, also what followed a member of it, which
    is read with the archive's signature. Else the address as it is.
    """
    is_archive = address.lower().endswith((".zip", ".tar"))
    for known, query in _QUERIES.items():
        if known.rstrip("/") == address or (is_archive and known.startswith(f"{address}/")):
            return f"{address}?{query}"
    return address


def hidden(text: str) -> str:
    """Hide what follows ``?`` in the web addresses of a text: a command line, a library's error.

    Examples
    --------
    >>> hidden("403, url='https://host/a.jpg?Signature=secret'")
    "403, url='https://host/a.jpg?...'"
    """
    return _WITHIN.sub(r"\1?...", text)


def check_apart(addresses: Iterable[str]) -> None:
    """See that no two addresses differ in nothing but what follows ``?``.

    Raises
    ------
    UsageError
        When two do: one image would be taken for the other.
    """
    known: dict[str, str] = {}
    for address in addresses:
        if (found := _SIGNED.fullmatch(address)) and known.setdefault(found[1], found[2]) != found[
            2
        ]:
            raise UsageError(
                f"{found[1]} is named twice, with something else after '?' each time",
                "what follows is taken for a signature; download the images, and name those",
            )
