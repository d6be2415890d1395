"""`cnnlens layers` lists vectors, too, and says which commands take them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnlens.data.animals import make_animals
from cnnlens.methods import methods
from cnnlens.methods.method import Method, inputs_of

from .runner import cnnlens

PAGE = Path(__file__).parents[2] / "docs" / "layers-and-units.md"


def test_vectors_are_listed_with_those_who_take_them(model: Path, tmp_path: Path) -> None:
    found = cnnlens("layers", model, "-w", tmp_path / "ws", "--json").json
    head = found[-1]
    assert (head["name"], head["units"], head["size"]) == ("fc", 3, [1, 1]) and head["vector"]
    said = cnnlens("layers", model, "-w", tmp_path / "ws")
    (line,) = [line for line in said.out.splitlines() if line.startswith("fc ")]
    assert line.split() == ["fc", "Linear", "3", "vector"]
    assert f"go in {', '.join(takers())}" in said.err


def takers() -> list[str]:
    return [name for name, method in methods().items() if method.vectors]


def test_those_who_take_vectors_are_the_documented_ones() -> None:
    (said,) = re.findall(r"^Vectors \([^)]*\) go in (.*?)\.", PAGE.read_text(), re.M | re.S)
    assert re.findall(r"`(\w+)`", said) == takers()


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_animals(tmp_path_factory.mktemp("layers") / "animals", 12, 32)


def _of_layers(method: type[Method]) -> bool:
    asked = {field.keyword for field in inputs_of(method)}
    return method.opens_model and bool({"layer", "filter"} & asked)


@pytest.mark.parametrize("name", [name for name, one in methods().items() if _of_layers(one)])
def test_every_command_takes_vectors_or_says_that_it_needs_maps(
    name: str, model: Path, shapes: Path, animals: Path, tmp_path: Path
) -> None:
    asked = {field.keyword for field in inputs_of(methods()[name])}
    words: list[object] = ["-f", "fc:0"] if "filter" in asked else ["-l", "fc"]
    data = shapes if name in ("dissect", "net2vec") else animals
    words += ["-d", data] * ("data" in asked and name != "visualize")
    image = shapes / "images/shapes/00000.png"
    words += ["-i", image] * (name in ("cam", "invert", "fool", "explain"))
    words += ["--target", "a"] * (name == "fool") + ["--method", "gradcam"] * (name == "cam")
    words += ["--out", tmp_path / "new.pt"] * (name == "finetune")
    answer = cnnlens(name, model, "-w", tmp_path / "ws", *words)
    needs_maps = "gives no map" in answer.err or "needs maps" in answer.err
    assert needs_maps is not methods()[name].vectors, answer.err
    assert answer.code == 2 or not needs_maps
