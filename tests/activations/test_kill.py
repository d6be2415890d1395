from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cnnlens.activations.extract import extract
from cnnlens.activations.store import Store
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError
from cnnlens.settings import RunSettings
from tests import warm

from . import little


def program(*arguments: object) -> subprocess.CompletedProcess:
    return warm.run(little.main, *map(str, arguments), env=os.environ)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return little.write_pictures(tmp_path_factory.mktemp("data") / "d", damaged=(5, 77, 149))


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("unbroken")
    little.run(folder, data)
    return {path.name: little.everything(path) for path in folder.glob("*.h5")}


MOMENTS = [  # (where, which time): 150 images, 5 blocks of 32 rows, 2 layers
    ("step", 0),
    ("step", 3),
    ("step", 6),
    ("write", 1),
    ("write", 4),
    ("write", 9),  # the last, partial block
    ("flush", 8),
    ("join", 2),
    ("join", 8),  # the second layer's, the first is finished
    ("rename", 11),  # the first finished store
    ("rename", 12),
    ("discard", 1),
]


@pytest.mark.parametrize(("where", "number"), MOMENTS)
def test_a_killed_run_resumes_to_the_same_bytes(where, number, data, unbroken, tmp_path):
    died = program(tmp_path, data, where, number)
    assert died.returncode == -9, died.stderr
    little.run(tmp_path, data)
    for name, content in unbroken.items():
        assert little.everything(tmp_path / name) == content
    left = {p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")}
    assert left == set(unbroken)  # no half-written file, no forgotten block


def test_a_resumed_run_does_not_start_over(data, tmp_path):
    assert program(tmp_path, data, "step", 6).returncode == -9
    model = little.little_model()
    settings = RunSettings(batch_size=16, workers=1)
    first = next(
        extract(
            *(model, open_data(data), little.layers_of(model), tmp_path),
            run=settings,
            logits=True,
        )
    )
    assert first.done >= 32


def test_a_damaged_block_is_made_again(data, unbroken, tmp_path):
    assert program(tmp_path, data, "write", 8).returncode == -9
    block = tmp_path / ".0.h5.parts" / "000001.h5"
    block.write_bytes(block.read_bytes()[:100])
    little.run(tmp_path, data)
    assert little.everything(tmp_path / "0.h5") == unbroken["0.h5"]


@pytest.mark.parametrize("limit", [2_000, 70_000])  # a block, the joined store
def test_a_full_disk_is_one_clear_error_and_the_same_command_goes_on(
    limit, data, unbroken, tmp_path
):
    full = program(tmp_path, data, "full", limit)
    assert full.returncode == 1  # an exception, no crash
    last = [line for line in full.stderr.splitlines() if "CnnlensError" in line]
    assert last and "cannot write" in last[-1], full.stderr
    assert "resum" in full.stderr or "repeat" in full.stderr
    assert not (tmp_path / "conv2.h5").exists()
    assert not list(tmp_path.rglob("*.tmp"))
    little.run(tmp_path, data)
    for name, content in unbroken.items():
        assert little.everything(tmp_path / name) == content


def test_two_processes_never_write_one_store(data, tmp_path):
    (its_in, our_out), (our_in, its_out) = os.pipe(), os.pipe()
    words = (str(tmp_path), str(data), "hold", "0")
    other = warm.Process(little.main, words, os.environ, (its_in, its_out, 2))
    os.close(its_in)
    os.close(its_out)
    with os.fdopen(our_in, encoding="utf-8") as said:
        assert said.readline() == "held\n"
    with pytest.raises(CnnlensError, match="being written by another process"):
        little.run(tmp_path, data)
    assert other.poll() is None
    os.close(our_out)
    assert other.wait() == 0
    little.run(tmp_path, data)
    with Store(tmp_path / "0.h5") as store:
        assert store.shape[0] == 147
        assert [Path(p).name for p, _ in store.skipped] == ["005.png", "077.png", "149.png"]


def test_the_attributes_of_a_killed_run_name_every_damaged_image(data, unbroken):
    said = eval(unbroken["0.h5"]["@skipped"])
    assert [Path(path).name for path, _ in json.loads(said)] == ["005.png", "077.png", "149.png"]
