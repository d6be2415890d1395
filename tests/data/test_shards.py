"""WebDataset shards are read as the class folders that they were written from."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.data.open import open_data
from cnnlens.data.shard_names import expanded, is_pattern
from cnnlens.data.shards import MANY
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.matching import readings, said_outputs
from cnnlens.model.numbered import numbered

from .packed import Pack, tarred, zipped
from .test_archives import outcome, picture, same

NAMES = [f"{kind}/{number:03d}.jpg" for kind in ("cat", "dog", "7") for number in range(5)]


def photos(root: Path) -> Path:
    for seed, name in enumerate(NAMES):
        picture(root / name, seed)
    return root


def shard(path: Path, samples: list[tuple[str, dict[str, bytes]]]) -> None:
    """Write samples as the format's documentation has them: key, then kind of part."""
    with tarfile.open(path, "w") as archive:
        for key, parts in samples:
            for kind, content in parts.items():
                info = tarfile.TarInfo(f"{key}.{kind}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def part(label: str, kind: str) -> bytes:
    return json.dumps({"id": 3, "label": label}).encode() if kind == "json" else label.encode()


def write(folder: Path, root: Path, kind: str, count: int = 3, keys: str = "{stem}") -> str:
    """Deal the images of a folder out to shards."""
    samples: list[list[tuple[str, dict[str, bytes]]]] = [[] for _ in range(count)]
    for number, name in enumerate(NAMES):
        label, _, file = name.partition("/")
        key = keys.format(stem=file[:-4], label=label)
        parts = {"jpg": (root / name).read_bytes(), kind: part(label, kind)}
        samples[number % count].append((key, parts))
    for number, one in enumerate(samples):
        shard(folder / f"shards-{number:03d}.tar", one)
    return str(folder / f"shards-{{000..{count - 1:03d}}}.tar")


@pytest.mark.parametrize("kind", ["cls", "json", "txt"])
def test_shards_are_the_class_folders_they_were_written_from(tmp_path: Path, kind: str) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    pattern = write(tmp_path, tmp_path / "photos", kind)
    found = open_data(pattern)
    same(found, truth)
    assert found.name == "shards" and found.kind == "classes"
    same(open_data(tmp_path / "shards-*.tar"), truth)


def test_keys_may_have_folders_and_stand_in_several_shards(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    found = open_data(write(tmp_path, tmp_path / "photos", "cls", keys="{label}/{stem}"))
    same(found, truth)
    for number in range(3):  # the same keys in each
        content = (tmp_path / "photos" / NAMES[number]).read_bytes()
        shard(tmp_path / f"s-{number}.tar", [("0", {"jpg": content, "cls": b"one"})])
    found = open_data(tmp_path / "s-{0..2}.tar")
    assert found.paths == ("one/0.jpg", "one/s-1__0.jpg", "one/s-2__0.jpg")
    assert "2 keys stand in several archives" in "; ".join(found.notes)
    pictures = [truth.paths.index(NAMES[number]) for number in range(3)]
    assert [outcome(found, k) for k in range(3)] == [outcome(truth, k) for k in pictures]


def test_one_shard_alone_is_recognised_by_its_labels(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    write(tmp_path, tmp_path / "photos", "cls", count=1, keys="{label}/{stem}")
    found = open_data(tmp_path / "shards-000.tar")
    same(found, truth)
    before = found.labels_fingerprint
    shard(tmp_path / "shards-000.tar", [("1", {"png": b"x", "cls": b"owl"})])
    assert open_data(tmp_path / "shards-000.tar").labels_fingerprint != before


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_labels_that_are_numbers_are_outputs_not_folders_in_order(
    tmp_path: Path, kind: str
) -> None:
    content = (photos(tmp_path / "photos") / NAMES[0]).read_bytes()
    for name, labels in (("a", [*range(12)]), ("b", [1, 2, 11]), ("c", [1, "2b"]), ("d", ["01"])):
        samples = [
            (str(n), {"jpg": content, kind: json.dumps({"label": label}).encode()})
            if kind == "json"
            else (str(n), {"jpg": content, kind: str(label).encode()})
            for n, label in enumerate(labels)
        ]
        shard(tmp_path / f"{name}.tar", samples)
    labels = open_data(tmp_path / "a.tar").image_categories or ()
    (way,) = readings(labels, None, 12)
    assert way.certain and way.outputs == {str(n): n for n in range(12)}
    labels = open_data(tmp_path / "b.tar").image_categories or ()
    assert said_outputs(labels, None, 12) == {"1": 1, "2": 2, "11": 11}
    for name in "cd":
        assert numbered(open_data(tmp_path / f"{name}.tar").image_categories or ()) is None


def test_a_key_may_hold_a_dot_where_labels_do(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    found = open_data(write(tmp_path, tmp_path / "photos", "cls", keys="img_0.{label}{stem}"))
    assert found.image_categories == truth.image_categories and not found.notes
    assert outcome(found, 0) == outcome(truth, 0)
    one = (tmp_path / "photos" / NAMES[0]).read_bytes()
    parts = {"jpg": one, "seg.png": b"x", "cls": b"1"}
    shard(tmp_path / "a.tar", [("v1.5_0", parts), ("0", parts), ("1", {**parts, "b.txt": b"x"})])
    found = open_data(tmp_path / "a.tar")
    assert found.paths == ("1/0.jpg", "1/1.jpg", "1/v1.5_0.jpg")
    assert "3 samples of several images" in "; ".join(found.notes)


def test_images_of_no_sample_with_a_photo_are_counted(tmp_path: Path) -> None:
    one = (photos(tmp_path / "photos") / NAMES[0]).read_bytes()
    odd = [(f"img_0.{n}", {"jpg": one}) for n in range(4)]
    shard(tmp_path / "a.tar", [("0", {"jpg": one, "cls": b"1"}), ("._0", {"jpg": one}), *odd])
    found = open_data(tmp_path / "a.tar")
    said = "passed over, images of samples without a photo: img_0.0.jpg, img_0.1.jpg, img_0.2.jpg"
    assert found.paths == ("1/0.jpg",) and found.notes == (f"4 members {said} and 1 more",)


def test_an_archive_named_twice_is_refused_and_a_copy_said(tmp_path: Path) -> None:
    write(tmp_path, photos(tmp_path / "photos"), "cls")
    with pytest.raises(UsageError, match=r"shards-001\.tar is named twice"):
        open_data(tmp_path / "shards-{000,001,001}.tar")
    (tmp_path / "shards-003.tar").symlink_to(tmp_path / "shards-001.tar")
    with pytest.raises(UsageError, match=r"003\.tar is the same as .*shards-001\.tar"):
        open_data(tmp_path / "shards-*.tar")
    (tmp_path / "copy-002.tar").write_bytes((tmp_path / "shards-002.tar").read_bytes())
    (note,) = open_data(tmp_path / "{shards,copy}-002.tar").notes
    assert note.endswith("told apart (5 of files of one size, perhaps the same images twice)")


def test_a_folder_is_called_what_it_is_whatever_stands_for_archives_in_it(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    for name in ("sq[1]", "b{x,y}", "s*"):
        (tmp_path / name).mkdir()
        pattern = write(tmp_path / name, tmp_path / "photos", "cls")
        same(open_data(pattern), truth)
        same(open_data(tmp_path / name / "shards-*.tar"), truth)
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / f"b{{x,y}}/shards-00{number}.tar").rename(tmp_path / folder / "s.tar")
    assert len(expanded(str(tmp_path / "{one,two}" / "s*.tar"))) == 2


def test_captions_and_notes_are_no_classes(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    read = [(tmp_path / "photos" / name).read_bytes() for name in NAMES]
    captions = [(f"{k}", {"jpg": c, "txt": f"a photo, {k}".encode()}) for k, c in enumerate(read)]
    shard(tmp_path / "a.tar", captions)
    found = open_data(tmp_path / "a.tar")
    assert found.kind == "images" and len(found.paths) == len(NAMES)
    beside = [(f"cat/{k}", {"jpg": c, "txt": b"same"}) for k, c in enumerate(read)]
    shard(tmp_path / "b.tar", [*beside, ("dog/1", {"jpg": read[0]})])
    found = open_data(tmp_path / "b.tar")
    assert set(found.image_categories or ()) == {"cat", "dog"}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_json_beside_images_in_class_folders_is_as_in_the_folder(
    tmp_path: Path, pack: Pack
) -> None:
    for name in (*NAMES, "cat/in/9.jpg"):
        picture(tmp_path / "photos" / name, 1)
        (tmp_path / "photos" / name).with_suffix(".json").write_text('{"category": "photo"}')
    truth, found = (
        open_data(tmp_path / "photos"),
        open_data(pack(tmp_path / "photos", tmp_path / "p")),
    )
    assert set(truth.image_categories or ()) == {"cat", "dog", "7"}
    *rest, said = found.notes
    same(replace(found, notes=tuple(rest)), truth)
    assert "labels in .json beside images in several folders are not read" in said
    for file in (tmp_path / "photos").rglob("*.json"):
        file.write_text('{"taken": 2019}')  # which nobody would have read
    same(open_data(pack(tmp_path / "photos", tmp_path / "p")), open_data(tmp_path / "photos"))


def test_json_labels_what_is_in_one_folder(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    found = open_data(write(tmp_path, tmp_path / "photos", "json", keys="all/{stem}"))
    assert found.image_categories == truth.image_categories and not found.notes


@pytest.mark.parametrize(
    "kinds, taken",
    [
        (("png", "webp"), "webp"),
        (("bmp", "jpeg", "webp"), "jpeg"),
        (("gif", "png"), "gif"),
        (("seg.jpg", "png"), "png"),
        (("input.png", "mask.png"), "input.png"),
        (("mask.png",), None),
    ],
)
def test_of_several_images_of_a_sample_the_photo_is_taken_and_said(
    tmp_path: Path, kinds: tuple[str, ...], taken: str | None
) -> None:
    content = {}
    for value, kind in enumerate(kinds):
        buffer = io.BytesIO()
        Image.new("L", (8, 8), value * 60).save(
            buffer, kind.rpartition(".")[2].replace("jpg", "jpeg")
        )
        content[kind] = buffer.getvalue()
    samples = [(f"{number}", {**content, "cls": b"cat"}) for number in range(3)]
    shard(tmp_path / "a.tar", samples)
    found = open_data(tmp_path / "a.tar")
    if taken is None:
        assert found.kind == "images"
        return
    assert found.paths == tuple(f"cat/{n}.{taken.rpartition('.')[2]}" for n in range(3))
    assert np.allclose(found.load(0), kinds.index(taken) * 60, atol=2)
    left = ", .".join(sorted({*kinds} - {taken}))
    (note,) = found.notes
    assert note == f"3 samples of several images, of which .{taken} is taken and .{left} left aside"


def test_what_a_sample_lacks_is_counted(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    one = (tmp_path / "photos" / NAMES[0]).read_bytes()
    plane = np.zeros((20, 16), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "PNG")
    shard(
        tmp_path / "a.tar",
        [
            ("1", {"jpg": one, "seg.png": buffer.getvalue(), "cls": b"../../up"}),
            ("2", {"cls": b"cat"}),
            ("3", {"jpg": one}),
            ("4", {"jpg": one[:200], "cls": b" cat\n"}),
            ("5", {"jpg": one, "cls": b".hidden"}),
        ],
    )
    found = open_data(tmp_path / "a.tar")
    assert found.paths == ("_.._.._up/1.jpg", "_.hidden/5.jpg", "cat/4.jpg")
    assert "1 member passed over, samples without a label: 3.jpg" in "; ".join(found.notes)
    assert outcome(found, 2) == "truncated"


def test_archives_without_labels_are_one_folder(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    for kind in ("cat", "dog", "7"):
        with tarfile.open(tmp_path / f"part-{kind}.tar", "w") as archive:
            archive.add(tmp_path / "photos" / kind, kind)
    same(open_data(tmp_path / "part-{cat,dog,7}.tar"), truth)
    same(open_data(tmp_path / "part-*.tar"), truth)


def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    content = (tmp_path / "photos" / NAMES[0]).read_bytes()
    for number in range(MANY + 1):
        shard(tmp_path / f"s-{number:03d}.tar", [(f"{number}", {"jpg": content, "cls": b"1"})])
    found = open_data(tmp_path / f"s-{{000..{MANY:03d}}}.tar")
    assert len(found.paths) == MANY + 1
    assert outcome(found, MANY) == outcome(found, 0)
    assert not any(one.source.kept for one in found.root.container.archives)  # type: ignore


def test_shards_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    write(tmp_path, tmp_path / "photos", "cls")
    with pytest.raises(UsageError, match=r"shards-003\.tar is missing \(1 of 4\)"):
        open_data(tmp_path / "shards-{000..003}.tar")
    with pytest.raises(UsageError, match="there is none"):
        open_data(tmp_path / "other-*.tar")
    whole = (tmp_path / "shards-001.tar").read_bytes()
    (tmp_path / "shards-001.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(CnnlensError, match=r"shards-001\.tar is damaged"):
        open_data(tmp_path / "shards-{000..002}.tar")


def test_a_shard_that_changed_changes_the_data(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    pattern = write(tmp_path, tmp_path / "photos", "cls")
    before = open_data(pattern).fingerprint
    assert open_data(pattern).fingerprint == before
    content = (tmp_path / "photos" / NAMES[0]).read_bytes()
    shard(tmp_path / "shards-002.tar", [("9", {"jpg": content, "cls": b"cat"})])
    assert open_data(pattern).fingerprint != before


def test_braces_are_expanded_as_a_shell_does() -> None:
    assert expanded("a-{8..10}.tar") == ["a-8.tar", "a-9.tar", "a-10.tar"]
    assert expanded("{a,b}-{01..02}.tar") == ["a-01.tar", "a-02.tar", "b-01.tar", "b-02.tar"]
    assert expanded("plain.tar") == ["plain.tar"]
    assert is_pattern("a-{0..1}.TAR") and not is_pattern("a.tar") and not is_pattern("a-{0..1}")
