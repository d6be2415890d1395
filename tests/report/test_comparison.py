from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.measure.accuracy import trained_accuracy
from cnnlens.measure.compared import compare_models, disagreements, match_layers, remarks
from cnnlens.measure.comparison import share
from cnnlens.report.compare_files import (
    compare,
    read_models,
    short_names,
    unit_pictures,
    units_to_show,
)
from cnnlens.report.side_by_side import Comparison, csv_rows, write_comparison
from cnnlens.settings import CompareSettings

from .fake_workspace import examine, make_layer, make_workspace

FEW = CompareSettings(resamples=200)


def make(root: Path, layers: dict[str, int], seed: int = 0, **known: object) -> Path:
    make_workspace(root, {})
    for place, (name, units) in enumerate(layers.items()):
        make_layer(root / "dissect" / name, units, seed + place)
    change(root / "workspace.json", layers=known.get("typed", list(layers)))
    if "model" in known:
        change(root / "workspace.json", model=known["model"])
    return root


def change(path: Path, **entries: object) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, **entries}), encoding="utf-8")


def add_stability(root: Path, layer: str, instability: list[float | None]) -> Path:
    folder = root / "stability" / layer
    folder.mkdir(parents=True)
    names = "unit,category,location_instability,p_value,centre_distance,selectivity"
    rows = [
        f"{u},cat,{'' if v is None else v},0.5,0.1,{0.5 + 0.01 * u},head,0.25"
        for u, v in enumerate(instability)
    ]
    lines = [f"{names},part,part_interpretability", *rows]
    (folder / "units.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    baselines = {"uniform": 0.15, "centre": 0.03, "shuffled": 0.12}
    summary = {"layer": layer, "units": len(rows), "dead_units": instability.count(None)}
    (folder / "summary.json").write_text(json.dumps({**summary, "baselines": baselines}))
    return folder


@pytest.fixture
def pair(tmp_path) -> list[Path]:
    return [make(tmp_path / "plain", {"conv5": 20}), make(tmp_path / "icnn", {"conv5": 20}, 7)]


def of(paths: list[Path], **more: object) -> dict:
    sides = read_models(paths)
    return compare_models(sides, match_layers(sides), settings=FEW, **more)  # type: ignore[arg-type]


# ---- numbers


def test_values_are_those_of_the_workspaces(pair):
    found = of(pair)["layers"]["conv5"]
    for place, path in enumerate(pair):
        summary = json.loads((path / "dissect/conv5/summary.json").read_text())
        for key in ("detectors", "unique_detectors", "mean_iou"):
            value = found[key]["values"][place]
            assert value["value"] == pytest.approx(summary[key], abs=1e-7)
            assert value["chance"] == summary["chance"][key]
            low, high = value["interval"]
            assert low <= value["value"] <= high and low < high


def test_shares_of_labels_that_pass_their_exam_are_compared(pair):
    for path, right in zip(pair, (3, 1), strict=True):
        examine(path, [(unit, "dissect", "cat", 0.5, unit < right) for unit in range(4)])
    found = of(pair)["layers"]["conv5"]
    values = found["exam_dissect"]["values"]
    assert [(one["value"], one["chance"], one["units"]) for one in values] == [
        (0.75, 0.01, 4), (0.25, 0.01, 4),
    ]  # fmt: skip
    assert values[0]["interval"] == pytest.approx(list(share(3, 4, 0.95)))
    (apart,) = found["exam_dissect"]["differences"]
    assert apart["value"] == pytest.approx(-0.5)
    assert apart["interval"][0] < 0 < apart["interval"][1]
    assert found["exam_classes"]["values"] == [None, None]


def test_one_call_does_it_from_python(pair):
    found = compare([str(path) for path in pair], ["conv5"], FEW)
    assert found == of(pair)


def test_differences_are_to_the_first(pair, tmp_path):
    third = make(tmp_path / "third", {"conv5": 20}, 3)
    found = of([*pair, third])["layers"]["conv5"]["mean_iou"]
    first, *others = (v["value"] for v in found["values"])
    assert [d["value"] for d in found["differences"]] == pytest.approx([o - first for o in others])
    first, *others = (v["chance"] for v in found["values"])
    wanted = [o - first if o != first else None for o in others]
    assert [d["chance"] for d in found["differences"]] == wanted


def test_what_was_not_measured_is_null(pair):
    found = of(pair)["layers"]["conv5"]
    assert found["location_instability"] == {"values": [None, None], "differences": [None]}


def test_stability_is_a_mean_over_living_units(pair):
    folder = add_stability(pair[0], "conv5", [0.1, 0.2, None, 0.3] * 5)
    change(folder / "summary.json", selectivity_chance=0.53)
    add_stability(pair[1], "conv5", [0.05] * 20)
    found = of(pair)["layers"]["conv5"]
    one, other = found["location_instability"]["values"]
    assert (one["value"], one["units"], one["chance"]) == (pytest.approx(0.2), 15, 0.12)
    assert other["interval"] == pytest.approx([0.05, 0.05])
    assert found["location_instability"]["differences"][0]["interval"][1] < 0
    assert found["dead_units"]["values"][0]["value"] == 5
    one, other = ({**v, "chance": 0} for v in found["selectivity"]["values"])
    assert one == other
    assert [one["chance"] for one in found["selectivity"]["values"]] == [0.53, None]  # an old one
    assert found["part_interpretability"]["values"][0]["chance"] is None


def test_stability_in_one_workspace_alone_has_no_difference(pair):
    add_stability(pair[1], "conv5", [0.1] * 20)
    found = of(pair)["layers"]["conv5"]["location_instability"]
    assert found["values"][0] is None and found["differences"] == [None]


def test_baselines_may_name_each_measure(pair):
    folder = add_stability(pair[0], "conv5", [0.1] * 20)
    shuffled = {"location_instability": 0.13, "part_interpretability": 0.02}
    change(folder / "summary.json", baselines={"shuffled": shuffled})
    found = of(pair)["layers"]["conv5"]
    assert found["location_instability"]["values"][0]["chance"] == 0.13
    assert found["part_interpretability"]["values"][0]["chance"] == 0.02


# ---- layers


def test_layers_match_by_name_then_by_alias(tmp_path):
    known = [{"name": "features.10", "place": "features.10#0", "alias": "conv5"}]
    one = make(tmp_path / "a", {"conv5": 6, "conv4": 5})
    other = make(tmp_path / "b", {"features.10": 6, "conv3": 4}, typed=known)
    sides = read_models([one, other])
    found = match_layers(sides)
    assert {k: [row.name for row in rows] for k, rows in found.items()} == {
        "conv5": ["conv5", "features.10"]
    }


def test_nothing_in_common_is_said_with_what_each_has(tmp_path):
    one, other = make(tmp_path / "a", {"conv5": 6}), make(tmp_path / "b", {"conv3": 4})
    with pytest.raises(CnnlensError, match="a has conv5; b has conv3"):
        match_layers(read_models([one, other]))


def test_one_layer_per_workspace_may_be_named(tmp_path):
    one, other = make(tmp_path / "a", {"conv5": 6}), make(tmp_path / "b", {"conv6": 6})
    sides = read_models([one, other])
    assert [row.name for row in match_layers(sides, ["conv5,conv6"])["conv5,conv6"]] == [
        "conv5", "conv6",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="names 3 layers for 2"):
        match_layers(sides, ["conv5,conv6,conv7"])
    with pytest.raises(UsageError, match="b has no measured layer 'conv5'"):
        match_layers(sides, ["conv5"])


# ---- fairness


def test_other_data_is_an_error_unless_forced(pair):
    change(pair[1] / "dissect/conv5/summary.json", data={"name": "other", "path": "/o"})
    with pytest.raises(CnnlensError, match="broden_small in plain, on other in icnn"):
        of(pair)
    assert "other in icnn" in of(pair, force=True)["unlike"][0]


def test_fingerprints_tell_data_of_one_name_apart(pair):
    for path, mark in zip(pair, "ab", strict=True):
        change(path / "dissect/conv5/summary.json", made_from={"data": mark, "labels": "x"})
    sides = read_models(pair)
    (said,) = disagreements(sides, match_layers(sides))
    assert "other images or labels of /data/broden_small" in said


@pytest.mark.parametrize("negatives", [None, "b"])
def test_other_negatives_are_named(pair, negatives):
    for path, mark in zip(pair, ("a", negatives), strict=True):
        made_from = {"data": "x", "labels": "x", "negatives": mark}
        change(path / "dissect/conv5/summary.json", made_from=made_from)
    sides = read_models(pair)
    (said,) = disagreements(sides, match_layers(sides))
    assert "other negatives of /data/broden_small" in said


def test_equal_fingerprints_of_moved_data_agree(pair):
    for path in pair:
        summary = path / "dissect/conv5/summary.json"
        change(summary, made_from={"data": "a", "labels": "x"}, data={"name": path.name})
    sides = read_models(pair)
    assert disagreements(sides, match_layers(sides)) == []


def test_other_settings_are_named_but_other_pictures_do_not_matter(pair):
    for path, quantile in zip(pair, (0.005, 0.01), strict=True):
        settings = {"quantile": quantile, "top": int(quantile * 1000), "seed": 0}
        change(path / "dissect/conv5/summary.json", settings=settings)
    sides = read_models(pair)
    assert disagreements(sides, match_layers(sides)) == [
        "dissect of conv5 used quantile 0.005 in plain, 0.01 in icnn"
    ]


def test_same_model_other_widths_and_other_places_are_remarked(tmp_path):
    layers = [[{"name": "last", "alias": alias}] for alias in ("conv5", "conv6")]
    paths = [
        make(tmp_path / name, {"last": units}, typed=known)
        for name, units, known in zip("ab", (6, 8), layers, strict=True)
    ]
    sides = read_models(paths)
    found = "; ".join(remarks(sides, match_layers(sides)))
    assert "a and b look at the same model" in found
    assert "conv5 in a, conv6 in b" in found and "6 in a, 8 in b" in found


# ---- accuracy


def test_accuracy_is_that_of_new_json_beside_the_model(pair, tmp_path):
    model = {"spec": str(tmp_path / "new.pt"), "arch": "zoo:demo_net", "fingerprint": "1"}
    change(pair[1] / "workspace.json", model=model)
    (tmp_path / "new.json").write_text(
        json.dumps({"method": "icnn", "accuracy": {"before": 0.5, "after": 0.875}})
    )
    who = of(pair)["workspaces"]
    assert who[0]["accuracy"] is None and who[0]["method"] is None
    assert (who[1]["accuracy"]["value"], who[1]["method"]) == (0.875, "icnn")


def test_accuracy_has_an_interval_where_the_number_of_images_is_known(pair, tmp_path):
    change(pair[1] / "workspace.json", model={"spec": str(tmp_path / "new.pt")})
    right = {"after": 0.8, "chance": 0.3}
    trained = {"method": "none", "accuracy": right, "images": {"validation": 10}}
    (tmp_path / "new.json").write_text(json.dumps({**trained, "classes": ["a", "b", "c", "d"]}))
    found = of(pair)["workspaces"][1]["accuracy"]
    assert found["interval"] == pytest.approx([0.4901625, 0.9433178])
    assert (found["images"], found["chance"]) == (10, 0.3)
    del right["chance"]  # as earlier versions wrote it: of its images nobody knows
    (tmp_path / "new.json").write_text(json.dumps(trained))
    assert of(pair)["workspaces"][1]["accuracy"]["chance"] is None


def test_a_foreign_json_beside_a_model_is_passed_over(pair, tmp_path):
    change(pair[0] / "workspace.json", model={"spec": str(tmp_path / "m.pt")})
    (tmp_path / "m.json").write_text("[1]")
    assert trained_accuracy(read_models(pair)[0].training, 0.95) is None


# ---- bad input


def test_a_missing_workspace_a_file_and_a_single_one_are_refused(pair, tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        read_models([pair[0], tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="needs two"):
        read_models(pair[:1])
    with pytest.raises(UsageError, match="named twice"):
        read_models([pair[0], pair[0] / "." / ""])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CnnlensError, match="empty is no workspace"):
        read_models([pair[0], tmp_path / "empty"])


@pytest.mark.parametrize("file", ["workspace.json", "stability/conv5/summary.json"])
def test_damaged_json_is_named(pair, file):
    add_stability(pair[0], "conv5", [0.1] * 20)
    (pair[0] / file).write_text('{"model": ')
    with pytest.raises(CnnlensError, match=re.escape(file)):
        read_models(pair)


def test_damaged_unit_tables_are_named(pair):
    folder = add_stability(pair[0], "conv5", [0.1] * 20)
    text = (folder / "units.csv").read_text().replace("0,cat,0.1,", "0,cat,soon,", 1)
    (folder / "units.csv").write_text(text)
    with pytest.raises(CnnlensError, match=r"units.csv is damaged: location_instability"):
        read_models(pair)


# ---- names, units, files


def test_workspaces_are_named_by_what_tells_them_apart():
    assert short_names([Path("/a/one"), Path("/b/two")]) == ["one", "two"]
    assert short_names([Path("/a/ws"), Path("/b/ws")]) == ["a/ws", "b/ws"]


def test_units_shown_are_the_best_of_each(pair):
    sides = read_models(pair)
    (rows,) = match_layers(sides).values()
    chosen = units_to_show(rows, 4)
    assert len(chosen) == 4
    for row in rows:
        best = max(row.measured["dissect"].units, key=lambda u: u.iou)
        assert best.unit in chosen


def test_pictures_of_all_commands_stand_at_the_unit(pair):
    drawn = pair[0] / "visualize" / "conv5"
    drawn.mkdir(parents=True)
    (drawn / "3.png").write_bytes((pair[0] / "dissect/conv5/pictures/3.webp").read_bytes())
    layer = read_models(pair)[0].layers["conv5"]
    assert list(unit_pictures(layer, 3)) == [
        "dissect/conv5/pictures/3.webp", "visualize/conv5/3.png",
    ]  # fmt: skip


def test_files_agree_and_the_page_shows_both_sides(pair, tmp_path):
    add_stability(pair[0], "conv5", [0.1] * 20)
    sides = read_models(pair)
    layers = match_layers(sides)
    document = compare_models(sides, layers, settings=FEW)
    document["shown"] = {"conv5": [2, 5]}
    out = tmp_path / "out"
    page = write_comparison(out, sides, layers, document).read_text()
    assert json.loads((out / "compare.json").read_text()) == document
    with (out / "compare.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(csv_rows(document))
    row = next(r for r in rows if (r["quantity"], r["workspace"]) == ("mean_iou", "icnn"))
    of_icnn = document["layers"]["conv5"]["mean_iou"]["values"][1]
    assert float(row["value"]) == of_icnn["value"]
    assert [float(row["low"]), float(row["high"])] == of_icnn["interval"]
    assert [*Comparison(document)] == [document["layers"]["conv5"]]
    assert page.count('src="data:image/webp') == 4
    assert "unit 2" in page and "unit 5" in page and "not measured" in page
    assert "http" not in page.replace("http-equiv", "")


def test_same_workspaces_same_bytes(pair, tmp_path):
    pages = []
    for name in ("one", "two"):
        sides = read_models(pair)
        layers = match_layers(sides)
        document = compare_models(sides, layers, settings=FEW)
        pages.append(write_comparison(tmp_path / name, sides, layers, document).read_bytes())
    assert pages[0] == pages[1]


def test_names_cannot_become_markup(tmp_path):
    paths = [make(tmp_path / "<b>x", {"conv5": 4}), make(tmp_path / "y", {"conv5": 4}, 1)]
    sides = read_models(paths)
    layers = match_layers(sides)
    document = compare_models(sides, layers, settings=FEW)
    page = write_comparison(tmp_path / "o", sides, layers, document)
    assert "<b>x" not in page.read_text()


def test_units_without_a_stability_value_are_no_zeros(pair):
    add_stability(pair[0], "conv5", [None] * 20)
    found = of(pair)["layers"]["conv5"]["location_instability"]["values"][0]
    assert found is None
    assert np.isnan(read_models(pair)[0].layers["conv5"].measured["stability"].instability).all()


# ---- images held out


def held(root: Path, tmp_path: Path, name: str, known: object, measured: int | None) -> None:
    """Say what a fine-tuned network held out, and on how many of them it was measured."""
    change(
        root / "workspace.json", model={"spec": str(tmp_path / f"{name}.pt"), "fingerprint": name}
    )
    trained = {"method": "none", **({"held_out": known} if known else {})}
    (tmp_path / f"{name}.json").write_text(json.dumps(trained))
    folder = add_stability(root, "conv5", [0.1] * 20)
    change(folder / "summary.json", made_from={"data": "d", "labels": "l"}, held_out=measured)


def warned(pair: list[Path]) -> str:
    return "\n".join(of(pair)["warnings"])


def test_measuring_on_images_of_the_training_is_warned_of(pair, tmp_path):
    known = {"data": "d", "images": [1, 2]}
    held(pair[0], tmp_path, "one", known, None)
    held(pair[1], tmp_path, "two", {**known, "data": "else"}, None)
    said = warned(pair)
    assert "stability of plain was measured on images that it was trained on, too" in said
    assert "icnn was" not in said


def test_measuring_on_images_held_out_is_not(pair, tmp_path):
    for place, name in enumerate(("one", "two")):
        held(pair[place], tmp_path, name, {"data": "all", "images": [1]}, 1)
    assert "trained on" not in warned(pair)


def test_a_training_that_recorded_nothing_is_named(pair, tmp_path):
    for place, name in enumerate(("one", "two")):
        held(pair[place], tmp_path, name, None, None)
    assert "which images plain was trained on is not recorded" in warned(pair)
