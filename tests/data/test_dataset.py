from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cnnlens.data import paths, seconds
from cnnlens.data.dataset import open_folder
from cnnlens.data.paths import state_of
from cnnlens.errors import CnnlensError, UsageError


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.lower().endswith((".txt", ".json")):
            path.write_text("{}")
        else:
            Image.new("RGB", (4, 4)).save(path, "PNG")
    return root


def test_a_flat_folder_is_sorted_and_holds_images_only(tmp_path: Path) -> None:
    put(tmp_path, "b.PNG", "a.jpg", "c.webp", "notes.txt", ".hidden.png", "d.tiff", "e.bmp")
    images = open_folder(tmp_path)
    assert images.paths == ("a.jpg", "b.PNG", "c.webp", "d.tiff", "e.bmp")
    assert images.kind == "images" and images.image_categories is None
    assert not images.aligned


def test_subfolders_are_classes_named_by_the_first_level(tmp_path: Path) -> None:
    put(tmp_path, "dog/x/2.png", "cat/1.png", "dog/1.png", ".git/a.png", "labels.txt")
    images = open_folder(tmp_path)
    assert images.kind == "classes"
    assert images.paths == ("cat/1.png", "dog/1.png", "dog/x/2.png")
    assert images.image_categories == ("cat", "dog", "dog")
    assert repr(images) == f"<ImageSet {images.name}: 3 images, 2 categories>"


def test_images_beside_subfolders_make_one_flat_list_without_losing_any(tmp_path: Path) -> None:
    images = open_folder(put(tmp_path, "z.png", "sub/a.png"))
    assert images.kind == "images" and images.paths == ("sub/a.png", "z.png")


def test_pictures_of_an_earlier_investigation_are_no_data(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "cnnlens-out/workspace.json", "cnnlens-out/visualize/conv1/0.png")
    assert open_folder(tmp_path).paths == ("a.png",)


def test_links_that_lead_back_end_and_no_image_comes_twice(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "beside").symlink_to(tmp_path / "b")
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert open_folder(tmp_path).paths == ("a/1.png", "b/2.png")


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    assert open_folder(tmp_path / "data").paths == ("cat/1.png",)


def test_an_empty_folder_names_itself_and_the_endings(tmp_path: Path) -> None:
    put(tmp_path, "notes.txt")
    with pytest.raises(CnnlensError) as caught:
        open_folder(tmp_path)
    assert str(tmp_path) in caught.value.message and ".webp" in caught.value.hint


def test_a_missing_folder_offers_near_names(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(CnnlensError) as caught:
        open_folder(tmp_path / "fotos")
    assert "fotos" in caught.value.message and "photos" in caught.value.hint


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "a.7z").write_bytes(b"7z")
    (tmp_path / "notes").write_bytes(b"x")
    for name, what in (("a.png", "an image"), ("a.7z", "an archive"), ("notes", "a file")):
        with pytest.raises(UsageError, match=f"{name} is {what}, not a folder"):
            open_folder(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    try:
        with pytest.raises(CnnlensError, match="permission denied"):
            open_folder(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_fails_while_it_is_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(CnnlensError, match="permission denied"):
        open_folder(tmp_path)


def test_an_image_written_again_after_it_was_looked_at_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large as it was, at once. The clock is one that moves only while somebody sleeps."""
    now = 1000.25
    slept = []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    def write(colour: str) -> None:
        Image.new("RGB", (4, 4), colour).save(tmp_path / "a.bmp")
        os.utime(tmp_path / "a.bmp", ns=(0, int(now * 1e9)))

    monkeypatch.setattr(seconds, "AWAITS", True)
    monkeypatch.setattr(seconds, "time", SimpleNamespace(time=lambda: now, sleep=sleep))
    write("red")
    before = open_folder(tmp_path).fingerprint
    write("blue")
    assert open_folder(tmp_path).fingerprint != before
    assert slept == [0.75, 1.0]
    assert open_folder(tmp_path).fingerprint and len(slept) == 2  # it is older by now


def test_a_copy_on_a_disk_of_whole_seconds_is_the_same_data(tmp_path: Path) -> None:
    put(tmp_path / "a", "1.png")
    os.utime(tmp_path / "a" / "1.png", ns=(0, 1_000_700_000_123))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b" / "1.png", (0, 1000))
    assert open_folder(tmp_path / "a").fingerprint == open_folder(tmp_path / "b").fingerprint


def twins(root: Path, count: int, size: int = 4) -> tuple[Path, Path]:
    """Write two folders of images that agree in names, sizes and times, and differ in pixels."""
    for name, colour in (("clean", "white"), ("noisy", "black")):
        (root / name).mkdir()
        for number in range(count):
            image = Image.new("RGB", (size, size), colour)
            image.save(root / name / f"{number:03}.bmp")
            os.utime(root / name / f"{number:03}.bmp", (0, 1000))
    return root / "clean", root / "noisy"


@pytest.mark.parametrize("count", [1, 100])
def test_folders_of_equal_names_sizes_and_times_are_told_apart_by_content(
    tmp_path: Path, count: int
) -> None:
    clean, noisy = twins(tmp_path, count)
    moved = shutil.move(shutil.copytree(clean, tmp_path / "copy"), tmp_path / "moved")
    mark = open_folder(clean).fingerprint
    assert open_folder(noisy).fingerprint != mark
    assert open_folder(moved).fingerprint == mark


def test_of_large_files_both_ends_are_read(tmp_path: Path) -> None:
    clean, noisy = twins(tmp_path, 2, 300)  # 270,054 bytes each
    large = [path.read_bytes() for path in (clean / "001.bmp", noisy / "001.bmp")]
    before = open_folder(clean).fingerprint
    for content, differs in (
        (large[0][:-1] + large[1][-1:], True),
        (large[0][:1000] + large[1][1000:2000] + large[0][2000:], True),
        (large[0][:135_000] + large[1][135_000:135_100] + large[0][135_100:], False),
    ):
        (clean / "001.bmp").write_bytes(content)
        os.utime(clean / "001.bmp", (0, 1000))
        assert (open_folder(clean).fingerprint != before) == differs


@pytest.mark.parametrize("count", [1, 16, 32, 33, 100, 1000])
def test_files_that_are_read_are_evenly_spaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    read: list[int] = []
    monkeypatch.setattr(paths, "content_mark", lambda path: (read.append(int(path)), "")[1])
    state_of((str(number), str(number)) for number in range(count))
    steps = set(np.diff(sorted(read)))
    assert min(count, 16) <= len(read) <= 32 and min(read) == 0 and len(steps) <= 1
    assert count - max(read) <= max(steps, default=1)


def test_what_cannot_be_read_stops_no_fingerprint(tmp_path: Path) -> None:
    clean, _ = twins(tmp_path, 3)
    images = open_folder(clean)
    (clean / "000.bmp").unlink()
    (clean / "001.bmp").unlink()
    (clean / "001.bmp").mkdir()
    (clean / "002.bmp").unlink()
    os.mkfifo(clean / "002.bmp")
    assert len(images.fingerprint) == 16


def test_classes_are_labels_that_have_a_fingerprint(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    images = open_folder(tmp_path)
    assert images.labels_fingerprint
    assert replace(images, image_categories=("b", "a")).labels_fingerprint != (
        images.labels_fingerprint
    )
    assert replace(images, kind="images", image_categories=None).labels_fingerprint == ""
