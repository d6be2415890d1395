"""Full disks and folders that may not be written: one clear line, and whole files."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import warm

from .runner import cnnlens, environment, sound


def limited(given: list, size: int) -> subprocess.CompletedProcess:
    return warm.run(warm.without_room, size, *given, env=environment())


@pytest.mark.parametrize("size", [200, 20_000, 150_000])
def test_files_that_may_not_grow(tmp_path, model, shapes, size):
    ws = tmp_path / "ws"
    given = ["dissect", model, "-d", shapes, "-l", "conv2", "-w", ws, "--chance", 0]
    done = limited(given, size)
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("error: cannot write") for line in lines) == 1, done.stderr
    assert "Traceback" not in done.stderr and "HDF5-DIAG" not in done.stderr
    assert ".tmp" not in done.stderr
    sound(ws)
    assert cnnlens(*given).code == 0


@pytest.fixture
def little_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("filler", [0, 300_000, 580_000])
def test_full_disk(little_disk, model, shapes, filler):
    (little_disk / "filler").write_bytes(b"x" * filler)
    ws = little_disk / "ws"
    answer = cnnlens("dissect", model, "-d", shapes, "-l", "conv2", "-w", ws, "--chance", 0)
    assert answer.code == 1
    assert "the disk is full" in answer.error
    if ws.exists():
        sound(ws)


def test_read_only_disk(little_disk, model, shapes):
    (little_disk / "ws").mkdir()
    remount = ["mount", "-o", "remount,ro", str(little_disk)]
    subprocess.run(remount, check=True)
    answer = cnnlens("dissect", model, "-d", shapes, "-w", little_disk / "ws")
    assert answer.code == 1
    assert "read-only" in answer.error and "-w DIR" in answer.err
    answer = cnnlens("layers", model, "-w", little_disk / "ws")
    assert answer.code == 0 and "conv2" in answer.out  # what writes nothing works
    assert "not remembered" in answer.err
    made = cnnlens("data", "make", "shapes", "--images", 1, "--out", little_disk / "s")
    assert made.code == 1 and "read-only" in made.error


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_folder_without_permission(tmp_path, model, shapes):
    tmp_path.chmod(0o500)
    answer = cnnlens("dissect", model, "-d", shapes, "-w", tmp_path / "ws")
    tmp_path.chmod(0o700)
    assert answer.code == 1 and "permission denied" in answer.error
