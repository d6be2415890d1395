"""What is made already, and from what; what a killed run leaves; what an entry costs."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cnnlens.errors import CnnlensError
from cnnlens.files.ledger import Item, Ledger, pictures_of, read_list


def made(folder: Path, count: int, **more: object) -> Ledger:
    ledger = Ledger(folder / "cam.json")
    for number in range(count):
        item = Item(f"{number}.png", {"image": number, **more})
        (folder / item.name).write_bytes(b"picture")
        ledger.keep(item, {"file": item.name, "score": number})
    return ledger


def test_what_is_made_is_not_missing(tmp_path):
    made(tmp_path, 2).close({"settings": {}})
    ledger = Ledger(tmp_path / "cam.json")
    items = [Item(f"{number}.png", {"image": number}) for number in range(3)]
    assert [item.name for item in ledger.missing(items)] == ["2.png"]
    changed = [Item("0.png", {"image": "another"})]
    assert ledger.missing(changed) == changed


def test_force_makes_everything_anew(tmp_path):
    made(tmp_path, 1).close({})
    item = Item("0.png", {"image": 0})
    assert not Ledger(tmp_path / "cam.json").missing([item])
    assert Ledger(tmp_path / "cam.json", force=True).missing([item])


def test_a_list_that_cannot_be_read_is_not_written_over(tmp_path, monkeypatch):
    made(tmp_path, 2).close({})
    before, ledger = (tmp_path / "cam.json").read_bytes(), made(tmp_path, 1, size=9)

    def refuse(path: Path, *_: object, **__: object) -> str:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_text", refuse)
        with pytest.raises(CnnlensError, match=r"cannot read .*cam\.json: stale"):
            ledger.close({})
        with pytest.raises(CnnlensError, match="cannot read"):
            Ledger(tmp_path / "cam.json", force=True)
    assert (tmp_path / "cam.json").read_bytes() == before
    assert {*Ledger(tmp_path / "cam.json").entries} == {"0.png", "1.png"}


def test_files_beside_it_must_be_there(tmp_path):
    ledger = made(tmp_path, 1)
    with_arrays = Item("0.png", {"image": 0}, ("0.npz",))
    assert ledger.missing([with_arrays])
    (tmp_path / "0.npz").write_bytes(b"arrays")
    assert not ledger.missing([with_arrays])


def test_a_picture_that_is_gone_is_missing(tmp_path):
    made(tmp_path, 2).close({})
    (tmp_path / "1.png").unlink()
    assert list(Ledger(tmp_path / "cam.json").entries) == ["0.png"]


def test_a_larger_one_serves_where_that_is_said(tmp_path):
    made(tmp_path, 1, top=9).close({})
    ledger = Ledger(tmp_path / "cam.json")
    wanted = {"image": 0, "top": 4}
    assert ledger.missing([Item("0.png", wanted)])
    serves = lambda earlier: {**earlier, "top": 4} == wanted and earlier["top"] >= 4  # noqa: E731
    assert not ledger.missing([Item("0.png", wanted, serves=serves)])


def test_a_killed_run_is_taken_over(tmp_path):
    made(tmp_path, 3)  # never closed
    assert not (tmp_path / "cam.json").exists()
    ledger = Ledger(tmp_path / "cam.json")
    assert list(ledger.entries) == ["0.png", "1.png", "2.png"]
    document = ledger.close({"settings": {"top": 1}})
    assert json.loads((tmp_path / "cam.json").read_text()) == document
    assert [entry["score"] for entry in document["pictures"]] == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_picture_that_was_written_over_and_not_listed_is_of_nothing_for_certain(tmp_path):
    made(tmp_path, 3).close({"settings": {}})
    one, other = Item("1.png", {"image": 1}), Item("1.png", {"image": "another"})
    killed = Ledger(tmp_path / "cam.json")
    assert killed.missing([one, other]) == [other]
    killed.begin(other)
    (tmp_path / "1.png").write_bytes(b"another picture")
    ledger = Ledger(tmp_path / "cam.json")
    assert ledger.missing([one, other]) == [one, other]
    assert list(ledger.entries) == ["0.png", "2.png"]
    ledger.begin(one)
    ledger.keep(one, {"file": "1.png", "score": 1})
    document = ledger.close({})
    assert [entry["score"] for entry in document["pictures"]] == [0, 1, 2]
    assert not Ledger(tmp_path / "cam.json").missing([one])


def test_a_run_that_ends_meanwhile_does_not_list_what_another_one_has_begun(tmp_path):
    made(tmp_path, 2).close({})
    killed, ends = Ledger(tmp_path / "cam.json"), Ledger(tmp_path / "cam.json")
    killed.begin(Item("1.png", {"image": "another"}))
    (tmp_path / "1.png").write_bytes(b"another picture")
    (tmp_path / "2.png").write_bytes(b"picture")
    ends.keep(Item("2.png", {"image": 2}), {"file": "2.png"})
    ends.close({})
    again, one = Ledger(tmp_path / "cam.json"), Item("1.png", {"image": 1})
    assert list(again.entries) == ["0.png", "2.png"] and again.missing([one]) == [one]
    again.keep(one, {"file": "1.png"})
    again.close({})
    assert not Ledger(tmp_path / "cam.json").missing([one])
    assert not [*tmp_path.glob(".*journal")]


def test_a_line_cut_short_costs_only_itself(tmp_path):
    made(tmp_path, 3)
    (journal,) = tmp_path.glob(".cam.json.*")
    journal.write_bytes(journal.read_bytes()[:-20])
    again = Ledger(tmp_path / "cam.json")
    assert list(again.entries) == ["0.png", "1.png"]
    again.keep(Item("2.png", {"image": 2}), {"file": "2.png"})  # and what comes after it is read
    assert list(Ledger(tmp_path / "cam.json").entries) == ["0.png", "1.png", "2.png"]


def test_two_runs_at_once_list_what_both_have_made(tmp_path):
    slow = made(tmp_path, 1)
    quick = Ledger(tmp_path / "cam.json")
    (tmp_path / "quick.png").write_bytes(b"picture")
    quick.keep(Item("quick.png", {"image": "q"}), {"file": "quick.png"})
    quick.close({})
    (tmp_path / "late.png").write_bytes(b"picture")
    slow.keep(Item("late.png", {"image": "l"}), {"file": "late.png"})
    document = slow.close({})
    assert {e["file"] for e in document["pictures"]} == {"0.png", "quick.png", "late.png"}


def test_what_another_run_has_made_anew_meanwhile_is_the_others(tmp_path):
    made(tmp_path, 1, how=1).close({})
    slow = Ledger(tmp_path / "cam.json")
    made(tmp_path, 1, how=2).close({})
    (tmp_path / "late.png").write_bytes(b"picture")
    slow.keep(Item("late.png", {"how": 1}), {"file": "late.png"})
    listed = slow.close({})["pictures"]
    assert {e["file"]: e["made_from"]["how"] for e in listed} == {"0.png": 2, "late.png": 1}


def test_an_entry_costs_the_same_however_many_there_are(tmp_path):
    ledger = made(tmp_path, 1)
    (journal,) = tmp_path.glob(".cam.json.*")
    size = journal.stat().st_size
    item = Item("0.png", {"image": 0})
    for _ in range(199):
        ledger.keep(item, {"file": "0.png", "score": 0})
    assert journal.stat().st_size == 200 * size
    assert not (tmp_path / "cam.json").exists()


def test_an_entry_made_by_something_else_is_made_anew(tmp_path):
    (tmp_path / "0.png").write_bytes(b"picture")
    (tmp_path / "cam.json").write_text('{"pictures": [{"file": "0.png"}]}')
    item = Item("0.png", {"image": 0})
    assert Ledger(tmp_path / "cam.json").missing([item]) == [item]


@pytest.mark.parametrize("text", ["{", "[]", '{"pictures": 3}', '{"pictures": [{}]}', ""])
def test_a_damaged_one_is_named_and_left(tmp_path, text):
    file = tmp_path / "cam.json"
    file.write_text(text)
    with pytest.raises(CnnlensError, match="damaged"):
        Ledger(file)
    assert file.read_text() == text
    assert Ledger(file, force=True).entries == {}


def test_entries_by_name_stand_in_the_document(tmp_path):
    ledger = Ledger(tmp_path / "summary.json", listed="")
    ledger.keep(Item("trees", {"rule": ("argmin",)}), {"leaves": 4})
    document = ledger.close({"layer": "conv5"})
    assert document["trees"] == {"leaves": 4, "made_from": {"rule": ["argmin"]}}
    again = Ledger(tmp_path / "summary.json", listed="")
    assert not again.missing([Item("trees", {"rule": ("argmin",)})])


def test_a_document_may_be_its_own_entry(tmp_path):
    (tmp_path / "summary.json").write_text('{"units": 3, "made_from": {"layer": "conv1"}}')
    ledger = Ledger(tmp_path / "summary.json", listed="")
    assert ledger.is_made(Item("summary.json", {"layer": "conv1"}))
    assert not ledger.is_made(Item("summary.json", {"layer": "conv2"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "lists no pictures"),
        ('{"pictures": 5}', "lists no pictures"),
        ('{"pictures": [{"file": "a.png"}, {"unit": 1}]}', "one of its pictures has no file"),
    ],
)
def test_one_reader_for_every_list_names_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "visualize.json"
    path.write_text(text)
    with pytest.raises(CnnlensError, match=message) as raised:
        read_list(path, "pictures", "redo it")
    assert raised.value.hint == "redo it"
    with pytest.raises(CnnlensError, match=message):
        Ledger(path)


def test_pictures_say_what_they_show(tmp_path):
    ledger = Ledger(tmp_path / "a.json")
    for name, made_from in (("x.png", {"image": "p:1:2", "category": "cat"}), ("y.png", {})):
        ledger.amend(name, {"file": name, "made_from": made_from})
    assert pictures_of([ledger]) == {"x": ("p:1:2", "cat")}
