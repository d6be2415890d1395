"""A disk that is full at any write: one clear error, nothing half-written, and it goes on later."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .case import Case, contents
from .kills import CHORES, prepare, unbroken
from .trial import Running

WHOLE = 100
SAYS = (
    "a disk that fills at any page of what a command writes: one clear error, nothing "
    "half-written; with room again the same command ends with the bytes of an unbroken run"
)
_PAGE = 4096
_ROOMY = 256 * 2**20


def check(case: Case) -> None:
    """Run a command with too little room, then with enough."""
    chore = [*CHORES][case.number % len(CHORES)]
    truth, _ = unbroken(case, chore)
    prepare(case.place, chore)
    made = case.place / "new"
    need = sum(len(content) for name, content in truth.items() if name.startswith("new/"))
    room = case.dice.randrange(_PAGE, need + _PAGE, _PAGE)
    disk = _tmpfs if may_mount() else _limit
    with disk(case, made, room) as size:
        done = case.keep(Running(case.place, CHORES[chore], size).outcome())
        case.about = f"{chore} with {room} of {need} bytes, {disk.__name__.strip('_')}"
        case.counts[f"{disk.__name__.strip('_')}, exit {done.code}"] += 1
        told = ("disk is full", "passes a size limit", "No space left")
        says = any(words in done.err for words in told)
        case.expect(done.code == 0 or says, f"says something else: {done.error}")
        case.expect_whole(case.place)
        if disk is _tmpfs:
            subprocess.run(["mount", "-o", f"remount,size={_ROOMY}", str(made)], check=True)
        case.succeed(*CHORES[chore])
        case.expect_whole(case.place)
        case.expect_same(contents(case.place), truth, "with room again")


@cache
def may_mount() -> bool:
    """Whether this process may mount a small disk."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"]).returncode == 0


@contextlib.contextmanager
def _tmpfs(case: Case, made: Path, room: int) -> Iterator[int]:
    """Put the folder on a small disk, with so much room beside what is there."""
    aside = case.place / "aside"
    made.mkdir(exist_ok=True)
    made.rename(aside)
    made.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOMY}", "tmpfs", str(made)], check=True)
    try:
        shutil.copytree(aside, made, dirs_exist_ok=True)
        shutil.rmtree(aside)
        used = shutil.disk_usage(made).used
        subprocess.run(["mount", "-o", f"remount,size={used + room}", str(made)], check=True)
        yield 0
    finally:
        subprocess.run(["umount", str(made)], check=True)


@contextlib.contextmanager
def _limit(case: Case, made: Path, room: int) -> Iterator[int]:
    """Where nothing can be mounted: no file may grow beyond so many bytes."""
    yield max(_PAGE, room // 4)
