from __future__ import annotations

from pathlib import Path

import pytest

from cnnlens.data.given import _place, given_images, picture_names
from cnnlens.errors import UsageError
from tests.cli.photos import write_photos


def names(*paths: str, taken: dict[str, str] | None = None) -> list[str]:
    places = {name: _place(Path(path)) for name, path in (taken or {}).items()}
    return picture_names([Path(path) for path in paths], places)


def test_stems_name_pictures() -> None:
    assert names("/x/a/cat.jpg", "/x/b/dog.tar.png") == ["cat", "dog.tar"]


def test_as_many_folders_as_make_names_unique() -> None:
    found = names("/x/a/cat.jpg", "/x/b/cat.jpg", "/y/a/cat.jpg", "/x/a/dog.jpg")
    assert found == ["x__a__cat", "b__cat", "y__a__cat", "dog"]


def test_endings_tell_apart_what_nothing_else_does() -> None:
    assert names("/x/cat.jpg", "/x/cat.png") == ["cat.jpg", "cat.png"]


def test_names_of_earlier_pictures_stay_with_their_images() -> None:
    taken = {"cat": "/x/a/cat.jpg", "b__dog": "/x/b/dog.jpg"}
    assert names("/x/a/cat.jpg", taken=taken) == ["cat"]
    assert names("/x/b/cat.jpg", taken=taken) == ["b__cat"]
    assert names("/x/b/dog.jpg", taken=taken) == ["b__dog"]


def test_every_name_is_a_different_one() -> None:
    paths = ["/a/b/c.png", "/b/c.png", "/c.png", "/a/b/c.jpg", "/b__c.png"]
    found = names(*paths)
    assert len(set(found)) == len(paths) and not any("/" in name for name in found)


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
