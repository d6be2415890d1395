"""Ctrl-C and kills at any moment: whole files stay, nothing else, and it resumes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from cnnlens.cli import app
from cnnlens.progress import Step
from cnnlens.voice import Lines
from tests import warm

from .conftest import SIDE
from .runner import cnnlens, environment, files, leftovers, process, sound, warm_process

# a stage of dissect, and at which of its reports Ctrl-C comes
MOMENTS = [
    ("extracting", 1),
    ("extracting", 2),
    ("thresholds", 1),
    ("labels", 1),
    ("counting", 1),
    ("pictures", 1),
]


def numbers(workspace: Path, layer: str = "conv2") -> dict[str, bytes]:
    return files(workspace / "dissect" / layer)


@pytest.fixture(scope="module")
def without_pictures(model, shapes, tmp_path_factory) -> Path:
    """A workspace that nobody may change, dissected without a page and what it alone needs."""
    path = tmp_path_factory.mktemp("without")
    given = ["dissect", model, "-d", shapes, "-l", "conv2", "-w", path, "--chance", 2, "--no-page"]
    assert cnnlens(*given).code == 0
    return path


@pytest.mark.parametrize(("stage", "times"), MOMENTS)
@pytest.mark.parametrize("stores", [["--store"], ["--no-store"]])
def test_ctrl_c_in_every_stage(
    dissected, without_pictures, tmp_path, model, shapes, stage, times, stores
):
    if stage == "extracting" and stores == ["--no-store"]:
        pytest.skip("nothing is extracted")
    given = ["dissect", model, "-d", shapes, "-l", "conv2", "-w", tmp_path, "--chance", 2, *stores]
    given += [] if stage == "pictures" else ["--no-page"]
    real, met = Lines.show, []

    def show(self: Lines, step: Step) -> None:
        real(self, step)
        if step.stage.endswith(stage):
            met.append(step.done)
            if len(met) == times:
                raise KeyboardInterrupt

    with mock.patch.object(Lines, "show", show):
        answer = cnnlens(*given)
    assert len(met) == times
    assert (answer.code, answer.out) == (130, "")
    assert "interrupted" in answer.error and "resumes" in answer.err
    sound(tmp_path)
    assert cnnlens(*given).code == 0
    assert numbers(tmp_path) == numbers(dissected if stage == "pictures" else without_pictures)
    sound(tmp_path)


TABLES = ("write_units", "concepts_of", "_write_scores", "top_of")
WRITERS = [*(f"report.dissect_files.{name}" for name in TABLES), "files.write_json"]


@pytest.mark.parametrize("writer", WRITERS)
def test_ctrl_c_while_tables_are_written_keeps_the_earlier_ones(workspace, writer):
    before = numbers(workspace)
    with mock.patch(f"cnnlens.{writer}", side_effect=KeyboardInterrupt):
        answer = cnnlens("dissect", "-w", workspace, "--chance", 1)
    assert answer.code == 130
    assert numbers(workspace) == before
    sound(workspace)


def test_ctrl_c_between_the_two_renames_keeps_the_earlier_results(workspace):
    before = numbers(workspace)
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp") and self.is_dir():
            raise KeyboardInterrupt
        return real(self, target)

    with mock.patch.object(Path, "rename", rename):
        assert cnnlens("dissect", "-w", workspace, "--chance", 1).code == 130
    assert numbers(workspace) == before
    sound(workspace)


# ---- signals, to a process of its own that waits at a known place

NETS = """
import os, time
import torch
from torch import nn

calls = 0

class Net(nn.Sequential):
    def forward(self, x):
        global calls
        if len(x) > 1:  # not when the layers are found
            calls += 1
        if calls == int(os.environ.get("HANG_AT", "-1")):
            open(os.environ["HANGS"], "w").close()
            time.sleep(200)
        return super().forward(x)

def net():
    torch.manual_seed(0)
    return Net(nn.Conv2d(3, 4, 3), nn.ReLU())
"""


@pytest.fixture(scope="module")
def anywhere(shapes, tmp_path_factory) -> list:
    """A command, but for its workspace."""
    nets = tmp_path_factory.mktemp("nets") / "nets.py"
    nets.write_text(NETS)
    given = ["-d", shapes, "--image-size", SIDE, "--chance", 1, "--batch-size", 8, "--no-page"]
    return ["dissect", f"{nets}:net", *given, "-w"]


@pytest.fixture
def slow(anywhere, tmp_path) -> list:
    return [*anywhere, tmp_path / "ws"]


@pytest.fixture(scope="module")
def fresh(anywhere, tmp_path_factory) -> dict[str, bytes]:
    """What it gives where nothing interrupts it."""
    workspace = tmp_path_factory.mktemp("fresh")
    assert cnnlens(*anywhere, workspace).code == 0
    return numbers(workspace, "last")


@contextlib.contextmanager
def hanging(given: list, tmp_path: Path, call: int = 7):
    """Yield a run that hangs in the `call`-th batch of 8: block 1 of 32 images is on disk then."""
    mark = tmp_path / "hangs"
    env = environment(HANG_AT=str(call), HANGS=str(mark))
    run = warm.Process(warm.command, tuple(given), env)
    try:
        deadline = time.monotonic() + 120
        while not mark.exists():
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield run
    finally:
        run.kill()
        run.communicate()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_signals_while_extracting(slow, fresh, tmp_path, number, status):
    with hanging(slow, tmp_path) as run:
        run.send_signal(number)
        out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (status, "")
    assert "Traceback" not in err
    if number != signal.SIGKILL:
        assert "error: interrupted" in err
        assert leftovers(tmp_path) == []
    assert len(list(tmp_path.glob("ws/activations/shapes/.*.parts/*.h5"))) >= 1
    assert not list(tmp_path.glob("ws/activations/shapes/*.h5"))

    resumed = cnnlens(*slow)
    assert resumed.code == 0, resumed.err
    assert leftovers(tmp_path) == []
    assert not list(tmp_path.glob("ws/activations/shapes/.*.parts"))
    assert numbers(tmp_path / "ws", "last") == fresh


ODD = """
import os, signal, time
from pathlib import Path

def end():
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass

class Deaf:
    def __del__(self):  # what is raised here goes nowhere
        end()

def deaf():
    Deaf()
    time.sleep(100)

def busy():
    try:
        end()
    finally:  # tidying up is left in peace
        time.sleep(2.5)
        Path(__file__).with_name("tidy").touch()
"""


@pytest.mark.parametrize("name", ["deaf", "busy"])
def test_a_signal_that_a_destructor_swallows_ends_it_and_tidying_up_is_not_disturbed(
    tmp_path, name
):
    (tmp_path / "odd.py").write_text(ODD)
    began = time.monotonic()
    run = warm.Process(warm.command, ("layers", f"{tmp_path / 'odd.py'}:{name}"), environment())
    out, err = run.communicate(timeout=60)
    assert time.monotonic() - began < 50
    assert (run.returncode, out) == (143, "")
    assert err.splitlines()[0] == "error: interrupted" and "Traceback" not in err
    assert "Exception ignored" not in err
    assert (tmp_path / "tidy").exists() == (name == "busy")


def test_two_at_once(slow, tmp_path):
    with hanging(slow, tmp_path) as run:
        second = cnnlens(*slow)
        assert second.code == 1
        assert "being written by another process" in second.error
        assert run.poll() is None
    assert cnnlens(*slow).code == 0  # the first was killed: its lock is gone


def test_an_interrupt_that_other_code_turns_into_an_error_is_still_one(tmp_path, shapes):
    (tmp_path / "nets.py").write_text(
        "import os, signal\n"
        "def net():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException:\n"
        "        raise ImportError('cannot load module more than once per process')\n"
    )
    answer = warm_process("layers", f"{tmp_path / 'nets.py'}:net", "-w", tmp_path / "ws")
    assert (answer.code, answer.out) == (130, "")
    assert "interrupted" in answer.error


def test_ctrl_c_while_loading_ends_quietly(tmp_path):
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    answer = process("--help", PYTHONPATH=path)
    assert (answer.code, answer.out, answer.err) == (130, "", "")


def test_what_is_told_to_end_while_it_parts_from_others_ends_with_its_own_status(monkeypatch):
    def told() -> None:
        raise app.Terminated(signal.SIGTERM)

    monkeypatch.setattr(app, "leave", told)
    monkeypatch.setattr(app, "_listen", lambda: None)
    monkeypatch.setattr(sys, "argv", ["cnnlens", "--version"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 0
