"""Names of pictures, marks of images, and paths that say nothing of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from cnnlens.data.given import GivenImages, given_images, picture_names, shown_path
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.preprocess import Preprocess
from cnnlens.study.ledger import Item, Ledger, names_in_use


def draw(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(path)
    return path


def test_stems_with_as_many_folders_as_make_them_unique(tmp_path):
    paths = [tmp_path / name for name in ("a/cat.jpg", "b/cat.jpg", "b/dog.jpg", "b/dog.png")]
    assert picture_names(paths) == ["a__cat", "b__cat", "dog.jpg", "dog.png"]


def test_an_image_keeps_the_name_that_its_picture_has(tmp_path):
    first, second = draw(tmp_path / "a/cat.png"), draw(tmp_path / "b/cat.png")
    ledger = Ledger(tmp_path / "out/cam.json")
    (given,) = given_images([first], names_in_use([ledger]))
    draw(tmp_path / "out/cat.png")
    ledger.keep(Item("cat.png", {"image": given.mark}), {"file": "cat.png"})
    assert [g.name for g in given_images([first], names_in_use([ledger]))] == ["cat"]
    assert [g.name for g in given_images([second], names_in_use([ledger]))] == ["b__cat"]


def test_a_mark_changes_with_the_image_and_names_no_folder(tmp_path):
    path = draw(tmp_path / "cat.png")
    (before,) = given_images([path])
    mark = before.mark
    assert str(tmp_path) not in mark
    os.utime(path, ns=(1, 1))
    assert before.mark != mark
    elsewhere = draw(tmp_path / "b/cat.png")
    os.utime(elsewhere, ns=(1, 1))
    assert given_images([elsewhere])[0].mark != before.mark


def test_paths_are_shown_without_the_machine(tmp_path, monkeypatch):
    assert shown_path(Path("photos/cat.jpg")) == "photos/cat.jpg"
    assert shown_path(tmp_path / "photos/cat.jpg") == "photos/cat.jpg"


def test_a_missing_image_is_named_with_its_neighbour(tmp_path):
    draw(tmp_path / "cats.png")
    with pytest.raises(UsageError) as error:
        given_images([tmp_path / "cat.png"])
    assert "cats.png" in error.value.hint
    with pytest.raises(UsageError, match="no images were named"):
        given_images([])


def test_damaged_ones_are_collected_and_only_all_of_them_are_fatal(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    images = GivenImages(given_images([tmp_path]))
    assert [image.name for image, _ in images.read(Preprocess((8, 8)))] == ["a"]
    assert [bad["image"] for bad in images.skipped] == [shown_path(tmp_path / "b.png")]
    (tmp_path / "a.png").write_bytes(b"no picture either")
    with pytest.raises(CnnlensError, match="cannot be read"):
        list(GivenImages(given_images([tmp_path])).read(Preprocess((8, 8))))
