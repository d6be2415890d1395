from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.data import unread
from cnnlens.data.check import check
from cnnlens.data.imports import import_data
from cnnlens.data.tables import read_index, read_labels
from cnnlens.errors import CnnlensError
from tests.data.mask_sets import found, mask, picture

SIZE = (24, 32)
INFO = (
    "Idx\tRatio\tTrain\tVal\tName\n"
    "1\t0.2\t9\t1\twall\n"
    "21\t0.1\t9\t1\tcar, auto, automobile\n"
    "150\t0.1\t9\t1\tflag\n"
)


def challenge(root: Path) -> Path:
    values = np.zeros(SIZE, np.uint8)
    values[:, :10], values[:, 10:15] = 21, 150
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        picture(root / "images" / split / f"{name}.jpg")
        mask(root / "annotations" / split / f"{name}.png", values)
    picture(root / "images" / "training" / "ADE_train_00000002.jpg")
    (root / "objectInfo150.txt").write_text(INFO)
    (root / "sceneCategories.txt").write_text("ADE_train_00000001 living_room\n")
    return root


def test_the_challenge_with_its_scenes(tmp_path: Path) -> None:
    challenge(tmp_path / "data" / "ADEChallengeData2016")
    out = tmp_path / "out"
    summary = import_data("ade20k", tmp_path / "data", out)
    masks = found(out)["training/ADE_train_00000001.jpg"]
    assert {label: int(on.sum()) for label, on in masks.items()} == {
        ("object", "car"): 240,
        ("object", "flag"): 120,
        ("scene", "living room"): 768,
    }
    numbers = {n: label.name for n, label in read_labels(out / "label.csv").items()}
    assert numbers == {21: "car", 150: "flag", 151: "living room"}
    _, rows = read_index(out / "index.csv", {"object", "scene"})
    assert [row.split for row in rows] == ["train", "val"] and rows[1].cells[1] == ""
    assert [one["image"] for one in summary["skipped"]] == ["training/ADE_train_00000002.jpg"]
    assert check(out).ok and check(out).notes == ()


def test_the_challenge_without_its_names(tmp_path: Path) -> None:
    root = challenge(tmp_path / "data")
    (root / "objectInfo150.txt").write_text("nothing")
    with pytest.raises(CnnlensError, match=r"objectInfo150\.txt is damaged"):
        import_data("ade20k", root, tmp_path / "out")
    (root / "objectInfo150.txt").unlink()
    with pytest.raises(CnnlensError, match=r"objectInfo150\.txt does not exist"):
        import_data("ade20k", root, tmp_path / "out")


# ---- the full set

CODES = {"wall": 2978, "car": 401, "wheel": 2000}
ROWS = (
    '001 # 0 # 0 # wall, panel # wall # ""\n'
    '002 # 0 # 0 # car, auto # car # "red"\n'
    '003 # 0 # 1 # car, auto # car # ""\n'
    '001 # 1 # 0 # wheel # wheel # ""\n'
    '002 # 1 # 0 # wheel # wheel # ""\n'
)


def coded(*regions: tuple[str, int, slice]) -> np.ndarray:
    """A picture of (class, instance as B, columns)."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    for name, instance, columns in regions:
        pixels[:, columns] = (CODES[name] // 256 * 10, CODES[name] % 256, instance)
    return pixels


OBJECTS = (("wall", slice(0, 4)), ("car", slice(4, 10)), ("car", slice(20, 24)))


def full(root: Path, instances: tuple[int, int, int] = (1, 2, 3), rows: str = ROWS) -> Path:
    stem = root / "ADE20K_2016_07_26" / "images" / "training" / "s" / "street" / "ADE_train_1"
    picture(stem.with_suffix(".jpg"))
    regions = [(name, n, at) for n, (name, at) in zip(instances, OBJECTS, strict=True)]
    mask(stem.with_name("ADE_train_1_seg.png"), coded(*regions))
    parts = coded(("wheel", 40, slice(4, 5)), ("wheel", 90, slice(9, 10)))
    mask(stem.with_name("ADE_train_1_parts_1.png"), parts)
    stem.with_name("ADE_train_1_atr.txt").write_text(rows)
    (root / "ADE20K_2016_07_26" / "index_ade20k.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    return stem


AREAS = {
    ("object", "car"): 240,
    ("object", "wall"): 96,
    ("part", "wheel"): 48,
    ("scene", "street"): 768,
}


def areas(out: Path) -> dict[tuple[str, str], int]:
    (masks,) = found(out).values()
    return {label: int(on.sum()) for label, on in masks.items()}


@pytest.mark.parametrize("instances", [(1, 2, 3), (30, 90, 200)])
def test_the_full_set_by_instances(tmp_path: Path, instances: tuple[int, int, int]) -> None:
    """B is the instance's number, or something whose rank is."""
    full(tmp_path / "data", instances)
    out = tmp_path / "out"
    import_data("ade20k", tmp_path / "data", out)
    assert list(found(out)) == ["training/s/street/ADE_train_1.jpg"]
    assert areas(out) == AREAS
    assert check(out).ok and check(out).notes == ()


def test_a_list_that_cannot_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(tmp_path / "data")
    monkeypatch.setattr(unread, "WAITS", (0, 0, 0))
    read, left = Path.read_text, [2]

    def fails(self: Path, *args: Any, **more: Any) -> str:
        if self.name.endswith("_atr.txt") and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return read(self, *args, **more)

    monkeypatch.setattr(Path, "read_text", fails)
    assert import_data("ade20k", tmp_path / "data", tmp_path / "out")["skipped"] == []


def test_the_full_set_by_json(tmp_path: Path) -> None:
    stem = full(tmp_path / "data", (0, 0, 0))
    stem.with_name("ADE_train_1_atr.txt").unlink()

    def thing(number: int, name: str, level: int) -> dict[str, Any]:
        known = {"name": name, "name_ndx": CODES[name.split(",", maxsplit=1)[0]]}
        return {"id": number, **known, "parts": {"part_level": level}}

    things = [thing(0, "wall, panel", 0), thing(1, "car", 0), thing(2, "wheel", 1)]
    document = {"annotation": {"object": things, "scene": ["urban", "street"]}}
    stem.with_suffix(".json").write_text(json.dumps(document))
    import_data("ade20k", tmp_path / "data", tmp_path / "out")
    assert areas(tmp_path / "out") == AREAS


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "instances of ADE_train_1_seg.png are not"),
        (ROWS.replace("003 # 0 # 1 # car", "003 # 0 # 1 # wall"), "instances of"),
        ("001 # 0\n", "atr.txt is damaged"),
    ],
)
def test_lists_that_do_not_fit_their_masks(tmp_path: Path, rows: str, said: str) -> None:
    full(tmp_path / "data", rows=rows)
    with pytest.raises(CnnlensError, match=said):
        import_data("ade20k", tmp_path / "data", tmp_path / "out")


def test_images_without_masks_or_lists_are_named(tmp_path: Path) -> None:
    stem = full(tmp_path / "data")
    picture(stem.with_name("ADE_train_2.jpg"))
    picture(stem.with_name("ADE_train_3.jpg"))
    Image.fromarray(coded()).save(stem.with_name("ADE_train_3_seg.png"))
    summary = import_data("ade20k", tmp_path / "data", tmp_path / "out")
    reasons = [one["reason"] for one in summary["skipped"]]
    assert summary["images"] == 1
    assert reasons[0] == "ADE_train_2_seg.png is missing"
    assert reasons[1] == "neither ADE_train_3_atr.txt nor ADE_train_3.json is there"


def test_other_folders(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "photos" / "a.jpg")
    with pytest.raises(CnnlensError, match=r"neither images and annotations .*found photos"):
        import_data("ade20k", tmp_path / "data", tmp_path / "out")
