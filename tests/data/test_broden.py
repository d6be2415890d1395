from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.broden import Broden, open_broden
from cnnlens.data.concept_space import BadLabels, Concept, Labels
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError

from .layout import FIXED, LABELS, plane, write

ROW = "{},train,6,8,2,3,{}"


def one(root: Path, columns: str, cells: str, **planes: Image.Image) -> Broden:
    named = {f"{name}.png": image for name, image in planes.items()}
    return open_broden(write(root, columns, [ROW.format("a.png", cells)], named))


def truth(labels: Labels, broden: Broden, pooled: bool = False) -> dict[str, list[list[int]]]:
    """Per concept "category/label", its mask as nested lists: what the planes and whole mean."""
    masks = {}
    for index, concept in enumerate(broden.concept_space(pooled).concepts):
        mask = (labels.planes == index + 1).any(0) | (index in labels.whole)
        if mask.any():
            masks[f"{concept.category}/{concept.label}"] = mask.astype(int).tolist()
    return masks


def test_concepts_are_ordered_by_column_and_number_and_have_their_own_category(
    tmp_path: Path,
) -> None:
    broden = one(tmp_path, "part,material,color", ",,")
    space = broden.concept_space()
    assert broden.category_names == ("part", "material", "color")
    assert broden.kind == "broden" and broden.aligned and broden.paths == ("images/a.png",)
    assert space.concepts == (
        Concept(2, "wood", "part"),
        Concept(5, "leg", "part"),
        Concept(2, "wood", "material"),
        Concept(1, "red", "color"),
    )
    assert space.category_of.tolist() == [0, 0, 1, 2]


def test_planes_become_concepts_and_zero_is_nothing(tmp_path: Path) -> None:
    broden = one(tmp_path, "object,part", "o.png,p.png", o=plane([[7, 0, 0], [0, 7, 7]]),
                 p=plane([[0, 5, 2], [2, 0, 0]]))  # fmt: skip
    labels = broden.concept_space().labels(0)
    assert labels.planes.dtype == np.uint16 and labels.planes.shape == (2, 2, 3)
    assert labels.size == (2, 3) and labels.whole.tolist() == []
    assert labels.present.tolist() == [True, True]
    assert truth(labels, broden) == {
        "object/chair": [[1, 0, 0], [0, 1, 1]],
        "part/leg": [[0, 1, 0], [0, 0, 0]],
        "part/wood": [[0, 0, 1], [1, 0, 0]],
    }
    codes = [int(p.max()) for p in labels.planes]
    assert codes[0] == 1 and set(codes[1:]) <= {2, 3}  # categories in the order of the columns


def test_numbers_above_255_use_the_green_channel(tmp_path: Path) -> None:
    broden = one(tmp_path, "texture", "t.png", t=plane([[301, 0, 301], [0, 0, 0]]))
    labels = broden.concept_space().labels(0)
    assert truth(labels, broden) == {"texture/banded": [[1, 0, 1], [0, 0, 0]]}


def test_planes_of_a_cell_are_ored_and_no_concept_stands_twice_at_a_pixel(tmp_path: Path) -> None:
    broden = one(tmp_path, "part", " a1.png ; b1.png;c1.png;;d1.png",
                 a1=plane([[5, 5, 0], [0, 0, 0]]), b1=plane([[5, 2, 2], [0, 0, 0]]),
                 c1=plane([[2, 2, 5], [0, 0, 0]]), d1=plane([[0, 0, 2], [2, 0, 0]]))  # fmt: skip
    labels = broden.concept_space().labels(0)
    assert truth(labels, broden) == {
        "part/leg": [[1, 1, 1], [0, 0, 0]],
        "part/wood": [[1, 1, 1], [1, 0, 0]],
    }
    for pixel in labels.planes.reshape(len(labels.planes), -1).T:
        named = pixel[pixel > 0].tolist()
        assert len(named) == len(set(named))
    assert int((labels.planes > 0).sum()) == 7


def test_numbers_cover_the_whole_image_and_leave_the_planes(tmp_path: Path) -> None:
    broden = one(tmp_path, "scene,texture,part", "300,301; 301,5;p.png;2",
                 p=plane([[5, 2, 0], [0, 0, 5]]))  # fmt: skip
    space = broden.concept_space()
    labels = space.labels(0)
    assert [space.concepts[i].label for i in labels.whole] == ["room", "banded", "wood", "leg"]
    assert labels.whole.dtype == np.int64 and labels.planes.shape == (0, 2, 3)


def test_image_level_only_data_needs_no_planes(tmp_path: Path) -> None:
    rows = [ROW.format("a.png", "300"), ROW.format("b.png", "")]
    space = open_broden(write(tmp_path, "scene", rows)).concept_space()
    assert space.labels(0).whole.tolist() == [0] and space.labels(0).present.tolist() == [True]
    assert space.labels(1).whole.tolist() == [] and space.labels(1).present.tolist() == [False]


def test_zero_as_a_whole_image_number_is_nothing_but_counts_as_looked_at(tmp_path: Path) -> None:
    labels = one(tmp_path, "scene,object", "0, ; ").concept_space().labels(0)
    assert labels.whole.tolist() == [] and labels.present.tolist() == [True, False]


def test_the_same_number_in_two_columns_is_two_concepts_each_with_its_truth(tmp_path: Path) -> None:
    broden = one(tmp_path, "material,part", "m.png,p.png", m=plane([[2, 2, 0], [0, 0, 0]]),
                 p=plane([[0, 2, 0], [0, 0, 2]]))  # fmt: skip
    assert truth(broden.concept_space().labels(0), broden) == {
        "material/wood": [[1, 1, 0], [0, 0, 0]],
        "part/wood": [[0, 1, 0], [0, 0, 1]],
    }


def test_pooled_it_is_one_concept_in_the_category_it_covers_most(tmp_path: Path) -> None:
    broden = one(tmp_path, "part,material", "p.png,m.png", m=plane([[2, 2, 0], [0, 0, 0]]),
                 p=plane([[0, 2, 0], [0, 0, 2]]))  # fmt: skip
    space = broden.concept_space(pooled=True)
    assert space.concepts == (Concept(5, "leg", "part"), Concept(2, "wood", "material"))
    labels = space.labels(0)
    assert truth(labels, broden, pooled=True) == {"material/wood": [[1, 1, 0], [0, 0, 1]]}
    assert int((labels.planes > 0).sum()) == 3

    head = "code,number,name,frequency,coverage\n"
    (tmp_path / "c_part.csv").write_text(f"{head}1,2,wood,1,9.5\n")
    (tmp_path / "c_material.csv").write_text(f"{head}1,2,wood,5,3.5\n")
    home = open_broden(tmp_path).concept_space(pooled=True).concepts
    assert home[0] == Concept(2, "wood", "part")


def test_every_image_may_have_its_own_size(tmp_path: Path) -> None:
    rows = ["a.png,train,6,8,2,3,a_o.png", "b.png,val,9,9,1,4,b_o.png"]
    planes = {"a_o.png": plane(np.full((2, 3), 7)), "b_o.png": plane(np.full((1, 4), 7))}
    broden = open_broden(write(tmp_path, "object", rows, planes))
    space = broden.concept_space()
    assert space.labels(0).planes.shape == (1, 2, 3)
    assert space.labels(1).planes.shape == (1, 1, 4) and space.labels(1).size == (1, 4)
    assert broden.splits == ("train", "val")


def test_byte_order_mark_windows_line_ends_spaces_and_blank_lines(tmp_path: Path) -> None:
    rows = [" sub\\a.png , train, 6, 8, 2, 3, sub/o.png ; 7 , 300 ", "", ",,,,,,,"]
    root = write(tmp_path, "object , scene", rows, {"sub/o.png": plane(np.full((2, 3), 7))})
    Image.new("RGB", (8, 6)).save(root / "images" / "sub" / "a.png")
    for name in ("index.csv", "label.csv"):
        text = (root / name).read_text().replace("\n", "\r\n")
        (root / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    broden = open_broden(root)
    assert broden.paths == ("images/sub/a.png",) and broden.category_names == ("object", "scene")
    assert len(broden.concept_space().labels(0).whole) == 2


def test_columns_that_are_no_category_are_passed_over(tmp_path: Path) -> None:
    broden = one(tmp_path, "id,object,remark", "17,7,seen twice; blurred")
    assert broden.category_names == ("object",)
    assert broden.concept_space().labels(0).whole.tolist() == [0]


def test_a_label_column_that_nothing_declares_is_an_error_with_a_near_name(tmp_path: Path) -> None:
    with pytest.raises(CnnlensError) as caught:
        one(tmp_path, "colour,object", "c.png,7")
    assert "'colour'" in caught.value.message and "color" in caught.value.hint


@pytest.mark.parametrize(
    ("mode", "numbers"),
    [("RGBA", [[7, 0, 0], [0, 0, 300]]), ("L", [[7, 0, 0], [0, 0, 7]]),
     ("I;16", [[7, 0, 0], [0, 0, 300]]), ("P", [[7, 0, 0], [0, 0, 300]]),
     ("LA", [[7, 0, 0], [0, 0, 7]])],
)  # fmt: skip
def test_planes_of_other_png_modes(tmp_path: Path, mode: str, numbers: list[list[int]]) -> None:
    array = np.array(numbers)
    image = plane(array)
    if mode == "RGBA":
        image.putalpha(255)
    elif mode == "P":  # as a PNG optimizer would store it
        image = image.quantize(3)
    elif mode == "I;16":
        image = Image.fromarray(array.astype(np.uint16))
    else:
        image = Image.fromarray(array.astype(np.uint8)).convert(mode)
    assert image.mode == mode
    broden = one(tmp_path, "object,scene", "o.png,", o=image)
    labels = LABELS.replace("scene(2)", "scene(2);object(1)")
    (tmp_path / "label.csv").write_text(labels)
    broden = open_broden(tmp_path)
    expected = {"object/chair": (array == 7).astype(int).tolist()}
    if (array == 300).any():
        expected["object/room"] = (array == 300).astype(int).tolist()
    assert truth(broden.concept_space().labels(0), broden) == expected


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("gone.png,", "gone.png is missing"),
        ("small.png,", "small.png is 1×3 pixels, index.csv says 2×3"),
        ("torn.png,", "torn.png cannot be read: truncated"),
        ("unknown.png,", "label 77 in unknown.png is not in label.csv"),
        ("foreign.png,", "label 300 in foreign.png (room) is not declared for category object"),
        (",7", "label 7 (chair) is not declared for category scene"),
        (",99999", "label 99999 is not in label.csv"),
    ],
)
def test_a_bad_row_says_why_and_the_others_stay_good(
    tmp_path: Path, cells: str, reason: str
) -> None:
    planes = {
        "small.png": plane([[7, 7, 7]]),
        "torn.png": plane(np.full((2, 3), 7)),
        "unknown.png": plane([[7, 7, 77], [0, 0, 0]]),
        "foreign.png": plane([[300, 7, 7], [0, 0, 0]]),
    }
    rows = [ROW.format("a.png", cells), ROW.format("b.png", "7,300")]
    root = write(tmp_path, "object,scene", rows, planes)
    torn = root / "images" / "torn.png"
    torn.write_bytes(torn.read_bytes()[:45])
    space = open_broden(root).concept_space()
    with pytest.raises(BadLabels) as caught:
        space.labels(0)
    assert caught.value.path == "images/a.png" and reason in caught.value.reason
    assert len(space.labels(1).whole) == 2


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("b.png,train,6,8,2,3", "6 cells under 8 columns"),
        ("b.png,train,6,8,2,3,,300,7", "9 cells under 8 columns"),
        ("b.png,train,6,8,2.5,3,,300", "sh is '2.5', not a size in pixels"),
        ("b.png,train,6,8,2,0,,300", "sw is '0', not a size in pixels"),
        ("b.png,train,,8,2,3,,300", "ih is '', not a size in pixels"),
        ("b.png,train,6,8,2,99999999999,,300", "sw is '99999999999', not a size in pixels"),
        (",train,6,8,2,3,,300", "the image is not named"),
        ("a.png,train,6,8,2,3,,300", "a.png is listed in row 2 too"),
        ("../b.png,train,6,8,2,3,,300", "'../b.png' leads out of the data folder"),
        ("/b.png,train,6,8,2,3,,300", "'/b.png' leads out of the data folder"),
        ("C:/b.png,train,6,8,2,3,,300", "leads out of the data folder"),
        ("b.png,train,6,8,2,3,x/../../o.png,300", "leads out of the data folder"),
        ("b.png,train,6,8,2,3,/o.png,300", "leads out of the data folder"),
        ("b.png,train,6,8,2,3,chair,300", "object is 'chair', neither a label number nor"),
        ("b.png,train,6,8,2,3,7;-7,300", "object is '-7', neither a label number nor"),
        ("b.png,train,6,8,2,3,,3.5", "scene is '3.5', neither a label number nor"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, row: str, what: str) -> None:
    root = write(tmp_path, "object,scene", [ROW.format("a.png", ",300"), row])
    with pytest.raises(CnnlensError) as caught:
        open_broden(root)
    assert caught.value.message.startswith(f"{root / 'index.csv'}, row 3: ")
    assert what in caught.value.message


@pytest.mark.parametrize(
    ("table", "text", "what"),
    [
        ("index.csv", None, "index.csv does not exist"),
        ("label.csv", None, "label.csv does not exist"),
        ("index.csv", "", "index.csv is empty"),
        ("index.csv", "image,split,ih,iw,sh,object\n", "has no column 'sw'"),
        ("index.csv", f"{FIXED},object\n", "lists no images"),
        ("index.csv", f"{FIXED},thing\na.png,train,6,8,2,3,7\n", "has no category column"),
        ("index.csv", f"{FIXED},object,object\n", "two columns 'object'"),
        ("index.csv", b"\xff\xfe\x00i\x00m", "index.csv is damaged"),
        ("label.csv", "number,name\n1,red\n", "has no column 'category'"),
        ("label.csv", "number,name,category\n", "defines no labels"),
        ("label.csv", "number,name,category\nx,red,color\n", "row 2: the label number is 'x'"),
        ("label.csv", "number,name,category\n1,r\0d,color\n", "row 2: it holds a NUL character"),
        (
            "label.csv",
            "number,name,category\n1,a,object\n1,b,object\n",
            "row 3: label 1 is defined",
        ),
        ("label.csv", "number,name,category\n1,a,object(b)c\n", "does not look like object(12)"),
    ],
)
def test_faulty_tables_are_named(
    tmp_path: Path, table: str, text: str | bytes | None, what: str
) -> None:
    root = write(tmp_path, "object", [ROW.format("a.png", "7")])
    (root / table).unlink()
    if text is not None:
        (root / table).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(CnnlensError) as caught:
        open_broden(root)
    assert what in caught.value.message


def test_categories_without_counts_and_quoted_names_are_understood(tmp_path: Path) -> None:
    labels = 'number,name,category\n0,-,object\n3,"table, round",object; part (2)\n'
    broden = open_broden(write(tmp_path, "object,part", [ROW.format("a.png", "3,")], {}, labels))
    assert [c.label for c in broden.concept_space().concepts] == ["table, round"] * 2


def test_labels_of_no_column_are_no_concepts_and_none_left_is_an_error(tmp_path: Path) -> None:
    broden = one(tmp_path, "scene", "300")
    assert [c.label for c in broden.concept_space().concepts] == ["room"]
    root = write(tmp_path / "b", "attic", [ROW.format("a.png", "300")])
    (root / "category.csv").write_text("name,first,last,count,frequency\nattic,1,2,2,2\n")
    with pytest.raises(CnnlensError, match="declares no label of any category"):
        open_broden(root).concept_space()


def test_more_concepts_than_sixteen_bits_hold_are_refused(tmp_path: Path) -> None:
    many = "number,name,category\n" + "".join(f"{n},x,object\n" for n in range(1, 65536))
    root = write(tmp_path, "object", [ROW.format("a.png", "65535")], {}, many)
    with pytest.raises(CnnlensError, match="65,535 concepts; at most 65,534"):
        open_broden(root).concept_space()
    (root / "label.csv").write_text(many.replace("1,x,object\n", "", 1))
    assert open_broden(root).concept_space().labels(0).whole.tolist() == [65533]


def test_threads_may_read_labels_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, planes = [], {}
    for number in range(20):
        rows.append(ROW.format(f"{number}.png", f"{number}_o.png;{number}_b.png"))
        for kind in "ob":
            planes[f"{number}_{kind}.png"] = plane(rng.choice([0, 2, 5], (2, 3)))
    space = open_broden(write(tmp_path, "part", rows, planes)).concept_space()
    alone = [space.labels(index).planes for index in range(20)]
    together: dict[int, np.ndarray] = {}

    def read(first: int) -> None:
        for index in range(first, 20, 4):
            together[index] = space.labels(index).planes

    threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(20):
        np.testing.assert_array_equal(together[index], alone[index])


def fingerprint(root: Path) -> str:
    return open_broden(root).labels_fingerprint


def test_labels_fingerprint_changes_with_the_planes(tmp_path: Path) -> None:
    one(tmp_path, "part", "p.png", p=plane(np.ones((2, 3), int)))
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    file = tmp_path / "images" / "p.png"
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))  # within the same second
    touched = fingerprint(tmp_path)
    assert touched != first
    file.write_bytes(file.read_bytes() + b" ")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))  # of another size alone
    assert fingerprint(tmp_path) not in (first, touched)
    file.unlink()
    assert fingerprint(tmp_path) not in (first, touched)


# ---- photos that bear an orientation


def turned_photo(path: Path, stored: tuple[int, int], orientation: int = 6) -> None:
    """A photo of so many rows and columns, red at its upper left, which its tag turns."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((*stored, 3), np.uint8)
    pixels[: stored[0] // 2, : stored[1] // 2] = 255, 0, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95, exif=exif)


@pytest.mark.parametrize(
    ("stored", "sizes", "is_turned"),
    [
        ((16, 16), "16,16,16,16", False),  # nothing tells: as stored, as the planes are
        ((16, 32), "16,32,16,32", False),
        ((16, 32), "32,16,32,16", True),  # planes drawn on the photo as people see it
        ((16, 32), "16,32,8,8", False),  # planes that are no help: the index tells
        ((16, 32), "32,16,8,8", True),
        ((16, 32), "16,32,32,16", True),  # the planes themselves tell best
    ],
)
def test_a_photo_is_turned_only_together_with_its_planes(
    tmp_path: Path, stored: tuple[int, int], sizes: str, is_turned: bool
) -> None:
    root = write(tmp_path, "object", [f"a.jpg,train,{sizes},7"])
    turned_photo(root / "images" / "a.jpg", stored)
    broden = open_data(root)
    image = np.asarray(broden.load(0)).astype(int)
    assert image.shape[:2] == (stored[::-1] if is_turned else stored)
    left, right = image[2, 2, 0], image[2, -3, 0]
    assert (left > 200, right > 200) == ((False, True) if is_turned else (True, False))
    assert "1 of 1 images bear an EXIF orientation" in broden.notes[0]


def test_a_mirrored_photo_stays_as_its_planes_are_stored(tmp_path: Path) -> None:
    root = write(tmp_path, "object", ["a.jpg,train,16,32,16,32,7"])
    turned_photo(root / "images" / "a.jpg", (16, 32), orientation=3)
    assert np.asarray(open_data(root).load(0))[2, 2, 0] > 200
