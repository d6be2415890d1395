"""What is in an archive is read as from the folder that unpacking it leaves."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cnnlens.data import seconds
from cnnlens.data.animals import make_animals
from cnnlens.data.archives import ZipArchive
from cnnlens.data.batches import batches
from cnnlens.data.broden import Broden
from cnnlens.data.check import check
from cnnlens.data.container import LARGEST
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.data.given import ImageOfSet
from cnnlens.data.imports import import_data
from cnnlens.data.open import held_out_beside, open_data, train_split
from cnnlens.data.parts import PartSet
from cnnlens.data.synthetic import make_shapes
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.preprocess import Preprocess

from .packed import PACKS, Pack, stored, tarred, wrapped, zipped

PREPROCESS = Preprocess((12, 12), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def picture(path: Path, seed: int, size: tuple[int, int] = (20, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def photos(root: Path) -> Path:
    """Class folders with all that lies about in them."""
    for seed, name in enumerate(("cat/1.png", "cat/in/2.jpg", "dog/1.png", "dog/b c/3.tif")):
        picture(root / name, seed)
    shutil.copy(root / "cat" / "1.png", root / "cat" / "noending")
    (root / "cat" / "cut.jpg").write_bytes((root / "cat" / "in" / "2.jpg").read_bytes()[:300])
    (root / "cat" / "none.png").write_bytes(b"")
    (root / "dog" / "notes.txt").write_text("a note")
    (root / "dog" / ".DS_Store").write_text("left")
    (root / "dog" / "Thumbs.db").write_text("left")
    deep = np.arange(20 * 16, dtype=np.uint16).reshape(20, 16) * 11
    Image.fromarray(deep).save(root / "dog" / "deep.png")
    return root


def outcome(images: ImageSet, index: int) -> object:
    try:
        return images.load(index).tobytes()
    except DamagedImage as damage:
        return damage.reason


def same(found: ImageSet, truth: ImageSet) -> None:
    """Hold all that engines ask of a data set against the folder's."""
    assert type(found) is type(truth)
    for name in ("paths", "kind", "image_categories", "split", "ranges", "bands", "notes"):
        assert getattr(found, name) == getattr(truth, name), name
    assert len(truth.paths) > 1
    for index in range(len(truth.paths)):
        assert outcome(found, index) == outcome(truth, index), truth.paths[index]


@pytest.mark.parametrize("pack", PACKS)
def test_class_folders_with_damage_and_leftovers_are_those_of_the_folder(
    tmp_path: Path, pack: Pack
) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    archive = pack(tmp_path / "photos", tmp_path / "packed")
    found = open_data(archive)
    same(found, truth)
    assert {outcome(truth, k) for k in range(len(truth.paths))} >= {"truncated", "empty file"}
    assert found.name in ("packed", "photos")
    mine, other = check(archive), check(tmp_path / "photos")
    assert mine.problems == other.problems and len(other.problems) == 2
    assert [n for n in mine.notes if "left by" not in n] == [
        n for n in other.notes if "left by" not in n
    ]
    assert any("the same image several times" in note for note in mine.notes)


@pytest.mark.parametrize("pack", PACKS)
def test_flat_images_splits_and_labels_are_those_of_the_folder(tmp_path: Path, pack: Pack) -> None:
    for seed in range(3):
        picture(tmp_path / "flat" / f"{seed}.png", seed)
        picture(tmp_path / "splits" / "Train" / "cat" / f"{seed}.png", seed)
        picture(tmp_path / "splits" / "val" / "cat" / f"{seed}.png", seed + 9)
    flat = pack(tmp_path / "flat", tmp_path / "f")
    found = open_data(flat)
    if pack is wrapped:
        *_, said = found.notes
        found = replace(found, notes=found.notes[:-1])
        assert said.startswith("all of f.zip is in one folder, flat, which is taken for the data")
    same(found, open_data(tmp_path / "flat"))
    archive = pack(tmp_path / "splits", tmp_path / "s")
    with pytest.raises(UsageError, match="are splits, not categories: Train, val"):
        open_data(archive)
    found, truth = open_data(archive, "train"), open_data(tmp_path / "splits", "train")
    same(found, truth)
    assert train_split(archive) == "Train"
    beside, other = held_out_beside(found), held_out_beside(truth)
    assert beside is not None and other is not None
    same(beside, other)


@pytest.mark.parametrize("pack", PACKS)
def test_label_maps_are_those_of_the_folder(tmp_path: Path, pack: Pack) -> None:
    make_shapes(tmp_path / "shapes", 6, 32)
    truth = open_data(tmp_path / "shapes")
    found = open_data(pack(tmp_path / "shapes", tmp_path / "packed"))
    assert isinstance(found, Broden) and isinstance(truth, Broden)
    same(found, truth)
    assert found.rows == truth.rows and found.splits == truth.splits
    mine, other = found.concept_space(), truth.concept_space()
    assert mine.concepts == other.concepts
    for index in range(len(truth.paths)):
        one, two = mine.labels(index), other.labels(index)
        assert np.array_equal(one.planes, two.planes) and two.planes.any()
        assert np.array_equal(one.whole, two.whole)
    assert check(found.root).problems == ()


@pytest.mark.parametrize("pack", PACKS)
def test_parts_and_their_masks_are_those_of_the_folder(tmp_path: Path, pack: Pack) -> None:
    make_animals(tmp_path / "CUB", 6, 32)
    truth = open_data(tmp_path / "CUB")
    found = open_data(pack(tmp_path / "CUB", tmp_path / "packed"))
    assert isinstance(found, PartSet) and isinstance(truth, PartSet)
    same(found, truth)
    assert np.array_equal(found.centres, truth.centres, equal_nan=True)
    for index in range(len(truth.paths)):
        masks = truth.part_masks(index, (16, 16))
        assert np.array_equal(found.part_masks(index, (16, 16)), masks) and masks.any()


def test_a_folder_within_an_archive_can_be_named(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos") / "cat")
    archive = zipped(tmp_path / "photos", tmp_path / "packed")
    same(open_data(archive / "cat"), truth)
    same(open_data(f"{archive}/cat/"), truth)
    with pytest.raises(UsageError, match=r"no folder .*packed\.zip/cow"):
        open_data(archive / "cow")
    for missing in ("Cat", "cats"):
        with pytest.raises(UsageError, match=r"no folder .*packed\.zip/") as caught:
            open_data(archive / missing)
        assert caught.value.hint == "did you mean cat?"
    with pytest.raises(UsageError) as caught:
        open_data(archive / "cow" / "calf")
    assert caught.value.hint == f"there is no folder {archive / 'cow'} either"
    with pytest.raises(UsageError, match=r"1\.png is an image, not a folder"):
        open_data(archive / "cat" / "1.png")


def test_only_a_folder_that_might_have_been_a_category_is_said_to_be_none(tmp_path: Path) -> None:
    for seed in range(2):
        picture(tmp_path / "photos" / "cats" / f"{seed}.png", seed)
    folder, archive = open_data(tmp_path / "photos"), zipped(tmp_path / "photos", tmp_path / "p")
    assert folder.image_categories == ("cats", "cats")
    found = open_data(archive)
    assert found.kind == "images" and found.image_categories is None
    assert len(found.notes) == 1 and "one folder, cats, which" in found.notes[0]
    for quiet in (f"{archive}/cats", str(found.root)):  # the folder itself was named
        assert open_data(quiet).notes == ()
    classes = wrapped(photos(tmp_path / "more"), tmp_path / "q")
    assert not any("one folder" in note for note in open_data(classes).notes)


def test_a_relative_path_leads_to_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    zipped(tmp_path / "photos", tmp_path / "packed")
    monkeypatch.chdir(tmp_path)
    found = open_data("packed.zip")
    same(found, truth)
    assert str(found.root) == "packed.zip"
    again = open_data(str(found.root.resolve()))  # as a workspace remembers it
    assert again.fingerprint == found.fingerprint and again.root.is_absolute()


@pytest.mark.parametrize("pack", PACKS)
def test_a_copy_is_the_same_data_and_a_changed_member_is_not(tmp_path: Path, pack: Pack) -> None:
    folder = photos(tmp_path / "photos")
    archive = pack(folder, tmp_path / "packed")
    before = open_data(archive).fingerprint
    copied = tmp_path / f"copy{archive.suffix}"
    shutil.copy(archive, copied)
    assert open_data(copied).fingerprint == before
    # of equal length, so that a size alone would not tell
    changed = bytearray((folder / "dog" / "1.png").read_bytes())
    changed[-20] ^= 1
    (folder / "dog" / "1.png").write_bytes(changed)
    pack(folder, tmp_path / "packed")
    assert open_data(archive).fingerprint != before


def test_labels_of_an_archive_change_with_its_tables_and_planes(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", 4, 32)
    archive = zipped(tmp_path / "shapes", tmp_path / "packed")
    before = open_data(archive).labels_fingerprint
    plane = next((tmp_path / "shapes" / "images").rglob("*color*.png"))
    black = np.zeros_like(np.asarray(Image.open(plane)))
    Image.fromarray(black).save(plane)
    zipped(tmp_path / "shapes", tmp_path / "packed")
    between = open_data(archive).labels_fingerprint
    with (tmp_path / "shapes" / "label.csv").open("a") as file:
        file.write("\n")
    zipped(tmp_path / "shapes", tmp_path / "packed")
    assert len({before, between, open_data(archive).labels_fingerprint}) == 3


# ---- many readers


@pytest.mark.parametrize("pack", PACKS)
def test_threads_read_side_by_side(tmp_path: Path, pack: Pack) -> None:
    for seed in range(40):
        picture(tmp_path / "photos" / f"{seed:02d}.png", seed, (40, 50))
    truth = open_data(tmp_path / "photos")
    found = open_data(pack(tmp_path / "photos", tmp_path / "packed"))
    with ThreadPoolExecutor(16) as pool:
        order = [*range(40)] * 5
        assert list(pool.map(lambda k: outcome(found, k), order)) == [
            outcome(truth, k) for k in order
        ]
    several = batches(found, PREPROCESS, batch_size=7, workers=8)
    one = batches(truth, PREPROCESS, batch_size=7, workers=0)
    for mine, other in zip(several, one, strict=True):
        assert np.array_equal(mine.pixels, other.pixels)


def _loaded(images: ImageSet, send: object) -> None:
    send.put([outcome(images, k) for k in range(len(images.paths))])  # type: ignore[attr-defined]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_forked_process_and_another_one_read_on(tmp_path: Path, pack: Pack) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    found = open_data(pack(tmp_path / "photos", tmp_path / "packed"))
    expected = [outcome(truth, k) for k in range(len(truth.paths))]
    assert outcome(found, 0) == expected[0]  # the file is open now
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_loaded, args=(found, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()
    again = pickle.loads(pickle.dumps(found))
    assert [outcome(again, k) for k in range(len(again.paths))] == expected


# ---- hostile and damaged archives


def entry(archive: tarfile.TarFile, name: str, content: bytes = b"", **more: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(content))


def test_names_that_lead_out_links_and_devices_are_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    data = (tmp_path / "a.png").read_bytes()
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        for name in ("cat/a.png", "../out.png", "/etc/passwd.png", "cat/../../b.png"):
            entry(archive, name, data)
        entry(archive, "cat/pipe.png", type=tarfile.FIFOTYPE)
        entry(archive, "cat/gone.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        entry(archive, "cat/up.png", type=tarfile.SYMTYPE, linkname="../../../etc/passwd")
        entry(archive, "cat/link.png", type=tarfile.SYMTYPE, linkname="a.png")
        entry(archive, "dog/hard.png", type=tarfile.LNKTYPE, linkname="cat/a.png")
        entry(archive, "./cat//a.png", data)
    found = open_data(tmp_path / "bad.tar")
    assert found.paths == ("cat/a.png", "cat/link.png", "dog/hard.png")
    assert {outcome(found, k) for k in range(3)} == {Image.open(tmp_path / "a.png").tobytes()}
    words = "; ".join(found.notes)
    assert "3 members passed over, whose names lead out of the archive: ../out.png" in words
    assert "3 members passed over, links or no plain files" in words
    assert "1 member there more than once, of which the last counts: cat/a.png" in words
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as out:
        for name in ("a.png", "..\\b.png", "../c.png", "C:/d.png", "in\\e.png"):
            out.writestr(name, data)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        out.writestr(link, "a.png")
    found = open_data(tmp_path / "bad.zip")
    assert found.paths == ("a.png", "in/e.png")
    words = "; ".join(found.notes)
    assert "3 members passed over, whose names lead out" in words
    assert "1 member passed over, links or no plain files: link.png" in words


def test_a_colon_leads_out_behind_a_drives_letter_alone(tmp_path: Path) -> None:
    for folder in ("12:00", "a:b"):
        picture(tmp_path / "photos" / folder / "1.png", 1)
    truth = open_data(tmp_path / "photos")
    for pack in (zipped, tarred):
        same(open_data(pack(tmp_path / "photos", tmp_path / "packed")), truth)


@pytest.mark.parametrize("name", ["/cat/1.png", "C:\\cat\\1.png", "../cat/1.png"])
def test_why_an_archive_holds_no_image_is_said(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "a.png", 1)
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        entry(archive, name, (tmp_path / "a.png").read_bytes())
    with pytest.raises(CnnlensError, match=r"no images in .*bad\.tar: 1 member passed over, whose"):
        open_data(tmp_path / "bad.tar")


def test_a_name_longer_than_any_file_may_have_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    name = "cat/" + "x" * 900 + ".png"
    with tarfile.open(tmp_path / "long.tar", "w") as archive:
        archive.add(tmp_path / "a.png", name)
        archive.add(tmp_path / "a.png", "dog/1.png")
    found = open_data(tmp_path / "long.tar")
    assert found.paths[0] == name and outcome(found, 0) == outcome(found, 1)


@pytest.mark.parametrize("pack", PACKS)
def test_an_archive_that_was_cut_short_is_one_clear_error(tmp_path: Path, pack: Pack) -> None:
    archive = pack(photos(tmp_path / "photos"), tmp_path / "packed")
    whole = archive.read_bytes()
    # a tar ends in zeros, up to 10 kB of them
    end = len(whole.rstrip(b"\0"))
    for length in (0, 100, end // 2, end - 1500):
        archive.write_bytes(whole[:length])
        with pytest.raises(CnnlensError, match=rf"{archive.name} is damaged") as caught:
            open_data(archive)
        assert caught.value.hint == "copy or download it again"


def test_a_member_whose_bytes_changed_is_a_damaged_image(tmp_path: Path) -> None:
    for seed in range(3):
        picture(tmp_path / "photos" / f"{seed}.bmp", seed)
    archive = stored(tmp_path / "photos", tmp_path / "packed")
    content = (tmp_path / "photos" / "1.bmp").read_bytes()
    whole = archive.read_bytes()
    place = whole.index(content) + len(content) - 9  # a pixel: without a checksum nobody would see
    archive.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    found = open_data(archive)
    assert "CRC" in str(outcome(found, 1)) and isinstance(outcome(found, 0), bytes)
    (batch,) = batches(found, PREPROCESS, batch_size=9, workers=2)
    assert [path for path, _ in batch.skipped] == ["1.bmp"] and len(batch.indices) == 2


def test_a_member_that_swells_is_not_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.png", "a.png")
        archive.writestr("bomb.png", b"")
    whole = bytearray(path.read_bytes())
    place = whole.rindex(b"PK\1\2") + 24  # the uncompressed size in the archive's list
    whole[place : place + 4] = struct.pack("<I", LARGEST + 1)
    path.write_bytes(whole)
    found = open_data(path)
    assert outcome(found, 1) == "file too large"
    assert isinstance(outcome(found, 0), bytes)


def test_what_cannot_be_read_in_place_says_the_way_out(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    for ending, mode in (("tar.gz", "gz"), ("tgz", "gz"), ("tar.xz", "xz"), ("tar.bz2", "bz2")):
        path = tmp_path / f"packed.{ending}"
        with tarfile.open(path, f"w:{mode}") as archive:
            archive.add(tmp_path / "photos", "photos")
        with pytest.raises(CnnlensError, match="is compressed as a whole") as caught:
            open_data(path)
        assert "tar -xf" in caught.value.hint
    shutil.copy(tmp_path / "packed.tgz", tmp_path / "named.tar")
    with pytest.raises(CnnlensError, match="is compressed as a whole"):
        open_data(tmp_path / "named.tar")
    (tmp_path / "odd.tar").write_bytes(b"no archive at all" * 99)
    with pytest.raises(CnnlensError, match="is damaged"):
        open_data(tmp_path / "odd.tar")
    locked = zipped(tmp_path / "photos", tmp_path / "locked")
    whole = bytearray(locked.read_bytes())
    whole[whole.index(b"PK\1\2") + 8] |= 1
    locked.write_bytes(whole)
    with pytest.raises(CnnlensError, match="is encrypted") as caught:
        open_data(locked)
    assert "unpack it with its password" in caught.value.hint


def test_an_archive_that_goes_away_is_named(tmp_path: Path) -> None:
    archive = stored(photos(tmp_path / "photos"), tmp_path / "packed")
    found = open_data(archive)
    found.check_there()
    archive.unlink()
    with pytest.raises(CnnlensError, match=r"packed\.zip is gone since the command began"):
        found.check_there()


def test_an_import_wants_a_folder(tmp_path: Path) -> None:
    archive = zipped(photos(tmp_path / "photos"), tmp_path / "packed")
    for kind in ("coco", "voc", "ade20k", "masks"):
        with pytest.raises(UsageError, match="is an archive, not a folder"):
            import_data(kind, archive, tmp_path / "out")


# ---- times that tell nothing


def packed_at(path: Path, pixels: dict[str, int], times: dict[str, float], written: int) -> Path:
    """Pack images of equal size, with the members' times, in a tar that was written then."""
    with tarfile.open(path, "w") as archive:
        for name, value in pixels.items():
            buffer = io.BytesIO()
            Image.new("L", (4, 4), value).save(buffer, "BMP")
            entry(archive, name, buffer.getvalue(), mtime=times.get(name, 0))
    os.utime(path, (written, written))
    return path


@pytest.mark.parametrize("times", [{}, {"a.bmp": 1700000000, "b.bmp": 1700000000}, {"a.bmp": 7.5}])
def test_other_content_shows_where_times_do_not_tell(
    tmp_path: Path, times: dict[str, float]
) -> None:
    tar = tmp_path / "set.tar"
    marks = []
    for written, value in ((1000, 2), (1001, 3)):
        packed_at(tar, {"a.bmp": 1, "b.bmp": value}, times, written)
        marks.append([open_data(one).fingerprint for one in (tar, tmp_path / "s*.tar")])
    assert marks[0][0] != marks[1][0] and marks[0][1] != marks[1][1]
    copied = Path(shutil.copy2(tar, tmp_path / "copy.tar"))
    os.utime(copied, ns=(0, 1001 * 10**9 + 5))  # a disk of finer times
    assert open_data(copied).fingerprint == marks[1][0]


def test_a_tar_whose_times_tell_may_be_copied_without_its_own(tmp_path: Path) -> None:
    times = {"a.bmp": 1700000000.0, "b.bmp": 1700000001.0}
    tar = packed_at(tmp_path / "set.tar", {"a.bmp": 1, "b.bmp": 2}, times, 1000)
    before = open_data(tar).fingerprint
    os.utime(tar, (2000, 2000))
    assert open_data(tar).fingerprint == before


@pytest.mark.parametrize("large", [False, True])
def test_tars_of_equal_members_and_times_are_told_apart_by_content(
    tmp_path: Path, large: bool
) -> None:
    names = [f"{number}.bmp" for number in range(40 if large else 3)]
    times = {name: 1700000000.0 + number for number, name in enumerate(names)}
    clean, noisy = (
        packed_at(tmp_path / f"{name}.tar", dict.fromkeys(names, value), times, 1000)
        for name, value in (("clean", 10), ("noisy", 200))
    )
    one, other = open_data(clean), open_data(noisy)
    assert one.fingerprint != other.fingerprint
    assert ImageOfSet(one, 1).mark != ImageOfSet(other, 1).mark
    copied = open_data(shutil.copy(clean, tmp_path / "copy.tar"))
    assert copied.fingerprint == one.fingerprint
    assert ImageOfSet(copied, 1).mark == ImageOfSet(one, 1).mark


def test_of_a_zip_no_member_is_read_to_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_data(zipped(photos(tmp_path / "photos"), tmp_path / "packed"))
    monkeypatch.setattr(ZipArchive, "open_member", None)
    monkeypatch.setattr(ZipArchive, "read_member", None)
    assert found.fingerprint


def test_a_tar_packed_again_in_the_second_in_which_it_was_looked_at_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.25

    def sleep(some: float) -> None:
        nonlocal now
        now += some

    monkeypatch.setattr(seconds, "AWAITS", True)
    monkeypatch.setattr(seconds, "time", SimpleNamespace(time=lambda: now, sleep=sleep))
    tar = tmp_path / "set.tar"
    marks = [
        open_data(packed_at(tar, {"a.bmp": value}, {}, int(now))).fingerprint for value in (1, 2)
    ]
    assert marks[0] != marks[1]
