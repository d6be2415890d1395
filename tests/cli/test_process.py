"""What a shell sees: exit statuses, two streams, pipes, terminals."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
import warnings
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from cnnlens.cli import app
from cnnlens.data.decode import load_image
from tests import warm

from .runner import cnnlens, command, environment, process, warm_process

ESCAPE = "\x1b"


def test_version_and_help_by_both_names():
    assert re.fullmatch(r"cnnlens \d+\.\d+[\w.+]*\n", process("--version").out)
    answer = process("--help")
    assert answer.code == 0 and answer.err == ""
    assert answer.out.startswith("Usage: cnnlens ")
    assert process("-h").out == answer.out
    script = (
        "import sys; sys.argv = ['cnnlens', '--version']; from cnnlens.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("cnnlens ")


BORROWED = ("numbers", "random", "types", "typing", "collections", "torch", "difflib", "pathlib")


def not_mine(folder: Path) -> None:
    for name in BORROWED:
        (folder / f"{name}.py").write_text("raise SystemExit('a file of the user')")


def test_files_beside_images_are_no_modules_of_python(tmp_path):
    """Nor where Python is told to look for none there (without that: the next test)."""
    not_mine(tmp_path)
    words = [sys.executable, "-P", "-m", "cnnlens", "layers", "zoo:demo_net", "--json"]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=tmp_path, env=environment(CNNLENS_WORKSPACE="w")
    )
    assert done.returncode == 0 and json.loads(done.stdout), done.stderr


def test_factories_beside_images_are_found_all_the_same(tmp_path, monkeypatch):
    not_mine(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nimport beside\n\n"
        "def make():\n    return nn.Sequential(nn.Conv2d(3, beside.WIDTH, 3))\n"
    )
    (tmp_path / "beside.py").write_text("WIDTH = 5")
    monkeypatch.chdir(tmp_path)
    for factory, start in (("mine.py:make", warm_process), ("mine:make", process)):
        answer = start("layers", factory, "--json")
        assert answer.code == 0 and answer.json[0]["units"] == 5, answer.err


def test_results_and_notes_on_their_own_streams(workspace):
    answer = warm_process("dissect", "-w", workspace, "--chance", 2)
    assert answer.code == 0
    assert "conv2: best units" in answer.out and "report.html" in answer.out
    assert "best units" not in answer.err
    assert answer.err.splitlines()[0].startswith("zoo:demo_net: input 24×24")
    assert ESCAPE not in answer.out + answer.err
    assert all(line == line.rstrip() for line in answer.out.splitlines())


def test_json_holds_where_standard_output_is_not_unicode(workspace):
    ws = workspace.rename(workspace.with_name("Übung ×"))
    plain = warm_process("report", "-w", ws, "--json")
    assert json.loads(plain.out)["page"] == str(ws / "report.html")
    assert "Übung ×" in plain.out
    answer = warm_process("report", "-w", ws, "--json", PYTHONIOENCODING="ascii")
    assert answer.json == plain.json and answer.out.isascii()
    answer = warm_process("report", "-w", ws, PYTHONIOENCODING="ascii")
    assert answer.code == 0 and "report.html" in answer.out


def test_quiet_says_nothing(workspace):
    answer = cnnlens("dissect", "-w", workspace, "--chance", 1, "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    answer = cnnlens("dissect", "-w", workspace, "-l", "nothing", "-q")
    assert answer.code == 2 and answer.error  # errors are said all the same
    answer = cnnlens("dissect", "-w", workspace, "--chance", 1, "-q", "--json")
    assert answer.err == "" and answer.json["layer"] == "conv2"


def test_debug_shows_where(workspace):
    (workspace / "workspace.json").write_text("{")
    assert "Traceback" not in warm_process("report", "-w", workspace).err
    for words in (["--debug", "report"], ["report", "--debug"]):
        answer = warm_process(*words, "-w", workspace)
        assert answer.code == 1 and "Traceback" in answer.err


LISTS = [["data", "list"], ["data", "list", "--json"], ["--help"]]


@pytest.mark.parametrize("words", LISTS)
def test_reader_that_stops_early_is_no_error(words):
    run = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    run.stdout.close()  # before a word was written
    err = run.stderr.read().decode()
    assert (run.wait(60), err) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", LISTS)
def test_output_that_cannot_be_written(words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*words), stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write: no space left")
    assert len(done.stderr.splitlines()) == 2


DEAF = ["2>&-", pytest.param("2>/dev/full", marks=pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full"))]  # fmt: skip


@pytest.mark.parametrize("deaf", DEAF)
@pytest.mark.parametrize(("name", "code"), [("zoo:demo_net", 0), ("zoo:demo_nett", 2)])
def test_what_nobody_can_hear_changes_no_result(tmp_path, deaf, name, code):
    """Notes, and an error's words, that standard error does not take."""
    words = command("layers", name, "-w", tmp_path / "ws")
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {deaf}', "sh", *words], stdout=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == code
    assert ("conv1" in done.stdout) == (code == 0) == (tmp_path / "ws").exists()


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    script = "import cnnlens.__main__ as m; m._occupy(); print(open('x', 'w').fileno())"
    words = ["sh", "-c", 'exec "$@" 2>&- <&-', "sh", sys.executable, "-c", script]
    done = subprocess.run(words, stdout=subprocess.PIPE, cwd=tmp_path, env=environment())
    assert int(done.stdout) > 2


def terminal(*words: object, **env: str) -> tuple[int, str]:
    """Run a command on a terminal of its own."""
    pty = pytest.importorskip("pty")
    mine, its = pty.openpty()
    env = environment(TERM="xterm-256color", COLUMNS="100", **env)
    run = warm.Process(warm.command, words, env, (its, its, its))
    os.close(its)
    shown = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([mine], [], [], 0.5)[0]:
            continue
        try:
            part = os.read(mine, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(mine)
    return run.wait(60), shown.decode()


def test_terminal_gets_bars_and_colours(workspace):
    code, shown = terminal("dissect", "-w", workspace, "--chance", 1)
    assert code == 0
    assert ESCAPE in shown and "conv2: counting" in shown


def test_no_color_is_honoured(tmp_path):
    style = re.compile(r"\x1b\[[0-9;]*m")
    code, shown = terminal("report", "-w", tmp_path)
    assert code == 1 and style.search(shown)
    code, shown = terminal("report", "-w", tmp_path, NO_COLOR="1")
    assert code == 1 and not style.search(shown)
    making = ["data", "make", "shapes", "--images", 40]
    colour = re.compile(r"\x1b\[(?:[0-9]+;)*[349][0-9]")
    _, shown = terminal(*making, "--out", tmp_path / "a")
    assert "drawing" in shown and colour.search(shown)
    _, shown = terminal(*making, "--out", tmp_path / "b", NO_COLOR="1")
    assert "drawing" in shown and not colour.search(shown)


def test_forced_colours_do_not_reach_a_pipe(tmp_path):
    answer = process("data", "list", FORCE_COLOR="1", CLICOLOR_FORCE="1")
    assert answer.code == 0 and ESCAPE not in answer.out + answer.err
    answer = warm_process("report", "-w", tmp_path, FORCE_COLOR="1", CLICOLOR_FORCE="1")
    assert answer.code == 1 and ESCAPE not in answer.out + answer.err


@pytest.mark.parametrize(
    ("module", "heard"),
    [("sklearn.linear_model._coordinate_descent", False), ("torch.nn", False), ("mine", True)],
)
def test_only_a_users_own_code_warns(monkeypatch, module, heard):
    monkeypatch.setattr(app, "_listen", lambda: None)
    monkeypatch.setattr(
        app, "_run", lambda *given: warnings.warn_explicit("odd", UserWarning, "x.py", 1, module)
    )
    monkeypatch.setattr(sys, "argv", ["cnnlens"])
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as said, pytest.raises(SystemExit):
        warnings.simplefilter("always")
        app.main()
    assert bool(said) == heard


def test_hdfs_without_a_host_keeps_that_it_has_none(monkeypatch):
    heard = []
    monkeypatch.setattr(app, "_listen", lambda: None)
    monkeypatch.setattr(app, "_run", lambda arguments, debug: heard.extend(arguments) or 0)
    places = ["hdfs:///photos", "--data=hdfs:///photos", "hdfs://host/photos"]
    monkeypatch.setattr(sys, "argv", ["cnnlens", *places])
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        app.main()
    assert heard == ["hdfs://default/photos", "--data=hdfs://default/photos", "hdfs://host/photos"]


PIXELS = 700  # more than these Pillow warns of; more than twice as many it refuses


def of_few_pixels(*words: object) -> None:
    """A command, for which pictures are large early."""
    Image.MAX_IMAGE_PIXELS = PIXELS
    warm.command(*words)


def test_warnings_of_libraries_stay_inside(tmp_path, model, monkeypatch):
    """Pictures that make Pillow warn: a broken EXIF block, and more pixels than it likes."""
    photos = tmp_path / "photos"
    photos.mkdir()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0" * 2
    Image.new("RGB", (20, 20)).save(photos / "a.jpg", exif=exif)
    Image.new("1", (40, 30), 1).save(photos / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PIXELS)
    for photo in photos.iterdir():
        with pytest.warns(Warning):
            load_image(photo)
    words = ("extract", model, "-d", photos, "-l", "conv3", "-w", tmp_path / "ws")
    answer = warm.run(of_few_pixels, *words, env=environment())
    assert answer.returncode == 0
    ours = ("zoo:", "extracting: ", "conv3: ")  # and progress, where it takes long
    assert [line for line in answer.stderr.splitlines() if not line.startswith(ours)] == []


# ---- data


def test_data_list_make_check(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
    listed = cnnlens("data", "list", "--json").json
    assert listed["home"] == str(tmp_path / "home")
    assert "broden" in [row["name"] for row in listed["datasets"]]
    assert all(row["path"] is None for row in listed["datasets"])
    assert "shapes" in listed["made"]
    out = cnnlens("data", "list").out
    assert "broden" in out and "not downloaded" in out

    monkeypatch.chdir(tmp_path)
    made = cnnlens("data", "make", "shapes", "--images", 5, "--size", 24, "--json")
    assert made.json["images"] == 5 and (tmp_path / "shapes" / "index.csv").exists()
    index = (tmp_path / "shapes" / "index.csv").read_bytes()
    again = cnnlens("data", "make", "shapes", "--images", 5)
    assert again.code == 1 and "not empty" in again.error and "--force" in again.err
    assert (tmp_path / "shapes" / "index.csv").read_bytes() == index
    assert cnnlens("data", "make", "shapes", "--images", 6, "--force", "-q").out == ""
    assert (tmp_path / "shapes" / "index.csv").read_bytes() != index

    assert cnnlens("data", "check", "shapes").code == 0
    (tmp_path / "shapes" / "images" / "shapes" / "00001.png").write_bytes(b"")
    found = cnnlens("data", "check", "shapes", "--json")
    assert found.code == 1 and "problem" in found.error
    assert "00001.png" in json.dumps(found.json)
    shown = cnnlens("data", "check", "shapes")
    assert shown.code == 1 and "00001.png" in shown.out
    assert cnnlens("data", "check", tmp_path / "nothing").code == 2
    fsspec.filesystem("memory").pipe_file("/checked/1.png", b"no picture")
    answer = cnnlens("data", "check", "memory://checked")
    assert answer.error == "error: memory://checked has 1 problem(s)"


def test_data_download_that_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
    answer = cnnlens("data", "download", "nothing")
    assert answer.code == 2 and "nothing" in answer.error
    gone = f"file://{tmp_path / 'gone.zip'}"
    answer = cnnlens("data", "download", "broden1_227", "--url", gone)
    assert answer.code in (1, 2) and answer.error and answer.out == ""
    assert not [p for p in (tmp_path / "home").rglob("*") if p.name == "index.csv"]


def test_data_home_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
    answer = cnnlens("data", "list", "--json")
    assert answer.code == 0
    answer = cnnlens("data", "download", "broden1_227", "--url", "http://127.0.0.1:9/none.zip")
    assert answer.code == 1 and answer.error
