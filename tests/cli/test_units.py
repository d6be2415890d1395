from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (its filters)
import numpy as np
import pytest

from cnnlens.activations.store import Store
from cnnlens.report.notebook import read_units
from tests.reference import units as literal

from .photos import write_nets, write_photos
from .runner import cnnlens, files

COLUMNS = (
    "unit,dead,density,mean,peak_max,top_image,category,category_share,category_entropy,"
    "class_selectivity,neighbour,neighbour_correlation"
)
SIZE = ["--image-size", "40"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in two classes, one damaged, one there twice; small networks."""
    folder = tmp_path_factory.mktemp("units")
    write_nets(folder)
    photos = write_photos(folder / "photos")
    shutil.copy(photos / "b" / "03.png", photos / "b" / "zz.png")
    return folder


@pytest.fixture(scope="module")
def space(place: Path) -> Path:
    """A workspace that nobody may change."""
    found = place / "ws"
    answer = cnnlens(
        "units", f"{place / 'nets.py'}:rgb", "-d", place / "photos", "-l", "1", "-l", "3",
        "-w", found, *SIZE, "--json", "--top", 5, "--bins", 4, "--per-bin", 2,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "1 image equal to earlier ones" in answer.err
    (found / "printed.json").write_text(answer.out)
    return found


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "units.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_summary_is_what_is_printed(space: Path) -> None:
    printed = json.loads((space / "printed.json").read_text())["layers"]
    for layer in ("1", "3"):
        assert printed[layer] == json.loads((space / "units" / layer / "summary.json").read_text())
    one = printed["3"]
    assert one["units"] == 4 and one["dead_units"] == 1 and one["images"] == 23
    assert one["compared_with"] == ["3", "1"] and one["repeated_images"] == 1
    assert [bad["image"] for bad in one["skipped"]] == ["b/bad.png"]
    assert str(space.parent) not in (space / "units" / "3" / "summary.json").read_text()


def test_files_agree_with_the_store_by_hand(space: Path) -> None:
    folder = space / "units" / "3"
    assert (folder / "units.csv").read_text().splitlines()[0] == COLUMNS
    layers = {}
    for layer in ("1", "3"):
        with Store(space / "activations" / "photos" / f"{layer}.h5") as store:
            layers[layer], images, kinds = store[:], store.images, store.categories
    twice = [images.index("b/zz.png")]
    counted = [row for row in range(len(images)) if row not in twice]
    peaks = {name: maps.max((2, 3)).T.tolist() for name, maps in layers.items()}
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    order = [row for row in order if row in counted]
    with h5py.File(folder / "units.h5") as file:
        found = {name: file[name][()] for name in file}
    assert [name.decode() for name in found["images"]] == images
    for unit, row in enumerate(rows(folder)):
        own = layers["3"][:, unit].tolist()
        wanted = literal.unit(own, kinds, 5, counted)
        assert row["dead"] == str(wanted["dead"]).lower() and row["unit"] == str(unit)
        assert row["top_image"] == images[wanted["top"][0]]
        assert row["category"] == wanted["category"]
        for name in (
            "density", "mean", "peak_max", "category_share", "category_entropy",
            "class_selectivity",
        ):  # fmt: skip
            value = float(row[name]) if row[name] else None
            near = wanted[name] if wanted[name] is None else pytest.approx(wanted[name], rel=1e-9)
            assert value == near, name
        for name in ("top", "bottom", "top_position", "bottom_position"):
            assert found[name][unit].tolist() == wanted[name]
        drawn = literal.examples(peaks["3"][unit], 4, 2, order)
        assert found["examples"][unit].tolist() == drawn
        where = literal.bins(peaks["3"][unit], 4)[1]
        assert found["bin_images"][unit].tolist() == [where.count(k) for k in range(4)]
        counts, _ = np.histogram(layers["3"][:, unit], found["edges"][unit])
        np.testing.assert_array_equal(found["histogram"][unit], counts)
        near = literal.neighbours(peaks, "3", unit, 8)
        known = found["neighbours"][unit] >= 0
        assert known.sum() == len(near)
        np.testing.assert_allclose(
            found["neighbour_correlation"][unit][known], [r for *_, r in near], atol=1e-6
        )
        names = [name.decode() for name in found["neighbour_layer"][unit][known]]
        listed = list(zip(names, found["neighbours"][unit][known].tolist(), strict=True))
        assert listed == [(name, number) for name, number, _ in near]
        first = f"{near[0][0]}:{near[0][1]}" if near else ""
        assert row["neighbour"] == first


def test_every_image_that_is_listed_is_kept_once(space: Path) -> None:
    found = read_units(space / "units" / "3")
    alive = [unit for unit in found.units if not unit.dead]
    listed = [
        one
        for unit in alive
        for one in (*unit.top, *unit.bottom, *(seen for bin in unit.bins for seen in bin.examples))
    ]
    kept = {path.name for path in (space / "images").iterdir()}
    assert kept >= {one.picture.name for one in listed if one.picture}
    assert all(one.picture for one in listed) and len(alive) == 3
    for unit in alive:
        best = unit.top[0]
        assert best.map is not None and best.map.max() == 15 and best.field is not None


def units_of(page: str) -> Any:
    """What the page's script knows of units."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert text is not None
    return json.loads(text[1])["units"]


def test_the_page_has_the_units_and_opens_them(space: Path) -> None:
    page = (space / "report.html").read_text()
    assert "Its units, one by one" in page and 'data-key="images/' in page
    (layer,) = [one for one in units_of(page)["layers"] if one["name"] == "3"]
    assert layer["responses"]["unit"] == [0, 1, 2, 3] and len(layer["more"]) == 4
    assert str(space.parent) not in page


def test_python_gets_what_shows_itself(space: Path) -> None:
    found = read_units(space / "units" / "3")
    assert len(found) == 4 and found.arrays["top"].shape == (4, 5)
    assert [row["unit"] for row in found.table()] == [0, 1, 2, 3]
    html = found._repr_html_()
    assert html.count("<img") == 3 and "What the units of 3 respond to" in html
    one = found[int(found.best()[0].unit)]
    assert "Highest peaks" in one._repr_html_() and "respond alike" in one._repr_html_()
    assert len(one.top) == 5
    assert (one.top[0].image, one.top[0].peak) == (one.top_image, pytest.approx(one.peak_max))
    assert sum(bin.images for bin in one.bins) == 23
    dead = next(unit for unit in found.units if unit.dead)
    assert "dead" in dead._repr_html_() and "<img" not in dead._repr_html_()


def test_after_extract_nothing_need_be_named(place: Path, tmp_path: Path) -> None:
    words = ["-d", place / "photos", "-l", "3", "-w", tmp_path / "w", *SIZE]
    extract = ["extract", f"{place / 'nets.py'}:rgb", "--dtype", "float16"]
    first = cnnlens(*extract, *words, "--no-units")
    assert first.code == 0, first.err
    nothing = cnnlens("report", "-w", tmp_path / "w")
    assert (
        nothing.code == 1 and "activations alone" in nothing.err and "cnnlens units" in nothing.err
    )
    before = files(tmp_path / "w" / "activations")
    answer = cnnlens("units", "-w", tmp_path / "w", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["layer"] == "3" and "extracting" not in answer.err
    assert files(tmp_path / "w" / "activations") == before
    assert cnnlens("report", "-w", tmp_path / "w").code == 0
    assert "Its units, one by one" in (tmp_path / "w" / "report.html").read_text()


def test_extract_leaves_units_that_open(place: Path, tmp_path: Path) -> None:
    net, at = f"{place / 'nets.py'}:rgb", ["-l", "3", "-w", tmp_path / "w", *SIZE]
    first = cnnlens("extract", net, "-d", place / "photos" / "b", *at, "--json")
    assert first.code == 0 and first.json["shape"], first.err
    assert cnnlens("report", "-w", tmp_path / "w").code == 0
    (layer,) = units_of((tmp_path / "w" / "report.html").read_text())["layers"]
    assert len(layer["more"]) == 4 and min(layer["files"]) >= 0
    assert "done before" in cnnlens("units", "-w", tmp_path / "w").err
    before = files(tmp_path / "w" / "units")
    other = cnnlens("extract", net, "-d", place / "photos" / "a", *at)  # they keep those they had
    assert other.code == 0 and "its units stay those of b" in other.err
    assert files(tmp_path / "w" / "units") == before
    again = cnnlens("units", "-d", place / "photos" / "b", "--top", 2, "-w", tmp_path / "w")
    assert again.code == 0, again.err
    more = cnnlens("extract", net, "-d", place / "photos" / "b", *at)  # as they were asked for
    assert more.code == 0 and files(tmp_path / "w" / "units") != before
    assert read_units(tmp_path / "w" / "units" / "3").summary["settings"]["top"] == 2


def test_extract_leaves_units_of_other_images_in_a_folder_of_the_same_name(
    place: Path, tmp_path: Path
) -> None:
    first, second = (tmp_path / side / "photos" for side in "ab")
    shutil.copytree(place / "photos" / "b", first)
    shutil.copytree(place / "photos" / "a", second)
    at = ["-l", "3", "-w", tmp_path / "w", *SIZE]
    units = cnnlens("units", f"{place / 'nets.py'}:rgb", "-d", first, *at)
    assert units.code == 0, units.err
    before = files(tmp_path / "w" / "units")
    other = cnnlens("extract", "-d", second, *at)
    assert other.code == 0, other.err
    assert "its units stay those of other images called photos (`cnnlens units`" in other.err
    assert f"those in {second})" in other.err and files(tmp_path / "w" / "units") == before
    first.rename(tmp_path / "a" / "renamed")  # the same images by another name
    same = cnnlens("extract", "-d", tmp_path / "a" / "renamed", *at, "--force")
    assert same.code == 0 and "units stay" not in same.err, same.err


def test_extract_measures_units_anew_where_their_folder_has_changed(
    place: Path, tmp_path: Path
) -> None:
    photos = Path(shutil.copytree(place / "photos" / "b", tmp_path / "photos"))
    at = ["-d", photos, "-l", "3", "-w", tmp_path / "w", *SIZE]
    assert cnnlens("extract", f"{place / 'nets.py'}:rgb", *at).code == 0
    before = files(tmp_path / "w" / "units")
    shutil.copy(place / "photos" / "a" / "cat.png", photos / "new.png")
    again = cnnlens("extract", *at, "--force")
    assert again.code == 0 and "units stay" not in again.err, again.err
    assert files(tmp_path / "w" / "units") != before


def test_a_second_run_does_nothing_and_equal_runs_give_equal_bytes(
    space: Path, place: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(space, tmp_path / "copy"))
    before = files(copy / "units")
    words = ["units", "-l", "1", "-l", "3", "--top", 5, "--bins", 4, "--per-bin", 2]
    again = cnnlens(*words, "-w", copy)
    assert again.code == 0 and "done before" in again.err and "compared with" in again.out
    assert files(copy / "units") == before
    forced = cnnlens(*words, "-w", copy, "--force", "--batch-size", 5)
    assert forced.code == 0, forced.err
    assert files(copy / "units") == before


@pytest.mark.parametrize("net", ["grey", "smooth"])
def test_other_networks_are_measured_too(place: Path, tmp_path: Path, net: str) -> None:
    answer = cnnlens(
        "units", f"{place / 'nets.py'}:{net}", "-d", place / "photos" / "a", "-l", "1",
        "-w", tmp_path / "w", *SIZE, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["images"] == 1 and answer.json["categories"] == []
    with h5py.File(tmp_path / "w" / "units" / "1" / "units.h5") as file:
        assert (file["top"][:, 1:] == -1).all() and (file["top"][:, 0] == 0).all()
        assert (file["neighbours"][()] == -1).all()  # one image says nothing of likeness
    assert len(rows(tmp_path / "w" / "units" / "1")) == 6


def test_fully_connected_layers_are_measured_too(place: Path, tmp_path: Path) -> None:
    answer = cnnlens(
        "units", f"{place / 'nets.py'}:rgb", "-d", place / "photos", "-l", "6",
        "-w", tmp_path / "w", *SIZE, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["units"] == 3 and answer.json["masked"] is True
    with h5py.File(tmp_path / "w" / "units" / "6" / "units.h5") as file:
        assert (file["top_position"][()] == 0).all()


def test_equal_images_are_shown_once(place: Path, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    for number in range(4):
        shutil.copy(place / "photos" / "b" / "00.png", tmp_path / "same" / f"{number}.png")
    answer = cnnlens(
        "units", f"{place / 'nets.py'}:rgb", "-d", tmp_path / "same", "-l", "1",
        "-w", tmp_path / "w", *SIZE, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["repeated_images"] == 3
    with h5py.File(tmp_path / "w" / "units" / "1" / "units.h5") as file:
        assert file["top"][0].tolist() == [0] + [-1] * 8
        assert file["bin_images"][0].sum() == 4


def test_what_is_not_finite_is_named_in_one_line(place: Path, tmp_path: Path) -> None:
    answer = cnnlens(
        "units", f"{place / 'nets.py'}:broken", "-d", place / "photos", "-l", "3",
        "-w", tmp_path / "w", *SIZE,
    )  # fmt: skip
    assert answer.code == 1 and "layer '3' is not finite on a/cat.png" in answer.error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--top", "0"], "--top 0 is not at least 1"),
        (["--bins", "0"], "--bins 0 is not at least 1"),
        (["--per-bin", "0"], "--per-bin 0 is not at least 1"),
        (["--neighbours", "-1"], "--neighbours -1 is not at least 0"),
        (["-l", "9"], "no layer '9'"),
    ],
)
def test_wrong_usage_is_named(place: Path, tmp_path: Path, words: list[str], said: str) -> None:
    answer = cnnlens(
        "units", f"{place / 'nets.py'}:rgb", "-d", place / "photos", "-w", tmp_path / "w", *SIZE,
        *words,
    )  # fmt: skip
    assert answer.code == 2 and said in answer.err


def test_no_neighbours_are_looked_for_where_none_are_wanted(space: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(space, tmp_path / "copy"))
    answer = cnnlens("units", "-l", "3", "--neighbours", 0, "-w", copy)
    assert answer.code == 0, answer.err
    assert {row["neighbour"] for row in rows(copy / "units" / "3")} == {""}


def test_damaged_results_are_named_and_left(space: Path, tmp_path: Path) -> None:
    copy: Any = shutil.copytree(space, tmp_path / "copy")
    file = copy / "units" / "3" / "units.h5"
    file.write_bytes(file.read_bytes()[:500])
    same = ["units", "-l", "3", "-l", "1", "--top", 5, "--bins", 4, "--per-bin", 2, "-w", copy]
    answer = cnnlens(*same)
    assert answer.code == 1 and "units.h5 is damaged" in answer.error
    page = cnnlens("report", "-w", copy)
    assert page.code == 1 or "Left out: units/3/units.h5" in (copy / "report.html").read_text()
    assert cnnlens(*same, "--force").code == 0
    assert read_units(copy / "units" / "3")[0].unit == 0


def test_a_damaged_store_beside_is_said_and_passed_over(space: Path, tmp_path: Path) -> None:
    copy: Any = shutil.copytree(space, tmp_path / "copy")
    (copy / "activations" / "photos" / "1.h5").write_bytes(b"no store")
    answer = cnnlens("units", "-l", "3", "-w", copy, "--json")
    assert answer.code == 0, answer.err
    assert "1.h5 is not an HDF5 file" in answer.err
    assert answer.json["compared_with"] == ["3"]
