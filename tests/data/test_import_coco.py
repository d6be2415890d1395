from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.check import check
from cnnlens.data.imports import import_data
from cnnlens.data.imports import json_lists as lists_of
from cnnlens.data.imports.coco_masks import decompress, mask_of, polygon
from cnnlens.data.imports.json_lists import element_at, elements
from cnnlens.data.tables import read_index
from cnnlens.errors import CnnlensError, UsageError
from tests.data.mask_sets import box, coco, found, picture
from tests.reference import coco_masks as reference


def rings(count: int, seed: int = 0) -> list[tuple[list[float], tuple[int, int]]]:
    """Polygons of all sorts, also outside of their images, with sizes (h, w)."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        h, w = (int(side) for side in rng.integers(1, 24, 2))
        flat = rng.uniform(-8, 32, 2 * int(rng.integers(3, 8)))
        if number % 3 == 1:
            flat = np.round(flat)
        if number % 3 == 2:
            flat = np.round(2 * flat) / 2
        made.append((flat.tolist(), (h, w)))
    return made


def test_polygons_are_filled_by_the_rule_told_slowly() -> None:
    for ring, size in rings(150):
        np.testing.assert_array_equal(polygon(ring, size), reference.polygon(ring, *size))


def test_polygons_and_run_lengths_are_pycocotools() -> None:
    api = pytest.importorskip("pycocotools.mask")
    for ring, (h, w) in rings(1500, seed=1):
        theirs = api.decode(api.frPyObjects([ring], h, w))[..., 0].astype(bool)
        np.testing.assert_array_equal(polygon(ring, (h, w)), theirs)
        other = [30 - c for c in ring]
        both = api.decode(api.merge(api.frPyObjects([ring, other], h, w))).astype(bool)
        np.testing.assert_array_equal(mask_of([ring, other], (h, w)), both)
        coded = api.encode(np.asfortranarray(both.astype(np.uint8)))
        text = {"size": [h, w], "counts": coded["counts"].decode()}
        np.testing.assert_array_equal(mask_of(text, (h, w)), both)


def test_run_lengths_of_both_kinds() -> None:
    rng = np.random.default_rng(2)
    for share in (0, 0.02, 0.5, 1):
        mask = rng.random((37, 90)) < share
        runs = reference.run_lengths(mask)
        plain = {"size": [37, 90], "counts": runs}
        packed = {"size": [37, 90], "counts": reference.compressed(runs)}
        np.testing.assert_array_equal(mask_of(plain, (37, 90)), mask)
        np.testing.assert_array_equal(mask_of(packed, (37, 90)), mask)
        assert decompress(reference.compressed(runs).encode()) == runs


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ("polygon", "neither"),
        ([[1, 2, 3, 4, 5]], "odd"),
        ([[0, 0, 1, 1, float("nan"), 2]], "infinite"),
        ([["a", "b", "c", "d", "e", "f"]], "numbers"),
        ({"size": [4, 5], "counts": [20]}, "4×5"),
        ({"counts": [3, 4]}, "add up"),
        ({"counts": [40, -4]}, "add up"),
        ({"counts": "é"}, "character"),
        ({"counts": "P"}, "early"),
        ({"counts": None}, "numbers"),
    ],
)
def test_what_is_no_mask_is_said(segmentation: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mask_of(segmentation, (6, 6))


def test_a_polygon_of_two_corners_and_one_without_a_list_around_it() -> None:
    assert not mask_of([[1, 1, 4, 4]], (6, 6)).any()
    assert mask_of(box(1, 1, 3, 3), (6, 6)).sum() == 9


# ---- annotation files


def test_large_files_are_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {
        "é": 1.25,
        "first": [{"name": '日本 \\u00e9 "q"', "n": 1}, [1, [2, 3]], 12345, -1.5e3, "x", None],
        "none": [],
        "skipped": {"a": [1, 2]},
        "last": [{"deep": {"er": list(range(50))}}] * 3,
    }
    path = tmp_path / "a.json"
    for ascii_only in (True, False):
        text = json.dumps(document, ensure_ascii=ascii_only, indent=1)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        for block in (1, 7, 1 << 20):
            monkeypatch.setattr(lists_of, "_BLOCK", block)
            read = list(elements(path))
            for key in ("first", "last"):
                assert [e.value for e in read if e.key == key] == document[key]
            with path.open("rb") as file:
                assert all(element_at(file, e.offset, e.length) == e.value for e in read)


@pytest.mark.parametrize("text", ["", '{"a": [1, 2', '{"a" [1]}', "nonsense", "\xff\xfe{"])
def test_damaged_annotation_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "instances_x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CnnlensError, match=r"instances_x\.json is damaged"):
        list(elements(path))


def test_lists_of_results_beside_annotations_are_passed_over_and_named(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "1.jpg")
    drawn = [{"image_id": 1, "category_id": 7, "segmentation": [box(0, 0, 3, 3)]}]
    (root / "results.json").write_text('\n[{"image_id": 1, "score": 0.5}]')
    with pytest.raises(
        CnnlensError, match=r"no masks.*no JSON objects, passed over: results\.json"
    ):
        import_data("coco", root, tmp_path / "out")
    coco(root / "labels.json", [(1, "1.jpg", 24, 32)], drawn)
    summary = import_data("coco", root, tmp_path / "out")
    assert summary["images"] == 1
    assert "no JSON objects, passed over: results.json" in summary["notes"]
    with pytest.raises(CnnlensError, match=r"results\.json holds a list, where COCO's"):
        import_data("coco", root / "results.json", tmp_path / "none")


@pytest.fixture
def two_splits(tmp_path: Path) -> Path:
    """Train and val, the same file name in both, overlaps, crowds, an image of nothing."""
    root = tmp_path / "set"
    for split in ("train2017", "val2017"):
        picture(root / split / "1.jpg")
    picture(root / "val2017" / "2.jpg", (20, 20))
    mask = np.zeros((24, 32), bool)
    mask[10:14, 3:9] = True
    crowd = {"size": [24, 32], "counts": reference.run_lengths(mask)}
    annotations = [
        {"image_id": 1, "category_id": 1, "segmentation": [box(2, 2, 6, 5), box(20, 2, 4, 4)]},
        {"image_id": 1, "category_id": 1, "segmentation": [box(4, 4, 8, 8)]},
        {"image_id": 1, "category_id": 7, "segmentation": [box(6, 6, 9, 3)]},
        {"image_id": 1, "category_id": 7, "segmentation": crowd, "iscrowd": 1},
        {"image_id": 1, "category_id": 7, "bbox": [1, 1, 2, 2]},
        {"image_id": 77, "category_id": 7, "segmentation": [box(6, 6, 9, 3)]},
    ]
    coco(root / "annotations" / "instances_train2017.json", [(1, "1.jpg", 24, 32)], annotations)
    coco(
        root / "annotations" / "instances_val2017.json",
        [(4, "1.jpg", 24, 32), (5, "2.jpg", 20, 20), (6, "gone.jpg", 9, 9)],
        [{"image_id": 4, "category_id": 7, "segmentation": [box(0, 0, 3, 3)]}],
    )
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    return root


def test_unions_overlaps_splits_and_images_of_nothing(two_splits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = import_data("coco", two_splits, out)
    masks = found(out)
    assert list(masks) == ["train2017/1.jpg", "val2017/1.jpg", "val2017/2.jpg"]
    cat = mask_of([box(2, 2, 6, 5), box(20, 2, 4, 4), box(4, 4, 8, 8)], (24, 32))
    cup = mask_of([box(6, 6, 9, 3)], (24, 32))
    cup[10:14, 3:9] = True
    assert (cat & cup).any()  # overlaps are kept on both
    np.testing.assert_array_equal(masks["train2017/1.jpg"]["object", "cat"], cat)
    np.testing.assert_array_equal(masks["train2017/1.jpg"]["object", "cup"], cup)
    assert masks["val2017/1.jpg"]["object", "cup"].sum() == 9
    assert not any(m.any() for m in masks["val2017/2.jpg"].values())
    _, rows = read_index(out / "index.csv", {"object"})
    assert [row.split for row in rows] == ["train", "val", "val"]
    assert all(row.cells[0] for row in rows)  # annotated, of nothing: a plane of zeros
    assert summary["images"] == 3
    assert summary["skipped"] == [{"image": "gone.jpg", "reason": "missing"}]
    said = " ".join(summary["notes"])
    assert "1 crowd region: " in said and "1 annotation without a mask" in said
    assert "1 image that no file lists" in said
    assert json.loads((out / "import.json").read_text()) == summary
    assert check(out).ok and check(out).notes == ()


def test_masks_of_a_whole_set_are_pycocotools(two_splits: Path, tmp_path: Path) -> None:
    api = pytest.importorskip("pycocotools.coco")
    import_data("coco", two_splits, tmp_path / "out")
    theirs = api.COCO(two_splits / "annotations" / "instances_train2017.json")
    for number, name in ((1, "cat"), (7, "cup")):
        union = np.zeros((24, 32), bool)
        for one in theirs.loadAnns(theirs.getAnnIds([1], [number])):
            if "segmentation" in one:
                union |= theirs.annToMask(one).astype(bool)
        mine = found(tmp_path / "out")["train2017/1.jpg"]["object", name]
        np.testing.assert_array_equal(mine, union)


def test_supercategories_stuff_and_parts(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "images" / "1.jpg")
    picture(root / "images" / "2.jpg")
    both = [(1, "1.jpg", 24, 32), (2, "2.jpg", 24, 32)]
    categories = [(1, "cat", "animal"), (7, "dog", "animal"), (9, "cat:tail", "PART")]
    boxes = [(1, 1, box(0, 0, 8, 8)), (1, 7, box(4, 4, 8, 8)), (1, 9, box(2, 2, 3, 3))]
    annotations = [{"image_id": i, "category_id": c, "segmentation": [b]} for i, c, b in boxes]
    coco(root / "annotations" / "instances_val.json", both, annotations, categories)
    sky = {"image_id": 1, "category_id": 5, "segmentation": [box(0, 0, 32, 4)]}
    rest = {"image_id": 1, "category_id": 183, "segmentation": [box(0, 4, 32, 20)]}
    stuff = [(5, "sky", "outdoor"), (183, "other", "other")]
    coco(root / "annotations" / "stuff_val.json", both[:1], [sky, rest], stuff)
    out = tmp_path / "out"
    summary = import_data("coco", root, out, supercategories=True)
    assert summary["labels"] == {"object": 2, "part": 1, "stuff": 1, "supercategory": 2}
    masks = found(out)["images/1.jpg"]
    np.testing.assert_array_equal(
        masks["supercategory", "animal"], masks["object", "cat"] | masks["object", "dog"]
    )
    assert masks["stuff", "sky"].sum() == 128 and masks["part", "cat:tail"].sum() == 9
    categories_, rows = read_index(out / "index.csv", set(summary["labels"]))
    empty = [c for c, cell in zip(categories_, rows[1].cells, strict=True) if not cell]
    assert empty == ["part", "stuff"]  # of which nothing is known on the second image
    assert "supercategory" not in import_data("coco", root, tmp_path / "plain")["labels"]


def test_images_of_one_name_lie_beside_their_annotations(tmp_path: Path) -> None:
    root = tmp_path / "set"  # as Roboflow writes it
    for number, split in enumerate(("train", "valid"), 1):
        picture(root / split / "1.jpg", seed=number)
        annotations = [
            {"image_id": 1, "category_id": 1, "segmentation": [box(0, 0, number, number)]}
        ]
        coco(root / split / "_annotations.coco.json", [(1, "1.jpg", 24, 32)], annotations)
    out = tmp_path / "out"
    import_data("coco", root, out)
    masks = found(out)
    assert [int(m["object", "cat"].sum()) for m in masks.values()] == [1, 4]
    assert [row.split for row in read_index(out / "index.csv", {"object"})[1]] == ["train", "val"]
    for split in ("train", "valid"):
        same = (out / "images" / split / "1.jpg").read_bytes()
        assert same == (root / split / "1.jpg").read_bytes()


def test_lvis_names_images_by_address_and_one_file_may_be_named(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for folder in ("train2017", "val2017"):
        picture(root / folder / "1.jpg")
    path = coco(
        root / "annotations" / "lvis_v1_train.json",
        [(1, "", 24, 32)],
        [{"image_id": 1, "category_id": 1, "segmentation": [box(0, 0, 2, 2)]}],
    )
    document = json.loads(path.read_text())
    searched = {"neg_category_ids": [7], "not_exhaustive_category_ids": []}
    document["images"][0] = {"id": 1, "coco_url": "http://x.org/train2017/1.jpg", **searched}
    path.write_text(json.dumps(document))
    coco(root / "annotations" / "instances_val2017.json", [(1, "1.jpg", 24, 32)], [])
    notes = import_data("coco", path, tmp_path / "out")["notes"]
    assert list(found(tmp_path / "out")) == ["train2017/1.jpg"]
    assert any("searched for some categories alone" in note for note in notes)


def test_masks_of_no_pixel_are_said(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("1.jpg", "2.jpg"):
        picture(root / "images" / name)
    shares = [c / side for c, side in zip(box(2, 2, 9, 9), [32, 24] * 4, strict=True)]
    annotations = [
        {"image_id": 1, "category_id": 1, "segmentation": [shares]},
        {"image_id": 2, "category_id": 1, "segmentation": [box(2, 2, 9, 9)]},
    ]
    images = [(1, "1.jpg", 24, 32), (2, "2.jpg", 24, 32)]
    coco(root / "annotations" / "instances_val.json", images, annotations)
    notes = import_data("coco", root, tmp_path / "out")["notes"]
    assert [note for note in notes if "no pixel" in note and "(1 image)" in note]


def test_an_image_with_a_damaged_annotation_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images = [(n, f"{n}.jpg", 24, 32) for n in range(1, 6)]
    for _, name, _, _ in images:
        picture(root / "images" / name)
    (root / "images" / "4.jpg").write_bytes((root / "images" / "4.jpg").read_bytes()[:-300])
    good = [box(0, 0, 2, 2)]
    annotations = [
        {"image_id": 1, "category_id": 1, "segmentation": good},
        {"image_id": 2, "category_id": 1, "segmentation": [[1, 2, 3]]},
        {"image_id": 3, "category_id": 99, "segmentation": good},
        {"image_id": 4, "category_id": 1, "segmentation": good},
        {"image_id": 5, "category_id": 1, "segmentation": good},
    ]
    images[4] = (5, "5.jpg", 32, 32)
    coco(root / "annotations" / "instances_val.json", images, annotations)
    summary = import_data("coco", root, tmp_path / "out")
    assert summary["images"] == 1
    reasons = {one["image"]: one["reason"] for one in summary["skipped"]}
    assert "annotation 1 has a polygon" in reasons["images/2.jpg"]
    assert "category 99" in reasons["images/3.jpg"]
    assert "truncated" in reasons["images/4.jpg"]
    assert "32×32" in reasons["images/5.jpg"] and "24×32" in reasons["images/5.jpg"]


def test_files_of_one_name_are_told_by_their_folders(tmp_path: Path) -> None:
    for split in ("train", "valid"):  # as Roboflow has it
        picture(tmp_path / "set" / split / "1.jpg")
        annotations = [{"image_id": 1, "category_id": 1, "segmentation": [box(0, 0, 2, 2)]}]
        path = tmp_path / "set" / split / "_annotations.coco.json"
        coco(path, [(1, "1.jpg", 24, 32)], annotations)
    notes = import_data("coco", tmp_path / "set", tmp_path / "out")["notes"]
    assert sorted(notes) == [
        "train/_annotations.coco.json: 1 mask on 1 image",
        "valid/_annotations.coco.json: 1 mask on 1 image",
    ]


def test_polygons_of_other_tools_lead_to_what_they_can_write(tmp_path: Path) -> None:
    picture(tmp_path / "labelme" / "a.jpg")
    shape = {"label": "cat", "points": [[0, 0], [2, 0], [2, 2]], "shape_type": "polygon"}
    (tmp_path / "labelme" / "a.json").write_text(json.dumps({"shapes": [shape]}))
    with pytest.raises(CnnlensError, match="no masks") as found:
        import_data("coco", tmp_path / "labelme", tmp_path / "out")
    assert "labelme2voc.py" in found.value.hint
    picture(tmp_path / "cvat" / "images" / "a.jpg")
    (tmp_path / "cvat" / "annotations.xml").write_text("<annotations/>")
    with pytest.raises(CnnlensError, match=r"no annotations/instances") as found:
        import_data("coco", tmp_path / "cvat", tmp_path / "out")
    assert "Segmentation mask" in found.value.hint


def test_folders_of_other_kinds_are_named(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "JPEGImages" / "1.jpg")
    with pytest.raises(CnnlensError, match=r"no annotations/instances_\*\.json .*JPEGImages"):
        import_data("coco", root, tmp_path / "out")
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}]
    path = coco(root / "instances_a.json", [(1, "1.jpg", 24, 32)], boxes)
    with pytest.raises(CnnlensError, match="no masks"):
        import_data("coco", root, tmp_path / "out")
    (root / "JPEGImages" / "1.jpg").unlink()
    coco(path, [(1, "1.jpg", 24, 32)], [{"image_id": 1, "category_id": 1, "segmentation": [[1]]}])
    with pytest.raises(CnnlensError, match="none of 1 images can be imported"):
        import_data("coco", root, tmp_path / "out")
    picture(root / "b.jpg")
    with pytest.raises(CnnlensError, match=r"none of 1 images can be imported \(1\.jpg: missing"):
        import_data("coco", root, tmp_path / "out")
    with pytest.raises(UsageError, match="no folder"):
        import_data("coco", tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ids_that_are_no_ids(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "1.jpg")
    annotations = [{"image_id": [1], "category_id": 1, "segmentation": [box(0, 0, 2, 2)]}]
    coco(tmp_path / "set" / "instances_a.json", [(1, "1.jpg", 24, 32)], annotations)
    with pytest.raises(CnnlensError, match="is damaged: an id at byte"):
        import_data("coco", tmp_path / "set", tmp_path / "out")


def panoptic(root: Path, things: list[tuple[int, int, int]]) -> np.ndarray:
    """A picture of segments (number, category, column where it begins), each to the right end."""
    numbers = np.zeros((6, 8), np.int64)
    for number, _, column in things:
        numbers[:, column:] = number
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)
    place = root / "annotations" / "panoptic_val2017" / "0001.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).save(place)
    content = {
        "images": [{"id": 5, "file_name": "0001.jpg", "height": 6, "width": 8}],
        "annotations": [
            {
                "image_id": 5,
                "file_name": "0001.png",
                "segments_info": [{"id": n, "category_id": c, "iscrowd": 0} for n, c, _ in things],
            }
        ],
        "categories": [
            {"id": 1, "name": "cat", "isthing": 1, "supercategory": "animal"},
            {"id": 9, "name": "sky-other", "isthing": 0, "supercategory": "sky"},
        ],
    }
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content))
    picture(root / "val2017" / "0001.jpg", (6, 8))
    return numbers


def test_panoptic_segments_are_objects_and_stuff(tmp_path: Path) -> None:
    numbers = panoptic(tmp_path / "src", [(70_000, 9, 1), (300, 1, 3), (2, 1, 6)])
    report = import_data("coco", tmp_path / "src", tmp_path / "out")
    masks = found(tmp_path / "out")["val2017/0001.jpg"]
    np.testing.assert_array_equal(masks["object", "cat"], np.isin(numbers, (300, 2)))
    np.testing.assert_array_equal(masks["stuff", "sky-other"], numbers == 70_000)
    assert set(masks) == {("object", "cat"), ("stuff", "sky-other")}
    assert check(tmp_path / "out").ok and report
    file = tmp_path / "src" / "annotations" / "panoptic_val2017.json"
    import_data("coco", file, tmp_path / "again")
    assert found(tmp_path / "again").keys() == {"val2017/0001.jpg"}


def test_panoptic_segments_that_are_not_drawn_are_named(tmp_path: Path) -> None:
    panoptic(tmp_path / "src", [(300, 1, 3)])
    Image.new("RGB", (8, 6)).save(tmp_path / "src/annotations/panoptic_val2017/0001.png")
    with pytest.raises(CnnlensError, match=r"segment 300 is not in 0001\.png"):
        import_data("coco", tmp_path / "src", tmp_path / "out")
