"""dissect, stability, extract: what results depend on, and what is kept when something fails."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from PIL import Image

from cnnlens.data.animals import make_animals
from cnnlens.data.synthetic import make_shapes
from cnnlens.methods.dissect import Dissect
from cnnlens.methods.extract import Extract
from cnnlens.methods.measurement import Measurement
from cnnlens.methods.method import build, carry_out
from cnnlens.methods.stability import Stability
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from cnnlens.progress import Step
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Lines, Voice
from tests.cli.runner import cnnlens

SIDE = 24
PLACE = {"dissect": "shapes", "stability": "animals"}


def save_net(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    half = (0.5, 0.5, 0.5)
    net = ZOO["demo_net"].make(3).eval()
    save_checkpoint(path, net, "zoo:demo_net", Preprocess((SIDE, SIDE), half, half), list("abc"))
    return path


def method(kind: Any, world: Path, page: bool = True, **values: Any) -> Any:
    """One run on the world's data and workspace; values are those of the command's options."""
    opening = ModelSettings(mean=values.pop("mean", None))
    run = RunSettings(batch_size=values.pop("batch_size", 32))
    space, net = Workspace(world / "ws"), world / values.pop("net", "net.pt")
    study = Study(space, str(net), opening, run, Voice(quiet=True))
    given = {"data": world / PLACE.get(kind.name, "shapes"), "layer": ("conv2",), **values}
    if kind is Stability:
        given.setdefault("negatives", world / "others")
    return kind(study, *build(kind, given), page)


def todo(kind: type[Measurement], world: Path, page: bool = True, **values: Any) -> list[str]:
    """Layers that would be measured now."""
    one = method(kind, world, page, **values)
    one.resolve()
    return [layer.name for layer in one.todo]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, two networks, and a workspace in which both commands have run on conv2."""
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0), save_net(world / "other.pt", 1)
    make_shapes(world / "shapes", 20, SIDE)
    make_animals(world / "animals", 45, SIDE)
    shutil.move(world / "animals" / "negatives", world / "others")
    for kind in (Dissect, Stability):
        carry_out(method(kind, world, chance=2, top=2))
    return world


MADE = {"chance": 2, "top": 2}  # as the fixture's results were made

Change = Callable[[Path], Any] | Mapping[str, Any]  # of the files, or of the options


def later(file: Path) -> None:
    """Say that a file of the same size was written a second later."""
    stat = file.stat()
    os.utime(file, (stat.st_atime, stat.st_mtime + 1))


def after(change: Any, world: Path) -> Mapping[str, Any]:
    """Change an input; return what is asked for then: the change itself, or what it returns."""
    values = change if isinstance(change, Mapping) else change(world)
    return values if isinstance(values, Mapping) else {}


def blank(pattern: str) -> Callable[[Path], None]:
    """Paint a picture black."""

    def change(world: Path) -> None:
        file = sorted(world.glob(pattern))[0]
        with Image.open(file) as image:
            black = Image.new(image.mode, image.size)
        black.save(file)
        later(file)

    return change


def touch(pattern: str) -> Callable[[Path], None]:
    return lambda world: later(sorted(world.glob(pattern))[0])


def remove(pattern: str) -> Callable[[Path], None]:
    return lambda world: sorted(world.glob(pattern))[0].unlink()


def reword(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(world: Path) -> None:
        text = (world / file).read_text()
        assert old in text
        (world / file).write_text(text.replace(old, new, 1))

    return change


def another_layer(command: str) -> Callable[[Path], Mapping[str, Any]]:
    def change(world: Path) -> Mapping[str, Any]:
        folder = world / "ws" / command
        shutil.copytree(folder / "conv2", folder / "conv3")
        return {"layer": ("conv3",)}

    return change


def one_more(world: Path) -> None:
    first = sorted((world / "others").glob("*.png"))[0]
    shutil.copy2(first, first.with_name("zz.png"))


def move_a_part(world: Path) -> None:
    file = world / "animals" / "parts" / "part_locs.txt"
    lines = file.read_text().splitlines()
    number, part, x, y, seen = next(line for line in lines if line.endswith(" 1")).split()
    lines[lines.index(f"{number} {part} {x} {y} {seen}")] = (
        f"{number} {part} {float(x) + 1} {y} {seen}"
    )
    file.write_text("\n".join(lines) + "\n")


SHARED: dict[str, Change] = {
    "model": {"net": "other.pt"},
    "preprocess": {"mean": "0.1,0.2,0.3"},
    "quantile": {"quantile": 0.01},
    "chance": {"chance": 3},
    "seed": {"seed": 1},
    "more pictures": {"top": 3},
}
DISSECT: dict[str, Change] = {
    **SHARED,
    "layer": another_layer("dissect"),
    "image": blank("shapes/images/shapes/00000.png"),
    "image's time": touch("shapes/images/shapes/00000.png"),
    "label plane": blank("shapes/images/shapes/00000_color.png"),
    "label plane's time": touch("shapes/images/shapes/00003_part*.png"),
    "label plane gone": remove("shapes/images/shapes/00001_shape.png"),
    "names of labels": reword("shapes/label.csv", "circle", "disc"),
    "counts of labels": lambda world: (world / "shapes/c_color.csv").write_text("code\n"),
    "min_iou": {"min_iou": 0.05},
    "compat": {"compat": "ndlite"},
    "formula": {"formula": 2},
    "dtype": {"dtype": "float16"},
}
STABILITY: dict[str, Change] = {
    **SHARED,
    "layer": another_layer("stability"),
    "image": blank("animals/images/*/*.png"),
    "image's time": touch("animals/images/*/*.png"),
    "part mask": blank("animals/part_masks/*/*.png"),
    "part mask's time": touch("animals/part_masks/*/*.png"),
    "part mask gone": remove("animals/part_masks/*/*.png"),
    "part's place": move_a_part,
    "names of parts": reword("animals/parts/parts.txt", "tail", "rear"),
    "names of categories": reword("animals/classes.txt", "trunk", "nose"),
    "boxes": reword("animals/bounding_boxes.txt", "1 ", "1 1"),
    "negative changed": blank("others/*.png"),
    "negative removed": remove("others/*.png"),
    "negative added": one_more,
    "no negatives": {"negatives": None},
    "other negatives": lambda world: {"negatives": world / "shapes/images/shapes"},
    "wide": {"wide": 0.1},
    "category_by": {"category_by": "minimum"},
    "parts": {"parts": ("tail",)},
    "merge_categories": {"merge_categories": "animal"},
}
CASES = [
    *((Dissect, name) for name in DISSECT),
    *((Stability, name) for name in STABILITY),
]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda v: getattr(v, "name", v))
def test_whoever_changes_an_input_gets_new_results(
    request: pytest.FixtureRequest, kind: type[Measurement], name: str
) -> None:
    change = (DISSECT if kind is Dissect else STABILITY)[name]
    # options leave the files alone: no copy is needed
    world = request.getfixturevalue("made" if isinstance(change, Mapping) else "world")
    assert todo(kind, world, **MADE) == []
    given = {**MADE, **after(change, world)}
    assert todo(kind, world, **given) == list(given.get("layer", ("conv2",)))


def test_formulas_are_found_anew_with_another_length_or_beam_and_serve_where_none_are_asked(
    world: Path,
) -> None:
    assert todo(Dissect, world, **MADE, beam=7) == []  # of no formulas
    file = world / "ws" / "dissect" / "conv2" / "summary.json"
    made = json.loads(file.read_text())
    made["made_from"]["settings"] |= {"formula": 3, "beam": 5}
    file.write_text(json.dumps(made))
    assert todo(Dissect, world, **MADE) == todo(Dissect, world, **MADE, formula=3) == []
    for change in ({"formula": 2}, {"formula": 4}, {"formula": 3, "beam": 6}):
        assert todo(Dissect, world, **MADE, **change) == ["conv2"]


@pytest.mark.parametrize("kind", [Dissect, Stability])
def test_what_changes_no_number_redoes_nothing(world: Path, kind: type[Measurement]) -> None:
    assert todo(kind, world, chance=2, top=1) == []  # a larger result serves
    assert todo(kind, world, page=False, chance=2, top=2) == []
    assert todo(kind, world, batch_size=8, **MADE) == []
    later(world / "net.pt")
    assert todo(kind, world, **MADE) == []


@pytest.mark.parametrize("kind", [Dissect, Stability])
def test_results_that_say_nothing_of_what_they_were_made_from_are_redone(
    world: Path, kind: type[Measurement]
) -> None:
    file = world / "ws" / kind.name / "conv2" / "summary.json"
    file.write_text(file.read_text().replace('"made_from"', '"made_of"'))
    assert todo(kind, world, **MADE) == ["conv2"]


def test_p_values_that_were_pooled_otherwise_are_made_anew(world: Path) -> None:
    file = world / "ws" / "dissect" / "conv2" / "summary.json"
    made = json.loads(file.read_text())
    assert made["made_from"].pop("pooling") and todo(Dissect, world, **MADE) == []
    file.write_text(json.dumps(made))
    assert todo(Dissect, world, **MADE) == ["conv2"]
    made["made_from"]["settings"]["chance"] = 0
    file.write_text(json.dumps(made))
    assert todo(Dissect, world, **{**MADE, "chance": 0}) == []  # of none there is nothing to mend


def test_pictures_that_are_wanted_later_are_drawn_later(world: Path) -> None:
    folder = world / "ws" / "dissect" / "conv3"
    carry_out(method(Dissect, world, page=False, layer=("conv3",), **MADE))
    assert not (folder / "pictures").exists()
    numbers = (folder / "units.csv").read_bytes()
    carry_out(method(Dissect, world, layer=("conv3",), **MADE))
    assert (folder / "pictures" / "0.webp").is_file() and (folder / "detectors.png").is_file()
    assert (folder / "units.csv").read_bytes() == numbers


def test_blanked_planes_change_what_dissect_prints(world: Path) -> None:
    words = ["dissect", world / "net.pt", "-d", world / "shapes", "-l", "conv2", "-w"]
    words += [world / "ws", "--chance", 2, "--top", 2, "--json"]
    before = cnnlens(*words).json
    for plane in (world / "shapes" / "images" / "shapes").glob("*_color.png"):
        Image.new("RGB", (SIDE, SIDE)).save(plane)
    answer = cnnlens(*words)
    assert answer.code == 0 and "done before" not in answer.err
    assert answer.json["per_category"]["color"]["detectors"] == 0
    assert before["per_category"]["color"]["detectors"] > 0
    assert "done before" in cnnlens(*words).err


def test_deleted_negatives_change_the_selectivity(world: Path) -> None:
    first = method(Stability, world, **MADE)
    carry_out(first)
    for file in sorted((world / "others").glob("*.png"))[1:]:
        file.unlink()
    second = method(Stability, world, **MADE)
    carry_out(second)
    (before,), (after,) = first.summaries.values(), second.summaries.values()
    assert before["selectivity"] != after["selectivity"]
    assert before["location_instability"] == after["location_instability"]


# ---- what goes wrong costs only itself


@pytest.mark.parametrize("kind", [Dissect, Stability])
def test_layers_that_were_finished_before_an_interrupt_are_kept(
    world: Path, kind: type[Measurement]
) -> None:
    shutil.rmtree(world / "ws" / kind.name)
    names = ("conv1", "conv3")
    real = Lines.show

    def show(self: Lines, step: Step) -> None:
        real(self, step)
        if step.stage.startswith("conv3"):
            raise KeyboardInterrupt

    stopped = method(kind, world, layer=names, **MADE)
    with mock.patch.object(Lines, "show", show), pytest.raises(KeyboardInterrupt):
        carry_out(stopped)
    assert list(stopped.summaries) == ["conv1"]
    assert todo(kind, world, layer=names, **MADE) == ["conv3"]
    again = method(kind, world, layer=names, **MADE)
    carry_out(again)
    assert list(again.summaries) == list(again.result()) == list(names)
    assert list(again.document()) == ["layers"]


@pytest.mark.parametrize(
    ("store", "pattern"),
    [
        (False, "shapes/images/shapes/00000.png"),
        (True, "shapes/images/shapes/00000_color.png"),
        (False, "shapes/images/shapes/00000_color.png"),
    ],
)
def test_what_changes_while_it_is_measured_is_seen_the_next_time(
    world: Path, store: bool, pattern: str
) -> None:
    """Whether it was read before or after that."""
    wanted = {"layer": ("conv1",), "store": store, "page": False, **MADE}
    changes = [blank(pattern)]
    real = Lines.show

    def show(self: Lines, step: Step) -> None:
        real(self, step)
        if step.stage.startswith("conv1:") and step.done == step.total and changes:
            changes.pop()(world)

    with mock.patch.object(Lines, "show", show):
        carry_out(method(Dissect, world, **wanted))
    assert not changes and (world / "ws/dissect/conv1/summary.json").is_file()
    assert todo(Dissect, world, **wanted) == ["conv1"]
    carry_out(method(Dissect, world, **wanted))
    assert todo(Dissect, world, **wanted) == []


def test_a_damaged_neighbour_costs_dissect_nothing_but_the_figure_over_all(world: Path) -> None:
    (world / "ws" / "dissect" / "conv2" / "summary.json").write_text("{")
    words = ["dissect", world / "net.pt", "-d", world / "shapes", "-l", "conv3", "--chance", 2]
    answer = cnnlens(*words, "-w", world / "ws", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["layer"] == "conv3"
    assert "no figures over all layers" in answer.err and "summary.json" in answer.err
    assert "Left out: dissect/conv2/summary.json" in (world / "ws" / "report.html").read_text()


@pytest.mark.parametrize("kind", [Dissect, Stability])
def test_summaries_name_no_folder_of_the_machine(made: Path, kind: type[Measurement]) -> None:
    text = (made / "ws" / kind.name / "conv2" / "summary.json").read_text()
    assert str(made) not in text and f'"name": "{PLACE[kind.name]}"' in text


# ---- what Python gets


def test_one_layer_gives_its_result(made: Path) -> None:
    for kind, column in ((Dissect, "iou"), (Stability, "instability")):
        one = method(kind, made, **MADE)
        carry_out(one)
        found = one.result()
        assert found.name == "conv2" and getattr(found, column).shape == (64,)
        with (found.folder / "units.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == len(found)


def test_extract_gives_stores_after_an_interrupt_too(world: Path) -> None:
    shutil.rmtree(world / "ws" / "activations")
    values = {"layer": ("conv1", "conv2"), "batch_size": 4}
    real, met = Lines.show, []

    def show(self: Lines, step: Step) -> None:
        real(self, step)
        met.append(step.done)
        if len(met) == 4:  # the first says where it begins
            raise KeyboardInterrupt

    with mock.patch.object(Lines, "show", show):
        with pytest.raises(KeyboardInterrupt):
            carry_out(method(Extract, world, **values))
        whole = method(Extract, world, **values)
        carry_out(whole)
    assert met[3:5] == [12, 0]  # less than a block: it is computed again
    for name, store in whole.result().items():
        with store:
            assert whole.summaries[name]["shape"] == list(store.shape)
            assert store.shape[0] == 20 and store.has_logits
