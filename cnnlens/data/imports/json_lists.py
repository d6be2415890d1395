"""The lists of a large JSON object, element by element, without holding the file in memory."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from cnnlens.errors import CnnlensError

_BLOCK = 1 << 20
_DECODER = json.JSONDecoder(strict=False)
_BLANK = " \t\r\n"
_AFTER = ",]}:" + _BLANK  # what may follow a value


class Element(NamedTuple):
    """One element of the list `key`: where its bytes are in the file, and what they say."""

    key: str
    offset: int
    length: int
    value: Any


def elements(path: Path) -> Iterator[Element]:
    """Walk the lists of the object in a JSON file; what is no list is passed over.

    Raises
    ------
    CnnlensError
        When the file cannot be read, is no JSON, or holds no object.
    """
    try:
        if first_of(path) == "[":
            raise CnnlensError(
                f"{path} holds a list, where COCO's annotations are an object",
                "name the file of images, categories and annotations, not one of results",
            )
        with path.open("rb") as file:
            yield from _Text(file).lists()
    except (ValueError, RecursionError) as error:
        raise CnnlensError(f"{path} is damaged: no JSON ({error})") from error
    except OSError as error:
        raise CnnlensError(f"{path} cannot be read: {error.strerror or error}") from error


def first_of(path: Path) -> str:
    """Return the first character of a JSON file: ``{`` of an object; empty where there is none.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        return _Text(file).peek()


def element_at(file: IO[bytes], offset: int, length: int) -> Any:
    """Read one element again."""
    file.seek(offset)
    return json.loads(file.read(length), strict=False)


class _Text:
    """A window on the file, one character for one byte, so that places are places in the file."""

    def __init__(self, file: IO[bytes]) -> None:
        start = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
        file.seek(start)
        self.file, self.text, self.at, self.before = file, "", 0, start

    def lists(self) -> Iterator[Element]:
        self.take("{")
        while self.peek() == '"':
            key = str(self.value().value)
            self.take(":")
            if self.peek() == "[":
                yield from self.members(key)
            else:
                self.value()
            if self.peek() == ",":
                self.at += 1
        self.take("}")

    def members(self, key: str) -> Iterator[Element]:
        self.take("[")
        while self.peek() not in ("]", ""):
            yield self.value()._replace(key=key)
            if self.peek() == ",":
                self.at += 1
        self.take("]")

    def peek(self) -> str:
        """Skip blanks; the next character, empty at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _BLANK:
                self.at += 1
            if self.at < len(self.text) or not self.more(_BLOCK):
                return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> None:
        if self.peek() != wanted:
            found = self.peek() or "the end"
            raise ValueError(f"{found!r} at byte {self.before + self.at}, not {wanted!r}")
        self.at += 1

    def value(self) -> Element:
        """Read one value, and as much of the file as that needs."""
        self.peek()
        block = _BLOCK
        while True:
            try:
                found, end = _DECODER.raw_decode(self.text, self.at)
            except ValueError:
                if not self.more(block):
                    raise
            else:
                ends = self.text[end : end + 1]
                if (ends and ends in _AFTER) or not self.more(block):  # 1 may go on as 1.5
                    return self.element(found, end)
            block *= 2

    def element(self, found: Any, end: int) -> Element:
        text, offset = self.text[self.at : end], self.before + self.at
        self.at = end
        if not text.isascii():
            found = json.loads(text.encode("latin-1"), strict=False)
        return Element("", offset, len(text), found)

    def more(self, block: int) -> bool:
        """Read on, and forget what was read before."""
        read = self.file.read(block)
        if read:
            self.before += self.at
            self.text, self.at = self.text[self.at :] + read.decode("latin-1"), 0
        return bool(read)
