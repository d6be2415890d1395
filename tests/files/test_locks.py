"""Locks where a file system has none: Lustre without flock, NFS without its daemon."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import warnings
from pathlib import Path

import filelock
import pytest

from cnnlens.errors import CnnlensError
from cnnlens.files import locks, workspace
from cnnlens.files.ledger import Item, Ledger
from cnnlens.files.locks import alone_in, is_lockless, lock_at


@pytest.fixture(params=[errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def _lockless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def left_there(folder: Path) -> bytes:
    """Let another machine's process, which nobody here can ask for, hold a folder's soft locks."""
    with lock_at(folder / ".list.lock"):
        held = (folder / ".list.soft.lock").read_bytes()
    lines = held.decode().splitlines()
    return "\n".join([lines[0], "elsewhere", *lines[2:]]).encode() + b"\n"


@pytest.mark.usefixtures("_lockless")
def test_without_locks_results_are_listed_and_nothing_is_left_or_warned_of(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "cam.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ledger.keep(Item("cat.png", {"image": "1"}), {"file": "cat.png"})
        (tmp_path / "cat.png").write_bytes(b"")
        ledger.close({})
        with workspace.locked(tmp_path):
            workspace.write_document(tmp_path, workspace.empty_document())
    assert {*Ledger(tmp_path / "cam.json").entries} == {"cat.png"}
    assert {p.name for p in tmp_path.iterdir()} == {"cat.png", "cam.json", "workspace.json"}


@pytest.mark.usefixtures("_lockless")
def test_a_folder_is_held_by_one_without_locks_too(tmp_path: Path) -> None:
    (tmp_path / ".list.lock").write_text(
        ""
    )  # what a lock leaves where there are some holds nothing
    order = []

    def other() -> None:
        with alone_in(tmp_path):
            order.append("other")

    thread = threading.Thread(target=other)
    with alone_in(tmp_path):
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(20)
    assert order == ["first", "other"]


def test_what_a_killed_process_left_is_passed_over_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "is_lockless", lambda folder: True)
    stays = left_there(tmp_path)
    (tmp_path / ".list.soft.lock").write_bytes(stays)
    (tmp_path / ".workspace.soft.lock").write_bytes(stays)
    monkeypatch.setattr(locks, "_PATIENCE", 0.05)
    monkeypatch.setattr(workspace, "_PATIENCE", 0.05)
    with alone_in(tmp_path):
        pass
    with (
        pytest.raises(CnnlensError, match="is held by another process") as caught,
        workspace.locked(tmp_path),
    ):
        pass
    assert caught.value.hint.endswith(f"remove {tmp_path / '.workspace.soft.lock'}")


def test_locks_that_are_held_are_no_missing_ones(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert not is_lockless(tmp_path) and not is_lockless(tmp_path / "none")
    os.close(held)
    with lock_at(tmp_path / ".a.lock"), pytest.raises(filelock.Timeout) as caught:
        lock_at(tmp_path / ".a.lock").acquire()
    assert locks.or_remove(caught.value) == ""
