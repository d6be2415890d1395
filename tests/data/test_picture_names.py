"""Names of pictures, and paths that say nothing of the machine."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cnnlens.data.picture_names import _name, picture_names, place_of, shown_path


def test_stems_with_as_many_folders_as_make_them_unique(tmp_path):
    paths = [tmp_path / name for name in ("a/cat.jpg", "b/cat.jpg", "b/dog.jpg", "b/dog.png")]
    assert picture_names(paths) == ["a__cat", "b__cat", "dog.jpg", "dog.png"]


def test_paths_are_shown_without_the_machine(tmp_path, monkeypatch):
    assert shown_path(Path("photos/cat.jpg")) == "photos/cat.jpg"
    assert shown_path(tmp_path / "photos/cat.jpg") == "photos/cat.jpg"


def names(*paths: str, taken: dict[str, str] | None = None) -> list[str]:
    places = {name: place_of(Path(path)) for name, path in (taken or {}).items()}
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


def literal(paths: list[Path]) -> list[str]:
    """Compare every image with every other."""
    found = []
    for path in paths:
        for stem, parents in [(s, k) for s in (True, False) for k in range(len(path.parts) - 1)]:
            name = _name(path, parents, stem)
            if all(_name(other, parents, stem) != name for other in paths if other != path):
                break
        else:
            name = _name(path, len(path.parts) - 1, False)
        found.append(name)
    return found


def test_names_are_those_of_comparing_all_with_all() -> None:
    draw = random.Random(0)
    for _ in range(200):
        folders = ["/".join(draw.choices("ab", k=draw.randint(1, 4))) for _ in range(12)]
        paths = [
            Path(f"/{at}/{draw.choice(['x', 'y', 'a__x'])}.{draw.choice('jp')}") for at in folders
        ]
        paths = list(dict.fromkeys(paths))
        assert picture_names(paths) == literal(paths)


def test_names_of_many_images_are_made_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "cnnlens.data.picture_names._name", lambda *of: (made.append(1), _name(*of))[1]
    )
    assert len({*picture_names([Path(f"/x/{n}.png") for n in range(300)])}) == 300
    assert len(made) <= 3 * 300  # and not 300 times 300
