"""What is said where results of one workspace are of several states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnnlens.files import mark
from cnnlens.report.states import remarks


def summary(space: Path, command: str, layer: str, data: str, state: str, labels: str = "") -> None:
    made_from = {"data": state, "labels": labels}
    document = {"layer": layer, "data": {"name": data}, "made_from": made_from}
    write(space / command / layer / "summary.json", document)


def write(file: Path, document: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def knows(space: Path, *data: str, **model: Any) -> None:
    write(space / "workspace.json", {"data": [{"name": name} for name in data], "model": model})


def said(space: Path) -> list[str]:
    return [one.text for one in remarks(space)]


def test_the_same_data_in_another_state_is_said_and_other_data_are_not(tmp_path: Path) -> None:
    knows(tmp_path, "p2", "shapes")
    summary(tmp_path, "units", "a", "p2", "1", labels="by units")
    summary(tmp_path, "cluster", "a", "p2", "1", labels="by cluster")  # another mark of the same
    summary(tmp_path, "dissect", "a", "shapes", "2", labels="x")
    summary(tmp_path, "dissect", "b", "shapes", "2", labels="x")
    assert said(tmp_path) == []
    summary(tmp_path, "units", "b", "p2", "3")
    write(tmp_path / "deconv/a/deconv.json", {"pictures": [
        {"file": f"{state}.png", "made_from": {"of": {"name": "p2", "fingerprint": state}}}
        for state in "13"
    ]})  # fmt: skip
    (text,) = said(tmp_path)
    assert text.startswith(
        "the images of p2 changed between results: cluster of a, units of a and deconv of a "
        "(1 of 2) saw one state; units of b and deconv of a (1 of 2) another"
    )


def test_other_labels_of_the_same_images_are_said(tmp_path: Path) -> None:
    knows(tmp_path, "shapes")
    summary(tmp_path, "dissect", "a", "shapes", "1", labels="x")
    summary(tmp_path, "dissect", "b", "shapes", "1", labels="y")
    (text,) = said(tmp_path)
    assert "the labels of shapes changed between results: dissect of a saw one state" in text


def test_folders_of_one_name_are_several_data(tmp_path: Path) -> None:
    knows(tmp_path, "test", "test-2")
    for layer, state in ("a", "1"), ("b", "2"):
        summary(tmp_path, "units", layer, "test", state)
    assert said(tmp_path) == []
    summary(tmp_path, "units", "c", "test", "3")
    assert len(said(tmp_path)) == 1


NOW, BEFORE = ["bird", "cat", "dog"], ["bird", "dog", "cat"]


def named(*names: list[str] | None) -> dict[str, Any]:
    return {"pictures": [{"file": f"{n}.png", "made_from": {"names": mark(one)}}
                         for n, one in enumerate(names)]}  # fmt: skip


def test_earlier_names_of_classes_are_said_at_their_sections(tmp_path: Path) -> None:
    knows(tmp_path, classes=NOW)
    write(tmp_path / "cam/cam.json", named(NOW, None))  # who knew no names said numbers
    assert said(tmp_path) == []
    write(tmp_path / "cam/cam.json", named(NOW, BEFORE))
    write(tmp_path / "fool/fool.json", named(BEFORE))
    write(tmp_path / "ablate/a/summary.json", {"made_from": {"names": mark(NOW)}})
    write(tmp_path / "outliers/outliers.json", {"made_from": {"classes": mark(BEFORE)}})
    logit = {"file": "logit-cat.png", "class": "cat", "class_index": 2, "made_from": {}}
    right = {"file": "logit-dog.png", "class": "dog", "class_index": 2, "made_from": {}}
    write(tmp_path / "visualize/logits/visualize.json", {"pictures": [logit, right]})
    (one,) = remarks(tmp_path)
    assert "cam (1 of 2), fool, visualize of logits (1 of 2) and outliers." in one.text
    assert one.sections == ("cam", "fool", "visualize", "outliers")
    knows(tmp_path)  # nobody knows names
    assert said(tmp_path) == []


def test_nothing_is_said_of_what_is_damaged(tmp_path: Path) -> None:
    knows(tmp_path, "p2", classes=NOW)
    for file in ("units/a/summary.json", "cam/cam.json", "fool/fool.json", "deconv/a/deconv.json"):
        write(tmp_path / file, [])
    for place, document in (("units/b", {"made_from": 3}), ("units/c", {"made_from": {"data": 3}})):
        write(tmp_path / place / "summary.json", document)
    assert said(tmp_path) == []
