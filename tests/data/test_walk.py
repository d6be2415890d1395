from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.check import check
from cnnlens.data.dataset import open_folder
from cnnlens.data.formats import looks_like_image, readable_formats
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError


def put(path: Path, kind: str = "PNG", size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path, kind)
    return path


ENDINGS = [
    *(("jpg", "JPEG"), ("JPE", "JPEG"), ("jfif", "JPEG"), ("jpeg", "JPEG"), ("png", "PNG")),
    *(("webp", "WEBP"), ("bmp", "BMP"), ("dib", "BMP"), ("tif", "TIFF"), ("TIFF", "TIFF")),
    *(("gif", "GIF"), ("ppm", "PPM"), ("pgm", "PPM")),
    *(
        (ending[1:], name)
        for name in ("AVIF", "JPEG2000")
        for ending in readable_formats().get(name, ())
    ),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "kind"), ENDINGS)
def test_what_pillow_can_read_is_read(tmp_path: Path, ending: str, kind: str) -> None:
    put(tmp_path / "fox" / f"0.{ending}", kind)
    images = open_folder(tmp_path)
    assert images.image_categories == ("fox",)
    red, green, _ = images.load(0).getpixel((3, 2))  # type: ignore[misc]
    assert red > 150 > 80 > green


def test_a_file_without_an_ending_is_an_image_by_its_content(tmp_path: Path) -> None:
    for name, kind in (("7", "JPEG"), ("8", "WEBP"), ("frame.0001", "PNG"), ("9", "TIFF")):
        put(tmp_path / name, kind)
    (tmp_path / "README").write_text("no image")
    images = open_folder(tmp_path)
    assert images.paths == ("7", "8", "9", "frame.0001")
    passed, unnamed = images.notes
    assert passed == "1 file passed over, no image (1 without ending: README)"
    assert unnamed == "4 files without an ending read, by content images"


def test_a_picture_of_a_format_that_is_not_read_is_none_by_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0\0\0\x20ftypheic" + bytes(32))
    assert looks_like_image(tmp_path / "a") == ("HEIF" in readable_formats())
    (tmp_path / "b").write_bytes(b"\0\0\0\x20ftypisom" + bytes(32))  # a film
    assert not looks_like_image(tmp_path / "b")


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "0.png")
    for name in ("a.txt", "b.txt", "c.txt", "d.txt", "cat/e.psd"):
        (tmp_path / name).write_text("x")
    (note,) = open_folder(tmp_path).notes
    assert note == (
        "5 files passed over, no images (4 .txt, 1 .psd: a.txt, b.txt, c.txt and 2 more)"
    )


def test_a_class_of_which_no_file_is_an_image_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "0.png")
    (tmp_path / "dog" / "deep").mkdir(parents=True)
    (tmp_path / "dog" / "deep" / "0.psd").write_text("x")
    (tmp_path / "dog" / "note.txt").write_text("x")
    with pytest.raises(CnnlensError) as caught:
        open_folder(tmp_path)
    assert f"{tmp_path / 'dog'}" in caught.value.message and "1 .psd" in caught.value.message
    report = check(tmp_path)
    assert [problem.where for problem in report.problems] == ["dog/"]
    shutil.rmtree(tmp_path / "dog" / "deep")  # text about images makes no class
    images = open_folder(tmp_path)
    assert images.notes[-1] == "no image in the folder dog: no category"


def test_a_class_of_which_no_image_can_be_read_is_wrong(tmp_path: Path) -> None:
    for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"):
        put(tmp_path / name)
    for name in ("dog/0.png", "dog/1.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:40])
    assert check(tmp_path).problems[-1].what.startswith("no image of category 'dog' can be read")


def test_an_empty_class_is_said_and_no_category(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "0.png")
    (tmp_path / "empty").mkdir()
    images = open_folder(tmp_path)
    assert set(images.image_categories or ()) == {"cat"}
    assert images.notes == ("no image in the folder empty: no category",)


LEFT = (
    *("@eaDir/0.jpg/THUMB.jpg", "__MACOSX/cat/x.jpg", ".ipynb_checkpoints/cat-checkpoint.jpg"),
    *("cat/@eaDir/0.jpg/THUMB.jpg", "lost+found/x.jpg", "$RECYCLE.BIN/x.jpg", ".git/x.png"),
    *("cat/._0.jpg", "cat/.ipynb_checkpoints/0-checkpoint.jpg", "System Volume Information/x.png"),
)


def test_leftovers_of_systems_and_tools_are_no_images_and_no_classes(tmp_path: Path) -> None:
    for name in ("cat/0.jpg", "dog/0.jpg", *LEFT):
        put(tmp_path / name, "JPEG")
    for name in (".DS_Store", "cat/Thumbs.db", "desktop.ini", "dog/DESKTOP.INI"):
        (tmp_path / name).write_bytes(b"x")
    images = open_folder(tmp_path)
    assert images.paths == ("cat/0.jpg", "dog/0.jpg")
    assert images.notes == ()  # nobody put them there
    note, *_ = check(tmp_path).notes
    assert note.startswith("left by systems and tools: $RECYCLE.BIN, .DS_Store, ._0.jpg and ")


def test_images_beside_folders_are_said_to_make_no_categories(tmp_path: Path) -> None:
    for name in ("cat/0.png", "dog/0.png", "overview.png"):
        put(tmp_path / name)
    images = open_folder(tmp_path)
    assert images.kind == "images"
    assert images.notes == ("images lie beside folders (cat, dog): there are no categories",)


def test_nothing_but_other_files_says_what_they_are(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(io.BytesIO(b"x").getvalue())
    with pytest.raises(CnnlensError, match=r"2 files passed over, no images \(2 \.dcm"):
        open_folder(tmp_path)


# ---- what may be meant otherwise is said


def test_links_are_read_once_and_said(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "0.png")
    put(tmp_path / "dog" / "0.png")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "tom").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self").symlink_to("self")
    images = open_folder(tmp_path)
    assert set(images.image_categories or ()) == {"cat", "dog"}
    assert images.notes[-1] == "links to folders that are read already: tom, cat/up"
    (problem,) = check(tmp_path).problems
    assert (problem.where, problem.what) == ("dog/gone.png", "image a link to nothing")
    linked = tmp_path.parent / f"{tmp_path.name}-link"
    linked.symlink_to(tmp_path)
    assert open_folder(linked).paths == images.paths


def test_folders_below_classes_are_said_where_there_are_several(tmp_path: Path) -> None:
    for name in ("animal/cat/0.png", "animal/dog/0.png", "plant/images/0.png"):
        put(tmp_path / name)
    images = open_folder(tmp_path)
    assert images.image_categories == ("animal", "animal", "plant")
    assert images.notes == ("folders in a class are all that class (animal/cat, animal/dog)",)
    shutil.rmtree(tmp_path / "animal" / "dog")
    assert open_folder(tmp_path).notes == ()


@pytest.mark.parametrize("names", [("Cat", "cat"), ("cafe\u0301", "caf\u00e9"), ("cat", "cat ")])
def test_classes_that_look_alike_are_said(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in (*names, "dog"):
        put(tmp_path / name / "0.png")
    images = open_folder(tmp_path)
    if len(set(images.image_categories or ())) < 3:
        pytest.skip("the file system takes them for one")
    (note,) = images.notes
    assert note.startswith("classes whose names differ in case") and "dog" not in note


def test_a_table_beside_flat_images_is_said_to_be_no_labels(tmp_path: Path) -> None:
    put(tmp_path / "0.png")
    (tmp_path / "labels.csv").write_text("image,label\n0.png,cat\n")
    (note,) = open_folder(tmp_path).notes
    assert note.endswith("; folders are classes, tables are not read")


def test_a_pipe_is_no_image_and_is_never_opened(tmp_path: Path) -> None:
    put(tmp_path / "0.png")
    for name in ("pipe", "pipe.png"):
        os.mkfifo(tmp_path / name)
    assert open_data(tmp_path).paths == ("0.png", "pipe.png")
    (problem,) = check(tmp_path).problems
    assert problem.what == "image not a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_class_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "0.png")
    put(tmp_path / "dog" / "0.png")
    (tmp_path / "dog").chmod(0)
    try:
        with pytest.raises(CnnlensError, match=r"dog.* cannot be read: permission denied"):
            open_folder(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o700)


# ---- what is odd, and does no harm


def notes_of(root: Path) -> str:
    return "\n".join(check(root).notes)


def test_images_that_are_there_twice_are_named(tmp_path: Path) -> None:
    for name, colour in (("cat/0", 1), ("cat/1", 1), ("cat/2", 2), ("dog/0", 2), ("dog/1", 3)):
        put(tmp_path / f"{name}.png")
        Image.new("RGB", (9, 9), (colour, 0, 0)).save(tmp_path / f"{name}.png")
    said = notes_of(tmp_path)
    assert "the same image in several classes: cat/2.png = dog/0.png\n" in said
    assert said.endswith("the same image several times: cat/0.png = cat/1.png")


def test_images_that_splits_share_are_named(tmp_path: Path) -> None:
    for part in ("train", "val"):
        put(tmp_path / part / "cat" / "0.png")
    assert "in several splits: train/cat/0.png = val/cat/0.png" in notes_of(tmp_path)


def test_tiny_and_long_images_are_named(tmp_path: Path) -> None:
    for name, size in (("a", (40, 30)), ("dot", (1, 1)), ("strip", (500, 20))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    said = notes_of(tmp_path)
    assert "images of less than 8 pixels a side: dot.png (1×1)" in said
    assert "a crop of their centre shows little: strip.png (20×500)" in said


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_films_are_said_to_be_their_first_frame(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (9, 9), (100 * k, 0, 0)) for k in range(3)]
    frames[0].save(tmp_path / f"film.{ending}", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "still.gif")
    (note,) = open_data(tmp_path).notes
    assert note == f"of several frames the first counts (film.{ending})"
    assert np.asarray(open_data(tmp_path).load(0)).max() == 0
