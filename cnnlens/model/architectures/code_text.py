"""A Python file's text without what changes nothing: comments, docstrings, empty lines."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator, Sequence

_NOTHING = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER}
# Python 3.12 gives formatted strings in pieces, before they were one token
_OPENS = {getattr(tokenize, f"{kind}STRING_START", -1) for kind in "FT"} - {-1}
_CLOSES = {getattr(tokenize, f"{kind}STRING_END", -1) for kind in "FT"} - {-1}


def text_of(content: bytes) -> str:
    """Return what decides in a Python file's text, the same in all versions of Python.

    Comments, docstrings, empty lines and the width of indentations are left out. What is no
    Python is returned as it is.
    """
    try:
        return "\n".join(_lines(content.replace(b"\r\n", b"\n")))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return content.decode("utf-8", "backslashreplace")


def _lines(content: bytes) -> Iterator[str]:
    """Yield logical lines, and where blocks begin and end."""
    line: list[str] = []
    says = False  # whether there is more in the line than a string that nobody uses
    for kind, text in _tokens(content):
        if kind in (tokenize.INDENT, tokenize.DEDENT):
            yield ">" if kind == tokenize.INDENT else "<"
        elif kind == tokenize.NEWLINE:
            if says:
                yield " ".join(line)
            line, says = [], False
        else:
            line.append(text)
            says = says or kind != tokenize.STRING or _is_formatted(text)


def _is_formatted(text: str) -> bool:
    return bool({"f", "t"} & {*text[: text.index(text[-1])].lower()})


def _tokens(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield kinds and texts of tokens; a formatted string is one."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    lines = content.decode(encoding).split("\n")
    depth, begin = 0, (0, 0)
    for token in tokenize.tokenize(io.BytesIO(content).readline):
        if token.type in _OPENS:
            begin = begin if depth else token.start
            depth += 1
        if not depth and token.type not in _NOTHING:
            yield token.type, token.string
        if token.type in _CLOSES:
            depth -= 1
            if not depth:
                yield tokenize.STRING, _between(lines, begin, token.end)


def _between(lines: Sequence[str], begin: tuple[int, int], end: tuple[int, int]) -> str:
    """Cut a text out of lines, by rows from 1 and columns from 0."""
    rows = [*lines[begin[0] - 1 : end[0]]]
    rows[-1] = rows[-1][: end[1]]
    rows[0] = rows[0][begin[1] :]
    return "\n".join(rows)
