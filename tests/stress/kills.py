"""Kills at random moments: the same command again ends with the bytes of an unbroken run."""

from __future__ import annotations

import shutil
from pathlib import Path

from .case import Case, contents
from .trial import Running, Words

WHOLE = 200
SAYS = (
    "SIGKILL at a random moment of extract, dissect, visualize, finetune, report, once or twice: "
    "the same command again ends with the bytes of an unbroken run"
)
_TRIES = 6  # until a kill meets a running command

_TRAIN = ("--epochs", 2, "--batch-size", 8)
CHORES: dict[str, Words] = {
    "extract": ("extract", "net.pt", "-d", "kinds", "-l", "conv1", "-l", "conv2", "-w", "new"),
    "dissect": ("dissect", "net.pt", "-d", "shapes", "-l", "conv2", "--chance", 1, "-w", "new"),
    "visualize": ("visualize", "net.pt", "-f", "conv1:0-3", "--steps", 6, "-w", "new"),
    "finetune": ("finetune", "net.pt", "-d", "kinds", *_TRAIN, "--out", "new/new.pt", "-w", "new"),
    "report": ("report", "-w", "new"),
}
_known: dict[tuple[Path, str], tuple[dict[str, bytes], float]] = {}


def unbroken(case: Case, chore: str) -> tuple[dict[str, bytes], float]:
    """What a command leaves in this place that nothing disturbs, and the seconds it takes."""
    asked = (case.place, chore)
    if asked not in _known:
        prepare(case.place, chore)
        seconds = case.succeed(*CHORES[chore]).seconds
        _known[asked] = contents(case.place), seconds
        case.begin_anew()
    return _known[asked]


def prepare(place: Path, chore: str) -> None:
    """Lay out what the command begins with: the page is of results, and not yet there."""
    if chore == "report":
        shutil.copytree(place / "ws", place / "new")
        (place / "new" / "report.html").unlink()
        shutil.rmtree(place / "new" / "images", ignore_errors=True)


def check(case: Case) -> None:
    """Kill a command, run it again, and compare."""
    chore = [*CHORES][case.number % len(CHORES)]
    truth, usual = unbroken(case, chore)
    prepare(case.place, chore)
    case.about = chore
    for _ in range(case.dice.choice((1, 1, 2))):
        _kill(case, chore, usual)
    case.succeed(*CHORES[chore])
    case.expect_whole(case.place)
    case.expect_same(contents(case.place), truth, f"after a kill, {case.about}")


def _kill(case: Case, chore: str, usual: float) -> None:
    moment = case.dice.uniform(0.02, 1) * usual
    for _ in range(_TRIES):
        running = Running(case.place, CHORES[chore])
        if running.wait_until(moment):
            running.kill()
        outcome = running.outcome()
        if outcome.code == -9:
            case.counts[f"{chore} killed"] += 1
            case.about += f", killed after {moment:.2f} s of {usual:.2f}"
            return
        case.keep(outcome)  # it came to its end before
        moment *= case.dice.uniform(0.3, 0.9)
