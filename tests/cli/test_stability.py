from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.activations.store import Store
from cnnlens.data.animals import make_animals
from tests.reference import stability as literal

from .runner import cnnlens, files


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_animals(tmp_path_factory.mktemp("data") / "animals", 60, 48)


@pytest.fixture(scope="module")
def world(animals: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    space = tmp_path_factory.mktemp("world") / "w"
    run = cnnlens(
        "stability", "zoo:demo_net", "-d", animals, "-l", "conv3", "--image-size", "48",
        "--negatives", animals / "negatives", "-w", space, "--json",
    )  # fmt: skip
    assert run.code == 0, run.err
    return space, json.loads(run.out)


def units(space: Path) -> list[dict[str, str]]:
    with (space / "stability" / "conv3" / "units.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_summary_is_what_is_printed(world: tuple[Path, dict[str, Any]]) -> None:
    space, printed = world
    assert printed == json.loads((space / "stability" / "conv3" / "summary.json").read_text())
    keys = {
        "layer", "units", "dead_units", "images", "location_instability",
        "part_interpretability", "selectivity", "centre_distance", "baselines", "parts",
    }  # fmt: skip
    assert keys <= set(printed)
    assert set(printed["baselines"]) == {"uniform", "centre", "shuffled"}
    assert [part["name"] for part in printed["parts"]] == [
        "head", "body", "front leg", "back leg", "tail", "mark",
    ]  # fmt: skip
    for one in printed["interpretability"]:
        assert 0 <= one["part_interpretability"] <= one["bound"] <= 1


def test_units_agree_with_the_store_by_hand(
    world: tuple[Path, dict[str, Any]], animals: Path
) -> None:
    space, printed = world
    rows = units(space)
    assert list(rows[0])[:8] == [
        "unit", "category", "location_instability", "p_value", "centre_distance",
        "selectivity", "part", "part_interpretability",
    ]  # fmt: skip
    assert list(rows[0])[8:14] == [f"{p['name']}_deviation" for p in printed["parts"]]
    from cnnlens.data.open import open_data
    from cnnlens.model.layers import find_layers
    from cnnlens.model.open import open_model

    data: Any = open_data(animals)
    model = open_model("zoo:demo_net", image_size=(48, 48))
    fields = find_layers(model).resolve("conv3").fields
    with Store(space / "activations" / "animals" / "conv3.h5") as store:
        maps = np.concatenate([m for _, m in store.batches()])
    names = sorted(set(data.image_categories))
    labels = np.array([names.index(c) for c in data.image_categories])
    live = [row for row in rows if row["location_instability"]]
    for row in live[:5]:
        unit = int(row["unit"])
        own = np.flatnonzero(labels == names.index(row["category"]))
        width = maps.shape[3]
        flat = maps[own, unit].reshape(len(own), -1)
        peaks = [
            (fields[0].centre(int(k) // width), fields[1].centre(int(k) % width))
            for k in flat.argmax(1)
        ]
        value, per_part = literal.instability(
            peaks, flat.max(1).tolist(), (data.centres[own] * 48).tolist(), (48, 48)
        )
        assert float(row["location_instability"]) == pytest.approx(value, rel=1e-6)
        assert float(row["tail_deviation"]) == pytest.approx(per_part[4], rel=1e-6)
    values = [float(row["location_instability"]) for row in live]
    assert printed["location_instability"] == pytest.approx(np.mean(values))
    assert printed["dead_units"] == len(rows) - len(live)


def test_pictures_and_the_page(world: tuple[Path, dict[str, Any]]) -> None:
    space, _ = world
    folder = space / "stability" / "conv3"
    live = [row["unit"] for row in units(space) if row["location_instability"]]
    assert {p.stem for p in (folder / "pictures").iterdir()} == set(live)
    with Image.open(folder / "pictures" / f"{live[0]}.webp") as strip:
        assert strip.size == (8 * 132 - 4, 128)
    page = (space / "report.html").read_text()
    assert "Do its units follow an object’s parts?" in page
    shown = set(re.findall(r"stability/conv3/pictures/(\d+)\.webp", page))
    assert shown and shown <= set(live)


def test_a_second_run_does_nothing_and_a_third_counts_other_parts(
    animals: Path, tmp_path: Path
) -> None:
    space = tmp_path / "w"
    first = ["stability", "zoo:demo_net", "-d", animals, "-l", "conv3", "--image-size", "48"]
    assert cnnlens(*first, "-w", space, "--no-page").code == 0
    before = files(space / "stability")
    again = cnnlens("stability", "-w", space, "--no-page")
    assert again.code == 0 and "done before" in again.err and "instability" in again.out
    assert files(space / "stability") == before
    summary = next((space / "stability").glob("*/summary.json"))  # as earlier versions wrote it
    summary.write_text(re.sub(r',\s*"shuffled_among": "excited"', "", summary.read_text()))
    assert "shuffled_among" not in summary.read_text()
    assert "done before" not in cnnlens("stability", "-w", space, "--no-page").err
    assert files(space / "stability") == before
    other = cnnlens(
        "stability", "-w", space, "--no-page", "--parts", "tail", "--merge-categories", "animal",
        "--json",
    )  # fmt: skip
    document = json.loads(other.out)
    assert [part["name"] for part in document["parts"]] == ["tail"]
    assert document["categories"] == ["animal"] and document["selectivity"] is None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--parts", "hed"], 2, "no part 'hed'"),
        (["--category-by", "size"], 2, "--category-by size is not known"),
        (["--wide", "2"], 2, "--wide 2.0 is not between 0 and 1"),
        (["--negatives", "nowhere"], 2, "no folder nowhere"),
        (["-l", "conv9"], 2, "no layer 'conv9'"),
    ],
)
def test_wrong_usage_is_named(
    animals: Path, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    run = cnnlens(
        "stability", "zoo:demo_net", "-d", animals, "--image-size", "48", "-w", tmp_path / "w",
        *words,
    )  # fmt: skip
    assert run.code == code and said in run.err


def test_data_without_parts(animals: Path, tmp_path: Path) -> None:
    run = cnnlens(
        "stability", "zoo:demo_net", "-d", animals / "images", "--image-size", "48", "-w",
        tmp_path / "w",
    )  # fmt: skip
    assert run.code == 2 and "holds no parts" in run.err and "data make animals" in run.err


def test_too_few_objects(tmp_path: Path) -> None:
    few = make_animals(tmp_path / "few", 9, 48)
    run = cnnlens(
        "stability", "zoo:demo_net", "-d", few, "--image-size", "48", "-w", tmp_path / "w"
    )
    assert run.code == 1 and "--merge-categories" in run.err
    assert not (tmp_path / "w" / "stability").exists()
