from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnnlens.errors import CnnlensError
from cnnlens.model import infer as inference
from cnnlens.model import recognise as recognition
from cnnlens.model import zoo
from cnnlens.model.from_file import open_file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def searches(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tensors each search was about."""
    seen: list[int] = []
    own = recognition.search_own

    def counted(shapes: dict[str, tuple[int, ...]]) -> list[inference.Fit]:
        seen.append(len(shapes))
        return own(shapes)

    monkeypatch.setattr(recognition, "search_own", counted)
    return seen


def save(path: Path, classes: int = 2) -> Path:
    torch.save(zoo.shapes_net(classes).state_dict(), path)
    return path


def test_a_second_opening_does_not_search(tmp_path: Path, searches: list[int]) -> None:
    path = save(tmp_path / "net.pt")
    first, second = open_file(path), open_file(path)
    assert len(searches) == 1
    assert first.arch == second.arch == "zoo:shapes_net"
    assert list(first.notes) == list(second.notes)


def test_the_same_network_elsewhere_and_trained_on_is_not_searched_either(
    tmp_path: Path, searches: list[int]
) -> None:
    open_file(save(tmp_path / "epoch1.pt"))
    open_file(save(tmp_path / "epoch2.pth"))
    assert len(searches) == 1


def test_a_changed_file_is_searched_anew(tmp_path: Path, searches: list[int]) -> None:
    path = save(tmp_path / "net.pt")
    open_file(path)
    torch.save(zoo.demo_net().state_dict(), path)
    assert open_file(path).arch == "zoo:demo_net"
    assert len(searches) == 2


def test_other_versions_are_searched_anew(
    tmp_path: Path, searches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "net.pt")
    for number in ("1.0", "1.1"):
        monkeypatch.setattr(inference, "version", lambda _, number=number: number)
        open_file(path)
        open_file(path)
    assert len(searches) == 2


def test_what_fits_nothing_is_not_searched_twice(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.timm, "names", tuple)  # to be quick
    searches, search = [], recognition.search

    def counted(shapes: dict[str, tuple[int, ...]]) -> list[inference.Fit]:
        searches.append(len(shapes))
        return search(shapes)

    monkeypatch.setattr(recognition, "search", counted)
    path, messages = tmp_path / "net.pt", []
    torch.save({"conv1.weight": torch.zeros(128, 3, 3, 3), "fc.bias": torch.zeros(7)}, path)
    for _ in range(2):
        with pytest.raises(CnnlensError) as caught:
            open_file(path)
        messages.append(caught.value.message)
    assert messages[0] == messages[1] and searches == [2]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b'{"candidates": 3}', b'{"candidates": ["zoo:no_such"]}',
     b'{"candidates": ["nonsense"]}'],
)  # fmt: skip
def test_a_damaged_entry_is_ignored_and_made_anew(
    tmp_path: Path, home: Path, searches: list[int], content: bytes
) -> None:
    path = save(tmp_path / "net.pt")
    open_file(path)
    (entry,) = (home / "cache" / "architectures").iterdir()
    entry.write_bytes(content)
    for _ in range(2):
        assert open_file(path).arch == "zoo:shapes_net"
    assert len(searches) == 2


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, home: Path) -> None:
    home.write_text("a file is in the way")
    assert open_file(save(tmp_path / "net.pt")).arch == "zoo:shapes_net"
