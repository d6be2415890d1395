"""What of a Python file decides: told from its tree, and fixed to the letter for all Pythons."""

from __future__ import annotations

import pytest

from cnnlens.model.architectures.code_text import text_of

PLAIN = 'def f(x):\n    y = "a"\n    return f"{x} {y!r}"\n'
SAME = {
    "comments": '# top\ndef f(x):  # takes x\n    # o\n    y = "a"\n    return f"{x} {y!r}"\n# end',
    "docstrings": '"""A"""\ndef f(x):\n    """B\n    C"""\n    y = "a"\n    return f"{x} {y!r}"\n',
    "empty lines": '\n\ndef f(x):\n\n    y = "a"\n\n    return f"{x} {y!r}"',
    "indentation": 'def f(x):\n\ty = "a"\n\treturn f"{x} {y!r}"\n',
    "Windows's lines": PLAIN.replace("\n", "\r\n"),
    "brackets over lines": 'def f(\n    x  # x\n):\n    y = "a"\n    return f"{x} {y!r}"\n',
}
OTHER = {
    "a name": PLAIN.replace("y", "z"),
    "a string": PLAIN.replace('"a"', '"#a"'),
    "a formatted string": PLAIN.replace("!r", ""),
    "a block": 'def f(x):\n    y = "a"\nreturn f"{x} {y!r}"\n',
    "a formatted string alone, which runs": PLAIN + 'f"{f(1)}"\n',
}


@pytest.mark.parametrize("what", SAME)
def test_what_changes_nothing_is_left_out(what: str) -> None:
    assert text_of(SAME[what].encode()) == text_of(PLAIN.encode())


@pytest.mark.parametrize("what", OTHER)
def test_what_may_change_something_stays(what: str) -> None:
    assert text_of(OTHER[what].encode()) != text_of(PLAIN.encode())


def test_it_is_the_same_in_every_python() -> None:
    """To the letter: 3.12 and later give formatted strings in pieces."""
    code = "def f(x):\n    '''D'''\n    f'''{x}\n  a'''\n    return rf\"{f'{x:>{x}}'}\" 'b'\n"
    assert text_of(code.encode()) == (
        "def f ( x ) :\n>\nf'''{x}\n  a'''\nreturn rf\"{f'{x:>{x}}'}\" 'b'\n<"
    )


def test_what_is_no_python_counts_as_it_is() -> None:
    assert text_of(b"def (:\n  '") == "def (:\n  '"
    assert text_of("# -*- coding: latin-1 -*-\nx = 'é'".encode("latin-1")) == "x = 'é'"
