"""Files come whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from cnnlens.errors import CnnlensError, UsageError, did_you_mean, meant_file
from cnnlens.files import (
    atomic,
    atomic_folder,
    encodable_json,
    free_name,
    read_json,
    to_json,
    using_error,
    write_json,
    write_text,
)
from cnnlens.files.tables import read_csv, write_csv


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is no more."""
    run = subprocess.Popen([sys.executable, "-c", ""])
    run.wait()
    return run.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_broken_block_leaves_the_earlier_file(tmp_path, error):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_nobody_sees_half_a_file(tmp_path):
    with atomic(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "deep" / "a.txt").exists()
        assert temporary.parent == tmp_path / "deep"
    assert (tmp_path / "deep" / "a.txt").read_text() == "whole"
    assert names(tmp_path / "deep") == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_broken_block_leaves_the_earlier_folder(tmp_path, error):
    with atomic_folder(tmp_path / "d") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(error), atomic_folder(tmp_path / "d") as folder:
        (folder / "b").write_text("new")
        raise error
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["a"]
    with atomic_folder(tmp_path / "d") as folder:
        (folder / "b").write_text("new")
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["b"]  # replaced, not mixed


def test_leftovers_of_the_dead_are_swept_and_only_theirs(tmp_path, dead):
    mine = f".a.txt.{os.getpid()}-abcdef.tmp"  # of a process that lives
    other = f".b.txt.{dead}-abcdef.tmp"  # of another file
    foreign = ".a.txt.notes.tmp"
    for name in (mine, other, foreign, f".a.txt.{dead}-abcdef.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / f".a.txt.{dead}-123456.tmp").mkdir()
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == sorted(["a.txt", mine, other, foreign])


def test_a_folder_moved_aside_by_a_killed_process_comes_back(tmp_path, dead):
    aside = tmp_path / f".d.{dead}-abcdef.old"
    aside.mkdir()
    (aside / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "d"):
        raise RuntimeError
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["a"]


def test_errors_of_the_machine_name_the_file_and_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.txt", tmp_path / "file" / "deep" / "a.txt"):
        with pytest.raises(CnnlensError, match="cannot write") as found:
            write_text(path, "x")
        assert "-w DIR" in found.value.hint
    (tmp_path / "folder").mkdir()
    with pytest.raises(CnnlensError, match=r"cannot write .*folder: a folder is in the way"):
        write_text(tmp_path / "folder", "x")
    with pytest.raises(CnnlensError, match=r"cannot write .*too long"):
        write_text(tmp_path / ("n" * 300), "x")


def test_messages_do_not_name_temporary_files(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(CnnlensError) as found, atomic_folder(tmp_path / "layer") as folder:
        (folder / "units.csv").mkdir()
        write_text(folder / "units.csv", "x")
    assert found.value.message.startswith(f"cannot write {tmp_path}/layer/units.csv: ")


def test_floats_read_back_exactly(tmp_path):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2**53 + 0.0]
    write_csv(tmp_path / "a.csv", ["x"], [[v] for v in values])
    assert [float(row["x"]).hex() for row in read_csv(tmp_path / "a.csv")] == [
        v.hex() for v in values
    ]
    write_json(tmp_path / "a.json", values)
    assert [v.hex() for v in read_json(tmp_path / "a.json")] == [v.hex() for v in values]


def test_csv_is_what_every_reader_expects(tmp_path):
    label = 'a "b", c\nd;é'
    write_csv(tmp_path / "a.csv", ["label", "n"], [[label, 1]])
    raw = (tmp_path / "a.csv").read_bytes()
    assert raw.startswith(b"label,n\n") and b"\r" not in raw
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["label", "n"], [label, "1"]]


def test_json_is_utf8_unless_a_name_is_no_unicode(tmp_path):
    write_json(tmp_path / "a.json", {"é": 1})
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "b.json", {"name": name})
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == {"name": name}
    write_csv(tmp_path / "b.csv", ["name"], [[name]])
    assert read_csv(tmp_path / "b.csv") == [{"name": r"caf\udce9"}]


def test_json_takes_no_numbers_that_json_has_not():
    with pytest.raises(ValueError, match="JSON"):
        to_json({"x": float("nan")})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CnnlensError, match=r"a\.json is damaged") as found:
        read_json(tmp_path / "a.json")
    assert "--force" in found.value.hint


def test_damaged_csv_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x\n\xff\n")
    with pytest.raises(CnnlensError, match=r"a\.csv is damaged"):
        read_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(CnnlensError, match=r"b\.csv is damaged: it has no column y"):
        read_csv(tmp_path / "b.csv", ("x", "y"))
    for read in (read_csv, read_json):
        with pytest.raises(CnnlensError, match="does not exist"):
            read(tmp_path / "gone")


@pytest.mark.parametrize("label", ["a\rb", "a\r\nb", "\r", "a\nb", "a\x0bb\u2028", '"\r"'])
def test_a_carriage_return_in_a_name_ends_no_row(tmp_path, label):
    write_csv(tmp_path / "a.csv", ["label", "n"], [[label, 1], ["b", 2]])
    assert read_csv(tmp_path / "a.csv") == [{"label": label, "n": "1"}, {"label": "b", "n": "2"}]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_json_with_what_is_no_number_is_damaged(tmp_path, word):
    (tmp_path / "a.json").write_text(f'{{"a": [1, {word}]}}')
    with pytest.raises(CnnlensError, match=f"a.json is damaged: {word} is no number"):
        read_json(tmp_path / "a.json", finite=True)


def test_near_names_are_offered_once():
    assert did_you_mean("layer5", ["layer4", "layer4", "fc"]) == "did you mean layer4?"
    assert did_you_mean("x", ["layer4"]) == ""


@pytest.mark.parametrize(
    ("wrong", "beside", "near"),
    [
        ("nope", ["opt", "home", "usr"], ""),
        ("nope.pt", ["net1.py", "inter.py", "other.pt"], ""),
        ("modle.pt", ["model.pt", "model.json", "x.pt"], "did you mean model.pt or model.json?"),
        ("model.pth", ["model.pt", "module.py"], "did you mean model.pt or module.py?"),
        ("Photos", ["photos", "photo.tar.gz"], "did you mean photos or photo.tar.gz?"),
        ("catt.png", ["cat.png", "dog.png", ".git"], "did you mean cat.png?"),
    ],
)
def test_only_near_files_are_offered_whatever_their_endings(wrong, beside, near):
    assert meant_file(wrong, beside) == near


def test_exit_statuses_of_errors():
    assert (CnnlensError("a").exit_code, UsageError("a").exit_code) == (1, 2)
    assert str(CnnlensError("what", "way out")) == "what\nway out"


def test_a_free_name_is_the_first_that_is_not_taken():
    assert free_name("cat", {"dog"}.__contains__) == "cat"
    assert free_name("cat", {"cat", "cat-2"}.__contains__) == "cat-3"


def test_a_document_is_escaped_where_an_encoding_lacks_what_it_names():
    assert "é" in encodable_json({"a": "é"}, "utf-8")
    assert json.loads(encodable_json({"a": "é"}, "ascii").encode("ascii")) == {"a": "é"}


def test_errors_of_the_system_name_the_file_or_the_full_disk():
    gone = using_error(PermissionError(errno.EACCES, "denied", "/x/y.json"))
    assert gone is not None and gone.message == "cannot use /x/y.json: permission denied"
    full = using_error(OSError(errno.ENOSPC, "No space left on device"))
    assert full is not None and full.hint == "free some space"
    assert using_error(OSError("something else")) is None
    with pytest.raises(OSError) as caught:
        h5py.File("nowhere/at/all.h5", "w")
    lost = using_error(caught.value)
    assert lost is not None and lost.message.startswith(
        "cannot use nowhere/at/all.h5: No such file"
    )


@pytest.mark.parametrize("gone", [True, False])
def test_a_folder_that_vanishes_while_it_is_written_is_called_by_its_own_name(tmp_path, gone):
    place = tmp_path / "ws" / "conv1"
    with pytest.raises(CnnlensError) as raised, atomic_folder(place) as fresh:
        if gone:
            shutil.rmtree(tmp_path / "ws")
        raise CnnlensError(f"{fresh / 'summary.json'} does not exist")
    assert ("conv1 vanished while it was written" in str(raised.value)) == gone
    assert (".tmp" in str(raised.value)) != gone
