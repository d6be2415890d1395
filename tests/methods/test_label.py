"""label: what its results depend on, its files, what is said of data that cannot be named by."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.data.synthetic import make_kinds
from cnnlens.errors import CnnlensError
from cnnlens.methods.label import Label
from cnnlens.methods.method import carry_out
from cnnlens.report.label_files import keep_latest, names, read_all_labels, read_labels
from cnnlens.report.unit_names import names_of
from tests.cli.runner import cnnlens

from .test_measurement import after, blank, method, save_net

MADE = {"chance": 1, "data": "kinds"}


def label(world: Path, **values: Any) -> Label:
    values = {**MADE, **values}
    return method(Label, world, **{**values, "data": world / values["data"]})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0), save_net(world / "other.pt", 1)
    make_kinds(world / "kinds", 6, 24)
    (world / "groups.txt").write_text("red: red circle, red square, red triangle\n")
    carry_out(label(world))
    return world


def todo(world: Path, **values: Any) -> list[str]:
    one = label(world, **values)
    one.resolve()
    return [layer.name for layer in one.todo]


def grown_tree(world: Path) -> None:
    """The layer's tree of categories is made."""
    folder = world / "ws" / "cluster" / "conv2"
    folder.mkdir(parents=True)
    leaves = [{"name": "red circle"}, {"name": "red square"}]
    branch = {"distance": 0.1, "support": 1.0, "children": leaves}
    tree = {"distance": 0.2, "support": 1.0, "children": [branch, {"name": "green circle"}]}
    (folder / "categories.json").write_text(json.dumps(tree))
    (folder / "summary.json").write_text('{"layer": "conv2", "categories": {}}')


def moved(world: Path) -> None:
    """One picture becomes one of another class."""
    file = sorted((world / "kinds" / "red circle").iterdir())[0]
    file.rename(world / "kinds" / "red square" / f"moved{file.suffix}")


def grouped(world: Path) -> Mapping[str, Any]:
    return {"groups": world / "groups.txt"}


CHANGES: dict[str, Mapping[str, Any] | Callable[[Path], Any]] = {
    "of": {"of": "peak"},
    "terms": {"terms": 2},
    "gain": {"gain": 0.1},
    "chance": {"chance": 2},
    "seed": {"seed": 1},
    "preprocessing": {"mean": "0.4,0.5,0.5"},
    "groups": grouped,
    "tree": grown_tree,
    "class of a picture": moved,
    "picture": blank("kinds/red circle/*"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_changes_an_input_gets_new_results(world: Path, name: str) -> None:
    assert todo(world) == []
    assert todo(world, **after(CHANGES[name], world)) == ["conv2"]


def test_what_changes_no_number_redoes_nothing(world: Path) -> None:
    assert todo(world, batch_size=4) == []
    one, other = world / "groups.txt", world / "groups.json"
    carry_out(label(world, groups=one))
    other.write_text('{"red": ["red circle", "red square", "red triangle"]}')
    assert todo(world, groups=other) == []


def test_files_are_the_contract_s_and_read_back(made: Path) -> None:
    folder = made / "ws" / "label" / "conv2"
    with (folder / "units.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:8] == [
        "unit", "label", "score", "runner_up", "runner_up_score", "chance", "p_value", "terms",
    ]  # fmt: skip
    found = read_labels(folder)
    assert len(found) == len(rows) == 64
    for unit, row in zip(found.units, rows, strict=True):
        assert unit.label == row["label"] == " + ".join(name for name, _ in unit.terms)
        assert [list(term) for term in unit.terms] == json.loads(row["terms"])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["images"] == 54 and summary["concepts"] == 9 and summary["from"] == "classes"
    assert summary["mean_score"] == pytest.approx(np.nanmean(found.column("score")))
    assert found.means == {key: summary[key] for key in found.means}
    scores = [replace(unit, score=None) if unit.unit else unit for unit in found.units]
    assert replace(found, units=scores).of_scored == " of the 1 of 64 units that have one"


def test_a_table_is_the_same_after_its_pictures_are_kept(made: Path) -> None:
    found = read_labels(made / "ws" / "label" / "conv2")
    before = found.table()
    found.hold()
    assert found.table() == before


def test_groups_of_a_file_or_a_tree_are_among_the_names(world: Path) -> None:
    grown_tree(world)
    by_tree, by_file = label(world), label(world, groups=world / "groups.txt")
    for one in (by_tree, by_file):
        one.resolve()
    assert [*by_tree.groups.values()] == [{"red circle/red square": ["red circle", "red square"]}]
    assert [*by_file.groups.values()] == [{"red": ["red circle", "red square", "red triangle"]}]


def test_names_stand_on_the_page_and_at_their_units(made: Path) -> None:
    section = names(made / "ws")
    assert section is not None and section.key == "label"
    found = read_labels(made / "ws" / "label" / "conv2")
    named = found.best(1)[0]
    (name,) = names_of(made / "ws")["conv2"][named.unit]
    assert (name.method, name.text, name.score) == ("classes", named.label, named.score)
    assert not name.verdict and name.words == f"{named.label}, correlation {named.score:.2f}"
    assert names(made) is None


def test_names_of_every_source_lie_side_by_side(world: Path) -> None:
    layer = world / "ws" / "label" / "conv2"
    own = layer / "classes"
    for name in ("units.csv", "summary.json"):
        assert (layer / name).read_bytes() == (own / name).read_bytes()
    shutil.copytree(own, layer / "text")
    other = layer / "text" / "summary.json"
    said = {"from": "text", "method": "linear", "vectors": "towers.py:towers"}
    other.write_text(json.dumps(json.loads(other.read_text()) | said))
    keep_latest(layer / "text")
    assert [one.source for one in read_all_labels(world / "ws")] == ["classes", "text"]
    unit = read_labels(own).best(1)[0].unit
    assert [one.method for one in names_of(world / "ws")["conv2"][unit]] == ["classes", "text"]
    section = names(world / "ws")
    assert section is not None and section.title == "Names from classes and text"
    assert len(section.parts) == 1  # layer, with both
    carry_out(label(world))  # made before: yet it is the latest now
    assert read_labels(layer).source == "classes"


def test_names_of_an_earlier_version_are_read_and_move_on(world: Path) -> None:
    layer = world / "ws" / "label" / "conv2"
    shutil.rmtree(layer / "classes")
    assert [one.folder for one in read_all_labels(world / "ws")] == [layer]
    assert todo(world) == []
    assert [one.folder for one in read_all_labels(world / "ws")] == [layer / "classes"]


def test_a_damaged_table_is_named(world: Path) -> None:
    file = world / "ws" / "label" / "conv2" / "units.csv"
    file.write_text(file.read_text().replace("[[", "[", 1))
    with pytest.raises(CnnlensError, match=r"units\.csv is damaged: a further column"):
        read_labels(file.parent)


def test_data_without_classes_is_refused(world: Path) -> None:
    flat = world / "flat"
    flat.mkdir()
    for number, file in enumerate((world / "kinds").rglob("*.png")):
        shutil.copy(file, flat / f"{number}.png")
    said = cnnlens("label", world / "net.pt", "-d", flat, "-w", world / "new")
    assert said.code == 2 and "class" in said.error


def test_few_images_are_refused_with_a_way_out(world: Path) -> None:
    for folder in sorted((world / "kinds").iterdir())[2:]:
        if folder.is_dir():
            shutil.rmtree(folder)
    words = ("label", world / "net.pt", "-d", world / "kinds", "-w", world / "new", "-l", "conv1")
    said = cnnlens(*words)
    assert said.code == 1 and "12 images: too few" in said.error and "32 or more" in said.err
    assert not (world / "new" / "activations").exists()  # that is said before the network runs


def test_copies_of_images_change_no_name(world: Path) -> None:
    folder = world / "ws" / "label" / "conv2"
    before = (folder / "units.csv").read_bytes(), json.loads((folder / "summary.json").read_text())
    shutil.rmtree(folder)
    for file in sorted((world / "kinds").glob("*/*.png")):
        shutil.copy(file, file.with_name(f"{file.stem} copy.png"))
    said = cnnlens("label", world / "net.pt", "-d", world / "kinds", "-l", "conv2", "--chance", 1,
                   "-w", world / "ws")  # fmt: skip
    assert said.code == 0, said.err
    summary = json.loads((folder / "summary.json").read_text())
    assert (folder / "units.csv").read_bytes() == before[0]
    assert summary["images"] == before[1]["images"]
    count = 54 + before[1].get("repeated_images", 0)
    assert summary["repeated_images"] == count
    assert f"conv2: {count} images of kinds equal to earlier ones, pixel by pixel" in said.err
