from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cnnlens.data import fetch as module
from cnnlens.data.fetch import fetch
from cnnlens.errors import CnnlensError

from .server import Site, serving

CONTENT = np.random.default_rng(0).bytes(1_000_000)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    return slept


def test_a_whole_file_arrives_and_progress_counts_its_bytes(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    with serving(Site(CONTENT)) as site:
        fetch(site.url, tmp_path / "part", lambda *call: calls.append(call))
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert calls[0] == ("download", 0, 1_000_000) and calls[-1] == ("download", 10**6, 10**6)
    assert site.requests == [None]


def test_a_dropped_connection_is_resumed_where_it_broke(tmp_path: Path) -> None:
    with serving(Site(CONTENT, drop_after=[300_000, 1, 400_000])) as site:
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert site.requests == [None, "bytes=300000-", "bytes=300001-", "bytes=700001-"]


def test_any_number_of_drops_is_survived_while_bytes_come(tmp_path: Path) -> None:
    with serving(Site(CONTENT, drop_after=[40_000] * 30)) as site:
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT and len(site.requests) >= 25


def test_a_server_that_gives_nothing_is_given_up_with_the_part_kept(
    tmp_path: Path, waits: list[float]
) -> None:
    with serving(Site(CONTENT, drop_after=[500_000] + [0] * 50)) as site:
        with pytest.raises(CnnlensError, match="500,000 bytes") as caught:
            fetch(site.url, tmp_path / "part")
        assert "resumes" in caught.value.hint
        assert (tmp_path / "part").stat().st_size == 500_000
        assert waits == sorted(waits) and len(waits) >= 4  # ever more patient
        site.drop_after.clear()
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert site.requests[-1] == "bytes=500000-"


def test_an_interrupt_keeps_the_part_and_the_next_run_goes_on(tmp_path: Path) -> None:
    def strike(stage: str, done: int, total: int | None) -> None:
        if done > 200_000:
            raise KeyboardInterrupt

    with serving(Site(CONTENT)) as site:
        with pytest.raises(KeyboardInterrupt):
            fetch(site.url, tmp_path / "part", strike)
        kept = (tmp_path / "part").stat().st_size
        assert 200_000 < kept < 1_000_000
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert site.requests[1] == f"bytes={kept}-"


def test_a_server_that_ignores_ranges_is_read_from_the_start(tmp_path: Path) -> None:
    with serving(Site(CONTENT, ranges=False, drop_after=[300_000])) as site:
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT and len(site.requests) == 2


@pytest.mark.parametrize("etag", ['"one"', ""])
def test_a_file_that_changed_meanwhile_is_read_from_the_start(tmp_path: Path, etag: str) -> None:
    other = CONTENT[::-1][:900_000]
    with serving(Site(CONTENT, etag=etag, drop_after=[300_000] + [0] * 50)) as site:
        with pytest.raises(CnnlensError):
            fetch(site.url, tmp_path / "part")
        site.content, site.etag = other, etag and '"two"'
        site.drop_after.clear()
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == other


def test_a_part_of_another_address_is_not_continued(tmp_path: Path) -> None:
    with (
        serving(Site(CONTENT, drop_after=[300_000] + [0] * 50)) as site,
        pytest.raises(CnnlensError),
    ):
        fetch(site.url, tmp_path / "part")
    with serving(Site(CONTENT[::-1], etag="")) as other:
        fetch(other.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT[::-1]
    assert other.requests == [None]


def test_a_complete_part_asks_nothing_more(tmp_path: Path) -> None:
    with serving(Site(CONTENT)) as site:
        fetch(site.url, tmp_path / "part")
        fetch(site.url, tmp_path / "part")
    assert site.requests == [None]


def test_a_part_whose_memory_was_lost_is_found_whole_or_replaced(tmp_path: Path) -> None:
    with serving(Site(CONTENT)) as site:
        (tmp_path / "part").write_bytes(CONTENT + b"too much")
        (tmp_path / "part.json").write_text(f'{{"url": "{site.url}", "validator": ""}}')
        fetch(site.url, tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == CONTENT and site.requests[-1] is None
        (tmp_path / "part.json").write_text(f'{{"url": "{site.url}", "validator": ""}}')
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert site.requests[-1] == "bytes=1000000-"  # answered with 416: nothing is missing


def test_a_length_that_was_not_announced_ends_where_the_stream_ends(tmp_path: Path) -> None:
    with serving(Site(CONTENT, length=False)) as site:
        fetch(site.url, tmp_path / "part")
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT and len(site.requests) == 1


def test_a_length_that_never_comes_is_given_up(tmp_path: Path) -> None:
    with (
        serving(Site(CONTENT, announced=1_000_100, ranges=False)) as site,
        pytest.raises(CnnlensError, match="in a row"),
    ):
        fetch(site.url, tmp_path / "part")


def test_a_passing_fault_of_the_server_is_waited_out(tmp_path: Path, waits: list[float]) -> None:
    with serving(Site(CONTENT, statuses=[503, 500, 429])) as site:
        fetch(site.url, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT and len(waits) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_final_and_names_address_and_way_out(tmp_path: Path, status: int) -> None:
    with serving(Site(CONTENT, statuses=[status])) as site:
        with pytest.raises(CnnlensError) as caught:
            fetch(site.url, tmp_path / "part")
        assert site.url in caught.value.message and str(status) in caught.value.message
        assert "--url" in caught.value.hint
    assert len(site.requests) == 1 and list(tmp_path.iterdir()) == []


def test_nobody_listening_is_given_up(tmp_path: Path) -> None:
    with serving(Site(CONTENT)) as site:
        pass
    with pytest.raises(CnnlensError, match="the connection failed"):
        fetch(site.url, tmp_path / "part")


@pytest.mark.parametrize("url", ["ftp://host/a", "set.zip", "file:///etc/passwd", "http://a b/c"])
def test_what_is_no_web_address_is_said_at_once(
    tmp_path: Path, url: str, waits: list[float]
) -> None:
    with pytest.raises(CnnlensError, match="is not an address"):
        fetch(url, tmp_path / "part")
    assert waits == []


def test_too_small_a_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_500_000))
    with serving(Site(CONTENT)) as site, pytest.raises(CnnlensError, match="GB free"):
        fetch(site.url, tmp_path / "part")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *args: object) -> None:
            pass

        def write(self, block: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_opened", lambda part: Full())
    with serving(Site(CONTENT)) as site, pytest.raises(CnnlensError, match="the disk is full"):
        fetch(site.url, tmp_path / "part")
    assert len(site.requests) == 1
