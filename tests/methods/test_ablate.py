"""ablate: what its results depend on, its files, what is said of what cannot be taken out."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnlens.data.open import open_data
from cnnlens.data.synthetic import make_kinds
from cnnlens.errors import UsageError
from cnnlens.methods.ablate import Ablate
from cnnlens.methods.method import carry_out
from cnnlens.model.open import open_model
from cnnlens.report import net2vec_files
from cnnlens.report.ablate_files import ablations, read_ablation
from cnnlens.report.blocks import at_units
from cnnlens.report.net2vec_files import Direction
from cnnlens.report.unit_facts import facts_of
from cnnlens.study.investigation import Investigation
from tests.cli.runner import cnnlens

from .test_measurement import after, blank, method, save_net

NAMES = ["blue square", "green circle", "red circle"]
MADE = {"filter": ("conv2:0-5",), "random": 2, "top_k": "1,2", "data": "kinds"}


def ablate(world: Path, **values: Any) -> Ablate:
    values = {**MADE, **values}
    values.pop("layer", None)
    return method(Ablate, world, **{**values, "data": world / values["data"], "layer": None})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0)
    make_kinds(world / "all", 6, 24)
    for name in NAMES:
        shutil.move(world / "all" / name, world / "kinds" / name)
    carry_out(ablate(world))
    return world


def todo(world: Path, **values: Any) -> list[str]:
    one = ablate(world, **values)
    one.resolve()
    return [layer.name for layer in one.todo]


def moved(world: Path) -> None:
    """One picture becomes one of another class."""
    file = sorted((world / "kinds" / "red circle").iterdir())[0]
    file.rename(world / "kinds" / "blue square" / f"moved{file.suffix}")


CHANGES: dict[str, Mapping[str, Any] | Callable[[Path], Any]] = {
    "units": {"filter": ("conv2:0-4",)},
    "to": {"to": "zero"},
    "random": {"random": 3},
    "top_k": {"top_k": "1,3"},
    "seed": {"seed": 1},
    "preprocessing": {"mean": "0.4,0.5,0.5"},
    "class of a picture": moved,
    "picture": blank("kinds/red circle/*"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_changes_an_input_gets_new_results(world: Path, name: str) -> None:
    assert todo(world) == []
    assert todo(world, **after(CHANGES[name], world)) == ["conv2"]


def test_what_changes_no_number_redoes_nothing(world: Path) -> None:
    assert todo(world, batch_size=4, filter=("conv2:3-5", "conv2:0-2"), top_k="2,1,2") == []


def test_files_are_the_contract_s_and_read_back(made: Path) -> None:
    folder = made / "ws" / "ablate" / "conv2"
    with (folder / "units.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["unit", "class", "logit_change", "accuracy_change"]
    found = read_ablation(folder)
    assert len(rows) == 6 * 3 and len(found) == 6 and found[3].unit == 3
    for row, cells in zip(rows, found.table(), strict=True):
        assert row["class"] == cells["class"]
        assert float(row["logit_change"]) == cells["logit_change"]
    assert list(found) == found.units
    with pytest.raises(KeyError, match="unit 7 was not ablated; there are 0-5"):
        found[7]
    summary = json.loads((folder / "summary.json").read_text())
    keys = {"class", "k", "accuracy", "random_mean", "random_low", "random_high"}
    assert len(summary["curves"]) == 6 and keys <= set(summary["curves"][0])
    assert summary["images"] == 18 and summary["images_held_out"] == 9
    assert (folder / "curves.svg").exists()


def test_effects_stand_on_the_page_and_at_their_units(world: Path) -> None:
    section = ablations(world / "ws")
    assert section is not None and section.key == "ablate"
    folder = world / "ws" / "label" / "conv2"
    folder.mkdir(parents=True)
    head = "unit,label,score,runner_up,runner_up_score,chance,p_value,terms,single,single_score"
    row = '4,grass,0.9,,,0.1,0.001,"[[""grass"", 1.0]]",grass,0.9'
    (folder / "units.csv").write_text(f"{head}\n{row}\n")
    (folder / "summary.json").write_text('{"layer": "conv2"}')
    found = read_ablation(world / "ws" / "ablate" / "conv2")
    assert found[4].said.startswith("labelled grass; without it ") and not found[3].label
    facts = facts_of(world / "ws")["conv2"][4]
    assert ("without it", found[4].said.partition("without it ")[2]) in facts
    (folder / "units.csv").write_text("damaged")
    assert not read_ablation(world / "ws" / "ablate" / "conv2")[4].label
    assert ablations(world) is None


REFUSED = {
    "no units": ([], "no units were named"),
    "a position": (["-f", "conv2:1@0,0"], "named at a position"),
    "a concept": (["-f", "conv2:[a:b]"], "were not learned yet"),
    "a unit": (["-f", "conv2:99999"], "no unit 99999"),
    "sizes": (["-f", "conv2", "--top-k", "1,x"], "--top-k 1,x are no numbers of units"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_out_is_said(made: Path, tmp_path: Path, name: str) -> None:
    words, wanted = REFUSED[name]
    said = cnnlens("ablate", made / "net.pt", "-d", made / "kinds", "-w", tmp_path / "ws", *words)
    assert said.code == 2 and wanted in said.error
    assert not (tmp_path / "ws").exists()


def test_data_that_cannot_be_told_apart_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "kinds" / "red circle", tmp_path / "one" / "red circle")
    words = ("ablate", made / "net.pt", "-w", tmp_path / "ws", "-f", "conv2:0", "-d")
    said = cnnlens(*words, tmp_path / "one")
    assert said.code == 1 and "all images are of one class, red circle" in said.error
    flat = cnnlens(*words, tmp_path / "one" / "red circle")
    assert flat.code == 2 and "holds no categories" in flat.error


def test_an_image_with_a_unit_turned_up_or_down(world: Path) -> None:
    photo, other = (sorted((world / "kinds" / name).iterdir())[0] for name in NAMES[:2])
    words = {"filter": ("conv2:3,5",), "image": (photo,), "data": "kinds"}
    carry_out(ablate(world, steer=2.0, **words))
    further = {"filter": ("conv2:3",), "image": (other,)}  # called as the first, in its folder
    carry_out(ablate(world, steer=0.0, **{**words, **further}))
    folder = world / "ws" / "ablate" / "steer"
    entries = json.loads((folder / "steer.json").read_text())["pictures"]
    assert len(entries) == 3 and all((folder / one["file"]).is_file() for one in entries)
    assert len({one["file"] for one in entries}) == 3
    model = open_model(world / "net.pt")
    pixels = open_data(world / "kinds").pixels(0, model.preprocess)
    x = model.preprocess.normalize(torch.from_numpy(pixels)[None])
    for entry in (one for one in entries if one["unit"] == 3 and one["name"] == photo.stem):
        literal = literally(model.net, x, 3, entry["factor"])
        before = model.net(x)[0]
        for one in entry["classes"]:
            number = "abc".index(one["class"])
            scores = [float(before[number]), float(literal[number])]
            assert one["score"] == pytest.approx(scores, abs=1e-4)
            share = float(literal.softmax(0)[number])
            assert one["probability"][1] == pytest.approx(share, abs=1e-4)
        change = (literal - before).tolist()
        assert entry["rises"]["change"] == pytest.approx(max(change), abs=1e-4)
        assert entry["falls"]["class"] == "abc"[change.index(min(change))]
    done = ablate(world, steer=2.0, **words)
    done.resolve()
    assert done.steering is not None and not done.steering.todo
    section = ablations(world / "ws")
    assert section is not None
    shots = [shot for _, shot in at_units(section)]
    assert {shot.unit for shot in shots} == {3, 5} and len(shots) == 3


@torch.no_grad()
def literally(net: Any, x: Any, unit: int, factor: float) -> Any:
    """Scores of a picture with a unit of the second convolution, rectified, times a factor."""

    def scale(module: Any, args: Any, output: Any) -> Any:
        output = output.clone()
        output[:, unit] *= factor
        return output

    rectifiers = [module for module in net.modules() if isinstance(module, torch.nn.ReLU)]
    handle = rectifiers[1].register_forward_hook(scale)
    try:
        return net(x)[0]
    finally:
        handle.remove()


@pytest.mark.parametrize("given", [{"steer": 2.0}, {"image": True}])
def test_steering_needs_a_factor_and_an_image(made: Path, given: dict[str, Any]) -> None:
    if "image" in given:
        given = {"image": (sorted((made / "kinds" / NAMES[0]).iterdir())[0],)}
    with pytest.raises(UsageError, match="turned up or down"):
        ablate(made, **given).resolve()


def test_python_has_it_too(world: Path) -> None:
    lens = Investigation(world / "net.pt", world / "ws", quiet=True)
    found = lens.ablate(data=world / "kinds", filter="conv2:0-5", random=2, top_k=[1, 2])
    assert found[2].worst.cls in NAMES and len(found.curves) == 6
    assert len(found.table()) == 18
    assert "without" in found._repr_html_()


def test_few_images_held_out_are_said(world: Path) -> None:
    words = ("-f", "conv2:0-5", "--random", 2, "--top-k", "1,2", "--no-page", "--json")
    said = cnnlens("ablate", world / "net.pt", "-d", world / "kinds", "-w", world / "ws", *words)
    assert said.code == 0 and "conv2: done before" in said.err
    assert "3 images of red circle held out: its accuracy moves in steps of 0.17" in said.err
    assert len(said.json["curves"]) == 6


def test_it_says_what_it_takes_out(world: Path) -> None:
    for filters, wanted in (
        (("conv2:0-5",), ""),
        (("conv2:0-4",), "5 units of conv2, on 18 images"),
    ):
        one = ablate(world, filter=filters)
        one.resolve()
        assert one.plan() == wanted


def test_a_direction_is_what_results_depend_on(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = np.zeros(64, np.float32)
    vector[3] = 1
    known = Direction("part:hair", "concept-part_hair", vector)
    monkeypatch.setattr(net2vec_files, "read_direction", lambda *_: known)
    named = {"filter": ("conv2:3", "conv2:[part:hair]")}
    carry_out(ablate(world, **named))
    assert todo(world, **named) == []
    found = read_ablation(world / "ws" / "ablate" / "conv2")
    (concept,) = found.concepts
    assert concept.concept == "part:hair" and len(concept.table()) == 3
    for alone, unit in zip(concept.effects, found[3].effects, strict=True):  # it is unit 3
        assert alone.logit_change == pytest.approx(unit.logit_change, abs=1e-5)
    section = ablations(world / "ws")
    assert section is not None and "part:hair" in str(section.parts[0].blocks)
    known = known._replace(vector=np.roll(vector, 1))
    assert todo(world, **named) == ["conv2"]
