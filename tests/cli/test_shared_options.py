"""Options that every command takes, so that a script may give them to all."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cnnlens.cli.options import signature
from cnnlens.methods import methods
from cnnlens.methods.method import SHARED

from .runner import cnnlens

GIVEN = ("--device", "cpu", "--batch-size", 4, "--workers", 1, "--seed", 3)
OPENING = [name for name, method in methods().items() if method.opens_model]


@pytest.mark.parametrize("name", OPENING)
def test_a_command_has_each_of_them_once(name: str) -> None:
    names = [one.name for one in signature(methods()[name])]
    assert {one: names.count(one) for one in SHARED} == dict.fromkeys(SHARED, 1)


@pytest.mark.parametrize(
    "words",
    [
        "layers",
        "cam --method gradcam -i cat.png",
        "deconv -f conv2:1 -i cat.png",
        "fool -i cat.png --steps 1",
        "style --content cat.png --style dog.png --steps 1 --content-layer conv1 "
        "--style-layer conv2",
    ],
)
def test_they_are_taken_where_nothing_depends_on_them(
    words: str, model: Path, tmp_path: Path
) -> None:
    for name, colour in (("cat", "red"), ("dog", "blue")):
        Image.new("RGB", (24, 24), colour).save(tmp_path / f"{name}.png")
    command, *more = words.split()
    answer = cnnlens(command, model, *more, *GIVEN, "-w", tmp_path / "ws")
    assert answer.code == 0, answer.err
    wrong = cnnlens(command, model, *more, "--workers", -1, "-w", tmp_path / "ws")
    assert wrong.code == 2 and "--workers" in wrong.err


def test_help_says_what_nothing_depends_on() -> None:
    said = " ".join(cnnlens("style", "--help").out.split())
    assert said.count("nothing here depends on it") == 2  # the batch size, the workers
