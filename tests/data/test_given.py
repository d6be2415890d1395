"""Images that were named: which they are, and when they are others."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.dataset import open_folder
from cnnlens.data.given import (
    GivenImage,
    GivenImages,
    ImageOfSet,
    given_images,
)
from cnnlens.data.picture_names import shown_path
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files.ledger import Item, Ledger, names_in_use, without_places
from cnnlens.model.preprocess import Preprocess
from tests.cli.photos import write_photos

from .packed import PACKS, Pack, tarred, wrapped, zipped


def draw(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(path)
    return path


def test_an_image_keeps_the_name_that_its_picture_has(tmp_path):
    first, second = draw(tmp_path / "a/cat.png"), draw(tmp_path / "b/cat.png", 9)
    ledger = Ledger(tmp_path / "out/cam.json")
    (given,) = given_images([first], names_in_use([ledger]))
    draw(tmp_path / "out/cat.png")
    ledger.keep(Item("cat.png", {"image": given.mark}), {"file": "cat.png"})
    assert [g.name for g in given_images([first], names_in_use([ledger]))] == ["cat"]
    assert [g.name for g in given_images([second], names_in_use([ledger]))] == ["b__cat"]


def test_a_folder_that_was_moved_finds_its_results_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "out/cam.json")

    def run(*paths: Path) -> dict[str, tuple[str, bool]]:
        """Make what is missing: which name each image has, and whether it was there."""
        found = {}
        for image in given_images(paths, names_in_use([ledger])):
            name = f"{image.name}.png"
            item = Item(name, {"image": image.mark, "given": [image.mark]}, (name,))
            found[str(image.path.relative_to(tmp_path))] = image.name, ledger.is_made(item)
            if not ledger.is_made(item):
                draw(tmp_path / "out" / name)
                ledger.keep(item, {"file": name})
        return found

    for number, name in enumerate(("a/cat.png", "a/dog.png", "a/x/cat.png")):
        draw(tmp_path / name, number)
    shutil.copy(tmp_path / "a/cat.png", tmp_path / "a/copy.png")
    names = {"cat.png": "a__cat", "copy.png": "copy", "dog.png": "dog", "x/cat.png": "x__cat"}
    assert run(tmp_path / "a") == {f"a/{p}": (n, False) for p, n in names.items()}
    (tmp_path / "a").rename(tmp_path / "b")
    assert run(tmp_path / "b") == {f"b/{p}": (n, True) for p, n in names.items()}
    draw(tmp_path / "c/dog.png", 90)  # another one of that name
    assert run(tmp_path / "c") == {"c/dog.png": ("c__dog", False)}
    draw(tmp_path / "c/dog.png", 91)  # replaced where it was
    found = run(tmp_path / "c/dog.png", tmp_path / "b/cat.png", tmp_path / "b/dog.png")
    assert list(found.values()) == [("c__dog", False), ("a__cat", True), ("dog", True)]


def test_a_mark_changes_with_the_image_and_names_no_folder(tmp_path):
    path = draw(tmp_path / "cat.png")
    (before,) = given_images([path])
    mark = before.mark
    assert str(tmp_path) not in mark
    os.utime(path, ns=(1, 1))
    assert before.mark == mark  # the time says nothing of the content
    draw(path, 7)
    assert before.mark != mark
    elsewhere = draw(tmp_path / "b/cat.png", 7)
    assert given_images([elsewhere])[0].mark != before.mark
    assert given_images([elsewhere])[0].state == before.state == without_places(before.mark)


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


def test_images_and_folders_each_image_once(tmp_path: Path) -> None:
    photos = write_photos(tmp_path, damaged=False)
    found = given_images([photos / "a" / "cat.png", photos / "a", photos / "b" / "cat.png"])
    assert [image.path for image in found] == [photos / "a/cat.png", photos / "b/cat.png"]
    assert [image.name for image in found] == ["a__cat", "b__cat"]
    assert len(given_images([photos])) == 22


def test_a_missing_image_offers_the_nearest(tmp_path: Path) -> None:
    photos = write_photos(tmp_path, damaged=False)
    with pytest.raises(UsageError, match=r"no image .*cta\.png") as caught:
        given_images([photos / "a" / "cta.png"])
    assert "cat.png" in caught.value.hint


@pytest.mark.parametrize("pack", PACKS)
def test_images_of_archives_are_those_of_the_folder(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "photos").mkdir()
    photos = write_photos(tmp_path / "photos", damaged=False)
    archive = pack(photos, tmp_path / "packed")
    inner = archive / photos.name if pack is wrapped else archive
    preprocess = Preprocess((8, 8))
    truth = list(GivenImages(given_images([photos])).read(preprocess))
    for named in (archive, inner):
        images = GivenImages(given_images([named]))
        found = list(images.read(preprocess))
        assert [image.name for image, _ in found] == [image.name for image, _ in truth]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(found, truth, strict=True))
    assert len(truth) == 22 and not images.skipped
    one = given_images([inner / "b" / "cat.png", inner / "a" / "cat.png", inner / "a"])
    assert [image.name for image in one] == ["b__cat", "a__cat"]
    assert np.array_equal(one[1].pixels(preprocess), dict_of(truth)["a__cat"])
    assert str(tmp_path) not in one[0].mark + one[0].shown
    with pytest.raises(UsageError, match=r"no image .*packed\..*cta\.png") as caught:
        given_images([inner / "a" / "cta.png"])
    assert caught.value.hint == "did you mean cat.png?"
    with pytest.raises(UsageError, match=r"no image .*packed\.") as caught:
        given_images([inner / "bb" / "cat.png"])
    assert caught.value.hint == f"there is no folder {inner / 'bb'}; did you mean b?"


def dict_of(read: list[tuple[GivenImage, np.ndarray]]) -> dict[str, np.ndarray]:
    return {image.name: pixels for image, pixels in read}


def test_a_changed_member_has_another_mark(tmp_path: Path) -> None:
    draw(tmp_path / "a/cat.png", 10)
    archive = zipped(tmp_path / "a", tmp_path / "packed")
    (before,) = given_images([archive / "cat.png"])
    draw(tmp_path / "a/cat.png", 90)
    mark, _ = before.mark, zipped(tmp_path / "a", tmp_path / "packed")
    (after,) = given_images([archive / "cat.png"])
    assert after.mark != mark and after.place == before.place
    assert after.pixels(Preprocess((8, 8)))[0, 0, 0] == 90


def test_images_of_equal_size_and_time_in_a_tar_are_told_apart_and_known_unpacked(
    tmp_path: Path,
) -> None:
    for name, colour in (("a", 1), ("b", 2)):
        path = draw(tmp_path / "photos" / name / "1.bmp", colour)
        os.utime(path, (1000, 1000))
    archive = tarred(tmp_path / "photos", tmp_path / "packed")
    mine, other = given_images([archive / "a" / "1.bmp", archive / "b" / "1.bmp"])
    assert mine.state != other.state
    plain = given_images([tmp_path / "photos" / "a", tmp_path / "photos" / "b"])
    assert [image.state for image in plain] == [mine.state, other.state]


def test_an_image_of_a_set_is_marked_by_its_state_and_seen_as_a_photo_is(tmp_path):
    paths = [draw(tmp_path / f"set/{name}.png", 100) for name in ("a", "b")]
    images = open_folder(tmp_path / "set")
    first, second = (ImageOfSet(images, index) for index in range(2))
    before = first.mark
    assert before != second.mark
    os.utime(paths[0], ns=(1, 1))
    assert first.mark != before
    preprocess = Preprocess((4, 8), resize=8)
    Image.new("RGB", (16, 8)).save(paths[0])
    with_labels = replace(images, kind="broden")  # squashed there, but not as an example
    (photo,) = given_images([paths[0]])
    seen = ImageOfSet(with_labels, 0).pixels(preprocess)
    assert seen.shape == (3, 4, 8)
    assert np.array_equal(seen, photo.pixels(preprocess))
    Image.new("RGBA", (16, 8), (10, 20, 30, 40)).save(paths[0])
    of_bands, four = replace(with_labels, bands=frozenset({4})), preprocess.with_channels(4)
    seen = ImageOfSet(of_bands, 0).pixels(four)
    assert seen.shape == (4, 4, 8) and np.array_equal(seen, photo.pixels(four))


def test_links_to_nothing_are_skipped_and_named_as_damaged_images_are(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1), draw(tmp_path / "d.png", 2)
    (tmp_path / "b.png").symlink_to(tmp_path / "gone" / "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "c.png")  # in a circle
    given = GivenImages(given_images([tmp_path]))
    assert [image.name for image in given.images] == ["a", "b", "c", "d"]
    assert len({image.state for image in given.images}) == 4
    assert [image.name for image, _ in given.read(Preprocess((4, 4)))] == ["a", "d"]
    assert [(one["image"][-5:], one["reason"]) for one in given.skipped] == [
        ("b.png", "a link to nothing"), ("c.png", "Too many levels of symbolic links"),
    ]  # fmt: skip
    before = {image.name: image.mark for image in given.images}
    assert [image.name for image in given_images([tmp_path], before)] == ["a", "b", "c", "d"]
