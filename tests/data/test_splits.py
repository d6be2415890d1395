from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cnnlens.data.broden import Broden
from cnnlens.data.check import check
from cnnlens.data.open import open_data
from cnnlens.data.splits import two_splits
from cnnlens.errors import CnnlensError, UsageError

from .layout import write


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    names = [f"{part}/{kind}/{part}.png" for part in ("train", "val") for kind in ("cat", "dog")]
    return put(tmp_path / "pets", *names, "train/cat/more.png")


def test_splits_are_an_error_that_names_them_never_categories(splits: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_data(splits)
    assert "splits, not categories: train, val" in caught.value.message
    assert "--split train" in caught.value.hint


def test_a_split_is_read_alone_and_its_folders_are_the_categories(splits: Path) -> None:
    train, val = open_data(splits, "train"), open_data(splits, "val")
    assert train.paths == ("train/cat/more.png", "train/cat/train.png", "train/dog/train.png")
    assert train.image_categories == ("cat", "cat", "dog")
    assert (train.name, train.split, train.kind) == ("pets-train", "train", "classes")
    assert val.paths == ("val/cat/val.png", "val/dog/val.png") and val.name == "pets-val"
    assert train.fingerprint != val.fingerprint
    assert all(train.file(index).is_file() for index in range(3))


@pytest.mark.parametrize("asked", ["VAL", "valid", "Validation", "val"])
def test_a_split_goes_by_any_case_and_by_its_usual_names(splits: Path, asked: str) -> None:
    assert open_data(splits, asked).split == "val"


def test_folders_of_any_usual_name_and_case_are_splits(tmp_path: Path) -> None:
    put(tmp_path, "Training/cat/0.png", "TESTING/cat/0.png", "Validation/cat/0.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text("{}")
    with pytest.raises(UsageError, match="TESTING, Training, Validation"):
        open_data(tmp_path)
    assert open_data(tmp_path, "test").split == "TESTING"


def test_splits_of_a_folder_that_unzipping_left_are_found(splits: Path) -> None:
    with pytest.raises(UsageError, match="pets are splits"):
        open_data(splits.parent)
    assert open_data(splits.parent, "train").name == "pets-train"


def test_a_split_without_classes_is_a_flat_list(tmp_path: Path) -> None:
    put(tmp_path, "train/0.png", "val/0.png")
    images = open_data(tmp_path, "val")
    assert (images.kind, images.paths) == ("images", ("val/0.png",))


def test_one_class_called_test_among_others_is_a_class(tmp_path: Path) -> None:
    put(tmp_path, "test/0.png", "control/0.png")
    assert set(open_data(tmp_path).image_categories or ()) == {"test", "control"}


@pytest.mark.parametrize(
    "names",
    [
        ("train2017", "val2017"), ("training_set", "test_set"), ("seg_train", "seg_test"),
        ("Train Images", "Test Images"), ("train", "dev"), ("trainset", "testset"),
    ],
)  # fmt: skip
def test_splits_by_other_names(tmp_path: Path, names: tuple[str, str]) -> None:
    put(tmp_path, *(f"{name}/cat/0.png" for name in names))
    with pytest.raises(UsageError, match="are splits, not categories"):
        open_data(tmp_path)
    assert open_data(tmp_path, "train").split == names[0]


def test_beside_two_kinds_of_splits_any_other_folder_is_one(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/0.png", "val/cat/0.png", "unlabeled/0.png")
    with pytest.raises(UsageError, match="train, unlabeled, val"):
        open_data(tmp_path)
    assert open_data(tmp_path, "unlabeled").paths == ("unlabeled/0.png",)


def test_two_splits_of_one_kind_are_told_apart_by_their_whole_names(tmp_path: Path) -> None:
    put(tmp_path, "train2014/0.png", "train2017/0.png", "val2017/0.png")
    with pytest.raises(UsageError, match="no split 'train'"):
        open_data(tmp_path, "train")
    assert open_data(tmp_path, "train2017").paths == ("train2017/0.png",)


def test_splits_within_every_class_never_mix(tmp_path: Path) -> None:
    names = [f"{kind}/{part}/0.png" for kind in ("cat", "dog") for part in ("train", "test")]
    put(tmp_path, *names)
    with pytest.raises(UsageError, match=r"folders in the classes of .* are splits"):
        open_data(tmp_path)
    images = open_data(tmp_path, "Train")
    assert images.paths == ("cat/train/0.png", "dog/train/0.png")
    assert images.image_categories == ("cat", "dog") and images.split == "train"
    assert images.notes == ()
    assert any("test, train, in every class" in note for note in check(tmp_path).notes)
    assert check(tmp_path, split="test").images == 2


def test_an_unknown_split_is_a_mistake_that_names_those_there(splits: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split 'holdout'") as caught:
        open_data(splits, "holdout")
    assert "it has train, val" in caught.value.hint
    flat = put(tmp_path / "flat", "0.png")
    with pytest.raises(UsageError, match="no split 'train'"):
        open_data(flat, "train")


def test_a_class_that_vanishes_within_a_split_is_an_error(splits: Path) -> None:
    (splits / "val" / "fox").mkdir()
    (splits / "val" / "fox" / "0.psd").write_text("x")
    with pytest.raises(CnnlensError, match="fox would be a category without an image"):
        open_data(splits, "val")
    assert open_data(splits, "train").kind == "classes"


def test_brodens_split_column_chooses_rows(tmp_path: Path) -> None:
    rows = ["a.png,train,6,8,2,3,7", "b.png,val,6,8,2,3,7", "c.png,train,6,8,2,3,7"]
    root = write(tmp_path / "maps", "object", rows)
    train, val = open_data(root, "train"), open_data(root, "val")
    assert isinstance(train, Broden) and isinstance(val, Broden)
    assert train.paths == ("images/a.png", "images/c.png") and val.paths == ("images/b.png",)
    assert [row.image for row in train.rows] == ["a.png", "c.png"]
    assert (train.name, val.name) == ("maps-train", "maps-val")
    assert len({one.fingerprint for one in (train, val, open_data(root))}) == 3
    assert train.labels_fingerprint
    with pytest.raises(UsageError, match="no split 'test'"):
        open_data(root, "test")


def test_checking_reads_every_split_and_says_that_commands_read_one(splits: Path) -> None:
    (splits / "val" / "dog" / "bad.png").write_bytes(b"x")
    report = check(splits)
    assert report.images == 6
    assert [problem.where for problem in report.problems] == ["val/dog/bad.png"]
    assert (
        report.notes[0] == "splits, of which commands read one (--split NAME): train (3), val (3)"
    )
    assert check(splits, split="train").ok


def labelled(root: Path, splits: list[str]) -> Broden:
    rows = [f"{number}.png,{split},6,8,6,8,7" for number, split in enumerate(splits)]
    images = open_data(write(root / "labelled", "object", rows))
    assert isinstance(images, Broden)
    return images


def test_images_to_learn_on_and_to_validate_on_are_the_data_s_own_splits(tmp_path: Path) -> None:
    images = labelled(tmp_path, ["train", "VAL", "test", "training", "valid"])
    of, words = two_splits(images, 0)
    assert of.tolist() == [0, 1, -1, 0, 1]
    assert words == "its own splits: 2 images to learn on, 2 to validate"
    tested = labelled(tmp_path / "other", ["train", "test", "test"])
    assert two_splits(tested, 0)[0].tolist() == [0, 1, 1]


def test_without_both_splits_a_hash_of_path_and_seed_decides(tmp_path: Path) -> None:
    images = labelled(tmp_path, ["train"] * 200)
    of, words = two_splits(images, 0)
    assert set(of.tolist()) == {0, 1} and 0.6 < (of == 0).mean() < 0.8
    assert words.startswith("all are 'train': by a hash of their paths")
    assert two_splits(images, 0)[0].tolist() == of.tolist() != two_splits(images, 1)[0].tolist()
    assert (two_splits(images, 0, held_out=0.25)[0] == 1).sum() == 50  # to the image
    for count in (2, 3):  # some of each, however few there are
        few = labelled(tmp_path / str(count), [""] * count)
        assert set(two_splits(few, 0)[0].tolist()) == {0, 1}
    with pytest.raises(CnnlensError, match="has 1 image: some are learned from"):
        two_splits(labelled(tmp_path / "one", ["train"]), 0)
