from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

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
    [b"", b"{", b"\xff", b"[]", b'{"candidates": 3}', b'{"candidates": ["zoo:shapes_net"]}',
     *(b'{"candidates": [[%s]], "fits": true}' % one for one in
       (b'0, "zoo:no_such"', b'0, "nonsense"', b'7, "zoo:shapes_net"', b'"a", "b"', b"0"))],
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


def test_which_network_of_a_file_opens_does_not_depend_on_what_was_opened(
    tmp_path: Path, home: Path
) -> None:
    first, second = zoo.shapes_net(2), zoo.demo_net()
    pair = {f"teacher.{k}": v for k, v in first.state_dict().items()}
    pair |= {f"student.{k}": v for k, v in second.state_dict().items()}
    torch.save(pair, tmp_path / "pair.pt")
    torch.save(second.state_dict(), tmp_path / "student.pt")
    assert open_file(tmp_path / "student.pt").arch == "zoo:demo_net"
    for _ in range(2):  # the second time from what was kept
        assert open_file(tmp_path / "pair.pt").arch == "zoo:shapes_net"
    assert open_file(tmp_path / "student.pt").arch == "zoo:demo_net"


def test_a_network_that_fits_is_not_hidden_by_a_loss_network_that_was_opened_before(
    tmp_path: Path, home: Path
) -> None:
    vgg = torchvision.models.vgg11(num_classes=2).features.state_dict()
    own = {f"model.{k}": v for k, v in zoo.shapes_net(2).state_dict().items()}
    torch.save({f"vgg.{k}": v for k, v in vgg.items()}, tmp_path / "loss.pt")
    torch.save({f"vgg.{k}": v for k, v in vgg.items()} | own, tmp_path / "both.pt")
    assert open_file(tmp_path / "loss.pt").arch == "torchvision:vgg11"
    both = open_file(tmp_path / "both.pt")
    assert both.arch == "zoo:shapes_net" and not both.headless
