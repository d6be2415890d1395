from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.data import decode
from cnnlens.data.batches import Batch, batches, check_skipped
from cnnlens.data.dataset import ImageSet, open_folder
from cnnlens.data.decode import DamagedImage
from cnnlens.errors import CnnlensError
from cnnlens.model.preprocess import Preprocess

SMALL = Preprocess(size=(8, 10))


def folder(root: Path, count: int, damaged: tuple[int, ...] = ()) -> ImageSet:
    """Images of 10×8 pixels whose every pixel is their number; damaged ones are cut short."""
    for number in range(count):
        path = root / f"{number:03d}.png"
        Image.new("RGB", (10, 8), (number, number, number)).save(path)
        if number in damaged:
            path.write_bytes(path.read_bytes()[:-22])
    return open_folder(root)


def numbers(batch: Batch) -> list[int]:
    return batch.pixels[:, 0, 0, 0].tolist()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("cnnlens-decode")]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_whose_folder_goes_meanwhile_are_not_taken_for_damaged(
    tmp_path: Path, workers: int
) -> None:
    (tmp_path / "a").mkdir()
    images = folder(tmp_path / "a", 100)
    seen = batches(images, SMALL, batch_size=1, workers=workers, start=98)  # two are tolerated
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(CnnlensError, match="a is gone since the command began"):
        list(seen)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_images_come_in_order_in_full_batches(tmp_path: Path, workers: int) -> None:
    images = folder(tmp_path, 11)
    got = list(batches(images, SMALL, batch_size=4, workers=workers))
    assert [numbers(batch) for batch in got] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert [batch.indices.tolist() for batch in got] == [numbers(batch) for batch in got]
    assert [batch.next for batch in got] == [4, 8, 11]
    assert got[0].pixels.shape == (4, 3, 8, 10) and got[0].pixels.dtype == torch.uint8
    assert got[0].pixels.is_contiguous() and got[0].indices.dtype == np.int64
    assert not threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_images_leave_and_later_ones_fill_up(tmp_path: Path, workers: int) -> None:
    images = folder(tmp_path, 10, damaged=(0, 2, 3, 9))
    got = list(batches(images, SMALL, batch_size=2, workers=workers))
    assert [numbers(batch) for batch in got] == [[1, 4], [5, 6], [7, 8]]
    assert [[path for path, _ in batch.skipped] for batch in got] == [
        ["000.png", "002.png", "003.png"],
        [],
        ["009.png"],
    ]
    assert [batch.next for batch in got] == [5, 7, 10]
    assert "truncated" in got[0].skipped[0][1]


def test_any_break_and_any_number_of_workers_give_the_same_batches(tmp_path: Path) -> None:
    images = folder(tmp_path, 23, damaged=(0, 5, 6, 7, 12, 22))

    def seen(got: Iterator[Batch]) -> list[tuple[list[int], tuple[str, ...], int]]:
        return [(numbers(b), tuple(path for path, _ in b.skipped), b.next) for b in got]

    whole = seen(batches(images, SMALL, batch_size=3, workers=0))
    for place, (_, _, next_) in enumerate(whole):
        for workers in (0, 2):
            rest = seen(batches(images, SMALL, batch_size=3, workers=workers, start=next_))
            assert rest == whole[place + 1 :]


def test_only_damaged_images_give_one_empty_batch_and_no_images_none(tmp_path: Path) -> None:
    images = folder(tmp_path, 3, damaged=(0, 1, 2))
    (got,) = batches(images, SMALL, batch_size=2, workers=2)
    assert got.pixels.shape == (0, 3, 8, 10) and len(got.skipped) == 3 and got.next == 3
    assert list(batches(replace(images, paths=()), SMALL, batch_size=2, workers=2)) == []


def test_chosen_indices_are_read_in_their_order(tmp_path: Path) -> None:
    images = folder(tmp_path, 9, damaged=(4,))
    got = list(batches(images, SMALL, batch_size=2, workers=2, indices=[7, 4, 1, 3, 0], start=1))
    assert [numbers(batch) for batch in got] == [[1, 3], [0]]
    assert [batch.indices.tolist() for batch in got] == [[1, 3], [0]]
    assert [batch.next for batch in got] == [4, 5]


def test_labelled_images_are_squashed_and_plain_ones_cropped(tmp_path: Path) -> None:
    left_red = Image.new("RGB", (40, 10))
    left_red.paste((255, 0, 0), (0, 0, 10, 10))
    left_red.save(tmp_path / "a.png")
    images, square = open_folder(tmp_path), Preprocess(size=(10, 10))
    (cropped,) = batches(images, square, batch_size=1, workers=0)
    (squashed,) = batches(replace(images, kind="broden"), square, batch_size=1, workers=0)
    assert cropped.pixels[0, 0].max() == 0
    assert squashed.pixels[0, 0, 5, 0] == 255


def test_one_input_channel_gives_grey(tmp_path: Path) -> None:
    images = folder(tmp_path, 2)
    (got,) = batches(images, SMALL.with_channels(1), batch_size=2, workers=1)
    assert got.pixels.shape == (2, 1, 8, 10) and numbers(got) == [0, 1]


def test_channels_first_holds_the_same_pixels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    (got,) = batches(open_folder(tmp_path), SMALL, batch_size=1, workers=0)
    np.testing.assert_array_equal(got.pixels[0].numpy(), array.transpose(2, 0, 1))


def test_no_more_than_two_batches_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, begun = folder(tmp_path, 60), []
    load = decode.load_image

    def noted(path: Path, mode: str, *how: Any) -> Image.Image:
        begun.append(path)
        return load(path, mode, *how)

    monkeypatch.setattr(decode, "load_image", noted)
    got = batches(images, SMALL, batch_size=4, workers=2)
    next(got)
    before = -1
    while len(begun) != before:  # until the threads have nothing more to do
        before = len(begun)
        time.sleep(0.05)
    got.close()
    assert 4 < len(begun) <= 4 + 1 + 8


def test_a_consumer_that_stops_early_leaves_no_threads(tmp_path: Path) -> None:
    images = folder(tmp_path, 40)
    got = batches(images, SMALL, batch_size=2, workers=3)
    next(got)
    assert threads()
    got.close()
    assert not threads()


def test_an_interrupt_in_the_loop_leaves_no_threads(tmp_path: Path) -> None:
    images = folder(tmp_path, 40)

    def consume() -> None:
        for _ in batches(images, SMALL, batch_size=2, workers=3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        consume()
    del caught
    assert not threads()


def test_an_unexpected_error_in_a_worker_is_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*how: Any) -> Image.Image:
        raise RuntimeError("a bug")

    monkeypatch.setattr(decode, "load_image", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        list(batches(folder(tmp_path, 3), SMALL, batch_size=2, workers=2))
    assert not threads()


def test_senseless_arguments_are_refused_at_once(tmp_path: Path) -> None:
    images = folder(tmp_path, 1)
    with pytest.raises(ValueError, match="batch_size=0"):
        batches(images, SMALL, batch_size=0, workers=0)
    with pytest.raises(ValueError, match="start=-1"):
        batches(images, SMALL, batch_size=1, workers=0, start=-1)


def test_one_in_twenty_may_be_damaged_and_not_more() -> None:
    skipped = [(f"{n}.jpg", "truncated") for n in range(6)]
    check_skipped(skipped[:5], 100)
    check_skipped([], 0)
    with pytest.raises(CnnlensError) as caught:
        check_skipped(skipped, 100)
    assert "6 of 100" in caught.value.message and "0.jpg: truncated" in caught.value.message
    assert "3 more" in caught.value.message


@pytest.mark.parametrize("damaged", [(), (1, 4, 5), (3, 4, 5), (8, 9), (2,)])
def test_no_batch_holds_images_of_two_blocks(tmp_path: Path, damaged: tuple[int, ...]) -> None:
    """Whoever computes a block forms the same batches of it."""
    images = folder(tmp_path, 10, damaged)
    blocks = [range(0, 3), range(3, 6), range(6, 9), range(9, 10)]

    def read(some: list[range]) -> list[tuple[list[int], list[str], bool]]:
        found = batches(images, SMALL, batch_size=2, workers=2, blocks=some)
        return [(b.indices.tolist(), [path for path, _ in b.skipped], b.ends) for b in found]

    every = read(blocks)
    assert every == [batch for block in blocks for batch in read([block])]
    assert read([blocks[2], blocks[0]]) == [*read([blocks[2]]), *read([blocks[0]])]
    assert sum(ends for *_, ends in every) == 4
    assert [n for some, *_ in every for n in some] == [n for n in range(10) if n not in damaged]
    assert sorted(p for _, some, _ in every for p in some) == [f"{n:03d}.png" for n in damaged]


def test_three_damaged_images_are_never_too_many_while_one_is_left() -> None:
    skipped = [(f"{n}.jpg", "truncated") for n in range(4)]
    check_skipped(skipped[:1], 4)
    check_skipped(skipped[:3], 4)
    with pytest.raises(CnnlensError, match="4 of 10"):
        check_skipped(skipped, 10)
    for count in (1, 3):
        with pytest.raises(CnnlensError, match=f"{count} of {count}"):
            check_skipped(skipped[:count], count)


def test_damage_keeps_its_path_and_reason() -> None:
    damage = DamagedImage(Path("a/b.jpg"), "truncated")
    assert str(damage) == "a/b.jpg: truncated"
