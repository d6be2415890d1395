"""Kills of one of several processes that share a run: the same command, with any number of them,
ends with the bytes of one process.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from torch.distributed import TCPStore

from cnnlens.data.open import open_data
from tests import warm
from tests.cli.runner import environment

from .case import Case, contents

WHOLE = 20
SAYS = (
    "SIGKILL of one of two or three processes that share extract, units or dissect, at random: "
    "all end, at most one line says so, and the same command with any number of processes ends "
    "with the bytes of one"
)
_IMAGES = 200  # seven blocks
_SECONDS = 120  # more is a hang
CHORES = {
    "extract": ("extract", "net.pt", "-d", "many", "-l", "conv2", "--no-units", "--batch-size", 2),
    "units": ("units", "net.pt", "-d", "many", "-l", "conv2", "--batch-size", 2, "--no-page"),
    "dissect": ("dissect", "net.pt", "-d", "shapes", "-l", "conv2", "--chance", 1, "--no-page"),
}
_known: dict[tuple[Path, str], dict[str, bytes]] = {}


def check(case: Case) -> None:
    """Kill one process of a run, run it again, and compare."""
    chore = [*CHORES][case.number % len(CHORES)]
    _write_many(case.place)
    truth = _truth(case, chore)
    count, victim = case.dice.choice((2, 3)), case.dice.randrange(3)
    running = _start(case.place, count, chore)
    moment = case.dice.uniform(0.1, 2)
    case.about = f"{chore}: process {victim % count} of {count} killed after {moment:.2f} s"
    time.sleep(moment)
    running[victim % count].kill()
    for one in running:  # as torchrun does
        if one.poll() is None:
            one.send_signal(signal.SIGTERM)
    ended = _end(case, running)
    said = [line for _, err in ended for line in err.splitlines() if line.startswith("error: ")]
    if any(code == -9 for code, _ in ended):
        case.counts[f"{chore} killed"] += 1
        case.expect(len(said) <= 1, f"{len(said)} lines of error: {said}")  # 0: still starting
    again = case.dice.choice((1, 2, 3))
    for code, err in _end(case, _start(case.place, again, chore)):
        case.expect(code == 0, f"{again} processes do not go on: {err[-400:]}")
    case.expect_whole(case.place)
    case.expect_same(contents(case.place / "new"), truth, f"after a kill, {case.about}")


def _truth(case: Case, chore: str) -> dict[str, bytes]:
    """What one process leaves that nothing disturbs."""
    if (case.place, chore) not in _known:
        for code, err in _end(case, _start(case.place, 1, chore)):
            case.expect(code == 0, f"one process fails: {err[-400:]}")
        _known[case.place, chore] = contents(case.place / "new")
        shutil.rmtree(case.place / "new")
    return _known[case.place, chore]


def _write_many(place: Path) -> None:
    (place / "many").mkdir()
    images = open_data(place / "kinds")
    for number in range(_IMAGES):
        source = images.root / images.paths[number % len(images.paths)]
        target = place / "many" / f"{number:03d}{source.suffix}"
        shutil.copy(source, target)
        os.utime(target, (1, 1))


def _start(place: Path, count: int, chore: str) -> list[warm.Process]:
    table = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    _TABLES.append(table)  # kept here, as torchrun keeps its own
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(table.port), "HOME": str(place)}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    shared |= {"WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = (str(place), *CHORES[chore], "-w", "new")
    return [
        warm.Process(there, words, {**environment(**shared), "RANK": str(n), "LOCAL_RANK": "0"})
        for n in range(count)
    ]


_TABLES: list[TCPStore] = []


def there(folder: str, *words: object) -> None:
    """Run a command in a folder."""
    os.chdir(folder)
    warm.command(*words)


def _end(case: Case, running: list[warm.Process]) -> list[tuple[int, str]]:
    """Wait for all, a while; what still runs then is a fault."""
    until = time.monotonic() + _SECONDS
    while any(one.poll() is None for one in running) and time.monotonic() < until:
        time.sleep(0.02)
    hung = [one for one in running if one.poll() is None]
    case.expect(not hung, f"{len(hung)} of {len(running)} processes still run after {_SECONDS} s")
    for one in hung:
        one.kill()
    ended = [(one, one.communicate()) for one in running]
    for _, (_, err) in ended:
        case.expect("Traceback" not in err, f"a traceback: {err[-600:]}")
    return [(one.wait(), err) for one, (_, err) in ended]
