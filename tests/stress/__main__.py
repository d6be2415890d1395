"""The command: runs the parts, prints every failure with how to repeat it, and the table."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests import warm

from . import crowd, folders, full, inputs, kills, names, processes
from .case import Case
from .ground import write_ground
from .table import Row, table, write_table

PARTS = {
    "inputs": inputs,
    "kills": kills,
    "processes": processes,
    "crowd": crowd,
    "full": full,
    "folders": folders,
    "names": names,
}
_TOLD = 50  # cases between two lines that say how far it is
_MINUTES = 30  # that all of it takes on two quiet cores


def main() -> int:
    given = _options()
    os.environ["OMP_NUM_THREADS"] = "1"  # else libraries start threads when they are imported
    warm.CONTEXT.set_forkserver_preload(["tests.loaded", "timm"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = Path(tempfile.mkdtemp(prefix="cnnlens-stress-"))
    rows: list[Row] = []
    try:
        ground = write_ground(root / "ground")
        for name in given.only:
            rows.append(Row(name, PARTS[name].SAYS, given.seed, PARTS[name].WHOLE))
            for _ in _run(rows[-1], given, root, ground):
                _write(rows, given)
    except KeyboardInterrupt:
        print("interrupted; the table has what was run until now", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(root, ignore_errors=True)
        _write(rows, given)
        print(table(rows))
    return int(any(row.faults for row in rows))


def _write(rows: list[Row], given: argparse.Namespace) -> None:
    """Put what is known by now into the document, where that is asked for."""
    if given.write and given.case is None:
        write_table(rows, [*PARTS])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="of 30: the share to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[*PARTS])
    parser.add_argument("--case", type=int, default=None, help="one case of one part")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once")
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    given = parser.parse_args()
    if unknown := {*given.only} - {*PARTS}:
        parser.error(f"no such part: {', '.join(unknown)} (there are {', '.join(PARTS)})")
    return given


def _run(row: Row, given: argparse.Namespace, root: Path, ground: Path) -> Iterator[None]:
    """Run a part's cases, some at once; yield now and then, and at the end."""
    name, numbers = row.name, range(max(1, round(row.whole * given.minutes / _MINUTES)))
    if given.case is not None:
        numbers = range(given.case, given.case + 1)
    places: SimpleQueue[Path] = SimpleQueue()  # one for every case under way
    for job in range(given.jobs):
        places.put(root / f"{job}")

    def one(number: int) -> Case:
        case = Case(name, number, given.seed, places.get(), ground)
        try:
            case.begin_anew()
            PARTS[name].check(case)
        except Exception as error:
            case.faults.append(f"the case itself fails: {type(error).__name__}: {error}")
        places.put(case.place)
        return case

    begun = time.monotonic()
    pool = ThreadPoolExecutor(given.jobs)
    try:
        for case in pool.map(one, numbers):
            row.add(case)
            row.seconds = time.monotonic() - begun
            if case.faults or given.case is not None:
                _tell(case)
            if row.cases % _TOLD == 0 or row.cases == len(numbers):
                so_far = f"{name}: {row.cases} of {len(numbers)}, {row.seconds / 60:.1f} min"
                print(so_far, file=sys.stderr, flush=True)
                yield
    finally:
        pool.shutdown(cancel_futures=True)  # cases under way take down what they mounted


def _tell(case: Case) -> None:
    print(f"\n{case.part} {case.number}, {case.about}\n  again: {case.again}")
    for outcome in case.outcomes:
        print(f"  ran `{outcome}`: {outcome.code}, {outcome.seconds:.1f} s {outcome.error}")
    for fault in case.faults:
        print(f"  FAULT {fault}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
