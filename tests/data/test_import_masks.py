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
from cnnlens.data.imports.label_names import read_names
from cnnlens.data.imports.voc import NAMES, voc_colour
from cnnlens.data.tables import read_index, read_labels
from cnnlens.errors import CnnlensError, UsageError
from tests.data.mask_sets import found, mask, picture

SIZE = (24, 32)
PALETTE = [channel for index in range(256) for channel in voc_colour(index)]


def halves(left: int, right: int, dtype: type = np.uint8) -> np.ndarray:
    """A mask of one value on the left half and another on the right."""
    values = np.full(SIZE, left, dtype)
    values[:, 16:] = right
    return values


LEFT, RIGHT = halves(1, 0).astype(bool), halves(0, 1).astype(bool)


def single(root: Path, masks: dict[str, np.ndarray]) -> Path:
    for number, (name, values) in enumerate(masks.items()):
        picture(root / "images" / f"{name}.jpg", seed=number)
        mask(root / "masks" / f"{name}.png", values)
    return root


def objects(out: Path, image: str) -> dict[str, np.ndarray]:
    return {name: on for (_, name), on in found(out)[image].items()}


# ---- VOC


def voc(root: Path) -> Path:
    for name in ("a", "b", "c", "d"):
        picture(root / "JPEGImages" / f"{name}.jpg")
    values = halves(15, 255)
    values[:4] = 0
    mask(root / "SegmentationClass" / "a.png", values, PALETTE)
    colours = np.array(PALETTE, np.uint8).reshape(-1, 3)
    mask(root / "SegmentationClass" / "b.png", colours[values])
    # all grey as a colour, and none as a number: background and the bus
    mask(root / "SegmentationClass" / "c.png", colours[halves(0, 6)])
    mask(root / "SegmentationClass" / "lost.png", values)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nd\n")
    (lists / "val.txt").write_text("b\n")
    return root


def test_voc_by_palette_and_by_colour_with_void_and_splits(tmp_path: Path) -> None:
    voc(tmp_path / "VOCdevkit" / "VOC2012")
    out = tmp_path / "out"
    summary = import_data("voc", tmp_path / "VOCdevkit", out)
    person = LEFT.copy()
    person[:4] = False
    for image in ("a.jpg", "b.jpg"):
        masks = objects(out, image)
        np.testing.assert_array_equal(masks["person"], person)
        assert not masks["bus"].any()
    np.testing.assert_array_equal(objects(out, "c.jpg")["bus"], RIGHT)
    assert {n: label.name for n, label in read_labels(out / "label.csv").items()} == {
        6: "bus",
        15: "person",
    }
    _, rows = read_index(out / "index.csv", {"object"})
    assert [(row.image, row.split) for row in rows] == [
        ("a.jpg", "train"),
        ("b.jpg", "val"),
        ("c.jpg", "unlisted"),
    ]
    reasons = {one["image"]: one["reason"] for one in summary["skipped"]}
    assert "train.txt names it" in reasons["d.jpg"] and "missing" in reasons["lost.jpg"]
    assert check(out).ok and check(out).notes == ()


def test_vocs_colours() -> None:
    known = {"aeroplane": (128, 0, 0), "person": (192, 128, 128), "tvmonitor": (0, 64, 128)}
    assert {name: voc_colour(NAMES.index(name) + 1) for name in known} == known
    assert voc_colour(255) == (224, 224, 192)


def test_a_labelmap_of_an_annotation_tool(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "JPEGImages" / "a.jpg")
    picture(root / "JPEGImages" / "b.jpg")
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nleaf:250,50,83::\nstem:9,9,9::\n"
    )
    colours = np.array([(0, 0, 0), (250, 50, 83), (9, 9, 9), (1, 2, 3)], np.uint8)
    mask(root / "SegmentationClass" / "a.png", colours[halves(1, 2)])
    mask(root / "SegmentationClass" / "b.png", colours[halves(1, 3)])
    summary = import_data("voc", root, tmp_path / "out")
    masks = objects(tmp_path / "out", "a.jpg")
    np.testing.assert_array_equal(masks["leaf"], LEFT)
    np.testing.assert_array_equal(masks["stem"], RIGHT)
    assert any("colour 1,2,3 (1 image)" in note for note in summary["notes"])


@pytest.mark.parametrize("folder", ["SegmentationClass", "SegmentationClassPNG"])
def test_the_names_of_labelmes_script_are_not_vocs(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "set"
    picture(root / "JPEGImages" / "a.jpg")
    (root / "SegmentationClass").mkdir()
    (root / "class_names.txt").write_text("_background_\nscratch\ndent")  # as it ends
    mask(root / folder / "a.png", halves(1, 2), PALETTE)
    summary = import_data("voc", root, tmp_path / "out")
    assert "names are those of class_names.txt" in summary["notes"]
    masks = objects(tmp_path / "out", "a.jpg")
    assert masks.keys() == {"scratch", "dent"}
    np.testing.assert_array_equal(masks["dent"], RIGHT)


def test_a_palette_in_another_order_than_the_labelmap_goes_by_its_colours(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "JPEGImages" / "a.jpg")
    picture(root / "JPEGImages" / "b.jpg")
    (root / "labelmap.txt").write_text("background:0,0,0::\nleaf:250,50,83::\nstem:9,90,9::\n")
    mask(root / "SegmentationClass" / "a.png", halves(2, 1), [0, 0, 0, 9, 90, 9, 250, 50, 83])
    mask(root / "SegmentationClass" / "b.png", halves(1, 2), PALETTE)  # other colours: its numbers
    import_data("voc", root, tmp_path / "out")
    for image in ("a.jpg", "b.jpg"):
        np.testing.assert_array_equal(objects(tmp_path / "out", image)["leaf"], LEFT)


@pytest.mark.parametrize("palette", [None, [n for n in range(256) for _ in range(3)]])
def test_grey_numbers_are_not_taken_for_colours(tmp_path: Path, palette: list[int] | None) -> None:
    """128,128,128 is VOC's colour of class 7."""
    root = tmp_path / "set"
    picture(root / "JPEGImages" / "a.jpg")
    (root / "class_names.txt").write_text("\n".join(["background", *map(str, range(1, 150))]))
    mask(root / "SegmentationClass" / "a.png", halves(0, 128), palette)
    import_data("voc", root, tmp_path / "out")
    assert objects(tmp_path / "out", "a.jpg").keys() == {"128"}


def test_several_years_and_other_folders(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        voc(tmp_path / "VOCdevkit" / year)
    with pytest.raises(UsageError, match="VOC2007, VOC2012"):
        import_data("voc", tmp_path, tmp_path.parent / "out")
    picture(tmp_path / "x" / "annotations" / "a.png")
    with pytest.raises(CnnlensError, match=r"no JPEGImages .*found annotations"):
        import_data("voc", tmp_path / "x", tmp_path / "out")


# ---- a mask per image


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_in_the_transparency_are_not_the_whole_picture(
    tmp_path: Path, channels: int
) -> None:
    white = np.full((*SIZE, channels), 255, np.uint8)
    root = single(tmp_path / "set", {"a": np.dstack([white, halves(255, 0)]), "b": halves(0, 255)})
    summary = import_data("masks", root, tmp_path / "out")
    assert [one["image"] for one in summary["skipped"]] == ["a.jpg"]
    assert "transparency" in summary["skipped"][0]["reason"]
    np.testing.assert_array_equal(objects(tmp_path / "out", "b.jpg")["mask"], RIGHT)


def test_numbers_beyond_a_byte_palettes_and_greys_in_three_channels(tmp_path: Path) -> None:
    root = single(
        tmp_path / "set",
        {
            "a": halves(1, 300, np.uint16),
            "b": np.repeat(halves(2, 0)[..., None], 3, axis=2),
            "c": halves(0, 0),
        },
    )
    mask(root / "masks" / "c.png", halves(1, 2), PALETTE)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"0": "background", "1": 'a, "b"\nc', "2": "two", "300": "far"}))
    out = tmp_path / "out"
    import_data("masks", root, out, names=names)
    assert {n: label.name for n, label in read_labels(out / "label.csv").items()} == {
        1: 'a, "b" c',
        2: "two",
        300: "far",
    }
    np.testing.assert_array_equal(objects(out, "a.jpg")["far"], RIGHT)
    np.testing.assert_array_equal(objects(out, "b.jpg")["two"], LEFT)
    np.testing.assert_array_equal(objects(out, "c.jpg")['a, "b" c'], LEFT)
    assert check(out).ok


def test_what_has_no_name_counts_as_nothing_and_is_said(tmp_path: Path) -> None:
    root = single(tmp_path / "set", {"a": halves(1, 7), "b": halves(9, 255)})
    names = tmp_path / "names.txt"
    names.write_text("1 one\n9: nine\n")
    summary = import_data("masks", root, tmp_path / "out", names=names)
    assert any("value 7 (1 image)" in note for note in summary["notes"])
    assert "255" not in " ".join(summary["notes"])
    np.testing.assert_array_equal(objects(tmp_path / "out", "b.jpg")["nine"], LEFT)


def test_a_named_zero_is_a_label(tmp_path: Path) -> None:
    root = single(tmp_path / "set", {"a": halves(0, 1), "b": halves(255, 0)})
    names = tmp_path / "names.txt"
    names.write_text("0 road\n1 sky\n")
    import_data("masks", root, tmp_path / "out", names=names)
    masks = objects(tmp_path / "out", "a.jpg")
    np.testing.assert_array_equal(masks["road"], LEFT)
    np.testing.assert_array_equal(masks["sky"], RIGHT)
    np.testing.assert_array_equal(objects(tmp_path / "out", "b.jpg")["road"], RIGHT)


def test_names_without_numbers_count_from_one_from_zero_or_are_asked_for(tmp_path: Path) -> None:
    root = single(tmp_path / "set", {"a": halves(1, 2)})
    names = tmp_path / "names.txt"
    for text, left, right in (("one\ntwo\n", "one", "two"), ("Background\nx\ny\n", "x", "y")):
        names.write_text(text)
        import_data("masks", root, tmp_path / "out", names=names, force=True)
        masks = objects(tmp_path / "out", "a.jpg")
        np.testing.assert_array_equal(masks[left], LEFT)
        np.testing.assert_array_equal(masks[right], RIGHT)
    for text in ("x\ny\nz\n", "x\n"):  # 0, 1, 2 or 1, 2, 3? and: two values, one name
        names.write_text(text)
        with pytest.raises(UsageError, match="go to 2: which is the first's"):
            import_data("masks", root, tmp_path / "out", names=names, force=True)


def test_without_names_numbers_are_the_names(tmp_path: Path) -> None:
    root = single(tmp_path / "set", {"a": halves(3, 255)})
    assert objects_of(root, tmp_path / "one") == {"label 3": 384}
    single(root, {"b": halves(3, 9)})
    assert objects_of(root, tmp_path / "two") == {"label 3": 384, "label 9": 0}
    single(root, {"a": halves(0, 255), "b": halves(255, 0)})
    assert objects_of(root, tmp_path / "three") == {"mask": 384}


def objects_of(root: Path, out: Path) -> dict[str, int]:
    import_data("masks", root, out)
    return {name: int(on.sum()) for name, on in objects(out, "a.jpg").items()}


def test_colours_by_a_table(tmp_path: Path) -> None:
    colours = np.array([(0, 0, 0), (64, 0, 128), (255, 255, 255)], np.uint8)
    root = single(tmp_path / "set", {"a": colours[halves(1, 2)], "b": colours[halves(1, 0)]})
    palette = colours.ravel().tolist() + [0] * (768 - colours.size)
    mask(root / "masks" / "b.png", halves(1, 2), palette)
    with pytest.raises(CnnlensError, match=r"a\.png is coloured \(64,0,128, 255,255,255"):
        import_data("masks", root, tmp_path / "out")
    table = tmp_path / "colours.csv"
    table.write_text("r,g,b,name\n0,0,0,Void\n64,0,128,car\n255,255,255,snow\n")
    import_data("masks", root, tmp_path / "out", names=table)
    for image in ("a.jpg", "b.jpg"):  # a palette stands for its colours here
        masks = objects(tmp_path / "out", image)
        np.testing.assert_array_equal(masks["car"], LEFT)
        np.testing.assert_array_equal(masks["snow"], RIGHT)


def test_one_ending_that_all_masks_share_and_splits_in_folders(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split, name in (("train", "a_1"), ("valid", "b_2")):
        picture(root / "images" / split / f"{name}.jpg")
        mask(root / "masks" / split / f"{name}_L.png", halves(1, 0))
    picture(root / "images" / "train" / "alone.jpg")
    mask(root / "masks" / "train" / "other_L.png", halves(1, 0))
    summary = import_data("masks", root, tmp_path / "out")
    _, rows = read_index(tmp_path / "out" / "index.csv", {"object"})
    assert [(r.image, r.split) for r in rows] == [
        ("train/a_1.jpg", "train"),
        ("valid/b_2.jpg", "val"),
    ]
    assert summary["skipped"] == [
        {"image": "train/alone.jpg", "reason": "it has no mask"},
        {"image": "train/other_L.png", "reason": "a mask without an image of its own"},
    ]


def test_masks_that_cannot_be_used_are_counted_and_named(tmp_path: Path) -> None:
    root = single(tmp_path / "set", {name: halves(1, 2) for name in "abcdef"})
    (root / "masks" / "a.png").write_bytes(b"no picture")
    Image.fromarray(halves(1, 2)[:20, :20]).save(root / "masks" / "b.png")
    (root / "masks" / "c.png").unlink()
    Image.fromarray(halves(1, 2)).save(root / "masks" / "c.jpg")
    (root / "images" / "d.jpg").write_bytes(b"")
    Image.fromarray(halves(1, 2)).resize((16, 12), 0).save(root / "masks" / "e.png")
    summary = import_data("masks", root, tmp_path / "out")
    reasons = {one["image"]: one["reason"] for one in summary["skipped"]}
    assert sorted(reasons) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert "a.png cannot be read: not an image" in reasons["a.jpg"]
    assert "20×20 pixels, the image 24×32" in reasons["b.jpg"]
    assert "c.jpg is a JPEG" in reasons["c.jpg"] and "empty" in reasons["d.jpg"]
    assert objects(tmp_path / "out", "e.jpg")["label 1"].shape == (12, 16)  # a half, same shape
    assert check(tmp_path / "out").ok
    (root / "masks" / "e.png").unlink()
    (root / "masks" / "f.png").unlink()
    with pytest.raises(CnnlensError, match="none of"):
        import_data("masks", root, tmp_path / "out2")


@pytest.mark.parametrize("times", [2, 999])
def test_masks_that_cannot_be_read_for_now_are_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    root = single(tmp_path / "set", {name: halves(1, 2) for name in "abc"})
    monkeypatch.setattr(unread, "WAITS", (0, 0, 0))
    read, left = Image.open, [times]

    def fails(file: Any, *args: Any, **more: Any) -> Any:
        if Path(file).name == "b.png" and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return read(file, *args, **more)

    monkeypatch.setattr(Image, "open", fails)
    if times > 9:
        with pytest.raises(CnnlensError, match=r"b\.png cannot be read: input/output error"):
            import_data("masks", root, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        left[0] = 0
    assert import_data("masks", root, tmp_path / "out")["skipped"] == []


def test_images_that_differ_in_their_endings_alone(tmp_path: Path) -> None:
    root = single(tmp_path / "set", {"a": halves(1, 2)})
    picture(root / "images" / "a.png", seed=5)
    mask(root / "masks" / "a.bmp", halves(1, 2))
    summary = import_data("masks", root, tmp_path / "out")
    reasons = [(one["image"], one["reason"]) for one in summary["skipped"]]
    assert ("a.png", "a mask without an image of its own") in reasons  # a.bmp came first
    assert ("a.png", "a.jpg bears the same name") in reasons and len(reasons) == 2
    assert list(found(tmp_path / "out")) == ["a.jpg"]


def test_empty_masks_everywhere(tmp_path: Path) -> None:
    root = single(tmp_path / "set", {"a": halves(0, 0), "b": halves(0, 255)})
    single(root, {"b": halves(0, 0)})
    with pytest.raises(CnnlensError, match="not one image shows a label"):
        import_data("masks", root, tmp_path / "out")


# ---- a folder per class


def test_binary_masks_in_class_folders_overlap(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("0", "1", "2"):
        picture(root / "images" / f"{name}.jpg")
    whole = halves(255, 255)
    mask(root / "masks" / "dog" / "0.png", halves(0, 255))
    mask(root / "masks" / "cat" / "0.png", whole)
    mask(root / "masks" / "cat" / "1.png", halves(1, 0))
    mask(root / "masks" / "background" / "1.png", whole)
    summary = import_data("masks", root, tmp_path / "out")
    masks = objects(tmp_path / "out", "0.jpg")
    assert masks["cat"].all()
    np.testing.assert_array_equal(masks["dog"], RIGHT)
    np.testing.assert_array_equal(objects(tmp_path / "out", "1.jpg")["cat"], LEFT)
    assert summary["labels"] == {"object": 2}
    assert [one["image"] for one in summary["skipped"]] == ["2.jpg"]
    names = tmp_path / "names.txt"
    names.write_text("1 x\n")
    with pytest.raises(UsageError, match="--names is of no use"):
        import_data("masks", root, tmp_path / "other", names=names)


def test_a_class_folder_of_many_valued_masks_is_none(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "images" / "0.jpg")
    mask(root / "SegmentationClass" / "0.png", np.arange(768, dtype=np.uint16).reshape(SIZE) % 5)
    with pytest.raises(CnnlensError, match="holds 5 values"):
        import_data("masks", root, tmp_path / "out")


def test_folders_without_masks(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "photos" / "0.jpg")
    with pytest.raises(CnnlensError, match=r"no folder images .*found photos"):
        import_data("masks", tmp_path / "set", tmp_path / "out")
    picture(tmp_path / "set" / "images" / "0.jpg")
    mask(tmp_path / "set" / "masks" / "other.png", halves(1, 2))
    with pytest.raises(
        CnnlensError, match=r"no mask .*images holds 0\.jpg, masks holds other\.png"
    ):
        import_data("masks", tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize("without", ["images", "masks"])
def test_a_folder_without_a_picture_is_named_with_what_it_holds(
    tmp_path: Path, without: str
) -> None:
    picture(tmp_path / "set" / "images" / "1.png")
    mask(tmp_path / "set" / "masks" / "1.png", halves(1, 0))
    (tmp_path / "set" / without / "1.png").unlink()
    with pytest.raises(CnnlensError, match=rf"no pictures in .*{without}: it is empty"):
        import_data("masks", tmp_path / "set", tmp_path / "out")
    np.save(tmp_path / "set" / without / "1.npy", np.zeros(3))
    with pytest.raises(CnnlensError, match=rf"no pictures in .*{without}: 1 file .*1 \.npy"):
        import_data("masks", tmp_path / "set", tmp_path / "out")


# ---- files of names


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("a.json", '{"3": "cat", "4": "dog"}', [(3, "cat"), (4, "dog")]),
        ("a.json", '{"cat": 3}', [(3, "cat")]),
        ("a.json", '["x", "y"]', [(0, "x"), (1, "y")]),
        ("a.txt", "3 cat\n\n4\tdog house\n", [(3, "cat"), (4, "dog house")]),
        ("a.txt", "cat, big\n3 dogs\n", [(None, "cat, big"), (None, "3 dogs")]),
        ("a.json", '[{"id": 3, "name": "cat"}, {"id": "4", "name": "x"}]', [(3, "cat"), (4, "x")]),
        ("a.json", '{"info": {}, "categories": [{"id": 7, "name": "cat"}]}', [(7, "cat")]),
        ("a.json", '{"3": {"name": "cat"}, "4": "dog"}', [(3, "cat"), (4, "dog")]),
        ("a.txt", "dog house 4\ncat, 3\n", [(4, "dog house"), (3, "cat")]),
        ("a.txt", "1: cat\n2 : dog\n", [(1, "cat"), (2, "dog")]),
        ("a.txt", "64 128 64\tcat\n0 0 9\tdog 2\n", [((64, 128, 64), "cat"), ((0, 0, 9), "dog 2")]),
        (
            "a.txt",
            "# label:rgb::\na b:1,2,3::\nc:4,5,6:x:\n",
            [((1, 2, 3), "a b"), ((4, 5, 6), "c")],
        ),
        ("a.txt", "row 3 300 1\nrow 3 4 2\n", [(1, "row 3 300"), (2, "row 3 4")]),
        ("a.txt", "zone 2\nzone 1\n", [(None, "zone 2"), (None, "zone 1")]),
        (
            "a.csv",
            "name,r,g,b\nvoid,0,0,0\nignore,0,0,0\n",
            [((0,) * 3, "void"), ((0,) * 3, "ignore")],
        ),
        ("a.csv", "name,number\ncat,3\n", [(3, "cat")]),
        ("a.csv", 'Name,R,G,B\n"a, ""b""",1,2,3\n', [((1, 2, 3), 'a, "b"')]),
        ("a.csv", "id;name\n3;cat\n", [(3, "cat")]),
    ],
)
def test_names_are_read(tmp_path: Path, name: str, text: str, named: list[object]) -> None:
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path / name) == named


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "3"),
        ("a.json", "{"),
        ("a.json", '{"x": "cat"}'),
        ("a.csv", "cat,1,2,3\n"),
        ("a.csv", "name,r,g,b\ncat,1,2,300\n"),
        ("a.csv", "name,r,g,b\ncat,1\n"),
        ("a.txt", ""),
        ("a.txt", "1 cat\n1 dog\n"),
        ("a.json", '[{"name": "cat"}]'),
        ("a.json", '[{"id": 1, "title": "cat"}]'),
        ("a.json", '["cat", {"name": 3}]'),
        ("a.json", '{"1": ["cat", "c"]}'),
        ("a.json", '{"1": "cat", "1": "dog"}'),
        ("a.json", '{"cat": 1, "dog": 1}'),
        ("a.csv", "name,id\ncat,1\ndog,1\n"),
    ],
)
def test_names_that_cannot_be_read_are_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CnnlensError, match=rf"{name[:1]}\.{name[2:]} (does not name|names no)"):
        read_names(tmp_path / name)


def test_a_colour_of_several_names_has_the_first_and_it_is_said(tmp_path: Path) -> None:
    """The lines of Cityscapes' own list that share a colour, by id and upside down."""
    table = tmp_path / "colours.csv"
    table.write_text(
        "name,id,r,g,b\nlicense plate,-1,0,0,142\nego vehicle,1,0,0,0\nunlabeled,0,0,0,0\n"
        "pole,17,153,153,153\npolegroup,18,153,153,153\ncar,26,0,0,142\n"
    )
    colours = np.array([(0, 0, 0), (0, 0, 142), (153, 153, 153)], np.uint8)
    root = single(tmp_path / "set", {"a": colours[halves(1, 2)], "b": colours[halves(1, 0)]})
    summary = import_data("masks", root, tmp_path / "out", names=table)
    planes = objects(tmp_path / "out", "a.jpg")
    assert {name for name, plane in planes.items() if plane.any()} == {"car", "pole"}
    np.testing.assert_array_equal(planes["car"], LEFT)
    np.testing.assert_array_equal(planes["pole"], RIGHT)
    assert not {"license plate", "ego vehicle", "polegroup"} & {*planes}
    said = "\n".join(summary["notes"])
    assert "colour 0,0,142 is car; license plate, of the same colour, gets no pixels" in said
    assert "153,153,153 is pole; polegroup" in said and "0,0,0 is unlabeled; ego vehicle" in said


# ---- Cityscapes

COLOURS = np.array([(0, 0, 0), (128, 64, 128), (244, 35, 232)], np.uint8)


def cityscapes(root: Path, photos: str = "leftImg8bit", masks: str = "gtFine") -> Path:
    """Two photos with all files that the publisher gives of each."""
    for number, town in enumerate(("aachen", "bonn")):
        at = f"train/{town}/{town}_000000_00001{number}"
        picture(root / photos / f"{at}_leftImg8bit.png", SIZE, seed=number)
        values = halves(1, 2) if number else halves(2, 1)
        base = root / masks / at
        mask(Path(f"{base}_gtFine_color.png"), COLOURS[values])
        mask(Path(f"{base}_gtFine_labelIds.png"), values + np.uint8(6))
        mask(Path(f"{base}_gtFine_instanceIds.png"), values.astype(np.uint16) * 1000)
        Path(f"{base}_gtFine_polygons.json").write_text("{}")
    return root


@pytest.mark.parametrize("folders", [("leftImg8bit", "gtFine"), ("images", "masks")])
@pytest.mark.parametrize("coloured", [True, False])
def test_cityscapes_by_its_own_names(
    tmp_path: Path, folders: tuple[str, str], coloured: bool
) -> None:
    root, names = cityscapes(tmp_path / "set", *folders), tmp_path / "names.csv"
    table = "name,r,g,b\nroad,128,64,128\nsidewalk,244,35,232\n"
    names.write_text(table if coloured else "name,number\nroad,7\nsidewalk,8\n")
    summary = import_data("masks", root, tmp_path / "out", names=names)
    assert summary["images"] == 2 and summary["skipped"] == []
    for number, town in enumerate(("aachen", "bonn")):
        image = f"train/{town}/{town}_000000_00001{number}_leftImg8bit.png"
        planes = objects(tmp_path / "out", image)
        np.testing.assert_array_equal(planes["road"], LEFT if number else RIGHT)
        np.testing.assert_array_equal(planes["sidewalk"], RIGHT if number else LEFT)
    taken = "_gtFine_color" if coloured else "_gtFine_labelIds"
    assert f"end in {taken} are taken" in summary["notes"][0]
    assert "_gtFine_instanceIds" in summary["notes"][0]


def test_photos_and_masks_with_an_ending_each(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("a_1", "b_2"):
        picture(root / "images" / f"{name}_rgb.jpg")
        mask(root / "masks" / f"{name}.png", halves(1, 0))
    assert import_data("masks", root, tmp_path / "out")["images"] == 2
    picture(tmp_path / "no" / "images" / "a_1.jpg"), picture(tmp_path / "no" / "images" / "b_1.jpg")
    mask(tmp_path / "no" / "masks" / "a_2.png", halves(1, 0))  # a number is no ending
    with pytest.raises(CnnlensError, match="no mask bears an image's name"):
        import_data("masks", tmp_path / "no", tmp_path / "none")
