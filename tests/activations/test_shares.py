"""Stores that several processes fill, in any order, are those of one: byte by byte."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnnlens.activations import writer
from cnnlens.activations.blocks import join
from cnnlens.activations.extract import extract
from cnnlens.activations.joining import Unfinished, unfinished
from cnnlens.activations.store import create_activations, create_file
from cnnlens.data.dataset import ImageSet
from cnnlens.data.open import open_data
from cnnlens.distributed import Share
from cnnlens.errors import CnnlensError
from cnnlens.settings import RunSettings

from . import little

RUN = RunSettings(batch_size=16, workers=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ImageSet:
    """Five blocks; the first ones lack images, so that rows of later ones move."""
    root = tmp_path_factory.mktemp("data") / "pets"
    return open_data(little.write_pictures(root, damaged=(5, 31, 40, 149)))


def run(data: ImageSet, folder: Path, share: Share | None = None, logits: bool = True) -> list:
    model = little.little_model()
    layers = little.layers_of(model)
    return list(extract(model, data, layers, folder, run=RUN, logits=logits, share=share))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    run(data, folder)
    return {path.name: path.read_bytes() for path in folder.glob("*.h5")}


def joined(folder: Path, data: ImageSet) -> dict[str, bytes]:
    for one in unfinished(folder):
        one.join(data)
    assert not list(folder.glob(".*.parts"))
    return {path.name: path.read_bytes() for path in folder.glob("*.h5")}


@pytest.mark.parametrize("order", [(1,), (2, 1), (3, 1, 2), (7, 6, 5, 4, 3, 2, 1)])
def test_shares_in_any_order_are_joined_to_the_bytes_of_one_process(data, whole, tmp_path, order):
    for number in order:
        steps = run(data, tmp_path, Share(number - 1, len(order)) if len(order) > 1 else None)
        assert steps[-1].done == steps[-1].total
    assert joined(tmp_path, data) == whole


def test_what_some_shares_have_left_any_other_number_goes_on_from(data, whole, tmp_path):
    run(data, tmp_path, Share(1, 3))
    assert run(data, tmp_path, Share(0, 2))[0].done == 54  # blocks 1 and 4
    steps = run(data, tmp_path)  # one process, alone: blocks 1, 4, 0 and 2 are there
    assert steps[0].done == 118
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.h5")} == whole


def test_a_share_that_lacks_is_named_and_stays_what_it_is(data, tmp_path):
    run(data, tmp_path, Share(0, 2))
    first, second = unfinished(tmp_path)
    assert [first.path.name, second.path.name] == ["0.h5", "conv2.h5"]
    assert first.missing(150) == ([1, 3], 5)
    first_block = tmp_path / ".0.h5.parts" / "000002.h5"
    first_block.write_bytes(first_block.read_bytes()[:300])
    assert Unfinished.read(first.path).missing(150) == ([1, 2, 3], 5)
    run(data, tmp_path, Share(0, 2))  # what was damaged is made again
    assert Unfinished.read(first.path).missing(150) == ([1, 3], 5)


def test_blocks_of_other_images_are_not_joined(data, tmp_path):
    run(data, tmp_path / "out", Share(0, 1))
    shutil.copytree(data.root, tmp_path / "more")
    less = open_data(tmp_path / "more")
    (less.root / less.paths[0]).unlink()
    run(data, tmp_path / "out2", Share(0, 2))
    (one, _) = unfinished(tmp_path / "out2")
    with pytest.raises(CnnlensError, match="of other images"):
        one.join(open_data(tmp_path / "more"))


def test_too_many_damaged_images_are_too_many_over_all_shares(tmp_path):
    data = open_data(little.write_pictures(tmp_path / "d", 70, damaged=(0, 1, 33, 34)))
    for number, name in enumerate(("out", "apart")):  # at the same time
        run(data, tmp_path / name, Share(number, 2))  # two damaged images of each are few
    for parts in (tmp_path / "apart").glob(".*.parts"):
        shutil.copytree(parts, tmp_path / "out" / parts.name, dirs_exist_ok=True)
    with pytest.raises(CnnlensError, match="4 of 70 images"):
        joined(tmp_path / "out", data)
    assert not list((tmp_path / "out").glob("*.h5"))


def test_a_block_without_a_single_good_image(tmp_path):
    many = tuple(range(32, 64))
    data = open_data(little.write_pictures(tmp_path / "d", 700, damaged=many))
    run(data, tmp_path / "one")
    for number in (2, 1, 0):
        run(data, tmp_path / "out", Share(number, 3))
    found = joined(tmp_path / "out", data)
    assert found == {path.name: path.read_bytes() for path in (tmp_path / "one").glob("*.h5")}
    with h5py.File(tmp_path / "out" / "0.h5") as file:
        assert file["positions"][:].tolist() == [*range(32), *range(64, 700)]
        assert len(file["logits"]) == 668


def test_two_processes_that_compute_the_same_block(data, whole, tmp_path):
    """As where a share is run twice, or a lone run goes on while shares still compute."""
    model = little.little_model()
    given = (model, data, little.layers_of(model), tmp_path)
    one, two = (extract(*given, run=RUN, logits=True, share=Share(0, 2)) for _ in range(2))
    for _ in itertools.zip_longest(one, two):
        pass
    run(data, tmp_path, Share(1, 2))
    assert joined(tmp_path, data) == whole


def test_a_share_that_ends_after_the_stores_were_joined_leaves_nothing(data, whole, tmp_path):
    model = little.little_model()
    late = extract(
        *(model, data, little.layers_of(model), tmp_path), run=RUN, logits=True, share=Share(0, 2)
    )
    next(late)
    run(data, tmp_path)
    list(late)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.h5")} == whole
    assert not list(tmp_path.glob(".*.parts"))


def test_a_share_of_fewer_images_than_shares_has_nothing_to_do(tmp_path):
    data = open_data(little.write_pictures(tmp_path / "d", 2))
    for number in (2, 1, 0):
        run(data, tmp_path / "out", Share(number, 3))
    assert {*joined(tmp_path / "out", data)} == {"0.h5", "conv2.h5"}


@pytest.mark.parametrize("rows", [[32, 32, 7], [31, 32, 32, 1], [0, 5], [70, 3, 64], [0], [33, 63]])
def test_joined_rows_are_those_of_the_blocks(tmp_path, rows):
    """Blocks that lack images fill no chunk: what follows moves into others."""
    shape, start, paths = (3, 2, 2), 0, []
    truth = np.random.default_rng(0).normal(size=(sum(rows), *shape)).astype(np.float32)
    for number, count in enumerate(rows):
        paths.append(tmp_path / f"{number}.h5")
        with h5py.File(paths[-1], "w") as file:
            create_activations(file, count, shape, "float32")[:] = truth[start : start + count]
            file["positions"] = np.arange(start, start + count)
        start += count
    names = [f"{n}.png" for n in range(start)]
    with create_file(tmp_path / "all.h5") as file:
        join(paths, file, shape, "float32", names, None)
    with h5py.File(tmp_path / "all.h5") as file:
        assert np.array_equal(file["activations"][:], truth)
        assert list(file["images"].asstr()[:]) == names
        assert file["activations"].id.get_num_chunks() == -(-start // 32)


def test_who_joins_waits_until_it_sees_what_another_machine_has_written(
    data, whole, tmp_path, monkeypatch
):
    """A file system may show a new file only after a while."""
    for number in range(2):
        run(data, tmp_path, Share(number, 2))
    hidden = tmp_path / "hidden.h5"
    late = tmp_path / ".0.h5.parts" / "000003.h5"
    late.rename(hidden)
    monkeypatch.setattr(writer.time, "sleep", lambda _: hidden.rename(late))
    first, second = unfinished(tmp_path)
    first.join(data)
    assert first.path.read_bytes() == whole["0.h5"]
    monkeypatch.setattr(writer, "_SEEN", 0.0)
    (tmp_path / ".conv2.h5.parts" / "000003.h5").unlink()
    with pytest.raises(CnnlensError, match="1 of 5 blocks of"):
        second.join(data)
