from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data import imports
from cnnlens.data.check import check
from cnnlens.data.decode import load_image
from cnnlens.data.imports import import_data, write
from cnnlens.data.imports.source import safe_names, split_of, stacked
from cnnlens.data.imports.write import without_exif
from cnnlens.data.tables import read_index
from cnnlens.errors import CnnlensError, UsageError
from tests.data.mask_sets import found, mask, picture

SIZE = (24, 32)


def corner(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask that no turn leaves as it is."""
    values = np.zeros(size, np.uint8)
    values[:5, :9] = 1
    return values


def masks_set(root: Path, turn: int = 1, values: np.ndarray | None = None) -> Path:
    picture(root / "images" / "a.jpg", turn=turn)
    mask(root / "masks" / "a.png", corner() if values is None else values)
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# ---- EXIF

TURNS = {  # how an upright array comes from the stored one, as EXIF defines its orientations
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a[::-1].T,
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_photos_and_masks_as_stored_stay_together(tmp_path: Path, turn: int) -> None:
    root = masks_set(tmp_path / "set", turn)
    summary = import_data("masks", root, tmp_path / "out")
    np.testing.assert_array_equal(found(tmp_path / "out")["a.jpg"]["object", "mask"], corner())
    with Image.open(root / "images" / "a.jpg") as stored:
        pixels = np.asarray(stored)
    shown = np.asarray(load_image(tmp_path / "out" / "images" / "a.jpg"))
    np.testing.assert_array_equal(shown, pixels)  # the same pixels, not turned by anybody
    assert any("lie on the pixels as stored" in note for note in summary["notes"]) == (turn != 1)
    assert check(tmp_path / "out").ok


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_masks_of_the_upright_size_are_turned_back(tmp_path: Path, turn: int) -> None:
    upright = np.ascontiguousarray(TURNS[turn](corner()))
    assert upright.shape == SIZE[::-1]
    root = masks_set(tmp_path / "set", turn, upright)
    summary = import_data("masks", root, tmp_path / "out")
    np.testing.assert_array_equal(found(tmp_path / "out")["a.jpg"]["object", "mask"], corner())
    assert any("turned back" in note for note in summary["notes"])
    assert check(tmp_path / "out").ok


def turned_set(root: Path, kinds: dict[str, tuple[int, bool, tuple[int, int]]]) -> Path:
    """Photos by their turn, whether masks lie on them as shown, and their size as stored."""
    for name, (turn, upright, size) in kinds.items():
        picture(root / "images" / f"{name}.jpg", size, turn=turn)
        stored = corner(size)
        mask(root / "masks" / f"{name}.png", TURNS[turn](stored) if upright else stored)
    return root


UNSURE = {f"u{turn}": (turn, (24, 24) if turn > 4 else SIZE) for turn in range(2, 9)}


@pytest.mark.parametrize("upright", [True, False])
def test_squares_and_half_turns_are_as_those_whose_sizes_tell(
    tmp_path: Path, upright: bool
) -> None:
    kinds = {name: (turn, upright, size) for name, (turn, size) in UNSURE.items()}
    kinds |= {"z1": (6, upright, SIZE), "a2": (8, upright, SIZE), "plain": (1, False, SIZE)}
    summary = import_data("masks", turned_set(tmp_path / "set", kinds), tmp_path / "out")
    for name, (_, _, size) in kinds.items():
        planes = found(tmp_path / "out")[f"{name}.jpg"]
        np.testing.assert_array_equal(planes["object", "mask"], corner(size), err_msg=name)
    said = [note for note in summary["notes"] if "EXIF" in note]
    what = "were turned back to" if upright else "lie on"
    assert [note.split(" images")[0] for note in said] == ["2", "7"]
    assert all(what in note for note in said) and "as those" in said[1]
    rows = read_index(tmp_path / "out" / "index.csv", {"object"})[1]
    assert [row.image for row in rows] == sorted(f"{name}.jpg" for name in kinds)


@pytest.mark.parametrize("both", [True, False])
def test_where_nothing_tells_squares_and_half_turns_are_as_stored(
    tmp_path: Path, both: bool
) -> None:
    kinds = {name: (turn, False, size) for name, (turn, size) in UNSURE.items()}
    if both:
        kinds |= {"one": (6, True, SIZE), "other": (6, False, SIZE)}
    summary = import_data("masks", turned_set(tmp_path / "set", kinds), tmp_path / "out")
    for name, (_, _, size) in kinds.items():
        planes = found(tmp_path / "out")[f"{name}.jpg"]
        np.testing.assert_array_equal(planes["object", "mask"], corner(size), err_msg=name)
    (note,) = (note for note in summary["notes"] if note.startswith("7 images"))
    assert ("some do and some do not" if both else "no size tells") in note


def test_an_upright_mask_of_a_photo_without_a_turn_is_refused(tmp_path: Path) -> None:
    root = masks_set(tmp_path / "set", 1, np.ascontiguousarray(corner().T))
    with pytest.raises(CnnlensError, match="mask is 32×24 pixels, the image 24×32"):
        import_data("masks", root, tmp_path / "out")


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_turned_photo_that_is_no_jpeg_is_left_out(tmp_path: Path, ending: str) -> None:
    root = masks_set(tmp_path / "set")
    (root / "images" / "a.jpg").unlink()
    picture(root / "images" / f"a.{ending}", turn=6)
    with pytest.raises(CnnlensError, match="bears an EXIF turn and is no JPEG"):
        import_data("masks", root, tmp_path / "out")


def test_only_segments_of_exif_leave_a_jpeg(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.jpg", turn=6).read_bytes()
    plain = picture(tmp_path / "b.jpg", turn=1).read_bytes()
    assert without_exif(data) == without_exif(plain) == plain
    assert without_exif(data[:2] + b"\xff\xff" + data[2:]) == plain  # padding between segments


# ---- files


def test_equal_sources_give_equal_bytes_and_photos_as_they_were(tmp_path: Path) -> None:
    root = masks_set(tmp_path / "set")
    for number in range(9):
        picture(root / "images" / f"{number}.jpg", seed=number)
        mask(root / "masks" / f"{number}.png", corner() + number % 2)
    for out in ("one", "two"):
        import_data("masks", root, tmp_path / out)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    kept = (tmp_path / "one" / "images" / "a.jpg").read_bytes()
    assert kept == (root / "images" / "a.jpg").read_bytes()


def test_links_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = masks_set(tmp_path / "set")
    photo = root / "images" / "a.jpg"
    for link in (False, True):
        import_data("masks", root, tmp_path / "out", link=link, force=True)
        made = tmp_path / "out" / "images" / "a.jpg"
        assert photo.samefile(made) == link and check(tmp_path / "out").ok
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("none here")))
    import_data("masks", root, tmp_path / "copied", link=True)
    assert (tmp_path / "copied" / "images" / "a.jpg").read_bytes() == photo.read_bytes()


def test_a_turned_photo_is_never_linked(tmp_path: Path) -> None:
    root = masks_set(tmp_path / "set", 6)
    before = (root / "images" / "a.jpg").read_bytes()
    import_data("masks", root, tmp_path / "out", link=True)
    assert (root / "images" / "a.jpg").read_bytes() == before


def test_an_earlier_set_is_replaced_only_when_asked(tmp_path: Path) -> None:
    root = masks_set(tmp_path / "set")
    import_data("masks", root, tmp_path / "out")
    before = tree(tmp_path / "out")
    read: list[int] = []
    with pytest.raises(CnnlensError, match="is not empty"):
        import_data("masks", root, tmp_path / "out", progress=lambda *step: read.append(1))
    assert not read  # refused before a large set is read
    mask(root / "masks" / "a.png", 2 * corner())
    import_data("masks", root, tmp_path / "out", force=True)
    assert tree(tmp_path / "out") != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(CnnlensError, match="no data set that could be replaced"):
        import_data("masks", root, tmp_path / "mine", force=True)


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = masks_set(tmp_path / "set")
    for name in "bcdef":
        picture(root / "images" / f"{name}.jpg")
        mask(root / "masks" / f"{name}.png", corner())

    def interrupted(stage: str, done: int, total: int) -> None:
        if stage == "writing" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_data("masks", root, tmp_path / "out", progress=interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    import_data("masks", root, tmp_path / "out")
    assert len(found(tmp_path / "out")) == 6
    killed = tmp_path / ".out.999999999-abcdef.tmp"  # of a process that is no more
    killed.mkdir()
    import_data("masks", root, tmp_path / "out", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


def test_progress_counts_every_image(tmp_path: Path) -> None:
    root = masks_set(tmp_path / "set")
    told: list[tuple[str, int, int]] = []
    import_data("masks", root, tmp_path / "out", progress=lambda *step: told.append(step))
    assert told == [("reading masks", 1, 1), ("writing", 1, 1)]


def test_options_and_places_that_do_not_fit(tmp_path: Path) -> None:
    root = masks_set(tmp_path / "set")
    refused = [
        ("yolo", {}, "no kind 'yolo'"),
        ("coco", {"names": root / "x"}, "--names is of no use for coco"),
        ("masks", {"supercategories": True}, "masks has no supercategories"),
    ]
    for kind, more, said in refused:
        with pytest.raises(UsageError, match=said):
            import_data(kind, root, tmp_path / "out", **more)
    with pytest.raises(UsageError, match="lies in"):
        import_data("masks", root, root / "broden")
    assert set(imports.KINDS) == {"coco", "voc", "ade20k", "masks"}


# ---- names


def test_names_that_tables_cannot_hold(tmp_path: Path) -> None:
    root = tmp_path / "set"
    names = ["new\nline", "a;b", "a_b", " lead", 'q"uo,te', "日本語", "x" * 240, "it's #1%20"]
    for number, name in enumerate(names):
        picture(root / "images" / f"{name}.jpg", seed=number)
        mask(root / "masks" / f"{name}.png", corner())
    import_data("masks", root, tmp_path / "out")
    _, rows = read_index(tmp_path / "out" / "index.csv", {"object"})
    made = {row.image for row in rows}
    assert made >= {"new_line.jpg", "a_b.jpg", "a_b-2.jpg", "lead.jpg", 'q"uo,te.jpg', "日本語.jpg"}
    assert len(made) == len(names)
    assert check(tmp_path / "out").ok
    for row in rows:  # every mask lies with its own photo
        stored = (tmp_path / "out" / "images" / row.image).read_bytes()
        assert stored in {(root / "images" / f"{n}.jpg").read_bytes() for n in names}


def test_safe_names() -> None:
    assert safe_names(["a/b.jpg", "labels/0.png", "labels", "c\udcff", "../x"]) == [
        *("a/b.jpg", "labels_/0.png", "labels", "c_", ".._/x"),
    ]


def test_splits_in_names() -> None:
    names = ["instances_val2017", "training/a.jpg", "valid", "a/TEST/b", "training_data"]
    assert [split_of(name) for name in names] == ["val", "train", "val", "test", "train"]
    assert [split_of(name) for name in ("value", "constrain", "trains", "")] == [""] * 4


def test_masks_lie_on_as_few_planes_as_take_them() -> None:
    a, b, c = (np.zeros((4, 6), bool) for _ in range(3))
    a[:2], b[1:3], c[3] = True, True, True
    planes = stacked({1: a, 500: b, 7: c}, (4, 6))
    assert len(planes) == 2
    for value, one in ((1, a), (500, b), (7, c)):
        np.testing.assert_array_equal(np.any([plane == value for plane in planes], axis=0), one)
    (empty,) = stacked({}, (4, 6))
    assert isinstance(empty, np.ndarray) and empty.shape == (4, 6) and not empty.any()


def test_memory_does_not_hold_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more images are under way than are read ahead."""
    root = masks_set(tmp_path / "set")
    for number in range(30):
        picture(root / "images" / f"{number}.jpg")
        mask(root / "masks" / f"{number}.png", corner())
    monkeypatch.setattr(write, "_AHEAD", 4)
    started: list[int] = []
    real = write._bring
    monkeypatch.setattr(write, "_bring", lambda *args: started.append(args[2]) or real(*args))
    ahead: list[int] = []
    import_data(
        "masks",
        root,
        tmp_path / "out",
        progress=lambda stage, done, total: (
            ahead.append(len(started) - done) if stage == "writing" else None
        ),
    )
    assert len(started) == 31 and max(ahead) <= 5
