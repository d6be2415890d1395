"""Names of a zip's members are those that they were packed by, whatever packed them."""

from __future__ import annotations

import struct
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cnnlens.data.open import open_data
from cnnlens.data.unpack import unpack

NAMES = ("épée", "鳥", "plain", "e\u0301")


class Named(zipfile.ZipInfo):
    """A member whose name's bytes stand in the zip as they are, without a flag."""

    raw: bytes

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.raw, 0


def packed(path: Path, names: dict[bytes, bytes]) -> Path:
    """A zip of an image under each name, with its extra field."""
    Image.new("RGB", (8, 8)).save(path.with_suffix(".png"))
    with zipfile.ZipFile(path, "w") as archive:
        for raw, extra in names.items():
            info = Named(str(len(archive.filelist)))
            info.raw, info.extra = raw, extra
            archive.writestr(info, path.with_suffix(".png").read_bytes())
    return path


def beside(raw: bytes, name: str, **other: Any) -> bytes:
    """Info-ZIP's field, behind another one."""
    field = struct.pack("<BI", 1, other.get("checksum", zlib.crc32(raw))) + name.encode()
    return struct.pack("<HHI", 0x6375, 4, 7) + struct.pack("<HH", 0x7075, len(field)) + field


def test_utf8_without_its_flag_is_utf8(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {f"{name}/1 ü.png".encode(): b"" for name in NAMES})
    found = open_data(archive)
    assert found.image_categories == tuple(sorted(NAMES))
    assert found.load(0).size == (8, 8)
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(NAMES)


def test_names_in_the_old_code_page_stay(tmp_path: Path) -> None:
    names = ("épée", "Straße", "señal", "ÄÖÜ", "ab")
    archive = packed(tmp_path / "a.zip", {f"{name}/1.png".encode("cp437"): b"" for name in names})
    assert open_data(archive).image_categories == tuple(sorted(names))


def test_a_field_beside_a_name_says_it_unless_it_was_made_for_another(tmp_path: Path) -> None:
    raws = [f"{n}/1.png".encode() for n in range(2)]
    archive = packed(
        tmp_path / "a.zip",
        {
            raws[0]: beside(raws[0], "鳥/1.png"),
            raws[1]: beside(raws[1], "魚/1.png", checksum=5),
        },
    )
    assert open_data(archive).image_categories == ("1", "鳥")


def test_what_zip_packs_is_read(tmp_path: Path) -> None:
    for name in NAMES[:2]:
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "in" / name / "1.png")
    try:
        packing = ["zip", "-qr", "../a.zip", "."]
        subprocess.run(packing, cwd=tmp_path / "in", check=True, env={"LC_ALL": "C.UTF-8"})
    except OSError:
        pytest.skip("no zip on this machine")
    assert open_data(tmp_path / "a.zip").image_categories == tuple(sorted(NAMES[:2]))
