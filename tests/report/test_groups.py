from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.methods import sections
from cnnlens.report.dissect_files import read_dissection
from cnnlens.report.groups import concept_groups, read_groups, write_groups
from cnnlens.report.page import write_report

from .fake_workspace import make_workspace


def entry(**more: object) -> dict:
    return {
        "layer": "conv5", "path": "features.10", "number": 4, "size": 5,
        "relevance": [4.0, 1.0, 2.0, 0.25], "within": [0.9, 0.5, None, 0.7], "across": 0.4, **more,
    }  # fmt: skip


@pytest.fixture
def grouped(tmp_path) -> Path:
    root = make_workspace(tmp_path / "ws", {"features.10": 22})
    document = json.loads((root / "workspace.json").read_text())
    document["model"]["spec"] = str(tmp_path / "new.pt")
    document["layers"] = [{"name": "features.10", "alias": "conv5", "place": "features.11#0"}]
    (root / "workspace.json").write_text(json.dumps(document))
    write(tmp_path, entry())
    return root


def write(folder: Path, *entries: dict, method: str = "cgl") -> None:
    (folder / "new.json").write_text(json.dumps({"method": method, "groups": list(entries)}))


def test_groups_are_those_of_the_dissected_layer_under_either_name(grouped, tmp_path):
    for named in (entry(), entry(layer="conv9"), entry(path="x"), entry(path="features.11")):
        write(tmp_path, named)
        (layer,) = read_groups(grouped)
        assert (layer.layer.name, layer.free, layer.across) == ("features.10", 2, 0.4)
        assert [c.members for c in layer.concepts] == [5] * 4
    write(tmp_path, entry(layer="conv9", path="x"))
    assert read_groups(grouped) == []


def test_concepts_are_those_of_the_members(grouped):
    (layer,) = read_groups(grouped)
    units = read_dissection(grouped / "dissect" / "features.10").units
    for group, concept in enumerate(layer.concepts):
        members = [u for u in units[group * 5 : group * 5 + 5] if u.is_detector]
        mine = [u.iou for u in members if u.label == concept.label]
        assert concept.detectors == len(mine)
        assert concept.score == pytest.approx(sum(mine) / 5)


def test_other_methods_have_no_groups(grouped, tmp_path):
    write(tmp_path, entry(), method="icnn")
    assert concept_groups(grouped) is None
    assert write_groups(grouped) is None


def test_a_foreign_file_beside_the_model_does_not_cost_the_page(grouped, tmp_path):
    (tmp_path / "new.json").write_text("no JSON")
    assert concept_groups(grouped) is None
    assert write_report(grouped, sections()).exists()


@pytest.mark.parametrize("wrong", [{"number": "?"}, {"relevance": [1]}, {"within": None}])
def test_damaged_groups_are_named(grouped, tmp_path, wrong):
    write(tmp_path, entry(**wrong))
    with pytest.raises(CnnlensError, match=r"groups of features\.10"):
        read_groups(grouped)


def test_the_page_shows_every_group(grouped):
    page = write_report(grouped, sections()).read_text()
    assert page.count('class="circle') - page.count('class="circles"') == 4
    assert "relevance 4.00" in page and "alike 0.90" in page and "2 filters are in no group" in page


def test_the_picture_is_drawn(grouped):
    path = write_groups(grouped)
    assert path == grouped / "dissect" / "concept_groups.png"
    with Image.open(path) as picture:
        assert picture.width > picture.height
    once = path.read_bytes()
    write_groups(grouped)
    assert path.read_bytes() == once
