from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.check import check
from cnnlens.errors import CnnlensError

from .layout import plane, write


def test_a_folder_of_images_names_the_damaged_ones(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "cat" / f"{name}.png")
    (tmp_path / "cat" / "b.png").write_bytes(b"")
    calls: list[tuple[int, int]] = []
    report = check(tmp_path, lambda *call: calls.append(call))
    assert (report.kind, report.images, report.checked, report.ok) == ("classes", 3, 3, False)
    assert [(p.where, p.what) for p in report.problems] == [("cat/b.png", "image empty file")]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert json.loads(json.dumps(report.as_dict()))["problems"][0]["where"] == "cat/b.png"


def test_every_bad_row_of_a_broden_is_named_and_none_hides_another(tmp_path: Path) -> None:
    rows = [
        "good.png,train,6,8,2,3,o.png,300",
        "gone.jpg,train,6,8,2,3,7,300",
        "a.png,train,6,8,2,3,nowhere.png,300",
        "b.png,train,6,8,2.5,3,7,300",
        "c.png,train,6,8,2,3,small.png,300",
        "good.png,train,6,8,2,3,7,300",
        "d.png,train,60,80,2,3,unknown.png,300",
        "e.png,train,6,8,2,3,7,7",
        "f.png,train,6,8",
    ]
    planes = {
        "o.png": plane(np.full((2, 3), 7)),
        "small.png": plane([[7]]),
        "unknown.png": plane(np.full((2, 3), 99)),
    }
    root = write(tmp_path, "object,scene", rows, planes)
    label = (root / "label.csv").read_text() + "7,again,object,1,1,\n"
    (root / "label.csv").write_text(label)
    report = check(root)
    found = [(p.where, p.what.replace(" in label.csv", "")) for p in report.problems]
    assert found == [
        ("label.csv, row 8", "label 7 is defined in row 5 too"),
        ("index.csv, row 5", "sh is '2.5', not a size in pixels"),
        ("index.csv, row 7", "good.png is listed in row 2 too"),
        ("index.csv, row 10", "4 cells under 8 columns"),
        ("index.csv, row 3 (gone.jpg)", "image missing"),
        ("index.csv, row 4 (a.png)", "nowhere.png is missing"),
        ("index.csv, row 6 (c.png)", "small.png is 1×1 pixels, index.csv says 2×3"),
        ("index.csv, row 8 (d.png)", "the image is 6×8 pixels, index.csv says 60×80"),
        ("index.csv, row 8 (d.png)", "label 99 in unknown.png is not"),
        ("index.csv, row 9 (e.png)", "label 7 (chair) is not declared for category scene"),
    ]  # fmt: skip
    assert (report.images, report.checked) == (9, 6)


def test_notes_tell_of_unused_labels_empty_categories_and_quarrelling_tables(
    tmp_path: Path,
) -> None:
    root = write(tmp_path, "object,part,remark", ["a.png,train,6,8,2,3,7,,blurred"])
    head = "code,number,name,frequency,coverage\n"
    (root / "c_object.csv").write_text(f"{head}1,7,armchair,1,1\n2,8,lamp,1,1\n")
    (root / "category.csv").write_text("name,first,last\nobject,7,7\nattic,1,2\n")
    report = check(root)
    assert report.ok
    text = "\n".join(report.notes)
    assert "category part is empty in every row" in text
    assert "labels that no image shows: wood (2, part), leg (5, part)" in text
    assert "without a column in index.csv: color, material, scene, texture" in text
    assert "category.csv without a column: attic" in text
    assert "no category: remark" in text
    assert "c_object.csv: labels that label.csv does not declare for it: 8" in text
    assert "c_object.csv: labels of another name than in label.csv: 7" in text
    assert "c_part.csv is missing" in text


def test_what_cannot_be_checked_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CnnlensError, match="no images"):
        check(tmp_path)
    with pytest.raises(CnnlensError, match="no folder"):
        check(tmp_path / "gone")
