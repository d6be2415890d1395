"""Images of several data sets, decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.data.decoded import allocate, decoded_steps, together
from cnnlens.data.open import held_out_beside, open_data
from cnnlens.model.preprocess import Preprocess
from cnnlens.progress import followed


def colour(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)


def test_each_image_says_where_it_comes_from(tmp_path: Path) -> None:
    for number in range(4):
        colour(tmp_path / "one" / f"{number}.png", number)
        colour(tmp_path / "other" / f"{number}.png", 10 + number)
    (tmp_path / "other" / "1.png").write_bytes(b"no picture")
    one, other = open_data(tmp_path / "one"), open_data(tmp_path / "other")
    sets = [(one, [3, 0]), (other, None)]
    steps = decoded_steps(sets, Preprocess((4, 4)), batch_size=2, workers=0)
    found = followed(steps, None)
    assert found.pixels[:, 0, 0, 0].tolist() == [3, 0, 10, 12, 13]
    assert found.sources.tolist() == [0, 0, 1, 1, 1]
    assert found.positions.tolist() == [3, 0, 0, 2, 3]
    assert [path for path, _ in found.skipped] == ["1.png"]


def test_what_memory_should_not_hold_lies_in_a_file() -> None:
    kept, filed = allocate((2, 3), np.uint8), allocate((2, 3), np.uint8, in_memory=5)
    assert not isinstance(kept, np.memmap) and isinstance(filed, np.memmap)
    assert kept.shape == filed.shape == (2, 3)


def test_what_is_held_out_lies_beside_what_is_learned_from(tmp_path: Path) -> None:
    for split in ("training", "test", "val"):
        colour(tmp_path / "by split" / split / "cat" / "1.png", 1)
    for split in ("train", "test"):
        colour(tmp_path / "in classes" / "cat" / split / "1.png", 1)
    whole = open_data(tmp_path / "by split", "train")
    beside = [
        held_out_beside(one)
        for one in (
            whole,
            open_data(tmp_path / "by split" / "training"),
            open_data(tmp_path / "in classes", "train"),
            open_data(tmp_path / "by split", "test"),
            open_data(tmp_path / "by split" / "training" / "cat"),
        )
    ]
    assert [one and one.split for one in beside] == ["val", "val", "test", None, None]


def test_images_of_several_kinds_are_brought_to_one() -> None:
    draw = np.random.default_rng(0)
    bytes_, floats = draw.integers(0, 256, (3, 2, 2), np.uint8), draw.random((4, 2, 2), np.float32)
    alike = together([bytes_, bytes_])
    assert alike.dtype == np.uint8 and np.array_equal(alike[1], bytes_)
    colours, bands = together([bytes_, floats])
    assert np.array_equal(bands, floats) and colours.dtype == np.float32
    assert np.allclose(colours * 255, bytes_[[0, 1, 2, 0]])


def test_sets_of_which_one_has_bands_are_decoded_together(tmp_path: Path) -> None:
    """Pictures to learn from with alpha, those held out without."""
    for folder, mode, value in (("a", "RGB", (51, 102, 153)), ("b", "RGBA", (255, 0, 51, 102))):
        (tmp_path / folder).mkdir()
        Image.new(mode, (4, 4), value).save(tmp_path / folder / "1.png")
    preprocess = Preprocess((4, 4)).with_channels(4)
    for order in ("ab", "ba"):
        sets = [(open_data(tmp_path / one), None) for one in order]
        found = followed(decoded_steps(sets, preprocess, workers=0), None).pixels[:, :, 0, 0]
        wanted = {"a": [0.2, 0.4, 0.6, 0.2], "b": [1.0, 0.0, 0.2, 0.4]}
        assert np.allclose(found, [wanted[one] for one in order])
