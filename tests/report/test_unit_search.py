from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnlens import Investigation
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.encoder import Encoder
from cnnlens.report.dissect_files import read_dissections
from cnnlens.report.unit_names import names_of
from cnnlens.report.unit_search import hits_table, search
from tests.cli.runner import cnnlens

from .fake_workspace import examine, make_workspace

NAMES = [
    (0, "given", "wheel", 0.3, True),
    (1, "given", "wheel OR car", 0.9, True),
    (2, "given", "(bird OR cars) AND NOT wheel", 0.5, False),
    (3, "given", "carpet", 0.5, True),
    (4, "given", "boat", 0.2, True),
]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    make_workspace(tmp_path, {})
    examine(tmp_path, NAMES)
    return tmp_path


def test_names_hold_the_words_as_words_and_do_not_deny_them(workspace: Path) -> None:
    found = search(workspace, "Car wheel")
    assert [(hit.unit, hit.fit) for hit in found] == [(1, 1.0), (0, 0.5), (2, 0.5)]
    assert [hit.unit for hit in search(workspace, "wheel")] == [0, 1]  # the shorter name first
    assert not search(workspace, "zebra")


def test_an_encoder_orders_all_names_by_meaning(workspace: Path) -> None:
    meaning = {"ship": (0.9, 0.1), "boat": (1.0, 0.0), "carpet": (0.6, 0.8)}

    def texts(of: list[str]) -> np.ndarray:
        return np.array([meaning.get(text, (-1.0, 0.2)) for text in of])

    found = search(workspace, "ship", encoder=Encoder("towers.py:make", "", list, texts))
    assert [hit.unit for hit in found[:2]] == [4, 3] and len(found) == 5
    a, b = np.array(meaning["ship"]), np.array(meaning["boat"])
    assert found[0].fit == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_what_cannot_be_searched_is_named(workspace: Path, tmp_path_factory) -> None:
    with pytest.raises(CnnlensError, match="no units of conv6 have names") as caught:
        search(workspace, "car", ["conv6"])
    assert "conv5" in caught.value.hint
    with pytest.raises(CnnlensError, match="has a name"):
        search(tmp_path_factory.mktemp("empty"), "car")


def test_the_command_lists_and_prints_json(workspace: Path) -> None:
    shown = cnnlens("search", "wheel", "-w", workspace)
    assert shown.code == 0 and "conv5:0" in shown.out and "conv5:2" not in shown.out
    found = cnnlens("search", "wheel", "-w", workspace, "--json", "--top", 1)
    assert [(one["layer"], one["unit"], one["name"]["text"]) for one in found.json] == [
        ("conv5", 0, "wheel")
    ]
    assert "no unit is called 'zebra'" in cnnlens("search", "zebra", "-w", workspace).err
    assert "nothing to search for" in cnnlens("search", " ", "-w", workspace).error


def test_only_columns_that_tell_units_apart_are_shown(workspace: Path) -> None:
    """Every name that is found by one word holds all of it."""
    one = cnnlens("search", "wheel", "-w", workspace).out
    assert "fit" not in one.splitlines()[0] and "exam" in one.splitlines()[0]
    assert "fit" in cnnlens("search", "car wheel", "-w", workspace).out.splitlines()[0]
    assert all(
        hit["fit"] == 1 for hit in cnnlens("search", "wheel", "-w", workspace, "--json").json
    )


def test_without_an_exam_there_is_no_column_of_its_verdicts(tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 4})
    found = search(tmp_path, "car")
    assert hits_table(found, by_meaning=False)[0] == ["unit", "name", "from", "score"]
    assert hits_table(found, by_meaning=True)[0] == ["unit", "name", "from", "score", "fit"]


@pytest.mark.parametrize(
    ("sought", "name"),
    [("shirts", "shirt"), ("shirt", "shirts"), ("boxes", "box"), ("box", "boxes"),
     ("cities", "city"), ("city", "cities"), ("glasses", "glass"), ("bus", "bus")],
)  # fmt: skip
def test_one_and_many_find_each_other(tmp_path: Path, sought: str, name: str) -> None:
    make_workspace(tmp_path, {})
    examine(tmp_path, [(0, "given", name, 0.3, True), (1, "given", "carpet", 0.3, True)])
    lens = Investigation(workspace=tmp_path)
    assert [hit.unit for hit in lens.search(sought.upper())] == [0]


def test_in_python_layers_are_named_and_nothing_is_nothing_to_search_for(workspace: Path) -> None:
    lens = Investigation(workspace=workspace)
    assert lens.search("wheel", layer="conv5") == search(workspace, "wheel", ["conv5"])
    with pytest.raises(UsageError, match="nothing to search for"):
        lens.search(" ")


def test_the_table_says_which_units_are_detectors(tmp_path: Path) -> None:
    make_workspace(tmp_path, {"conv5": 12})
    label = next(iter(names_of(tmp_path)["conv5"].values()))[0].text
    found = search(tmp_path, label.split()[0])
    heads, rows = hits_table(found, by_meaning=False)
    (layer,) = read_dissections(tmp_path)
    of = {one.unit: one for one in layer.units}
    for hit, row in zip(found, rows, strict=True):
        verdict = "a detector" if of[hit.unit].is_detector else "no detector"
        assert row[heads.index("score")] == f"IoU {of[hit.unit].iou:.2f}, {verdict}"
