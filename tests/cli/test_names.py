"""Files and folders may be called anything: through every command, into every file."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.report.sheet import Text, cut, sheet

from .photos import write_nets
from .runner import cnnlens, leftovers

FOLDERS = ("日本" * 20, 'a\n"b"', "<b>&", " lead", os.fsdecode(b"caf\xe9-\xff"))
FILES = ("x" * 246, "n\new", "q\"'", os.fsdecode(b"\xff\xfe"))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("names") / "photos"
    rng = np.random.default_rng(0)
    for number, folder in enumerate(FOLDERS):
        (root / folder).mkdir(parents=True)
        for name in (FILES[number % 4], FILES[(number + 1) % 4]):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{name}.png")
    return root


def test_strange_names_go_through_every_command_and_into_every_file(
    strange: Path, tmp_path: Path
) -> None:
    data, given, layer = ("-d", strange), ("-i", strange), ("-l", "conv1")
    lines = (
        ("extract", f"{write_nets(tmp_path)}:rgb", "--image-size", 40, *data, *layer),
        ("cluster", *data, *layer, "--bootstrap", 2, "--only", "filters", "--no-page"),
        ("cluster", *data, *layer, "--bootstrap", 2, "--only", "categories", "--no-page"),
        ("cam", *given, "--method", "gradcam", *layer, "--no-page"),
        ("deconv", "-f", "conv1:0", *data, "--no-page"),
        ("invert", *given, *layer, "--steps", 1, "--no-page"),
        ("visualize", "-f", "conv1:0", "--steps", 1, "--no-page"),
        ("explain", "-i", strange / FOLDERS[0], "--class", "<b>&", *layer, "--no-page"),
        ("report",),
    )
    for line in lines:
        answer = cnnlens(*line, "-w", tmp_path / "ws")
        assert answer.code == 0, (line, answer.err)
    written = [path for path in (tmp_path / "ws").rglob("*") if path.is_file()]
    assert not leftovers(tmp_path / "ws")
    assert max(len(os.fsencode(path.name)) for path in written) <= 255
    for path in written:
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                assert len({len(row) for row in csv.reader(file)}) == 1, path
        if path.suffix in (".html", ".nwk"):
            path.read_text("utf-8")
    known = json.loads((tmp_path / "ws" / "cam" / "cam.json").read_text("utf-8"))["pictures"]
    assert len({entry["file"] for entry in known}) == 2 * len(FOLDERS)
    assert all((tmp_path / "ws" / "cam" / entry["file"]).is_file() for entry in known)


def test_a_name_of_several_lines_is_drawn_on_one() -> None:
    assert cut("new\nline", 500) == "new line"
    sheet(Text("a\nb", right="c\nd", wide=200))  # the letters' layout fails on a new line
