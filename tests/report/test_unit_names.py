from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnnlens.report.notebook import _parts
from cnnlens.report.unit_names import Name, names_of
from cnnlens.report.unit_page import unit_layers
from cnnlens.report.units import units
from tests.report.fake_workspace import examine, make_workspace


def test_names_of_all_methods_stand_side_by_side_with_their_exams(tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 5}, images=4)
    (dissected,) = names_of(tmp_path)["conv5"][1]
    assert (dissected.method, dissected.measure) == ("dissect", "IoU")
    assert dissected.score is not None and dissected.p_value is not None
    examine(tmp_path, [
        (1, "dissect", dissected.text, 0.1, False),
        (1, "given", "a whole sentence", 0.7, True),
        (2, "classes", "of an earlier run", 0.9, True),
    ])  # fmt: skip
    names = names_of(tmp_path)["conv5"]
    fails, passes = names[1]
    assert (fails.text, fails.verdict, fails.exam_score) == (dissected.text, "fails", 0.1)
    assert (passes.text, passes.verdict) == ("a whole sentence", "passes")
    assert [one.method for one in names[2]] == ["dissect"]  # an exam of a name that is gone
    assert sorted(names[1], key=lambda one: one.rank) == [passes, fails]


def test_pages_and_notebooks_show_names_that_are_more_than_the_label(tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 5}, images=4)
    (layer,) = unit_layers(tmp_path)
    assert not any(page.has_names for page in layer.pages)
    examine(tmp_path, [(1, "given", "a <b>sentence</b>", 0.7, True)])
    (layer,) = unit_layers(tmp_path)
    page = layer.page(1)
    assert page is not None and page.has_names
    shown = "".join(map(str, _parts(page, lambda near: None)))
    assert "named by a table: <b>a &lt;b&gt;sentence&lt;/b&gt;; exam: passes, 0.70</b>" in shown
    assert json.loads(json.dumps(page.as_dict()))["names"][1]["verdict"] == "passes"
    section: Any = units(tmp_path)
    (data,) = section.parts[0].data["layers"]
    assert data["names"][1][1][:3] == ["a table", "a <b>sentence</b>", ""]


def test_words_say_what_a_name_is_worth() -> None:
    name = Name("classes", "bird", "correlation", 0.62)
    assert name.words == "bird, correlation 0.62"
    assert Name("text", "bird", verdict="untested: nothing varies").words == (
        "bird; exam: untested: nothing varies"
    )
