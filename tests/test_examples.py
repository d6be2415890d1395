from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnlens.data.synthetic import make_shapes
from tests import warm
from tests.cli.runner import cnnlens

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", 45)


def run(script: str, *words: object) -> str:
    done = warm.run(warm.script, EXAMPLES / script, *words, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shell_session_runs(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", EXAMPLES / "session.sh"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "no problems" in out
    assert "33 detectors" in out
    assert Path(out.rsplit("page: ", 1)[1].strip()).is_file()


def test_dissecting_from_python_prints_what_the_command_line_finds(shapes, tmp_path):
    out = run("dissect.py", "zoo:demo_net", shapes, "conv2")
    command = ["dissect", "zoo:demo_net", "-d", shapes, "-l", "conv2", "-w", tmp_path]
    table = cnnlens(*command, "--chance", 5, "--no-page").out
    best = next(line.split() for line in table.splitlines() if line.split()[:1] == ["unit"])
    assert best[:2] == ["unit", "label"]
    first = table.splitlines()[2].split()
    assert f"unit {first[0]}: {first[1]}" in out.splitlines()[1]


def test_a_store_is_read_without_cnnlens(shapes, tmp_path):
    command = ["extract", "zoo:demo_net", "-d", shapes, "-l", "conv2", "-w", tmp_path, "-q"]
    assert cnnlens(*command).code == 0
    store = tmp_path / "activations" / "shapes" / "conv2.h5"
    lines = run("read_store.py", store, 3).splitlines()
    assert len(lines) == 5
    assert all(line.split()[1].startswith("images/shapes/") for line in lines)
    peaks = [float(line.split()[0]) for line in lines]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] > 0


def test_the_factory_opens_and_every_convolution_is_found(tmp_path):
    spec = f"{EXAMPLES / 'cifar_resnet18.py'}:make"
    out = cnnlens("layers", spec, "--image-size", 32, "-w", tmp_path).out
    last = [line.split() for line in out.splitlines() if " conv20 " in line]
    assert last[0][0] == "layer4.1.bn2"  # 1 stem, 16 in blocks, 3 shortcuts
    assert "4×4" in last[0]


def test_concept_groups_on_shapes_resume_and_end_in_the_papers_table(tmp_path):
    small = ["--images", 1, "--measure", 1, "--seeds", 0, "--variants", "untrained", "all"]
    command = ["cgl_shapes.py", "--out", tmp_path, *small]
    table = run(*command)
    assert "| all | conv2 |" in table and "| 14 |" in table
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed0_*")}
    assert len(made) == 4  # a checkpoint and its numbers each
    assert run(*command) == table
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed0_*")} == made


def test_an_interpretable_network_on_animals_is_held_against_five_criteria(tmp_path):
    small = ["--images", 60, "--measured", 60, "--base-epochs", 1, "--epochs", 1, "--seeds", 0]
    out = run("icnn_animals.py", "--out", tmp_path, *small)
    lines = [line for line in out.splitlines() if line[:4] in ("pass", "FAIL")]
    assert [line[6:].split(" (")[0] for line in lines] == [
        "instability falls", "selectivity rises", "centre distance does not shrink",
        "dead units do not grow", "accuracy within 3 points",
    ]  # fmt: skip
    document = json.loads((tmp_path / "icnn_animals.json").read_text())
    assert [one["method"] for one in document["runs"]] == ["none", "icnn"]
    for one, line in zip(document["criteria"].values(), lines, strict=True):
        assert line.startswith("pass" if one else "FAIL")
    for name in ("none", "icnn"):
        assert (tmp_path / f"{name}_seed0.pt").is_file()


def test_the_scores_that_exam_offers_notice_a_label_that_is_half_wrong():
    rows = [line.rsplit(maxsplit=3) for line in run("sanity.py").splitlines()]
    verdicts = {name.strip(): verdict for name, _, _, verdict in rows[1:]}
    passed = {name for name, verdict in verdicts.items() if verdict == "passes"}
    assert passed == {"correlation", "average precision", "iou", "f1", "cosine"}
    assert {"AUC", "MAD", "WPMI", "recall"} <= set(verdicts) - passed
