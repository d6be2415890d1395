"""Tables on terminals of all widths."""

from __future__ import annotations

import io
import re

import pytest

from cnnlens.cli.tables import write_ruled


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


HEADS = ("unit", "label", "category", "IoU", "p", "detector", "best formula", "IoU of it", "exam")
ROWS = [
    (12, "swimming pool", "object", 0.2345, 0.0099, "27.7 %", "(grass OR sky)", 0.3123, "passes"),
    (7, "犬", "part", None, 0.5, "0 %", "", 0.1, "fails"),
]
STORE = ("features.12", "out/a folder/activations/photos/features.12.h5")


def test_activations_of_ten_thousands_are_written_without_a_power_of_ten():
    out = io.StringIO()
    write_ruled(out, ("unit", "activation"), [(1, 12345.678), (2, 0.123456)], "")
    assert {"12350", "0.1235"} <= set(out.getvalue().split()) and "e+" not in out.getvalue()


@pytest.mark.parametrize("wide", [40, 60, 80, 100, 200])
def test_a_table_fits_its_terminal_and_breaks_no_word(monkeypatch, wide):
    monkeypatch.setenv("COLUMNS", str(wide))
    out = Terminal()
    write_ruled(out, HEADS, ROWS, "best units")
    lines = [line.rstrip() for line in plain(out).splitlines()]
    assert max(map(len, lines)) <= wide
    words = " ".join(lines).split()
    for text in (*HEADS, *(str(cell) for row in ROWS for cell in row if cell is not None)):
        assert all(word in words for word in text.split())
    tables = plain(out).count("unit ")
    assert tables == {40: 3, 60: 2, 80: 1, 100: 1, 200: 1}[wide]
    assert words.count("12") == words.count("7") == tables  # each begins with the first column
    assert words.count("swimming") == plain(out).count("best units") == 1


def test_no_column_stands_alone(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    write_ruled(out, ["unit", "top image", "responds like", "r"], [(1, "a" * 20, "conv2:1", 0.5)])
    assert ["1", "conv2:1", "0.5"] in [line.split() for line in plain(out).splitlines()]


def test_a_column_stands_alone_where_its_neighbour_leaves_no_room(monkeypatch):
    monkeypatch.setenv("COLUMNS", "44")
    out = Terminal()
    path = "photos/animals/cat/1.jpg"
    write_ruled(out, ["unit", "p", "image", "like"], [(1, 0.0123, path, "features.12")])
    lines = [line.split() for line in plain(out).splitlines()]
    assert ["1", "0.0123", path] in lines and ["1", "features.12"] in lines
    assert max(map(len, plain(out).splitlines())) <= 44


def test_a_name_longer_than_the_terminal_is_broken(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = Terminal()
    write_ruled(out, ["class", "n"], [("x" * 200, 3)])
    assert max(map(len, plain(out).splitlines())) <= 80 and plain(out).count("x") == 200


def test_what_is_to_be_copied_is_whole_on_its_line_however_long(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    out = Terminal()
    write_ruled(out, ["layer", "store"], [STORE])
    assert any(line.split(maxsplit=1)[1:] == [STORE[1]] for line in plain(out).splitlines())


def plain(out: io.StringIO) -> str:
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\r| +$", "", out.getvalue(), flags=re.MULTILINE)
