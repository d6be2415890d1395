from __future__ import annotations

from pathlib import Path

import pytest

from cnnlens.settings.place import portable, same_place


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of blobs, and one of links to them, as hubs' clients keep them."""
    root = tmp_path.resolve()
    for folder in ("blobs", "a", "b/c"):
        (root / folder).mkdir(parents=True)
    (root / "blobs" / "1f").write_text("")
    for folder in ("a", "b/c"):
        (root / folder / "net.bin").symlink_to(root / "blobs" / "1f")
    (root / "code.py").write_text("")
    (root / "a" / "linked.py").symlink_to(root / "code.py")
    (root / "short").symlink_to(root / "b" / "c")
    monkeypatch.chdir(root / "a")
    return root


def test_a_link_to_weights_stays_where_what_belongs_to_it_lies(cache: Path) -> None:
    assert portable("net.bin") == portable("../a/./net.bin") == str(cache / "a" / "net.bin")
    assert portable("../short") == str(cache / "short")
    # `..` is that of the folder which is linked to, as for everybody who opens it
    (cache / "b" / "other").write_text("")
    assert portable("../short/../other") == str(cache / "b" / "other")


def test_code_is_the_same_by_whichever_link(cache: Path) -> None:
    assert portable("linked.py:net") == f"{cache / 'code.py'}:net"
    assert portable("linked.py") == str(cache / "code.py")


def test_a_file_is_known_again_by_its_folder_and_name(cache: Path) -> None:
    net = str(cache / "a" / "net.bin")
    assert same_place(str(cache / "short" / "net.bin"), str(cache / "b" / "c" / "net.bin"))
    assert not same_place(net, str(cache / "b" / "c" / "net.bin"))  # another config.json beside it
    assert same_place(str(cache / "blobs" / "1f"), net)  # as workspaces noted it once
    assert same_place("zoo:x", "zoo:x") and not same_place("zoo:x", "zoo:y")
