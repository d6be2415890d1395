"""Processes that decode give what threads give, in order, and end when nobody needs them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data import processes
from cnnlens.data.batches import Batch, batches
from cnnlens.data.dataset import open_folder
from cnnlens.data.processes import Decode, decoded_apart
from cnnlens.errors import CnnlensError
from cnnlens.model.preprocess import Preprocess
from tests.data.test_batches import SMALL, folder, numbers
from tests.warm import Process, runs, until

pytestmark = pytest.mark.skipif("not __import__('sys').platform.startswith('linux')")


@pytest.fixture(autouse=True)
def _some_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WORTH", 1)


def numbered(decode: Decode, count: int, workers: int = 2, ahead: int = 8) -> list[object]:
    """What processes make of numbers, each an array of one."""
    return list(decoded_apart(decode, range(count), workers, ahead, (1,), "int64"))


def its_process(image: int) -> np.ndarray:
    return np.array([os.getpid()])


def seen(got: Sequence[Batch]) -> list[tuple[object, ...]]:
    return [
        (b.pixels.numpy().tobytes(), b.pixels.dtype, b.indices.tolist(), b.skipped, b.next, b.ends)
        for b in got
    ]


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batches_are_those_of_threads_whatever_is_damaged(
    tmp_path: Path, workers: int, batch_size: int
) -> None:
    images = folder(tmp_path, 53, damaged=(0, 7, 8, 15, 16, 17, 30, 52))
    for more in (
        {"start": 5},
        {"indices": [*range(52, -1, -2)]},
        {"blocks": [range(3, 20), range(0, 1), range(30, 53)]},
    ):
        kinds = [
            seen([*batches(images, SMALL, batch_size=batch_size, workers=workers, apart=a, **more)])
            for a in (False, True)
        ]
        assert kinds[0] == kinds[1]


def test_floats_of_many_bands_and_grey_pictures_among_them_come_whole(tmp_path: Path) -> None:
    import tifffile

    noise = np.random.default_rng(0).integers(0, 65536, (6, 8, 10, 5), np.uint16)
    for number, values in enumerate(noise):
        tifffile.imwrite(tmp_path / f"{number}.tif", values)
    Image.new("L", (10, 8), 7).save(tmp_path / "9.png")
    images = replace(open_folder(tmp_path), bands=frozenset({5}))
    bands = Preprocess(size=(8, 10)).with_channels(5)
    kinds = [
        seen([*batches(images, bands, batch_size=4, workers=2, apart=apart)])
        for apart in (False, True)
    ]
    assert kinds[0] == kinds[1] and len(kinds[0]) == 2


def test_they_are_processes_and_no_more_than_asked_for() -> None:
    found = {int(one[0]) for one in numbered(its_process, 200, workers=3)}  # type: ignore[index]
    assert os.getpid() not in found and 1 <= len(found) <= 3


def test_few_images_and_those_in_memory_are_decoded_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnlens.data.memory import MemoryImages

    def begun(*given: object) -> None:
        raise AssertionError("processes are begun")

    monkeypatch.setattr("cnnlens.data.batches.decoded_apart", begun)
    images = folder(tmp_path, 5)
    with pytest.raises(AssertionError, match="are begun"):
        list(batches(images, SMALL, batch_size=2, workers=2, apart=True))
    held = MemoryImages(Path("mine"), images.paths, items=[images.load(k) for k in range(5)])
    apart = {"batch_size": 2, "workers": 2, "apart": True}
    assert [numbers(b) for b in batches(held, SMALL, **apart)] == [[0, 1], [2, 3], [4]]  # type: ignore[arg-type]
    monkeypatch.setattr(processes, "WORTH", 6)
    assert len([*batches(images, SMALL, **apart)]) == 3  # type: ignore[arg-type]


def test_rooms_are_not_written_to_again_before_they_are_read() -> None:
    """Ten results at most wait; the one who reads is far behind the ones who write."""
    found = []
    for one in decoded_apart(lambda k: np.full(3, k), range(150), 3, 10, (3,), "int64"):
        time.sleep(0.002)
        found.append(one.tolist())  # type: ignore[union-attr]
    assert found == [[k] * 3 for k in range(150)]


def test_pixels_of_another_shape_or_type_come_as_they_are() -> None:
    def odd(image: int) -> np.ndarray:
        return [np.array([image]), np.array([image, 1]), np.array([image + 0.5])][image % 3]

    found = [one.tolist() for one in numbered(odd, 30)]  # type: ignore[attr-defined]
    assert found == [odd(image).tolist() for image in range(30)]


def test_a_killed_process_ends_with_one_line_and_none_is_left() -> None:
    def dies(image: int) -> np.ndarray:
        if image == 21:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([image])

    with pytest.raises(CnnlensError) as caught:
        numbered(dies, 100)
    assert str(caught.value).splitlines() == [
        "a process that decodes images was killed",
        "if memory was short, give --workers a smaller number; the same command goes on",
    ]
    assert not multiprocessing.active_children()


def test_what_cannot_be_decoded_is_said_as_it_is() -> None:
    def away(image: int) -> np.ndarray:
        if image == 12:
            raise CnnlensError("photos is gone", "bring it back")
        return np.array([image])

    found = []
    with pytest.raises(CnnlensError, match="photos is gone\nbring it back"):
        for one in decoded_apart(away, range(40), 2, 8, (1,), "int64"):
            found.append(one)
    assert len(found) <= 12 and not multiprocessing.active_children()


def test_a_fault_of_ours_is_not_hidden() -> None:
    def wrong(image: int) -> np.ndarray:
        raise ZeroDivisionError(image)

    with pytest.raises(ZeroDivisionError):
        numbered(wrong, 4)
    assert not multiprocessing.active_children()


def test_a_consumer_that_stops_early_leaves_no_processes(tmp_path: Path) -> None:
    got = batches(folder(tmp_path, 60), SMALL, batch_size=2, workers=2, apart=True)
    next(got)
    assert multiprocessing.active_children()
    got.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_ctrl_c_is_answered_by_the_one_who_reads() -> None:
    def struck(image: int) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGINT)
        return np.array([image])

    assert len(numbered(struck, 20)) == 20


def test_no_random_number_of_the_caller_is_spent() -> None:
    import torch

    torch.manual_seed(0)
    before = torch.get_rng_state()
    numbered(its_process, 20)
    assert torch.equal(before, torch.get_rng_state())


def read_slowly(folder: Path) -> None:
    """Read numbers for an hour; every process notes that it is there."""

    def slow(image: int) -> np.ndarray:
        (folder / str(os.getpid())).touch()
        time.sleep(0.05)
        return np.array([image])

    for _ in decoded_apart(slow, range(72_000), 2, 8, (1,), "int64"):
        pass


def test_they_end_with_the_one_they_work_for_even_if_it_is_killed(tmp_path: Path) -> None:
    reader = Process(read_slowly, (tmp_path,), os.environ)
    until(lambda: len([*tmp_path.iterdir()]) == 2)
    reader.kill()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    until(lambda: not any(map(runs, workers)))


def test_a_network_on_a_gpu_is_given_what_they_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnlens.activations.passes import Forward, passes
    from cnnlens.model.layers import find_layers
    from tests.activations.little import little_model

    begun, found = [], []

    def noted(*given: object) -> object:
        begun.append(is_gpu)
        return decoded_apart(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("cnnlens.data.batches.decoded_apart", noted)
    images, model = folder(tmp_path, 40, damaged=(3,)), little_model()
    for is_gpu in (False, True):
        monkeypatch.setattr("cnnlens.activations.passes.overlaps", lambda device, g=is_gpu: g)
        forward = Forward(model, [find_layers(model).resolve("last")], logits=True, limit=8)
        every = [*passes(forward, images, batch_size=8, workers=2)]
        found.append([(p.batch.indices.tolist(), p.maps[0].tobytes()) for p in every])
    assert begun == [True]
    assert found[0] == found[1] and [len(rows) for rows, _ in found[0]] == [8, 8, 8, 8, 7]
