"""exam: what its results depend on, its files, what is said of labels that cannot be examined."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

import cnnlens
from cnnlens.data.synthetic import make_kinds, make_shapes
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods.dissect import Dissect
from cnnlens.methods.exam import Exam
from cnnlens.methods.label import Label
from cnnlens.methods.method import carry_out
from cnnlens.report.dissect_files import read_dissection
from cnnlens.report.exam_files import read_exam
from cnnlens.report.exam_section import marks
from cnnlens.report.label_files import read_labels
from cnnlens.report.states import remarks
from cnnlens.report.unit_names import names_of
from cnnlens.voice import Voice

from .test_measurement import after, blank, later, method, reword, save_net

DISSECTED = {"chance": 0, "top": 0, "formula": 2, "beam": 2}
FEW = {"chance": 2, "resamples": 20}


def exam(world: Path, **values: Any) -> Exam:
    return method(Exam, world, **{"data": None, **FEW, **values})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0)
    make_kinds(world / "kinds", 6, 24), make_shapes(world / "shapes", 40, 24)
    carry_out(method(Dissect, world, **DISSECTED))
    carry_out(method(Label, world, chance=0, data=world / "kinds"))
    (world / "mine.csv").write_text("unit,label\n3,red circle\n5,red circle OR red square\n")
    carry_out(exam(world))
    return world


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(made, tmp_path / "world"))
    known = copy / "ws" / "workspace.json"  # its data are the copy's
    known.write_text(known.read_text().replace(str(made), str(copy)))
    return copy


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as table:
        return list(csv.DictReader(table))


def todo(world: Path, **values: Any) -> list[str]:
    one = exam(world, **values)
    one.resolve()
    return [layer.name for layer in one.todo]


def labelled_anew(world: Path) -> None:
    carry_out(method(Label, world, chance=0, seed=1, data=world / "kinds"))


def dissected_anew(world: Path) -> None:
    carry_out(method(Dissect, world, chance=0, top=0, quantile=0.02))


def pasted(world: Path) -> Mapping[str, Any]:
    return {"labels": world / "mine.csv", "data": world / "kinds"}


CHANGES: dict[str, Mapping[str, Any] | Callable[[Path], Any]] = {
    "of": {"of": "peak"},
    "chance": {"chance": 3},
    "resamples": {"resamples": 10},
    "planted": {"planted": 2},
    "snr": {"snr": 2.0},
    "seed": {"seed": 1},
    "twin": {"twin": True},
    "names of label": labelled_anew,
    "labels of dissect": dissected_anew,
    "labels": pasted,
    "other images": lambda world: {"data": world / "kinds"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_changes_an_input_gets_new_marks(request: pytest.FixtureRequest, name: str) -> None:
    # options leave the files alone: no copy is needed
    world = request.getfixturevalue("made" if isinstance(CHANGES[name], Mapping) else "world")
    assert todo(world) == []
    assert todo(world, **after(CHANGES[name], world)) == ["conv2"]


def test_files_are_the_contract_s_and_read_back(made: Path) -> None:
    folder = made / "ws" / "exam" / "conv2"
    rows = rows_of(folder / "units.csv")
    assert ",".join(list(rows[0])[:9]) == (
        "unit,method,label,correlation,average_precision,iou,f1,chance,p_value"
    )
    found = read_exam(folder)
    assert list(islice(found, len(found) + 1)) == found.units
    assert {one.method for one in found.units} == {"classes", "dissect", "formula"}
    summary = json.loads((folder / "summary.json").read_text())["methods"]
    for name, of in summary.items():
        mine = found.of(name)
        assert of["labels"] == len(mine) and of["passes"] == sum(one.passes for one in mine)
        assert of["share"] == pytest.approx(of["passes"] / of["labels"])
    own = read_labels(made / "ws" / "label" / "conv2")
    for one in found.of("classes"):
        assert one.correlation == pytest.approx(own[one.unit].score, abs=1e-6)
    assert summary["classes"]["images_held_out"] == own.summary["images_held_out"]
    assert summary["dissect"]["images_held_out"] == 20


def test_the_verdict_joins_the_methods_tables_and_nothing_else_there_changes(world: Path) -> None:
    space = world / "ws"
    tables = [space / "label" / "conv2" / "units.csv", space / "dissect" / "conv2" / "units.csv"]
    before = [rows_of(table) for table in tables]
    carry_out(method(Label, world, chance=0, seed=1, data=world / "kinds"))
    assert "exam" not in rows_of(tables[0])[0]  # new names were not examined yet
    carry_out(method(Label, world, chance=0, data=world / "kinds"))
    carry_out(exam(world, chance=1))
    assert [rows_of(table) for table in tables] == before
    for one in method(Dissect, world, **DISSECTED), method(Label, world, chance=0, data=None):
        one.resolve()
        assert one.todo == []  # the column redoes nothing
    verdicts = {one.unit: one.verdict for one in read_exam(space / "exam" / "conv2").of("classes")}
    found = read_labels(tables[0].parent)
    assert {one.unit: one.exam for one in found.units if one.label} == verdicts
    assert any(one.exam for one in read_dissection(tables[1].parent).units)
    formulas = {one.unit: one.verdict for one in read_exam(space / "exam" / "conv2").of("formula")}
    rows = {int(row["unit"]): row["formula_exam"] for row in rows_of(tables[1]) if row["formula"]}
    assert rows == formulas


@pytest.mark.parametrize(
    "change",
    [blank("shapes/images/shapes/00000_color.png"), reword("shapes/label.csv", "red", "rosy")],
    ids=["map", "table"],
)
def test_labels_of_images_that_are_labelled_otherwise_now_are_not_examined(
    world: Path, change: Callable[[Path], None]
) -> None:
    table = world / "ws" / "dissect" / "conv2" / "units.csv"
    before = table.read_bytes()
    change(world)
    for asked in ({}, {"data": world / "shapes"}):  # they chose the labels, named or not
        with pytest.raises(UsageError, match="shapes is labelled otherwise than when") as caught:
            carry_out(exam(world, **asked))
        assert "redo the labels" in (caught.value.hint or "")
    assert table.read_bytes() == before
    assert todo(world, data=world / "kinds") == ["conv2"]  # other images tell all the same
    carry_out(method(Dissect, world, **DISSECTED))
    carry_out(exam(world))
    assert any(one.exam for one in read_dissection(table.parent).units)


def verdicts(world: Path, *methods: str) -> list[str]:
    units = names_of(world / "ws")["conv2"].values()
    return [one.verdict for names in units for one in names if one.method in methods]


def mirrored(world: Path) -> None:
    """Turn all label maps over: most labels stay, and mean something else."""
    for file in (world / "shapes" / "images").rglob("*_*.png"):
        with Image.open(file) as image:
            turned = ImageOps.mirror(image)
        turned.save(file), later(file)


def test_labels_chosen_anew_do_not_bear_the_verdicts_of_earlier_ones(world: Path) -> None:
    def texts() -> set[tuple[int, str, str]]:
        units = names_of(world / "ws")["conv2"].items()
        return {(unit, one.method, one.text) for unit, names in units for one in names}

    assert all(verdicts(world, "dissect", "formula", "classes"))
    before = texts()
    mirrored(world)
    carry_out(method(Dissect, world, **DISSECTED))
    assert {method for _, method, _ in before & texts()} == {"dissect", "formula", "classes"}
    assert not any(verdicts(world, "dissect", "formula"))
    assert all(verdicts(world, "classes"))  # whose images are others
    (said,) = remarks(world / "ws")
    assert "the exam of conv2 is of other labels of dissect and formula than there are" in said.text
    assert said.sections == ("exam",)
    carry_out(exam(world))
    assert remarks(world / "ws") == []
    assert all(verdicts(world, "dissect", "formula", "classes"))
    carry_out(method(Label, world, chance=0, seed=1, data=world / "kinds"))
    assert not any(verdicts(world, "classes")) and all(verdicts(world, "dissect"))


def test_verdicts_on_other_images_stay_when_label_maps_change(world: Path) -> None:
    def found() -> dict[tuple[int, str], str]:
        names = ((u, one) for u, some in names_of(world / "ws")["conv2"].items() for one in some)
        return {(unit, one.text): one.verdict for unit, one in names if one.method == "dissect"}

    carry_out(exam(world, data=world / "kinds"))
    before = found()
    mirrored(world)
    carry_out(method(Dissect, world, **DISSECTED))
    same = found().items() & before.items()
    assert any(verdict for _, verdict in same)
    assert {key for key, _ in same} == found().keys() & before.keys()


def test_marks_stand_on_the_page_and_at_their_units(made: Path) -> None:
    section = marks(made / "ws")
    assert section is not None and section.key == "exam" and marks(made) is None
    for one in read_exam(made / "ws" / "exam" / "conv2").units:
        name = next(
            name for name in names_of(made / "ws")["conv2"][one.unit] if name.method == one.method
        )
        assert (name.text, name.verdict, name.passes) == (one.label, one.verdict, one.passes)
        assert (name.exam_score, name.exam_chance) == (one.correlation, one.chance)


def test_pasted_labels_planted_units_and_the_twin(world: Path) -> None:
    carry_out(exam(world, **pasted(world), planted=4, twin=True))
    found = read_exam(world / "ws" / "exam" / "conv2")
    assert [(one.unit, one.method, one.label) for one in found.units] == [
        (3, "given", "red circle"), (5, "given", "red circle OR red square"),
    ]  # fmt: skip
    of = found.summary["methods"]["given"]
    assert len(of["planted"]) == 4 and of["twin"]["labels"] == 2
    assert of["twin"]["mean"] != of["mean"]


def test_pasted_labels_are_examined_in_python_too(world: Path) -> None:
    lens = cnnlens.Investigation(world / "net.pt", world / "ws", quiet=True)
    found = lens.exam(layer="conv2", labels=world / "mine.csv", data=world / "kinds", **FEW)
    assert [(one.unit, one.method) for one in found.units] == [(3, "given"), (5, "given")]


@pytest.mark.parametrize("mine", ["conv2", "relu2", "module:relu2"])
def test_of_a_table_of_several_layers_the_rows_of_the_layer_count(world: Path, mine: str) -> None:
    rows = ["Layer;Unit;Label", "conv1;3;red square", f"{mine};5;red circle", "conv1;70;red circle"]
    (world / "mine.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    one = exam(world, **pasted(world))
    one.resolve()
    given = one.tasks[one.layers[0]][0].labels.given
    assert [(label.unit, label.label) for label in given] == [(5, "red circle")]


def test_further_labels_of_a_unit_are_counted(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "unit,label\n3,red circle\n3,red square\n5,red circle\n5,red circle\n3,red circle\n"
    (world / "mine.csv").write_text(text)
    one = exam(world, **pasted(world))
    one.study.voice = Voice()
    one.resolve()
    given = one.tasks[one.layers[0]][0].labels.given
    assert [label.label for label in given] == ["red circle"] * 2
    assert "mine.csv: 1 further label of units is left out" in capsys.readouterr().err


REFUSED = {
    "layer": ("layer,unit,label\nconv1,3,red circle\n", "no labels of conv2.* are conv1", "-l"),
    "unit 64": ("unit,label\n64,red circle\n", "line 2: no unit '64'", "units 0 to 63"),
    "no number": ("unit,label\nx,red circle\n", "no unit 'x'", "units 0 to 63"),
    "no column": ("unit,name\n3,red circle\n", "no column label", "unit,label"),
    "nothing": ("unit,label\n", "holds no labels", "unit,label"),
    "concept": ("unit,label\n3,red circel\n", "tells of none of the labels", "with -d DIR"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pasted_labels_that_cannot_be_examined_are_refused(world: Path, name: str) -> None:
    text, said, hint = REFUSED[name]
    (world / "mine.csv").write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        exam(world, **pasted(world)).resolve()
    assert hint in (caught.value.hint or "")


def test_nothing_to_examine_says_what_to_do(world: Path) -> None:
    with pytest.raises(UsageError, match="no labels of conv1") as caught:
        exam(world, layer=("conv1",)).resolve()
    assert "cnnlens dissect" in (caught.value.hint or "")
    shutil.rmtree(world / "shapes")
    with pytest.raises(UsageError, match="labels of 'dissect' were made on are gone or changed"):
        exam(world).resolve()
    for one in list((world / "kinds").glob("red circle/*"))[3:]:
        one.unlink()  # a class of three images is examined all the same
    shutil.rmtree(world / "ws" / "activations")
    carry_out(exam(world, **pasted(world)))
    assert len(read_exam(world / "ws" / "exam" / "conv2")) == 2
    for one in (world / "kinds").iterdir():
        if one.name != "red square" and one.is_dir():
            shutil.rmtree(one)
    shutil.rmtree(world / "ws" / "activations")
    with pytest.raises(CnnlensError, match=r"too few|none of the labels"):
        carry_out(exam(world, **pasted(world)))


def test_copies_of_images_change_no_mark(world: Path) -> None:
    """Of the network's units, and of planted ones."""
    given = {"labels": world / "mine.csv", "planted": 2, "data": world / "kinds"}
    carry_out(exam(world, **given))
    file = world / "ws" / "exam" / "conv2" / "summary.json"
    before = json.loads(file.read_text())["methods"]["given"]
    for image in sorted((world / "kinds").glob("*/*.png")):
        shutil.copy(image, image.with_name(f"{image.stem} copy.png"))
    shutil.rmtree(world / "ws" / "activations")
    carry_out(exam(world, **given))
    found = json.loads(file.read_text())
    assert found["methods"]["given"] == before
    assert found["repeated_images"] == 54
