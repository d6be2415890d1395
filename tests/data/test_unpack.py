from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnlens.data import unpack as module
from cnnlens.data.unpack import DamagedArchive, unpack
from cnnlens.errors import CnnlensError

FILES = {"set/index.csv": b"image", "set/images/a b.png": b"\x89PNG", "set/empty.txt": b""}


def zipped(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/folder/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: list[tarfile.TarInfo | tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
            else:
                archive.addfile(member)
    return path


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


def test_zip_and_tar_are_unpacked_whatever_their_name(tmp_path: Path, into: Path) -> None:
    unpack(zipped(tmp_path / "part"), into)
    assert contents(into) == FILES and (into / "set" / "folder").is_dir()
    (tmp_path / "b").mkdir()
    calls: list[tuple[str, int, int | None]] = []
    part = tarred(tmp_path / "part2", list(FILES.items()))
    unpack(part, tmp_path / "b", lambda *call: calls.append(call))
    assert contents(tmp_path / "b") == FILES and calls[-1] == ("unpack", 9, 9)


@pytest.mark.parametrize(
    "name", ["../evil", "set/../../evil", "/tmp/evil", "set\\..\\evil", "C:/evil", "C:evil"]
)
def test_members_that_lead_out_are_refused(tmp_path: Path, into: Path, name: str) -> None:
    with pytest.raises(DamagedArchive, match="leads out"):
        unpack(zipped(tmp_path / "a.zip", {"ok": b"1", name: b"x"}), into)
    with pytest.raises(DamagedArchive, match="leads out"):
        unpack(tarred(tmp_path / "a.tgz", [("ok", b"1"), (name, b"x")]), into)
    assert contents(tmp_path).keys() == {"a.zip", "a.tgz"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, into: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(DamagedArchive, match="link or a device"):
        unpack(tarred(tmp_path / "a.tgz", [info, ("link/x", b"x")]), into)
    assert list(into.iterdir()) == []


def test_links_in_a_zip_are_refused(tmp_path: Path, into: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DamagedArchive, match="link or a device"):
        unpack(tmp_path / "a.zip", into)


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALWAYS_ALLOWED", 1000)
    archive = zipped(tmp_path / "a.zip", {"zeros": bytes(10_000_000)})
    with pytest.raises(DamagedArchive, match="too many to be true"):
        unpack(archive, into)
    with pytest.raises(DamagedArchive, match="too many to be true"):
        unpack(tarred(tmp_path / "a.tgz", [("zeros", bytes(10_000_000))]), into)
    assert contents(into) == {}


def test_a_member_larger_than_it_claims_is_refused(tmp_path: Path, into: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"x": b"y" * 5000})
    data = path.read_bytes()
    path.write_bytes(data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(DamagedArchive):
        unpack(path, into)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_cut_and_garbled_archives_are_damaged(tmp_path: Path, into: Path, share: float) -> None:
    import os

    files = {f"set/{n}": os.urandom(5000) for n in range(5)}
    for whole in (zipped(tmp_path / "a", files), tarred(tmp_path / "b", list(files.items()))):
        data = whole.read_bytes()
        whole.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DamagedArchive) as caught:
            unpack(whole, into)
        assert "--url" in caught.value.hint
        garbled = bytearray(data)
        garbled[int(len(data) * 0.4)] ^= 255
        whole.write_bytes(garbled)
        with pytest.raises(DamagedArchive):
            unpack(whole, into)


def test_a_web_page_is_no_archive(tmp_path: Path, into: Path) -> None:
    (tmp_path / "a.zip").write_text("<html>please log in</html>")
    with pytest.raises(DamagedArchive, match="neither a zip nor a tar"):
        unpack(tmp_path / "a.zip", into)


def test_too_small_a_disk_is_no_fault_of_the_archive(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=3))
    with pytest.raises(CnnlensError, match="GB are free") as caught:
        unpack(zipped(tmp_path / "a.zip"), into)
    assert not isinstance(caught.value, DamagedArchive)
