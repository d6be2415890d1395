from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cnnlens.data import unread
from cnnlens.data.animals import KINDS, Animal, animal, make_animals
from cnnlens.data.check import check
from cnnlens.data.cub import MASKS
from cnnlens.data.decode import DamagedImage
from cnnlens.data.open import open_data
from cnnlens.data.parts import PartSet
from cnnlens.data.unread import UnreadFile
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.matching import named_outputs, readings

from .packed import PACKS, Pack


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_animals(tmp_path_factory.mktemp("made") / "animals", 24, 48, seed=3)


@pytest.fixture
def animals(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "animals"))


def opened(root: Path) -> PartSet:
    found = open_data(root)
    assert isinstance(found, PartSet)
    return found


def change(path: Path, line: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines) + "\n")


def photo(path: Path, size: tuple[int, int] = (80, 60), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


# ---- CUB's layout, and the animals in it


def drawn(images: int, seed: int) -> list[Animal]:
    """The animals of `make_animals`, in memory."""
    random = np.random.default_rng(seed)
    return [animal(number % len(KINDS), random, 48) for number in range(images)]


def centres_of(animals: list[Animal]) -> np.ndarray:
    return np.stack([one.centres for one in animals])


def test_animals_are_read_as_they_were_drawn(made: Path) -> None:
    found, wanted = opened(made), drawn(24, seed=3)
    assert found.kind == "parts" and found.aligned
    assert found.parts == ("head", "body", "front leg", "back leg", "tail", "mark")
    assert sorted(set(found.image_categories or ())) == ["beak", "long neck", "trunk"]
    kinds = ("long neck", "trunk", "beak")
    assert [kinds.index(c) for c in found.image_categories or ()] == [0, 1, 2] * 8
    np.testing.assert_allclose(found.centres, centres_of(wanted), atol=0.01 / 48)
    for index in range(24):
        assert np.array_equal(np.asarray(found.load(index)), wanted[index].pixels)
    assert not found.faults and check(made).ok


def test_part_masks_are_where_the_parts_are(made: Path) -> None:
    found = opened(made)
    inside = 0
    for index in range(24):
        masks = found.part_masks(index, (48, 48))
        assert masks.shape == (6, 48, 48) and not (masks.sum(0) > 1).any()
        y, x = (found.centres[index, 1] * 48).astype(int)  # nothing but legs covers the body
        inside += masks[1, y, x]
    assert inside >= 22


def test_equal_seeds_give_equal_bytes(made: Path, tmp_path: Path) -> None:
    again = make_animals(tmp_path / "again", 24, 48, seed=3)
    files = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((made / f).read_bytes() == (again / f).read_bytes() for f in files)
    assert len(list((made / "negatives").iterdir())) == 6


def test_the_place_in_the_picture_says_little() -> None:
    """The head's position is spread over much of the picture, on both sides of the centre."""
    head = centres_of(drawn(200, seed=0))[:, 0]
    assert (np.nanstd(head, axis=0) > 0.1).all()
    assert 0.3 < np.nanmean(head[:, 1] > 0.5) < 0.7


def test_objects_are_cut_out_of_their_box(animals: Path) -> None:
    change(animals / "bounding_boxes.txt", 1, "2 10.0 5.0 30.0 20.0")
    found, whole = opened(animals), opened(animals)
    assert found.load(1).size == (30, 20)
    full = np.asarray(Image.open(whole.file(1)))
    assert np.array_equal(np.asarray(found.load(1)), full[5:25, 10:40])
    wanted = (centres_of(drawn(24, seed=3))[1] * 48 - (5, 10)) / (20, 30)
    np.testing.assert_allclose(found.centres[1], wanted, atol=0.01)
    labels = np.asarray(Image.open((animals / MASKS / found.files[1][7:]).with_suffix(".png")))
    mask = found.part_masks(1, (20, 30))
    assert np.array_equal(mask[1], labels[5:25, 10:40] == 2)


def test_other_boxes_are_another_fingerprint(animals: Path) -> None:
    before, same = opened(animals), opened(animals)
    change(animals / "bounding_boxes.txt", 1, "2 10.0 5.0 30.0 20.0")
    after = opened(animals)
    assert before.fingerprint == same.fingerprint != after.fingerprint


def test_what_is_wrong_is_left_out_and_named(animals: Path) -> None:
    change(animals / "bounding_boxes.txt", 1, "2 3.0 3.0 0.0 4.0")
    change(animals / "parts" / "part_locs.txt", 0, "1 1 900.0 4.0 1")
    change(animals / "images.txt", 2, "3 ../../secret.png")
    found = opened(animals)
    assert len(found.paths) == 22
    said = {fault.what for fault in found.faults}
    assert said == {
        "its box has no area",
        "the part head lies outside of the picture",
        "its path leads out of images/",
    }
    assert np.isnan(found.centres[0, 0]).all()
    report = check(animals)
    assert not report.ok and {p.what for p in report.problems} == said


def test_a_box_beside_the_picture_is_a_damaged_image(animals: Path) -> None:
    change(animals / "bounding_boxes.txt", 1, "2 300.0 5.0 30.0 20.0")
    found = opened(animals)
    with pytest.raises(DamagedImage, match="outside of the picture"):
        found.load(1)
    assert "its box lies outside" in check(animals).problems[-1].what


@pytest.mark.parametrize("name", ["images.txt", "bounding_boxes.txt", "parts/parts.txt"])
@pytest.mark.parametrize("how", ["missing", "empty", "binary"])
def test_damaged_tables_are_named(animals: Path, name: str, how: str) -> None:
    path = animals / name
    path.unlink() if how == "missing" and name != "images.txt" else path.write_bytes(
        b"" if how != "binary" else bytes(range(256)) * 3
    )
    with pytest.raises(CnnlensError, match=name):
        opened(animals)


def test_parts_and_categories_can_be_chosen(made: Path) -> None:
    found = opened(made)
    some = found.choose(["tail", "head"], "animal")
    assert some.parts == ("tail", "head") and set(some.image_categories or ()) == {"animal"}
    np.testing.assert_array_equal(some.centres, found.centres[:, [4, 0]])
    assert np.array_equal(some.part_masks(5, (48, 48)), found.part_masks(5, (48, 48))[[4, 0]])
    assert some.fingerprint == found.fingerprint  # the crops are the same
    assert some.labels_fingerprint != found.labels_fingerprint
    with pytest.raises(UsageError, match="no part 'tial'") as error:
        found.choose(["tial"])
    assert "tail" in (error.value.hint or "")


# ---- VOC-Part


def struct(**fields: Any) -> dict[str, Any]:
    return fields


def rectangle(top: int, left: int, height: int, width: int) -> np.ndarray:
    plane = np.zeros((60, 80), np.uint8)
    plane[top : top + height, left : left + width] = 1
    return plane


def array_of(*structs: dict[str, Any]) -> np.ndarray:
    found = np.empty((1, len(structs)), object)
    for place, one in enumerate(structs):
        found[0, place] = one
    return np.array([tuple(s.values()) for s in structs], dtype=[(k, object) for k in structs[0]])


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
    root = tmp_path / "voc"
    (root / "Annotations_Part").mkdir(parents=True)
    bird = {
        "class": "bird",
        "class_ind": 3,
        "mask": rectangle(10, 20, 30, 40),
        "parts": array_of(
            struct(part_name="head", mask=rectangle(10, 20, 8, 10)),
            struct(part_name="beak", mask=rectangle(12, 30, 2, 4)),
            struct(part_name="tail", mask=rectangle(30, 50, 4, 10)),
        ),
    }
    second = {**bird, "mask": rectangle(0, 0, 5, 6), "parts": np.zeros((0, 0))}
    plane = {**bird, "class": "aeroplane"}
    annotation = {"imname": "2008_000008", "objects": array_of(bird, second, plane)}
    savemat(root / "Annotations_Part" / "2008_000008.mat", {"anno": annotation})
    photo(root / "JPEGImages" / "2008_000008.jpg")
    return root


def test_voc_part_merges_parts_as_the_paper_does(voc: Path) -> None:
    found = opened(voc)
    assert found.image_categories == ("bird", "bird")  # no merges are known of aeroplanes
    assert found.paths == ("JPEGImages/2008_000008.jpg", "JPEGImages/2008_000008.jpg#2")
    assert found.boxes.tolist() == [[20, 10, 40, 30], [0, 0, 6, 5]]
    head, tail = found.parts.index("head"), found.parts.index("tail")
    # head and beak together: rows 10 to 18, columns 20 to 34
    np.testing.assert_allclose(found.centres[0, head], [4 / 30, 7 / 40])
    np.testing.assert_allclose(found.centres[0, tail], [22 / 30, 35 / 40])
    assert np.isnan(found.centres[1]).all()
    mask = found.part_masks(0, (30, 40))[head]
    assert mask.sum() == 8 * 10 + 2 * 4 and mask[3, 12] and not mask[0, 12]
    assert found.load(1).size == (6, 5)


@pytest.mark.parametrize("pack", PACKS)
def test_voc_part_in_an_archive_is_that_of_the_folder(voc: Path, pack: Pack) -> None:
    found, truth = opened(pack(voc, voc.parent / "packed")), opened(voc)
    same_parts(found, truth)
    assert truth.part_masks(0, (64, 64)).any()
    assert opened(found.root).labels_fingerprint == found.labels_fingerprint
    rewritten(voc / "Annotations_Part" / "2008_000008.mat")
    (voc / "part_merges.csv").write_text("category,part,merged\nbird,beak,beak\n")
    changed = opened(pack(voc, voc.parent / "packed"))
    assert changed.parts == ("beak",)
    assert changed.labels_fingerprint != found.labels_fingerprint


def same_parts(found: PartSet, truth: PartSet) -> None:
    """Hold parts in an archive against those in the folder."""
    assert found.root != truth.root and found.files == truth.files and found.parts == truth.parts
    assert found.image_categories == truth.image_categories and found.notes == truth.notes
    assert np.array_equal(found.boxes, truth.boxes)
    assert np.array_equal(found.centres, truth.centres, equal_nan=True)
    for index in range(len(truth.paths)):
        assert found.load(index).tobytes() == truth.load(index).tobytes()
        masks = truth.part_masks(index, (64, 64))
        assert np.array_equal(found.part_masks(index, (64, 64)), masks)


def test_voc_part_is_read_once(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(voc)
    monkeypatch.setattr("cnnlens.data.voc_part._entry", lambda *_: pytest.fail("read again"))
    assert opened(voc).labels_fingerprint == first.labels_fingerprint


def test_voc_part_takes_another_table_of_merges(voc: Path) -> None:
    (voc / "part_merges.csv").write_text("category,part,merged\nbird,beak,beak\n")
    found = opened(voc)
    assert found.parts == ("beak",)
    np.testing.assert_allclose(found.centres[0, 0], [3 / 30, 12 / 40])
    as_excel = "Category;Part;Merged\r\nbird;beak;beak\r\n"
    (voc / "part_merges.csv").write_text(as_excel, encoding="utf-8-sig")
    assert opened(voc).parts == ("beak",)
    (voc / "part_merges.csv").write_text("category,part,merged\n")
    with pytest.raises(CnnlensError, match=r"part_merges\.csv is empty"):
        opened(voc)


def test_damaged_annotations_are_left_out_and_named(voc: Path) -> None:
    (voc / "Annotations_Part" / "2008_000009.mat").write_bytes(b"MATLAB 5.0 nonsense" * 9)
    savemat(voc / "Annotations_Part" / "2008_000010.mat", {"other": 1})
    found = opened(voc)
    assert len(found.paths) == 2
    assert [f.where for f in found.faults] == [
        "Annotations_Part/2008_000009.mat", "Annotations_Part/2008_000010.mat",
    ]  # fmt: skip


@pytest.mark.parametrize("times", [2, 99])
def test_annotations_that_cannot_be_read_for_now_are_not_left_out_for_good(
    voc: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    shutil.copy(voc / "Annotations_Part/2008_000008.mat", voc / "Annotations_Part/2008_000009.mat")
    photo(voc / "JPEGImages" / "2008_000009.jpg")
    monkeypatch.setattr(unread, "WAITS", (0, 0, 0))
    read, left = Path.read_bytes, [times]

    def fails(self: Path) -> bytes:
        if self.name == "2008_000009.mat" and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", fails)
    if times > 9:
        with pytest.raises(UnreadFile, match=r"2008_000009\.mat cannot be read: input/output"):
            opened(voc)
        left[0] = 0
    found = {path.partition("#")[0] for path in opened(voc).paths}
    assert found == {f"JPEGImages/2008_00000{number}.jpg" for number in (8, 9)}


def test_voc_part_without_its_photos(voc: Path) -> None:
    shutil.rmtree(voc / "JPEGImages")
    with pytest.raises(CnnlensError, match="not its images") as error:
        opened(voc)
    assert "JPEGImages" in (error.value.hint or "")


# ---- Animal-Part


def truth_rows() -> list[dict[str, Any]]:
    def row(number: int, centre: list[float]) -> dict[str, Any]:
        box = struct(xmin="11", ymin="21", xmax="50", ymax="40")
        obj = struct(
            folder="n01", filename=f"n01_{number}", name="n01", bndbox=box, ID=float(number)
        )
        return struct(
            pHW_center=np.array(centre)[:, None], pHW_scale=np.array([[9.0], [9.0]]), obj=obj
        )

    empty = struct(pHW_center=np.empty((0, 0)), pHW_scale=np.empty((0, 0)), obj=np.empty((0, 0)))
    return [row(1, [112.0, 56.0]), empty, row(3, [224.0, 0.0])]


def write_v73(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a struct array as MATLAB 7.3 does: columns of references."""
    with h5py.File(path, "w", userblock_size=512) as file:
        count = 0

        def put(value: Any) -> h5py.Reference:
            nonlocal count
            count += 1
            name = f"#refs#/{count}"
            if isinstance(value, dict):
                group = file.create_group(name)
                for key, inner in value.items():
                    write(group, key, inner)
                return group.ref
            write(file, name, value)
            return file[name].ref

        def write(at: Any, name: str, value: Any) -> None:
            if isinstance(value, dict):
                group = at.create_group(name)
                for key, inner in value.items():
                    write(group, key, inner)
            elif isinstance(value, str):
                data = at.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16))
                data.attrs["MATLAB_class"] = np.bytes_("char")
            elif np.size(value) == 0:
                data = at.create_dataset(name, data=np.zeros(2, np.uint64))
                data.attrs["MATLAB_empty"] = np.uint8(1)
            else:
                at.create_dataset(name, data=np.atleast_2d(value).T)

        truth = file.create_group("truth")
        for key in rows[0]:
            refs = [[put(row[key])] for row in rows]
            truth.create_dataset(key, data=np.array(refs, dtype=h5py.ref_dtype))
    with path.open("r+b") as file_:
        file_.write(b"MATLAB 7.3 MAT-file".ljust(124))


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_animal_part_in_both_kinds_of_files(tmp_path: Path, version: str) -> None:
    root = tmp_path / "detanimalpart"
    (root / "n01").mkdir(parents=True)
    for part in (1, 2):
        rows = truth_rows() if part == 1 else truth_rows()[:1]
        path = root / "n01" / f"truth_part{part:02d}.mat"
        savemat(path, {"truth": array_of(*rows)}) if version == "5" else write_v73(path, rows)
    for number in (1, 3):
        photo(root / "n01_obj" / "img" / "img" / f"{number:05d}.jpg", seed=number)
    found = opened(root)
    assert found.image_categories == ("n01", "n01") and found.parts == ("part 01", "part 02")
    assert found.boxes.tolist() == [[10, 20, 40, 20]] * 2
    np.testing.assert_allclose(found.centres[0, 0], [0.5, 0.25])
    np.testing.assert_allclose(found.centres[1, 0], [1.0, 0.0])
    assert np.isnan(found.centres[1, 1]).all()
    assert found.files[1] == "n01_obj/img/img/00003.jpg"
    for pack in PACKS:
        same_parts(opened(pack(root, tmp_path / "packed")), found)


def test_animal_part_without_its_photos(tmp_path: Path) -> None:
    (tmp_path / "d" / "n01").mkdir(parents=True)
    path = tmp_path / "d" / "n01" / "truth_part01.mat"
    savemat(path, {"truth": array_of(*truth_rows())})
    with pytest.raises(CnnlensError, match="2 annotated objects and none of their photos"):
        opened(tmp_path / "d")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CnnlensError, match="no MATLAB file"):
        opened(tmp_path / "d")


def rewritten(path: Path) -> None:
    """Write a file anew, as long as before, within the same second."""
    stat = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))


def test_labels_fingerprint_changes_with_the_masks_and_not_with_the_photos(animals: Path) -> None:
    first = opened(animals)
    photo_file = animals / first.files[3]
    rewritten(photo_file)
    assert opened(animals).labels_fingerprint == first.labels_fingerprint
    rewritten(animals / MASKS / Path(first.files[3]).relative_to("images"))
    assert opened(animals).labels_fingerprint != first.labels_fingerprint
    assert opened(animals).fingerprint == first.fingerprint  # the same crops


def test_labels_fingerprint_changes_with_voc_part_s_annotations(voc: Path) -> None:
    first = opened(voc).labels_fingerprint
    rewritten(next((voc / "Annotations_Part").glob("*.mat")))
    assert opened(voc).labels_fingerprint != first


def test_cubs_classes_are_outputs_in_the_order_of_its_list(
    animals: Path,
) -> None:
    kinds = len(KINDS)
    listed = "".join(f"{n} {n:03}.{'zyxw'[n - 1]}_{n}\n" for n in range(1, kinds + 1))
    (animals / "classes.txt").write_text(listed)
    shown = opened(animals)
    names = sorted(set(shown.image_categories or ()))
    (way,) = readings(names, None, kinds)
    assert way.certain and way.outputs == {f"{'zyxw'[n]} {n + 1}": n for n in range(kinds)}
    folders = [line.split()[1] for line in listed.splitlines()]
    assert named_outputs(names, folders) == way.outputs
    (animals / "classes.txt").write_text(f"{listed}{kinds + 1} {kinds + 1:03}.v\n")
    more = opened(animals)
    assert more.image_categories == shown.image_categories
    assert more.labels_fingerprint != shown.labels_fingerprint
    (animals / "classes.txt").write_text(listed.replace("1 001", "9 001"))
    assert not readings(sorted(set(opened(animals).image_categories or ())), None, kinds)[0].certain


def test_cubs_own_list_says_which_images_are_for_training(animals: Path) -> None:
    with pytest.raises(UsageError, match="has no split 'train'"):
        open_data(animals, "train")
    lines = [f"{n} {int(n % 3 == 0)}" for n in range(1, 25)]
    (animals / "train_test_split.txt").write_text("\n".join(lines))
    whole, train, test = (open_data(animals, split) for split in (None, "train", "Test"))
    assert [len(one.paths) for one in (whole, train, test)] == [24, 8, 16]
    assert train.paths == whole.paths[2::3] and not {*train.paths} & {*test.paths}
    assert (train.name, test.name) == ("animals-train", "animals-test")
    assert len({whole.fingerprint, train.fingerprint, test.fingerprint}) == 3
    assert np.array_equal(train.part_masks(1, (48, 48)), whole.part_masks(5, (48, 48)))
    with pytest.raises(UsageError, match="has no split 'trian'"):
        open_data(animals, "trian")
