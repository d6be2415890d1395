"""net2vec: what its results depend on, its files, interrupts, and the directions that are drawn."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from markupsafe import Markup

from cnnlens.data.synthetic import make_shapes
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.measure.net2vec import LearningStep
from cnnlens.methods import net2vec as module
from cnnlens.methods.method import carry_out
from cnnlens.methods.net2vec import Net2Vec
from cnnlens.methods.visualize import Visualize
from cnnlens.report import net2vec_files
from cnnlens.report.net2vec import concepts
from cnnlens.report.net2vec_files import read_direction, read_net2vec
from cnnlens.voice import Lines
from tests.cli.runner import cnnlens

from .test_measurement import SIDE, after, blank, method, reword, save_net, touch

MADE = {"filters": "1,4", "epochs": 2, "chance": 1, "top": 3}
SMALL = ["--filters", "1,4", "--epochs", 2, "--top", 3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0), save_net(world / "other.pt", 1)
    make_shapes(world / "shapes", 24, SIDE)
    carry_out(method(Net2Vec, world, **MADE))
    return world


def todo(world: Path, page: bool = True, **values: Any) -> list[str]:
    one = method(Net2Vec, world, page, **{**MADE, **values})
    one.resolve()
    return [layer.name for layer in one.todo]


def other_split(world: Path) -> None:
    """One image changes sides."""
    index = world / "shapes" / "index.csv"
    lines = index.read_text().splitlines()
    row = next(n for n, line in enumerate(lines) if ",train," in line)
    lines[row] = lines[row].replace(",train,", ",val,")
    index.write_text("\n".join(lines) + "\n")


CHANGES: dict[str, Mapping[str, Any] | Callable[[Path], None]] = {
    "filters": {"filters": "1,5"},
    "loss": {"loss": "reference"},
    "epochs": {"epochs": 3},
    "lr": {"lr": 3.0},
    "cut": {"cut": "half"},
    "quantile": {"quantile": 0.01},
    "chance": {"chance": 2},
    "more pictures": {"top": 4},
    "seed": {"seed": 1},
    "dtype": {"dtype": "float16"},
    "preprocessing": {"mean": "0.4,0.5,0.5"},
    "split": other_split,
    "label": reword("shapes/label.csv", "square", "quadrangle"),
    "plane": blank("shapes/images/**/*_color.png"),
    "image's time": touch("shapes/images/shapes/00000.png"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_changes_an_input_gets_new_results(world: Path, name: str) -> None:
    assert todo(world) == []
    assert todo(world, **after(CHANGES[name], world)) == ["conv2"]


def test_what_changes_no_number_redoes_nothing(world: Path) -> None:
    assert todo(world, page=False) == []
    assert todo(world, top=2) == []
    assert todo(world, batch_size=4) == []
    assert todo(world, filters="4, 1,1,9999") == []  # more units than there are
    assert todo(world, filters=(1, 4)) == []
    assert todo(world, lr=10.0) == []  # what it is anyway


# ---- files


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_files_are_the_contract_s_and_read_back(made: Path) -> None:
    folder = made / "ws" / "net2vec" / "conv2"
    listed, points = rows(folder / "concepts.csv"), rows(folder / "curves.csv")
    assert list(listed[0]) == [
        "label", "category", "images", "best_unit", "best_unit_iou", "iou", "gain",
    ]  # fmt: skip
    assert list(points[0]) == ["label", "category", "filters", "iou"]
    found = read_net2vec(folder)
    summary = json.loads((folder / "summary.json").read_text())
    with h5py.File(folder / "weights.h5") as file:
        units = file["weights"].shape[1]
        assert file["weights"].shape == (len(listed), units) == found.weights.shape
        names = [name.decode() for name in file["concept"][()]]
        assert file["weights"].dims[0].label == "concept"
    assert names == [f"{row['category']}:{row['label']}" for row in listed]
    assert [concept.name for concept in found] == names == [found[name].name for name in names]
    for concept, row in zip(found.concepts, listed, strict=True):
        assert (concept.iou is None) == (row["iou"] == "")
        if concept.iou is not None:
            assert concept.gain == pytest.approx(concept.iou - concept.best_unit_iou)
            assert float(row["iou"]) == concept.iou == concept.curve[-1][1]
        assert [count for count, _ in concept.curve] == [1, 4, units]
        assert concept.picture is not None and len(concept.top) == 3
    assert summary["concepts"] == sum(row["iou"] != "" for row in listed)
    assert summary["learned_from"] + summary["validated_on"] == summary["images"] == 24
    assert found[names[0]] is found.concepts[0]
    assert not list(folder.glob(".*"))  # no bits, no state


def test_a_concept_is_found_by_its_label_where_one_category_has_it(made: Path) -> None:
    found = read_net2vec(made / "ws" / "net2vec" / "conv2")
    name = found.concepts[0].name
    assert found[name.partition(":")[2]].name == name
    with pytest.raises(UsageError, match="no concept 'colour:rde'"):
        found["colour:rde"]
    twice = found.concepts[0]
    double = type(found)(found.name, found.folder, {}, [twice, twice], *[found.weights] * 3)
    with pytest.raises(UsageError, match="ambiguous"):
        double[twice.label]


@pytest.mark.parametrize("name", ["concepts.csv", "weights.h5", "curves.csv", "summary.json"])
def test_a_damaged_file_is_named(world: Path, name: str) -> None:
    file = world / "ws" / "net2vec" / "conv2" / name
    file.write_bytes(b"\x00 no table \xff")
    with pytest.raises(CnnlensError) as raised:
        todo(world)
    assert name in raised.value.message
    one = method(Net2Vec, world, **MADE)
    one.study.force = True
    one.resolve()
    assert [layer.name for layer in one.todo] == ["conv2"]


def test_a_page_has_the_table_the_curves_and_the_images(made: Path) -> None:
    section = concepts(made / "ws")
    assert section is not None and section.key == "net2vec"
    facts, table, *_, gallery = section.parts[0].blocks
    found = read_net2vec(made / "ws" / "net2vec" / "conv2")
    assert len(table.rows) == len(found)
    shown = {row[0].text: row for row in table.rows}
    concept = found.concepts[0]
    row = shown[concept.label]
    assert row[3].text == f"{concept.iou:.3f}" and row[4].text == f"{concept.chance_iou:.3f}"
    assert "polyline" in row[6].picture and isinstance(row[6].picture, Markup)
    assert all(shot.picture.is_file() for shot in gallery.shots)
    assert dict(facts.facts)["Better than the best unit"].startswith(str(found.summary["better"]))
    better, compared = found.summary["better_than_chance"], found.summary["concepts"]
    said = dict(facts.facts)["Better than shuffled labels"]
    assert said == f"{better} of {compared}; about half would be by chance"
    assert concepts(made) is None


# ---- interrupts


def test_an_interrupted_learning_goes_on_and_ends_with_the_same_bytes(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world / "ws" / "net2vec" / "conv2"
    before = {file.name: file.read_bytes() for file in folder.glob("*.*")}
    shutil.rmtree(folder)
    seen: list[int] = []
    show = Lines.show

    def stop(self: Lines, step: Any) -> None:
        if isinstance(step, LearningStep):
            seen.append(step.done)
            if len(seen) == 3:
                raise KeyboardInterrupt
        show(self, step)

    with mock.patch.object(Lines, "show", stop), pytest.raises(KeyboardInterrupt):
        carry_out(method(Net2Vec, world, **MADE))
    assert (folder / ".unfinished.npz").is_file() and not (folder / "summary.json").exists()
    assert not list(folder.glob(".bits-*"))
    other = method(Net2Vec, world, **{**MADE, "seed": 5})
    other.resolve()
    mark = module.mark(other.made_from(other.layers[0]))
    assert module.read_state(folder / ".unfinished.npz", mark) is None  # another learning's
    seen.clear()
    with mock.patch.object(Lines, "show", lambda self, step: seen.append(step.done)):
        carry_out(method(Net2Vec, world, **MADE))
    after = {file.name: file.read_bytes() for file in folder.glob("*.*")}
    assert after == before
    assert not (folder / ".unfinished.npz").exists()


def test_the_state_is_kept_on_the_way_and_a_damaged_one_counts_as_none(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world / "ws" / "net2vec" / "conv2"
    monkeypatch.setattr(module, "KEPT_EVERY", 0.0)
    kept: list[int] = []

    def write(file: Path, **arrays: Any) -> None:
        kept.append(int(arrays["epoch"]))
        file.write_bytes(b"damaged")

    monkeypatch.setattr(module, "write_npz", write)
    shutil.rmtree(folder)
    carry_out(method(Net2Vec, world, **MADE))
    assert kept == [1, 2] * 4
    folder.joinpath(".unfinished.npz").write_bytes(b"damaged")
    assert module.read_state(folder / ".unfinished.npz", "") is None


# ---- directions


def test_a_concept_is_drawn_and_drawn_anew_when_it_was_learned_anew(world: Path) -> None:
    name = read_net2vec(world / "ws" / "net2vec" / "conv2").concepts[0].name

    def drawing() -> Any:
        one = method(Visualize, world, filter=(f"conv2:[{name}]", "conv2:1"), steps=2)
        one.resolve()
        return one

    one = drawing()
    assert [item.subject.about["unit"] for item in one.parts[0].items] == [1, None]
    carry_out(drawing())
    listed = json.loads((world / "ws" / "visualize" / "conv2" / "visualize.json").read_text())
    entry = next(entry for entry in listed["pictures"] if entry.get("concept"))
    assert entry["concept"] == name and entry["file"].startswith("concept-")
    assert entry["file"] not in [item.name for item in drawing().parts[0].todo]
    carry_out(method(Net2Vec, world, **{**MADE, "seed": 3}))
    assert entry["file"] in [item.name for item in drawing().parts[0].todo]


def test_concepts_that_were_not_learned_are_named(world: Path) -> None:
    space, model = world / "ws", method(Net2Vec, world).study.model.fingerprint
    found = read_direction(space, "conv2", "color:red", model)
    assert np.linalg.norm(found.vector) == pytest.approx(1)
    for layer, name, fingerprint, words in (
        ("conv3", "color:red", model, "not learned yet"),
        ("conv2", "color:red", "another", "not learned of this model"),
        ("conv2", "color:rde", model, "no concept 'color:rde'"),
    ):
        with pytest.raises(UsageError, match=words):
            read_direction(space, layer, name, fingerprint)
    asked = ["visualize", "-w", space, "--no-page", "--steps", 1]
    answer = cnnlens(*asked, "-f", "conv3:[color:red]")
    assert answer.code == 2 and "cnnlens net2vec -d DIR -l conv3" in answer.err
    answer = cnnlens("deconv", "-w", space, "--no-page", "-f", "conv2:[color:red]")
    assert answer.code == 2 and "is a concept, and units are wanted here" in answer.error


def test_a_concept_of_a_long_name_has_a_picture(world: Path) -> None:
    space, label = world / "ws", "reddish or " * 30
    found = read_net2vec(space / "net2vec" / "conv2")
    found.concepts[0] = replace(found.concepts[0], label=label)
    with mock.patch.object(net2vec_files, "read_net2vec", return_value=found):
        model = method(Net2Vec, world).study.model.fingerprint
        name, file, _ = read_direction(space, "conv2", label, model)
    assert label in name and len(f"{file}~64.png".encode()) <= 255


# ---- as a user meets it


def test_the_command_prints_its_summary(world: Path) -> None:
    shutil.rmtree(world / "ws" / "net2vec")
    answer = cnnlens("net2vec", "-w", world / "ws", "--json", "--no-page", *SMALL)
    assert answer.code == 0, answer.err
    summary = json.loads((world / "ws" / "net2vec" / "conv2" / "summary.json").read_text())
    assert answer.json == summary
    assert "images to learn on" in answer.err or "learned from" in answer.err
    shown = cnnlens("net2vec", "-w", world / "ws", "--no-page", *SMALL)
    assert "done before" in shown.err and "combination" in shown.out


@pytest.mark.parametrize("value", ["0", "1,x", "-3", "1.5"])
def test_sizes_that_are_none_are_refused(world: Path, value: str) -> None:
    answer = cnnlens("net2vec", "-w", world / "ws", f"--filters={value}")
    assert answer.code == 2 and "are no numbers of units" in answer.error


def test_copies_of_images_change_nothing_that_is_learned(world: Path) -> None:
    folder, shapes = world / "ws" / "net2vec" / "conv2", world / "shapes"
    before = {name: (folder / name).read_bytes() for name in ("concepts.csv", "weights.h5")}
    shutil.rmtree(folder)
    index, turned = shapes / "index.csv", {"train": "val", "val": "train"}
    first, *rows = index.read_text().splitlines()
    copies = []
    for row in rows:  # each copy on the other side
        name, side, rest = row.split(",", 2)
        copy = name.replace(".", " copy.")
        shutil.copy(shapes / "images" / name, shapes / "images" / copy)
        copies.append(f"{copy},{turned[side]},{rest}")
    index.write_text("\n".join([first, *rows, *copies]) + "\n")
    carry_out(method(Net2Vec, world, **MADE))
    assert {name: (folder / name).read_bytes() for name in before} == before
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["repeated_images"] == len(rows) and summary["images"] == 24
