"""Folders that go, are renamed or become read-only under a running command."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path

from .case import Case, contents, in_any_order
from .full import may_mount
from .kills import CHORES, prepare, unbroken
from .trial import Running

WHOLE = 100
SAYS = (
    "workspace, images or network vanish, are renamed or become read-only at a random moment: a "
    "result or one clear error; put back, the same command ends with the bytes of an unbroken run"
)
_PATIENCE = 20  # seconds
_MANNERS = ("vanishes", "is renamed", "is read-only")
_READ = {"extract": "kinds", "dissect": "shapes", "finetune": "kinds"}


def check(case: Case) -> None:
    """Take a folder away from a running command, put it back, and run it again.

    Of a workspace that is removed while the command writes into it, some files may be left. What
    is lacking is made again, and stands last in lists of pictures; a store that no result waits
    for is not.
    """
    chore = [*CHORES][case.number % len(CHORES)]
    truth, usual = unbroken(case, chore)
    prepare(case.place, chore)
    (case.place / "new").mkdir(exist_ok=True)
    manner = case.dice.choice(_MANNERS if may_mount() else _MANNERS[:2])
    which = "new" if manner == "is read-only" else case.dice.choice(["new", *_also(chore)])
    moment = case.dice.uniform(0, 1) * usual
    case.about = f"{chore}: {which} {manner} after {moment:.2f} s of {usual:.2f}"
    running = Running(case.place, CHORES[chore])
    running.wait_until(moment)
    _take(case.place / which, manner)
    done = case.keep(running.outcome())
    case.counts[f"{manner}, exit {done.code}"] += 1
    if manner != "is renamed":  # what is half-written stays where nothing can be removed
        case.expect(manner == "is read-only" or not done.err.count(".tmp"), f"names {done.error}")
    _put_back(case, which, manner)
    if which == "new" and chore == "report" and manner == "vanishes":
        shutil.rmtree(case.place / "new", ignore_errors=True)
        prepare(case.place, chore)
    case.succeed(*CHORES[chore])
    case.expect_whole(case.place)
    found = contents(case.place)
    if which == "new" and manner == "vanishes":
        found, truth = in_any_order(found), in_any_order(truth)
        if done.code == 0:  # it had its store in hand, and its results were not taken
            truth = {k: v for k, v in truth.items() if k in found or "/activations/" not in k}
    case.expect_same(found, truth, "put back")


def _also(chore: str) -> list[str]:
    return ["net.pt", *([_READ[chore]] if chore in _READ else [])]


def _take(path: Path, manner: str) -> None:
    if manner == "is read-only":
        subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
        _close(path)
    elif manner == "is renamed":
        path.rename(path.with_name("elsewhere"))
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # the command may be writing into it
    else:
        path.unlink()


def _close(path: Path) -> None:
    """Make a mounted folder read-only as soon as no file in it is open for writing."""
    words = ["mount", "-o", "remount,ro,bind", str(path)]
    until = time.monotonic() + _PATIENCE
    while (tried := subprocess.run(words, capture_output=True)).returncode:
        if time.monotonic() > until:
            subprocess.run(["umount", str(path)], check=True)
            raise RuntimeError(f"{path} stays writable: {tried.stderr.decode()}")
        time.sleep(0.01)


def _put_back(case: Case, which: str, manner: str) -> None:
    path = case.place / which
    if manner == "is read-only":
        subprocess.run(["umount", str(path)], check=True)
    elif manner == "is renamed":
        shutil.rmtree(path, ignore_errors=True)  # what the command made anew
        path.with_name("elsewhere").rename(path)
    elif which != "new":
        copy = shutil.copytree if (case.ground / which).is_dir() else shutil.copy2
        with contextlib.suppress(FileExistsError):
            copy(case.ground / which, path)
