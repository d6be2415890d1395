"""The files that scripts read: names, columns and keys as promised, numbers that read back."""

from __future__ import annotations

import csv
import json

import h5py
import hdf5plugin  # noqa: F401  (its filters)
import numpy as np
import pytest

from .conftest import IMAGES, SIDE
from .runner import cnnlens, files

CATEGORIES = ["color", "shape", "color-shape", "texture", "part", "scene"]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_promised_file_is_there(dissected):
    folder = dissected / "dissect" / "conv2"
    for name in ("units.csv", "concepts.csv", "scores.h5", "summary.json"):
        assert (folder / name).stat().st_size
    assert (dissected / "activations" / "shapes" / "conv2.h5").stat().st_size
    assert (dissected / "report.html").stat().st_size
    assert len(list((folder / "pictures").iterdir())) == 64


def test_units_have_their_columns_in_order(dissected):
    path = dissected / "dissect" / "conv2" / "units.csv"
    header = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    per_category = [f"{c}_{end}" for c in CATEGORIES for end in ("label", "iou")]
    fixed = ["unit", "threshold", "label", "category", "iou", "is_detector"]
    assert header == [*fixed, *per_category, "p_value"]
    table = rows(path)
    assert [int(row["unit"]) for row in table] == list(range(64))
    assert {row["is_detector"] for row in table} <= {"true", "false"}
    for row in table:
        best = max(CATEGORIES, key=lambda c: float(row[f"{c}_iou"]))
        assert float(row["iou"]) == float(row[f"{best}_iou"])
        assert (row["is_detector"] == "true") == (float(row["iou"]) >= 0.04)
    assert b"\r" not in path.read_bytes()


def test_concepts_name_their_best_units(dissected):
    folder = dissected / "dissect" / "conv2"
    header = (folder / "concepts.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "label,category,pixels,images,best_unit,best_iou"
    with h5py.File(folder / "scores.h5") as file:
        scores, names = file["iou"][:], list(file["concept"].asstr()[:])
    for row in rows(folder / "concepts.csv"):
        column = names.index(f"{row['category']}:{row['label']}")
        assert int(row["pixels"]) > 0 and 0 < int(row["images"]) <= IMAGES
        assert np.float32(row["best_iou"]) == scores[:, column].max()
        if row["best_unit"]:
            assert scores[int(row["best_unit"]), column] == scores[:, column].max()


def test_scores_have_scales(dissected):
    with h5py.File(dissected / "dissect" / "conv2" / "scores.h5") as file:
        iou = file["iou"]
        assert iou.dtype == np.float32 and iou.shape == (64, len(file["concept"]))
        assert iou.dims[0][0] == file["unit"] and iou.dims[1][0] == file["concept"]
        assert file["unit"][:].tolist() == list(range(64))
        assert all(":" in name for name in file["concept"].asstr()[:])


def test_numbers_read_back_exactly(dissected):
    folder = dissected / "dissect" / "conv2"
    with h5py.File(folder / "scores.h5") as file:
        scores = file["iou"][:]
    with h5py.File(dissected / "activations" / "shapes" / "conv2.h5") as store:
        values = store["activations"][:]
    kept = int(0.005 * values[:, 0].size)
    for row in rows(folder / "units.csv"):
        unit = int(row["unit"])
        ordered = np.sort(values[:, unit].ravel())[::-1]
        assert np.float32(row["threshold"]) == ordered[kept]  # repr of the very float32
        assert np.float32(float(row["iou"])) == scores[unit].max()
        assert repr(float(row["iou"])) == row["iou"]


def test_summary_has_its_keys(dissected):
    folder = dissected / "dissect" / "conv2"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    table = rows(folder / "units.csv")
    detectors = [row for row in table if row["is_detector"] == "true"]
    unique = {(row["label"], row["category"]) for row in detectors}
    assert summary["layer"] == "conv2"
    assert (summary["units"], summary["images"]) == (64, IMAGES)
    assert (summary["quantile"], summary["min_iou"]) == (0.005, 0.04)
    assert summary["detectors"] == len(detectors)
    assert summary["unique_detectors"] == len(unique)
    assert summary["ratio_unique_detectors"] == len(unique) / 64
    assert summary["mean_iou"] == pytest.approx(np.mean([float(r["iou"]) for r in table]))
    assert list(summary["by_category"]) == list(summary["per_category"]) == CATEGORIES
    for name in CATEGORIES:
        mine = [row for row in detectors if row["category"] == name]
        expected = {"detectors": len(mine), "unique_detectors": len({r["label"] for r in mine})}
        assert summary["by_category"][name] == expected
        mine = [row for row in table if float(row[f"{name}_iou"]) >= 0.04]
        expected = {
            "detectors": len(mine),
            "unique_detectors": len({r[f"{name}_label"] for r in mine}),
        }
        assert summary["per_category"][name] == expected
    assert {"detectors", "unique_detectors", "mean_iou"} <= set(summary["chance"])
    assert summary["skipped"] == []


def test_json_is_the_summary_file_and_nothing_else(workspace):
    answer = cnnlens("dissect", "-w", workspace, "--chance", 2, "--json")
    assert answer.out == (workspace / "dissect/conv2/summary.json").read_text(encoding="utf-8")


def test_several_layers_print_one_summary_each(workspace):
    names = ["-l", "conv3", "-l", "conv2"]
    answer = cnnlens("dissect", "--no-page", *names, "-w", workspace, "--chance", 2, "--json")
    assert list(answer.json) == ["layers"]
    assert list(answer.json["layers"]) == ["conv3", "conv2"]
    for name, summary in answer.json["layers"].items():
        path = workspace / "dissect" / name / "summary.json"
        assert json.loads(path.read_text(encoding="utf-8")) == summary


def test_several_layers_show_a_table_each_and_one_across(workspace):
    names = ["-l", "conv1", "-l", "conv2"]
    out = cnnlens("dissect", "--no-page", *names, "-w", workspace, "--chance", 2).out
    assert "conv1: best units" in out and "conv2: best units" in out
    across = out.split("per category\n")[1].splitlines()
    assert across[0].split() == ["layer", *CATEGORIES]
    assert [line.split()[0] for line in across[1:3]] == ["conv1", "conv2"]


def test_store_holds_what_is_promised(tmp_path, model, shapes):
    answer = cnnlens("extract", model, "-d", shapes, "-l", "conv3", "-w", tmp_path, "--json")
    assert answer.json["shape"] == [IMAGES, 64, 6, 6]
    with h5py.File(tmp_path / "activations" / "shapes" / "conv3.h5") as file:
        assert file["activations"].shape == (IMAGES, 64, 6, 6)
        assert file["activations"].dtype == np.float32
        names = list(file["images"].asstr()[:])
        assert len(names) == IMAGES and all((shapes / name).is_file() for name in names)
        assert file["logits"].shape == (IMAGES, 3)
        assert "categories" not in file


def test_class_folders_become_categories(tmp_path, model, shapes):
    data = tmp_path / "photos"
    for number, image in enumerate(sorted((shapes / "images" / "shapes").glob("0000?.png"))):
        folder = data / ("cats" if number % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.name).write_bytes(image.read_bytes())
    assert cnnlens("extract", model, "-d", data, "-l", "conv3", "-w", tmp_path / "ws").code == 0
    with h5py.File(tmp_path / "ws/activations/photos/conv3.h5") as file:
        names, classes = file["images"].asstr()[:], file["categories"].asstr()[:]
        assert [name.split("/")[0] for name in names] == list(classes)
        assert set(classes) == {"cats", "dogs"}


def test_layers_lists_its_keys(model):
    listed = cnnlens("layers", model, "--json").json
    keys = {"name", "alias", "kind", "units", "size", "receptive_field", "stride"}
    assert all(keys <= set(row) for row in listed)
    row = next(row for row in listed if row["alias"] == "conv2")
    assert (row["units"], row["size"]) == (64, [SIDE // 2, SIDE // 2])
    assert (row["receptive_field"], row["stride"]) == (10, 2)


def test_chance_can_be_left_out(workspace):
    answer = cnnlens("dissect", "-w", workspace, "--chance", 0, "--json")
    assert "chance" not in answer.json
    assert "p_value" not in rows(workspace / "dissect/conv2/units.csv")[0]
    shown = cnnlens("dissect", "-w", workspace, "--chance", 0).out
    assert shown.splitlines()[1].split() == ["unit", "label", "category", "IoU"]


def test_number_of_shuffles_is_the_resolution_of_p_values(workspace):
    cnnlens("dissect", "--no-page", "-w", workspace, "--chance", 3)
    found = rows(workspace / "dissect/conv2/units.csv")
    # behind a rectifier: a threshold of 0 is the lowest value, and such units are pooled apart
    cut = [float(row["p_value"]) for row in found if float(row["threshold"]) > 0]
    every = 1 + len(cut) * 3
    assert len(cut) > 50
    assert all(p * every == pytest.approx(round(p * every)) for p in cut)
    assert 1 / every <= min(cut) < 2 / every
    (apart,) = [float(row["p_value"]) for row in found if float(row["threshold"]) == 0]
    assert apart * 4 == pytest.approx(round(apart * 4))  # alone among those of its size


def test_no_store_gives_the_same_files(dissected, tmp_path, model, shapes):
    given = ["-d", shapes, "-l", "conv2", "--chance", 2, "--no-store"]
    assert cnnlens("dissect", model, *given, "-w", tmp_path).code == 0
    assert not (tmp_path / "activations").exists()
    mine, theirs = (files(path / "dissect" / "conv2") for path in (tmp_path, dissected))
    assert mine == theirs


@pytest.mark.parametrize("workers", [0, 3])
def test_results_do_not_depend_on_workers(dissected, tmp_path, model, shapes, workers):
    given = ["-d", shapes, "-l", "conv2", "--chance", 2, "--workers", workers]
    assert cnnlens("dissect", model, *given, "-w", tmp_path).code == 0
    mine, theirs = (files(path / "dissect" / "conv2") for path in (tmp_path, dissected))
    assert mine == theirs


def test_results_do_not_depend_on_the_batch_size(dissected, tmp_path, model, shapes):
    given = ["-d", shapes, "-l", "conv2", "--chance", 0, "--batch-size", 7]
    assert cnnlens("dissect", "--no-page", model, *given, "-w", tmp_path).code == 0
    stores = [p / "activations" / "shapes" / "conv2.h5" for p in (tmp_path, dissected)]
    with h5py.File(stores[0]) as mine, h5py.File(stores[1]) as theirs:
        assert list(mine["images"][:]) == list(theirs["images"][:])
        a, b = mine["activations"][:], theirs["activations"][:]
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
    mine, theirs = (rows(p / "dissect" / "conv2" / "units.csv") for p in (tmp_path, dissected))
    for a, b in zip(mine, theirs, strict=True):
        assert float(a["iou"]) == pytest.approx(float(b["iou"]), abs=1e-3)


def test_half_precision_halves_the_numbers_and_keeps_the_findings(
    dissected, tmp_path, model, shapes
):
    given = ["-d", shapes, "-l", "conv2", "--chance", 0, "--dtype", "float16"]
    assert cnnlens("dissect", "--no-page", model, *given, "-w", tmp_path).code == 0
    with h5py.File(tmp_path / "activations/shapes/conv2.h5") as file:
        assert file["activations"].dtype == np.float16
    mine, full = (rows(p / "dissect/conv2/units.csv") for p in (tmp_path, dissected))
    for a, b in zip(mine, full, strict=True):
        assert float(a["iou"]) == pytest.approx(float(b["iou"]), abs=0.01)
    answer = cnnlens("dissect", "--no-page", "-w", tmp_path, "--chance", 0)
    assert answer.code == 0 and "stay float16" in answer.err and "done before" in answer.err
    wide = cnnlens("dissect", "--no-page", "-w", tmp_path, "--chance", 0, "--dtype", "float32")
    assert wide.code == 1 and "--dtype" in wide.error  # the store is of the other kind


def test_older_tool_counts_differently(workspace):
    new = cnnlens("dissect", "--no-page", "-w", workspace, "--chance", 0, "--json").json
    old = cnnlens(
        "dissect", "--no-page", "-w", workspace, "--chance", 0, "--compat", "ndlite", "--json"
    ).json
    assert old["settings"]["compat"] == "ndlite"
    assert old["mean_iou"] > new["mean_iou"]  # only images that the mask touches count
    assert new["settings"]["compat"] == ""


def test_no_page_leaves_page_and_pictures_out(tmp_path, model, shapes):
    given = ["-d", shapes, "-l", "conv3", "--chance", 0]
    answer = cnnlens("dissect", model, *given, "--no-page", "-w", tmp_path)
    assert answer.code == 0 and "report.html" not in answer.out
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "dissect/conv3/pictures").exists()
    numbers = (tmp_path / "dissect/conv3/units.csv").read_bytes()
    assert cnnlens("report", "-w", tmp_path).code == 0
    assert (tmp_path / "report.html").exists()
    assert cnnlens("dissect", "-w", tmp_path, "--chance", 0).code == 0  # pictures come later
    assert (tmp_path / "dissect/conv3/pictures/0.webp").exists()
    answer = cnnlens("dissect", "-w", tmp_path, "--chance", 0, "--no-page")
    assert "done before" in answer.err  # and stay
    assert (tmp_path / "dissect/conv3/pictures/0.webp").exists()
    assert (tmp_path / "dissect/conv3/units.csv").read_bytes() == numbers


def test_report_alone_writes_the_same_page(workspace):
    page = workspace / "report.html"
    before = page.read_bytes()
    page.unlink()
    answer = cnnlens("report", "-w", workspace, "--json")
    assert answer.json == {"page": str(page), "bytes": len(before)}
    assert page.read_bytes() == before


def test_one_image_is_enough(tmp_path, model, shapes):
    photo = tmp_path / "one" / "only.png"
    photo.parent.mkdir()
    photo.write_bytes((shapes / "images" / "shapes" / "00000.png").read_bytes())
    answer = cnnlens("extract", model, "-d", photo.parent, "-w", tmp_path / "ws", "--json")
    assert answer.json["shape"] == [1, 64, 6, 6]


def test_one_labelled_image_is_enough(tmp_path, model):
    assert cnnlens("data", "make", "shapes", "--images", 1, "--out", tmp_path / "d").code == 0
    answer = cnnlens("dissect", model, "-d", tmp_path / "d", "-w", tmp_path / "ws", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["images"] == 1


def test_damaged_images_are_listed_and_have_no_row(tmp_path, model, shapes):
    import shutil

    data = tmp_path / "shapes"
    shutil.copytree(shapes, data)
    (data / "images" / "shapes" / "00003.png").write_bytes(b"\x89PNG")
    given = ["-d", data, "-l", "conv3", "-w", tmp_path / "ws"]
    answer = cnnlens("dissect", "--no-page", model, *given, "--chance", 0, "--json")
    assert answer.code == 0, answer.err
    assert [bad["image"] for bad in answer.json["skipped"]] == ["images/shapes/00003.png"]
    assert answer.json["images"] == IMAGES - 1
    assert "skipped images/shapes/00003.png" in answer.err
    with h5py.File(tmp_path / "ws/activations/shapes/conv3.h5") as file:
        assert "images/shapes/00003.png" not in file["images"].asstr()[:]
        assert len(file["activations"]) == IMAGES - 1


def test_top_images_are_the_peaks_of_the_store(dissected):
    with h5py.File(dissected / "activations" / "shapes" / "conv2.h5") as store:
        values, names = store["activations"][:], store["images"].asstr()[:]
    peaks = values.max(axis=(2, 3))
    for row in rows(dissected / "dissect" / "conv2" / "top.csv"):
        unit, rank = int(row["unit"]), int(row["rank"])
        index = list(names).index(row["image"])
        assert np.float32(row["peak"]) == peaks[index, unit] == np.sort(peaks[:, unit])[::-1][rank]
        assert values[index, unit, int(row["y"]), int(row["x"])] == peaks[index, unit]
