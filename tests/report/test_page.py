from __future__ import annotations

import csv
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.files.tables import write_rows
from cnnlens.measure.dissected_units import near_best
from cnnlens.methods import sections
from cnnlens.report import html as pages
from cnnlens.report.blocks import Gallery, Layer, Section, Shot
from cnnlens.report.dissect_files import read_dissection
from cnnlens.report.page import header, write_report
from cnnlens.report.unit_page import unit_layers

from .fake_workspace import LABELS, make_layer, make_workspace

HOSTILE = [
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "\"'`${window.hacked=1}{{ 7*7 }}",
    "<!--<script>",
    "собака 犬 كلب \u202edlrow\u202c \u2028",
    "x" * 200,
]


class Tags(HTMLParser):
    """The page as a parser sees it: elements with attributes, and the text of each script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.lasttag == "script" and self.cdata_elem:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        else:
            self.text += data

    def json(self, name: str):
        return next(json.loads(text) for attrs, text in self.scripts if attrs.get("id") == name)


def report(workspace: Path) -> tuple[str, Tags]:
    html = write_report(workspace, sections()).read_text(encoding="utf-8")
    return html, Tags(html)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_units_on_the_page_are_those_of_the_table(read_only_workspace):
    _, tags = report(read_only_workspace)
    data = tags.json("data")["dissect"]
    assert [layer["name"] for layer in data["layers"]] == ["features.12", "features.9"]
    for layer in data["layers"]:
        table = rows(read_only_workspace / "dissect" / layer["name"] / "units.csv")
        assert len(layer["units"]) == len(table)
        for unit, row in zip(layer["units"], table, strict=True):
            category = data["categories"][unit["category"]] if row["category"] else ""
            shown = (unit["unit"], unit["label"], category, unit["iou"], unit["detector"])
            expected = (int(row["unit"]), row["label"], row["category"], float(row["iou"]))
            assert shown == (*expected, row["is_detector"] == "true")
            assert (unit["threshold"], unit["p"]) == (
                float(row["threshold"]),
                float(row["p_value"]),
            )
            best = {data["categories"][b["category"]]: (b["label"], b["iou"]) for b in unit["best"]}
            for name in LABELS:
                if row[f"{name}_label"]:
                    assert best[name] == (row[f"{name}_label"], float(row[f"{name}_iou"]))


def test_each_layer_s_settings_stand_in_the_table_where_they_differ(tmp_path):
    def words(space: Path) -> str:
        return " ".join(report(space)[0].split())

    space = make_workspace(tmp_path / "w", {"layer3": 3, "layer1": 3})
    assert "reaches 0.04." in words(space) and "IoU from" not in words(space)
    file = space / "dissect/layer1/summary.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "quantile": 0.05, "min_iou": 0.1}))
    page = words(space)
    assert "reaches 0.04 in layer3, 0.1 in layer1." in page
    assert 'colspan="9">highest 0.5 %, IoU from 0.04</td>' in page
    assert 'colspan="9">highest 5 %, IoU from 0.1</td>' in page


def test_a_page_reads_a_layer_once_and_the_next_page_reads_it_anew(tmp_path, monkeypatch):
    workspace = make_workspace(tmp_path / "w", {"features.12": 3, "features.9": 3})
    met = []

    def counted(folder: Path) -> object:
        met.append(folder.name)
        return read_dissection(folder)

    monkeypatch.setattr("cnnlens.report.dissect_files.read_dissection", counted)
    before, _ = report(workspace)
    assert sorted(met) == ["features.12", "features.9"]
    table = workspace / "dissect" / "features.12" / "units.csv"
    table.write_text(table.read_text().replace(rows(table)[0]["label"], "zzz"))
    after, _ = report(workspace)
    assert sorted(met) == ["features.12"] * 2 + ["features.9"] * 2
    assert "zzz" in after and "zzz" not in before


def test_near_best_concepts_are_the_highest_scores(read_only_workspace):
    _, tags = report(read_only_workspace)
    layer = tags.json("data")["dissect"]["layers"][0]
    with h5py.File(read_only_workspace / "dissect" / layer["name"] / "scores.h5") as file:
        iou = file["iou"][()]
    for unit in layer["units"][:-1]:
        scores = iou[unit["unit"]]
        near = [index for index, _ in unit["near"]]
        assert near[0] == scores.argmax()
        assert near[:8] == sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:8]
        assert set(np.flatnonzero(scores >= 0.8 * scores.max())[:8]) <= set(near)
        np.testing.assert_allclose([s for _, s in unit["near"]], scores[near], rtol=1e-5)
    for column, concept in enumerate(layer["concepts"]):
        assert concept["top"][0][0] == iou[:, column].argmax()
        assert len(concept["top"]) == 8


def test_every_concept_within_reach_of_the_best_is_near():
    scores = np.linspace(1.0, 0.81, 12, dtype=np.float32)
    assert len(near_best(np.append(scores, 0.5))) == 12
    assert near_best(np.zeros(5)) == []
    assert near_best(np.zeros(0)) == []


def test_summary_stands_on_the_page_beside_chance(read_only_workspace):
    html, tags = report(read_only_workspace)
    summary = json.loads((read_only_workspace / "dissect/features.12/summary.json").read_text())
    assert f'<b>{summary["detectors"]}</b> <span class="chance">6.4</span>' in html
    assert f'<b>{summary["unique_detectors"]}</b> <span class="chance">3.1</span>' in html
    per_category = sum(row["unique_detectors"] for row in summary["per_category"].values())
    assert f"<b>{per_category}</b>" in html
    assert '<span class="chance">7.0</span>' in html  # 0.8 + 1.1 + 1.4 + 1.7 + 2.0
    table = rows(read_only_workspace / "dissect/features.12/units.csv")
    sure = [r for r in table if r["is_detector"] == "true" and float(r["p_value"]) < 0.05]
    assert 0 < len(sure) < summary["detectors"] and f"<td>{len(sure)}</td>" in html
    assert f'<b>{summary["mean_iou"]:.4f}</b> <span class="chance">0.0171</span>' in html
    for text in ("models/squeezenet1_0.pt", "9f3b2c1d8e7a6054", "224 × 224", "512 images"):
        assert text in tags.text
    assert "2025-06-15 15:06 UTC" in tags.text
    assert "cnnlens dissect models/squeezenet1_0.pt -d broden_small" in tags.text
    assert "images/broken.jpg" in tags.text


def test_the_best_units_are_readable_without_javascript(read_only_workspace):
    html, tags = report(read_only_workspace)
    best = max(
        rows(read_only_workspace / "dissect/features.12/units.csv"), key=lambda r: float(r["iou"])
    )
    first = html[html.index('<table class="top">') :]
    first = re.search(r"<tbody>(.*?)</tr>", first, re.S)[1]
    assert f">{best['unit']}</th>" in first
    assert best["label"] in first and f"{float(best['iou']):.3f}" in first
    shown = [a for tag, a in tags.tags if tag == "img"]
    assert len(shown) == 24 and all(a["src"].startswith("data:image/webp;base64,") for a in shown)


def test_formulas_stand_beside_labels(workspace):
    folder = workspace / "dissect/features.12"
    table = rows(folder / "units.csv")
    best = max(table, key=lambda r: float(r["iou"]))
    for row in table:
        row |= {"formula": row["label"], "formula_length": 1, "formula_iou": row["iou"]}
        row |= {"formula_p_value": 1.0}
    words = "(<b>car</b> OR bus) AND NOT road"
    best |= {"formula": words, "formula_length": 3, "formula_iou": 0.75, "formula_p_value": 0.002}
    write_rows(folder / "units.csv", list(table[0]), table)
    summary = json.loads((folder / "summary.json").read_text())
    summary["formulas"] = {"longer": 1, "mean_iou": 0.1, "mean_gain": 0.0123}
    (folder / "summary.json").write_text(json.dumps(summary))
    html, tags = report(workspace)
    assert (
        "Formulas fit 1 of 40 units better than one concept, mean gain in IoU 0.0123." in tags.text
    )
    assert f"best formula: {words}, IoU 0.750" in tags.text and words not in html
    alone = f"{best['label']} alone {float(best['iou']):.3f}"
    assert f"IoU 0.750 ({alone}); p of the gain 0.002" in tags.text
    label, formula = unit_layers(workspace)[0].page(int(best["unit"])).names
    assert (label.text, label.score) == (best["label"], float(best["iou"]))
    assert (formula.text, formula.score, formula.p_value) == (words, 0.75, 0.002)
    other = next(row for row in table if row is not best and row["label"])
    assert len(unit_layers(workspace)[0].page(int(other["unit"])).names) == 1
    found = read_dissection(folder)
    assert found[int(best["unit"])].formula == words
    assert found[int(best["unit"])].table()[0]["formula_length"] == 3
    summary["formulas"]["longer"] = "many"
    (folder / "summary.json").write_text(json.dumps(summary))
    assert "longer is 'many'" in heard(workspace)[1][0]


def test_dead_units_are_marked(read_only_workspace):
    _, tags = report(read_only_workspace)
    units = tags.json("data")["dissect"]["layers"][0]["units"]
    marks = {unit["unit"]: unit["dead"] for unit in units if unit["dead"]}
    assert marks == {38: "nearly dead", 39: "dead"}


def test_hostile_names_stay_text(tmp_path):
    labels = {"object": HOSTILE, "</script><b>category": ["plain"]}
    workspace = make_workspace(tmp_path / "w", {"features.12": 30}, labels=labels)
    document = json.loads((workspace / "workspace.json").read_text())
    document["model"] |= {
        "spec": HOSTILE[0],
        "arch": HOSTILE[1],
        "preprocess": {HOSTILE[3]: HOSTILE[0]},
    }
    document["data"][0]["name"] = HOSTILE[1]
    document["commands"] = HOSTILE
    (workspace / "workspace.json").write_text(json.dumps(document))
    _, tags = report(workspace)
    labels_shown = {c["label"] for c in tags.json("data")["dissect"]["layers"][0]["concepts"]}
    assert set(HOSTILE) <= labels_shown
    assert len(tags.scripts) == 4  # data, at-unit, pictures, program
    assert not any(name.startswith("on") for _, attrs in tags.tags for name in attrs)
    assert not any(attributes.get("src") == "x" for _, attributes in tags.tags)
    assert "49" not in re.findall(r"\{\{.*?\}\}|\b49\b", tags.text)


def test_nothing_points_outside(read_only_workspace):
    html, tags = report(read_only_workspace)
    for _, attributes in tags.tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#", "report_files/")), value
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for t, a in tags.tags if "http-equiv" in a)
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_the_same_results_make_the_same_bytes(workspace):
    first = write_report(workspace, sections()).read_bytes()
    assert write_report(workspace, sections()).read_bytes() == first
    os.utime(workspace / "dissect/features.9/summary.json", (1_760_000_000, 1_760_000_000))
    assert (
        write_report(workspace, sections()).read_bytes() != first
    )  # the date is that of the results


def test_pictures_move_out_of_the_page_when_they_are_many_and_back(workspace, monkeypatch):
    sizes = sum(p.stat().st_size for p in workspace.glob("dissect/*/pictures/*.webp"))
    monkeypatch.setattr(pages, "INLINE_LIMIT", sizes - 1)
    html, tags = report(workspace)
    assert "base64" not in html
    addresses = [*tags.json("pictures").values(), *(a["src"] for t, a in tags.tags if t == "img")]
    assert len(addresses) == 64
    for address in addresses:
        copy = workspace / address
        original = workspace / Path(address).relative_to("report_files")
        assert copy.read_bytes() == original.read_bytes()
    monkeypatch.setattr(pages, "INLINE_LIMIT", sizes)
    html, tags = report(workspace)
    assert not (workspace / "report_files").exists()
    inline = [*tags.json("pictures").values(), *(a["src"] for t, a in tags.tags if t == "img")]
    assert len(inline) == 64 and all(a.startswith("data:image/webp;base64,") for a in inline)
    assert sorted(p.name for p in workspace.iterdir()) == [
        "dissect",
        "report.html",
        "workspace.json",
    ]


def test_the_limit_is_thirty_megabytes():
    assert pages.INLINE_LIMIT == 30_000_000


def heard(workspace: Path) -> tuple[Tags, list[str]]:
    """The page, and what was told of damage."""
    told: list[str] = []
    page = write_report(workspace, sections(), lambda error: told.append(error.message))
    return Tags(page.read_text(encoding="utf-8")), told


def test_a_damaged_picture_is_named_and_costs_only_itself(workspace):
    (workspace / "dissect/features.9/pictures/3.webp").write_bytes(b"RIFF")
    tags, told = heard(workspace)
    assert len(told) == 1 and told[0].endswith("not a picture") and "3.webp" in told[0]
    assert "dissect/features.9/pictures/3.webp is damaged" in tags.text
    assert len(tags.json("data")["dissect"]["layers"][1]["units"]) == 24
    known = tags.json("pictures")
    shown = {a["data-key"]: a["src"] for t, a in tags.tags if t == "img"}
    assert {k for k, src in (known | shown).items() if src == "data:,"} == {
        "dissect/features.9/pictures/3.webp"
    }


def test_what_may_be_missing_may_be_missing(tmp_path):
    workspace = make_workspace(tmp_path / "w", {"features.12": 30})
    layer = workspace / "dissect/features.12"
    for name in ("scores.h5", "top.csv", "distributions.h5", "concepts.csv"):
        (layer / name).unlink()
    for picture in (layer / "pictures").iterdir():
        picture.unlink()
    (workspace / "workspace.json").unlink()
    kept = {"layer", "units", "detectors", "unique_detectors", "min_iou"}
    summary = json.loads((layer / "summary.json").read_text())
    (layer / "summary.json").write_text(json.dumps({k: summary[k] for k in kept}))
    _, tags = report(workspace)
    assert "chance level was not computed" in " ".join(tags.text.split())
    assert len(tags.json("data")["dissect"]["layers"][0]["units"]) == 30
    (layer / "summary.json").write_text("{}")
    write_report(workspace, sections())


def test_a_layer_without_summary_is_not_finished_and_left_out(workspace):
    (workspace / "dissect/features.9/summary.json").unlink()
    _, tags = report(workspace)
    assert [x["name"] for x in tags.json("data")["dissect"]["layers"]] == ["features.12"]


def test_without_p_values_there_is_no_column_for_them(workspace):
    path = workspace / "dissect/features.12/units.csv"
    table = [row.rpartition(",")[0] for row in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("\n".join(table) + "\n", encoding="utf-8")
    _, tags = report(workspace)
    assert [x["hasP"] for x in tags.json("data")["dissect"]["layers"]] == [False, True]


def test_layers_come_in_the_order_of_the_workspace_then_by_number(tmp_path):
    workspace = make_workspace(tmp_path / "w", {"z": 3})
    for seed, name in enumerate(["layer10", "layer9", "b:c"]):
        make_layer(workspace / "dissect" / name, 3, seed, images=1)
    _, tags = report(workspace)
    names = [x["name"] for x in tags.json("data")["dissect"]["layers"]]
    assert names == ["z", "b:c", "layer9", "layer10"]


DAMAGE = {
    "dissect/features.12/summary.json": b"[1]",
    "dissect/features.12/units.csv": b"unit,label\n0,x\n",
    "dissect/features.12/concepts.csv": b"label,category,pixels\ndog,object,many\n",
    "dissect/features.12/scores.h5": b"not HDF5",
    "dissect/features.12/distributions.h5": b"\x89HDF\r\n\x1a\n but short",
    "dissect/features.12/top.csv": b"unit,rank\n0,0\n",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named_and_costs_only_its_section(workspace, name):
    cam(workspace)
    (workspace / name).write_bytes(DAMAGE[name])
    tags, told = heard(workspace)
    assert len(told) == 1 and str(workspace / name) in told[0]
    assert name in tags.text and "--force" in tags.text and str(workspace) not in tags.text
    assert ("section", {"id": "dissect", "class": "overview"}) in tags.tags
    assert any(attributes.get("alt") == "Class maps of cat.jpg" for _, attributes in tags.tags)
    assert (workspace / name).read_bytes() == DAMAGE[name]


def cam(workspace: Path) -> None:
    """What cam leaves, of a photo that lies outside."""
    (workspace / "cam").mkdir()
    Image.new("RGB", (30, 10), "teal").save(workspace / "cam" / "cat.png")
    entry = {"file": "cat.png", "image": "/somewhere/else/cat.jpg"}
    (workspace / "cam" / "cam.json").write_text(json.dumps({"pictures": [entry]}))


def test_a_damaged_workspace_document_is_an_error(workspace):
    (workspace / "workspace.json").write_bytes(b"{")
    with pytest.raises(CnnlensError, match=r"workspace\.json is damaged"):
        write_report(workspace, sections())
    assert not (workspace / "report.html").exists()


@pytest.mark.parametrize("value", ["many", [1], float("nan"), {"a": 1}])
def test_a_summary_with_something_else_for_a_number_is_named(workspace, value):
    path = workspace / "dissect/features.12/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"detectors": value}))
    _, told = heard(workspace)
    assert "detectors is" in told[0]


def test_scores_of_other_units_are_named(workspace):
    with h5py.File(workspace / "dissect/features.12/scores.h5", "r+") as file:
        file["unit"][0] = 4711
    _, told = heard(workspace)
    assert "scores.h5 does not fit" in told[0]


def test_the_page_shows_no_path_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    root = tmp_path / "study"
    workspace = make_workspace(root / "out", {"features.12": 30})
    document = json.loads((workspace / "workspace.json").read_text())
    document["model"]["spec"] = "/srv/models/net.pt"
    document["data"][0]["path"] = "/home/somebody/data/broden_small"
    document["commands"] = [
        f"cnnlens dissect /srv/models/net.pt -d '{root}/my data' -w {root}/out --image=/mnt/a.jpg"
    ]
    (workspace / "workspace.json").write_text(json.dumps(document))
    cam(workspace)
    html, tags = report(workspace)
    assert "cnnlens dissect net.pt -d 'my data' -w out --image=a.jpg" in tags.text
    assert "~/data/broden_small" in tags.text
    for place in (str(root), "/srv", "/home/somebody", "/mnt", "/somewhere"):
        assert place not in html


def test_an_empty_workspace_says_what_to_do(tmp_path):
    with pytest.raises(CnnlensError, match="no results yet") as caught:
        write_report(tmp_path, sections())
    assert "cnnlens dissect" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_named(workspace):
    (workspace / "report.html").mkdir()
    (workspace / "report.html" / "x").touch()
    with pytest.raises(CnnlensError, match="a folder is in the way"):
        write_report(workspace, sections())
    assert not list(workspace.glob(".*"))


def with_picture_at_unit(root: Path) -> Section:
    """A section of another method that made a picture of one of the dissected units."""
    picture = root / "dissect/features.12/pictures/0.webp"
    shot = Shot(picture, unit=7, heading="What it <likes>", words="512 steps")
    return Section("likes", "Likes", "", [Layer("features.12", Gallery([shot]))])


def test_a_shot_with_a_unit_appears_at_that_unit(workspace):
    more = [*sections(), ("likes", with_picture_at_unit)]
    tags = Tags(write_report(workspace, more).read_text(encoding="utf-8"))
    (at,) = tags.json("at-unit")
    assert at == {
        "layer": "features.12",
        "unit": 7,
        "method": "likes",
        "apart": [],
        "title": "What it <likes>",
        "caption": "512 steps",
        "picture": "dissect/features.12/pictures/0.webp",
        "small": "dissect/features.12/pictures/0.webp",
    }
    shown = [a for t, a in tags.tags if t == "img" and a["data-key"] == at["picture"]]
    assert shown and shown[-1]["src"].startswith("data:image/webp")


def test_the_head_says_who_names_classes_and_who_says_what_it_takes() -> None:
    settings = {"size": [32, 32], "mean": [0.5], "std": [0.5]}
    model = {"spec": "net.pt", "preprocess": settings, "preprocess_source": "assumed"}
    model |= {"classes": ["a", "b"], "classes_source": "assumed: ImageNet's"}
    facts = dict(header({"model": model}, [], Path("ws"))["facts"])
    assert facts["Input"].endswith("(assumed)")
    assert facts["Classes"] == "2 (names assumed: ImageNet's)"
    earlier = {key: model[key] for key in ("spec", "preprocess", "classes")}
    facts = dict(header({"model": earlier}, [], Path("ws"))["facts"])
    assert facts["Classes"] == "2" and "(" not in facts["Input"]
