from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import filelock
import pytest

from cnnlens.data import download as module
from cnnlens.data import fetch as fetching
from cnnlens.data.broden import open_broden
from cnnlens.data.download import DATASETS, download
from cnnlens.errors import CnnlensError, UsageError

from .layout import write
from .server import Site, serving


def broden_zip(tmp_path: Path, wrapped: str = "broden1_224/") -> bytes:
    root = write(tmp_path / "made", "object", ["a.png,train,6,8,2,3,7"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, f"{wrapped}{path.relative_to(root)}")
        archive.writestr("README.txt", "read me")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.mark.parametrize("wrapped", ["broden1_224/", "", "deep_name/"])
def test_a_broken_download_ends_in_a_data_set_ready_for_use(
    tmp_path: Path, home: Path, wrapped: str
) -> None:
    content = broden_zip(tmp_path, wrapped)
    stages: set[str] = set()
    (home / ".broden1_224.99-abc.tmp" / "half").mkdir(parents=True)  # left by a killed run
    with serving(Site(content, drop_after=[100, 200])) as site:
        folder = download("broden", home, lambda stage, *_: stages.add(stage), site.url)
        assert download("broden", home, None, site.url) == folder
    assert folder == home / "broden1_224" and len(site.requests) == 3
    assert open_broden(folder).concept_space().labels(0).whole.tolist() == [0]
    assert stages == {"download", "unpack"}
    left = {path.name for path in home.iterdir()} - {".broden1_224.lock"}
    assert left == {"broden1_224"} and not (folder / ".unpacked").exists()


def test_an_interrupt_while_unpacking_leaves_no_folder_and_the_archive_for_the_next_run(
    tmp_path: Path, home: Path
) -> None:
    def strike(stage: str, done: int, total: int | None) -> None:
        if stage == "unpack":
            raise KeyboardInterrupt

    with serving(Site(broden_zip(tmp_path))) as site:
        with pytest.raises(KeyboardInterrupt):
            download("broden", home, strike, site.url)
        assert [p.name for p in home.iterdir() if p.is_dir()] == []
        download("broden", home, None, site.url)
    assert site.requests == [None]
    assert len(open_broden(home / "broden1_224").paths) == 1


def test_a_checksum_that_is_known_is_checked(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = broden_zip(tmp_path)
    right = hashlib.md5(content).hexdigest()
    with serving(Site(content)) as site:
        for md5 in ("0" * 32, right):
            known = replace(DATASETS["broden"], md5=md5, url=site.url)
            monkeypatch.setitem(module.DATASETS, "broden", known)
            if md5 != right:
                with pytest.raises(CnnlensError, match=right):
                    download("broden", home)
                assert not (home / "broden1_224").exists()
        assert download("broden", home).is_dir()
    assert site.requests == [None, None]  # the wrong one was not kept


def test_a_page_instead_of_an_archive_is_thrown_away(home: Path) -> None:
    with serving(Site(b"<html>log in</html>")) as site:
        for _ in range(2):
            with pytest.raises(CnnlensError, match="neither a zip nor a tar"):
                download("broden", home, None, site.url)
    assert site.requests == [None, None]
    assert {path.name for path in home.iterdir()} <= {".broden1_224.lock"}


def test_two_processes_do_not_download_the_same(home: Path) -> None:
    home.mkdir()
    with (
        filelock.FileLock(home / ".broden1_224.lock"),
        pytest.raises(CnnlensError, match="another process"),
    ):
        download("broden", home, None, "http://127.0.0.1:9/never")


def test_an_unknown_name_offers_near_ones(home: Path) -> None:
    with pytest.raises(UsageError) as caught:
        download("brodn", home)
    assert "broden" in caught.value.hint and not home.exists()


def test_what_has_no_archive_says_where_to_get_it(home: Path) -> None:
    with pytest.raises(CnnlensError) as caught:
        download("animal-part", home)
    assert "github.com" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CnnlensError, match="cannot write"):
        download("broden", tmp_path / "file" / "home", None, "http://127.0.0.1:9/never")


def test_every_data_set_says_what_it_is_and_under_which_terms() -> None:
    for wanted in DATASETS.values():
        assert wanted.title and wanted.licence and wanted.citation and wanted.page
        assert wanted.url.startswith("http") or wanted.note
    assert {"broden", "cub", "voc-part", "animal-part"} <= set(DATASETS)
