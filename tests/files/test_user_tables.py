"""Tables as people and their programs write them say what the plain table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlens.errors import UsageError
from cnnlens.files.user_tables import read_user_table

PLAIN = "unit,label,category\n0,red circle,shape\n1,dog,\n"
SAME = {
    "plain": PLAIN,
    "byte order mark": "\ufeff" + PLAIN,
    "ends of Windows": PLAIN.replace("\n", "\r\n"),
    "ends of old": PLAIN.replace("\n", "\r"),
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "Excel's first line": "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
    "spaces": PLAIN.replace(",", " , "),
    "capitals": PLAIN.replace("unit,label,category", "Unit,LABEL,Category"),
    "quotes": '"unit","label","category"\n"0","red circle","shape"\n"1", "dog", ""\n',
    "a row that ends early": PLAIN.replace("dog,", "dog"),
    "empty lines": "\n" + PLAIN.replace("\n", "\n,,\n\n"),
}


@pytest.mark.parametrize("name", SAME)
def test_a_table_is_the_same_however_it_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.csv").write_bytes(SAME[name].encode())
    rows = [row for _, row in read_user_table(tmp_path / "t.csv", ("unit", "label"))]
    assert rows == [
        {"unit": "0", "label": "red circle", "category": "shape"},
        {"unit": "1", "label": "dog", "category": ""},
    ]


@pytest.mark.parametrize("start", ["", "sep=;\n"])
def test_lines_are_those_of_the_file(tmp_path: Path, start: str) -> None:
    (tmp_path / "t.csv").write_text(f'{start}unit;label\n0;"a\nb"\n\n1;c, d\n')
    lines = [(line, row["label"]) for line, row in read_user_table(tmp_path / "t.csv", ("unit",))]
    assert lines == [(3 + bool(start), "a\nb"), (5 + bool(start), "c, d")]


REFUSED = {
    "no column": (b"unit,name\n", "no column label: its first line is unit,name"),
    "empty": (b"", "no column unit: it is empty"),
    "not UTF-8": ("unit,label\n0,\xe9".encode("latin-1"), "is not UTF-8 text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_table_says_what_it_lacks(tmp_path: Path, name: str) -> None:
    content, said = REFUSED[name]
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        read_user_table(tmp_path / "t.csv", ("unit", "label"))
    assert "unit,label" in caught.value.hint and "damaged" not in caught.value.message
    with pytest.raises(UsageError, match="does not exist"):
        read_user_table(tmp_path / "other.csv", ("unit", "label"))
