"""Several processes that share a run over gloo end with the files of one, whatever befalls them.

Most are forked; one test has torchrun itself start them.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import distributed

from cnnlens.data.open import open_data
from tests import warm

from .runner import cnnlens, environment, files
from .test_shards import results
from .together import end, start

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="needs gloo")


@pytest.fixture(scope="module")
def damaged(shapes, tmp_path_factory) -> Path:
    """The same images, two of which cannot be read."""
    root = Path(shutil.copytree(shapes, tmp_path_factory.mktemp("damaged") / "shapes"))
    images = open_data(root)
    for path in (images.root / images.paths[number] for number in (3, 40)):
        path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return root


CHORES = {
    "extract": "extract -l conv1 -l conv2",
    "units": "units -l conv1 -l conv2 --no-store",
    "stored": "dissect -l conv2 --chance 2",
    "streamed": "dissect -l conv1 -l conv2 --chance 2 --formula 2 --no-store",
    "without shuffles": "dissect -l conv2 --chance 0 --no-store --compat ndlite --no-page",
}
RUNS = [
    (2, "extract"),
    (3, "units"),
    (3, "stored"),
    (5, "streamed"),  # over three blocks
    (2, "without shuffles"),
]


@pytest.mark.parametrize(("count", "chore"), RUNS)
def test_processes_that_share_a_run_end_as_one(model, damaged, tmp_path, count, chore):
    command, *options = CHORES[chore].split()
    words = (command, model, "-d", damaged, *options, "--json", "-w")
    alone = cnnlens(*words, tmp_path / "one")
    assert alone.code == 0, alone.err
    found = end(start(count, *words, tmp_path / "many"))
    assert [code for code, *_ in found] == [0] * count, found
    assert json.loads(found[0][1].replace("/many/", "/one/")) == alone.json
    assert all(out == err == "" for _, out, err in found[1:])  # one speaks
    assert results(tmp_path / "many") == results(tmp_path / "one")
    assert found[0][2].count("skipped ") == alone.err.count("skipped ") == 2


def blocks(workspace: Path) -> int:
    return len(list(workspace.glob("activations/*/.*.parts/*.h5")))


@pytest.mark.parametrize("victim", [0, 2])
def test_after_a_kill_any_number_of_processes_goes_on(model, tmp_path, photos, whole, victim):
    words = ("extract", model, "-d", photos, "-l", "conv2", "--no-units", "-w", tmp_path)
    running = start(3, *words, "--batch-size", 1, "--workers", 1)
    until = time.monotonic() + 120
    while not blocks(tmp_path) and time.monotonic() < until:
        time.sleep(0.005)
    running[victim].kill()
    found = end(running)
    assert found[victim][0] == -9
    for number, (code, out, err) in enumerate(found):
        if number != victim:
            assert (code, out) == (1, "") and "Traceback" not in err, err
    said = [line for *_, err in found for line in err.splitlines() if line.startswith("error: ")]
    assert said == ["error: another process of this run has ended"]
    assert 0 < blocks(tmp_path) < 14
    done = end(start(2, *words, "--batch-size", 1))
    assert [code for code, *_ in done] == [0, 0], done
    assert results(tmp_path) == whole
    assert not list(tmp_path.rglob("*.parts"))


@pytest.fixture(scope="module")
def photos(shapes, tmp_path_factory) -> Path:
    """Fourteen blocks of images."""
    root = tmp_path_factory.mktemp("photos") / "photos"
    root.mkdir()
    images = open_data(shapes)
    for copy in range(14):
        for path in (images.root / name for name in images.paths[:32]):
            shutil.copy(path, root / f"{copy}-{path.name}")
    return root


@pytest.fixture(scope="module")
def whole(model, photos, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    words = ("extract", model, "-d", photos, "-l", "conv2", "--no-units", "-w", folder)
    done = cnnlens(*words, "--batch-size", 1)
    assert done.code == 0, done.err
    return results(folder)


def test_what_fails_in_one_process_is_said_once_and_ends_all(model, photos, tmp_path):
    """Here in all, and in no order: whoever meets it first has the word."""
    bad = tmp_path / "photos"
    shutil.copytree(photos, bad)
    for number, path in enumerate(sorted(bad.iterdir())):
        if number % 3:
            path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    words = ("extract", model, "-d", bad, "-l", "conv2", "-w", tmp_path / "ws")
    found = end(start(3, *words))
    assert [code for code, *_ in found] == [1, 1, 1], found
    (said,) = [line for *_, err in found for line in err.splitlines() if "error: " in line]
    assert "images cannot be used" in said


@pytest.mark.parametrize("other", ["image", "network"])
def test_processes_that_see_other_files_are_told(model, photos, tmp_path, other):
    """Of a disk of each machine's own, say, or where a copy is not complete yet."""
    there = [tmp_path / name for name in ("a", "b")]
    for folder in there:
        shutil.copytree(photos, folder / "photos")
        shutil.copy(model, folder / "net.pt")
    if other == "image":
        next((there[1] / "photos").iterdir()).unlink()
    else:
        changed = torch.load(model, weights_only=True)
        next(iter(changed["state_dict"].values())).mul_(2)
        torch.save(changed, there[1] / "net.pt")
    each = [("units", f / "net.pt", "-d", f / "photos", "-l", "conv1", "--no-store", "-w")
            for f in there]  # fmt: skip
    found = end(start(2, each=[(*words, tmp_path / "ws") for words in each]))
    assert [code for code, *_ in found] == [1, 1], found
    (said,) = [line for *_, err in found for line in err.splitlines() if "error: " in line]
    assert "of this run sees another" in said and ("net.pt" in said) == (other == "network")
    assert not (tmp_path / "ws" / "units").exists()


def test_those_that_are_started_again_find_each_other(model, photos, tmp_path):
    """And not the addresses of those before: torchrun's table may outlive them."""
    words = ("extract", model, "-d", photos, "-l", "conv2", "--no-units", "-w", tmp_path)
    running = start(2, *words, "--batch-size", 1, "--workers", 1)
    until = time.monotonic() + 120
    while not blocks(tmp_path) and time.monotonic() < until:
        time.sleep(0.005)
    for one in running:
        one.kill()
    end(running)
    found = end(start(2, *words, "--batch-size", 1, attempt=1))
    assert [code for code, *_ in found] == [0, 0], found


def test_a_wrong_option_is_said_by_the_first_alone(model, photos, tmp_path):
    found = end(start(2, "extract", model, "-d", photos, "-l", "nothing", "-w", tmp_path / "ws"))
    assert [code for code, *_ in found] == [2, 2]
    assert sum(err.count("error: ") for *_, err in found) == 1


def test_fewer_images_than_processes(model, photos, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.iterdir())[:2]:
        shutil.copy(path, few)
    words = ("extract", model, "-d", few, "-l", "conv2", "-w")
    found = end(start(3, *words, tmp_path / "many"))
    assert [code for code, *_ in found] == [0, 0, 0], found
    assert cnnlens(*words, tmp_path / "one").code == 0
    assert {*results(tmp_path / "many")} == {*results(tmp_path / "one")}


def torchrun(*words: object) -> None:
    """As the command of that name; what it starts are fresh processes."""
    from torch.distributed.run import main

    main([*map(str, words)])


def test_torchrun_itself(model, shapes, tmp_path):
    words = ("dissect", model, "-d", shapes, "-l", "conv2", "--no-page", "--json", "-w")
    line = ("--standalone", "--nproc-per-node", 2, "-m", "cnnlens", *words, tmp_path / "many")
    env = environment(OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    done = warm.run(torchrun, *line, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == cnnlens(*words, tmp_path / "one").json
    assert results(tmp_path / "many") == results(tmp_path / "one")
    assert files(tmp_path / "many")["workspace.json"].count(b"cnnlens dissect") == 1
