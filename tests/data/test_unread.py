"""What keeps a file from being read for a moment is no damage of it."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.data import archives, survey, unread
from cnnlens.data.batches import batches
from cnnlens.data.broden import Broden
from cnnlens.data.check import check
from cnnlens.data.checked import looked_at
from cnnlens.data.dataset import open_folder
from cnnlens.data.decode import DamagedImage, load_image
from cnnlens.data.memory import memory_images
from cnnlens.data.open import open_data
from cnnlens.data.synthetic import make_shapes
from cnnlens.data.unread import Unanswered, UnreadFile
from cnnlens.errors import CnnlensError

from .packed import PACKS, Pack
from .test_archives import PREPROCESS, picture

Fail = Callable[..., None]
MOMENTARY = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT, errno.ENOMEM, errno.EACCES)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let the opening, or the looking up, of files of a name fail some times, or always."""
    monkeypatch.setattr(unread, "WAITS", (0, 0, 0))

    def fails(name: str, error: BaseException, times: float = 1e9, at: str = "open") -> None:
        real, left = getattr(Path, at), [times]

        def once(self: Path, *args: Any, **more: Any) -> Any:
            if self.name == name and left[0] > 0:
                left[0] -= 1
                raise error
            return real(self, *args, **more)

        monkeypatch.setattr(Path, at, once)

    return fails


@pytest.mark.parametrize("at", ["open", "stat"])
@pytest.mark.parametrize("number", MOMENTARY, ids=errno.errorcode.get)
def test_what_fails_for_a_moment_is_read_in_the_end(
    tmp_path: Path, fail: Fail, number: int, at: str
) -> None:
    picture(tmp_path / "a.png", 1)
    truth = np.asarray(load_image(tmp_path / "a.png"))
    fail("a.png", OSError(number, os.strerror(number)), 3, at)
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), truth)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", MOMENTARY, ids=errno.errorcode.get)
def test_what_always_fails_ends_the_run_and_is_not_skipped(
    tmp_path: Path, fail: Fail, number: int, workers: int
) -> None:
    for seed in range(9):
        picture(tmp_path / f"{seed}.png", seed)
    images, said = open_folder(tmp_path), os.strerror(number)
    fail("5.png", OSError(number, said))
    with pytest.raises(CnnlensError, match=f"5.png cannot be read: {said.lower()}") as caught:
        list(batches(images, PREPROCESS, batch_size=2, workers=workers))
    assert "goes on" in caught.value.hint and caught.value.exit_code == 1
    problems = check(tmp_path).problems  # which names everything, and goes on behind it
    assert [problem.what for problem in problems] == [f"5.png cannot be read: {said.lower()}"]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL, errno.EFBIG])
def test_what_a_file_itself_brings_about_is_damage(tmp_path: Path, fail: Fail, number: int) -> None:
    picture(tmp_path / "a.png", 1)
    fail("a.png", OSError(number, os.strerror(number)))
    with pytest.raises(DamagedImage):
        load_image(tmp_path / "a.png")


def test_memory_that_is_short_is_no_damage_but_a_file_that_wants_all_of_it_is(
    tmp_path: Path, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png", 1)
    fail("a.png", MemoryError())
    with pytest.raises(DamagedImage, match="too large to decode"):
        load_image(tmp_path / "a.png")
    monkeypatch.setattr(unread, "_PICTURE", 1 << 62)  # more than any system gives
    with pytest.raises(UnreadFile, match=r"a\.png cannot be read: memory is short"):
        load_image(tmp_path / "a.png")


def test_what_permissions_forbid_is_skipped_and_known_by_it(
    tmp_path: Path, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(9):
        picture(tmp_path / f"{seed}.png", seed)
    before = open_folder(tmp_path).fingerprint
    (tmp_path / "5.png").chmod(0)
    # who runs tests may be root, whom nothing is forbidden
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("5.png"))
    fail("5.png", PermissionError(13, "Permission denied", str(tmp_path / "5.png")))
    images = open_folder(tmp_path)
    assert images.fingerprint != before
    (batch,) = batches(images, PREPROCESS, batch_size=9, workers=2)
    assert batch.skipped == (("5.png", "permission denied"),)
    monkeypatch.undo()
    (tmp_path / "5.png").chmod(0o644)
    assert open_folder(tmp_path).fingerprint == before


def test_what_data_is_known_by_waits_for_a_disk_too(tmp_path: Path, fail: Fail) -> None:
    for seed in range(3):
        picture(tmp_path / f"{seed}.png", seed)
    before = open_folder(tmp_path).fingerprint
    fail("1.png", OSError(errno.EIO, "Input/output error"), 3)
    assert open_folder(tmp_path).fingerprint == before
    fail("1.png", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(UnreadFile, match=r"1\.png"):
        _ = open_folder(tmp_path).fingerprint


def test_label_maps_are_not_skipped_for_a_moment_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shapes(tmp_path / "shapes", 5, 32)
    data = open_data(tmp_path / "shapes")
    assert isinstance(data, Broden)
    truth, real, left = data.concept_space().labels(2), Image.open, [3.0]

    def opened(*args: Any, **more: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return real(*args, **more)

    monkeypatch.setattr(unread, "WAITS", (0, 0, 0))
    monkeypatch.setattr(Image, "open", opened)
    assert np.array_equal(data.concept_space().labels(2).planes, truth.planes)
    left[0] = 1e9
    with pytest.raises(UnreadFile, match="cannot be read: input/output error"):
        data.concept_space().labels(2)


def test_a_dataset_whose_disk_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [0.0]

    class Photos(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if left[0] > 0:
                left[0] -= 1
                raise OSError(errno.ESTALE, "Stale file handle")
            return super().__getitem__(index)

    monkeypatch.setattr(unread, "WAITS", (0, 0, 0))
    photos = Photos(Image.new("RGB", (8, 8), (value, 0, 0)) for value in range(4))
    images = memory_images(photos)
    left[0] = 3
    assert images.load(2).getpixel((0, 0)) == (2, 0, 0)
    left[0] = 1e9
    with pytest.raises(UnreadFile, match="stale file handle"):
        images.load(2)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), Unanswered("the 503")])
@pytest.mark.parametrize("pack", PACKS)
def test_an_archive_whose_list_does_not_come_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Pack, error: OSError
) -> None:
    picture(tmp_path / "photos" / "a.png", 1)
    packed = pack(tmp_path / "photos", tmp_path / "packed")
    reads = archives.LocalFile.read_at
    answers = [True]  # of its kind alone

    def read(self: Any, offset: int, count: int) -> bytes:
        if not answers:
            raise error
        answers.pop()
        return reads(self, offset, count)

    monkeypatch.setattr(archives.LocalFile, "read_at", read)
    with pytest.raises(CnnlensError, match=r"cannot be read: (input/output error|the 503)"):
        open_data(packed)
    monkeypatch.setattr(archives.LocalFile, "read_at", reads)
    assert [Path(name).name for name in open_data(packed).paths] == ["a.png"]


def test_a_check_does_not_wait_for_every_file_of_a_disk_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    images, waits = open_folder(tmp_path), list[float]()

    def away(index: int) -> list[str]:
        def read() -> list[str]:
            raise OSError(errno.EIO, "Input/output error")

        return [] if index >= 30 else unread.patiently(images.paths[index], read)

    monkeypatch.setattr(unread.time, "sleep", waits.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    found = list(looked_at(images, away, None))
    assert [index for index, _ in found] == list(range(30))
    assert waits == [*unread.WAITS] * 3


def test_another_process_may_raise_it() -> None:
    there = pickle.loads(pickle.dumps(UnreadFile(Path("a.png"), "the disk is away")))
    assert (there.path, there.reason) == (Path("a.png"), "the disk is away")
    assert str(there) == str(UnreadFile(Path("a.png"), "the disk is away"))


@pytest.mark.parametrize("looked", ["header_of", "_values"])
def test_the_range_of_all_waits_for_each_deep_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: str
) -> None:
    """One that is passed over would leave the others brighter, and itself cut off."""
    monkeypatch.setattr(unread, "WAITS", (0, 0, 0))
    for number in range(1, 7):
        Image.fromarray(np.full((8, 8), 1000 * number, np.uint16)).save(tmp_path / f"{number}.png")
    truth, read, left = open_data(tmp_path).ranges, getattr(survey, looked), [2.0]

    def fails(file: Path, *more: Any) -> Any:
        if file.name == "6.png" and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return read(file, *more)

    monkeypatch.setattr(survey, looked, fails)
    assert open_data(tmp_path).ranges == truth
    left[0] = 1e9
    with pytest.raises(UnreadFile, match=r"6\.png cannot be read: input/output error"):
        open_data(tmp_path)
    assert not check(tmp_path).problems  # which reads it when it is looked at
