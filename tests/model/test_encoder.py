"""Encoders of a user's own code: what their vectors depend on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.model.encoder import Encoder, open_encoder
from cnnlens.model.files_read import contents, files_read

CODE = """
import json
from pathlib import Path
import numpy as np

def make():
    {once}

    def images(of):
        return np.array([np.asarray(one, float).mean(axis=(0, 1)) for one in of])

    def texts(of):
        {late}
        return np.array([table.get(one, [0, 0, 1]) for one in of])

    return images, texts
"""
READS = 'table = json.loads((Path(__file__).parent / "words.json").read_text())'
WHEN = {"once": (READS, "pass"), "late": ("pass", READS)}
GREY = Image.new("RGB", (8, 8), (9, 9, 9))


@pytest.mark.parametrize("when", WHEN)
def test_what_its_code_reads_counts(tmp_path: Path, when: str) -> None:
    """A word that is not among those that are tried, too."""
    once, late = WHEN[when]
    (tmp_path / "towers.py").write_text(CODE.format(once=once, late=late))
    (tmp_path / "words.json").write_text('{"cat": [1, 0, 0], "dog": [0, 1, 0]}')
    before = open_encoder(f"{tmp_path}/towers.py:make").probed([GREY], ["dog"])
    assert open_encoder(f"{tmp_path}/towers.py:make").probed([GREY], ["dog"]) == before
    (tmp_path / "words.json").write_text('{"cat": [0, 0, 1], "dog": [0, 1, 0]}')
    assert open_encoder(f"{tmp_path}/towers.py:make").probed([GREY], ["dog"]) != before


def shifted(image: float = 0.0, cat: float = 0.0) -> Encoder:
    def images(of: list[Image.Image]) -> np.ndarray:
        means = [np.asarray(one, float).mean() for one in of]
        return np.array([[1.0, image if mean == 9 else 0.0] for mean in means])

    def texts(of: list[str]) -> np.ndarray:
        return np.array([[1.0, cat if one == "cat" else 0.0] for one in of])

    return Encoder("towers", "", images, texts)


CHANGED: dict[str, tuple[Callable[[], Encoder], bool, bool]] = {
    "nothing": (shifted, False, False),
    "what it says of an image": (lambda: shifted(image=0.1), True, False),
    "what it says of a word": (lambda: shifted(cat=0.1), False, True),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_it_says_of_the_run_s_own_images_and_words_counts(what: str) -> None:
    """Images that stay as they were need not be encoded again for a word's sake."""
    make, images, words = CHANGED[what]
    before, after = (one.probed([GREY], ["dog", "cat"]) for one in (shifted(), make()))
    assert (before[0] != after[0], before[1] != after[1]) == (images, words)


def test_files_that_are_read_are_told_from_others(tmp_path: Path) -> None:
    for name in ("early", "read", "added", "code.py"):
        (tmp_path / name).write_text(name)
    (tmp_path / "early").read_text()
    with files_read() as found:
        (tmp_path / "read").read_bytes()
        (tmp_path / "code.py").read_text()
        (tmp_path / "written").write_text("x")
        with (tmp_path / "added").open("a") as file:
            file.write("x")
        Path(np.__file__).read_bytes()
    (tmp_path / "early").read_text()
    assert found == {tmp_path / "read"}
    (one,) = contents([*found, tmp_path / "gone", tmp_path])
    assert one[0] == "read"
