"""In processes of their own: what one has asked of its allocator stays."""

from __future__ import annotations

import contextlib
import io
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from cnnlens.cli.allocator import keep_freed
from cnnlens.cli.beside import Beside
from tests import warm

SIZE = 48 << 20  # above what glibc keeps of itself, as the maps of a batch
LEAST = SIZE // (4 << 20)  # half as many as there are pages of the largest usual kind


def faults() -> tuple[int, int]:
    """How many pages the system clears for an array, and for three that follow it."""
    found = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(SIZE, np.uint8)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return found[0], sum(found[1:])


def after_a_command() -> None:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        warm.command("--version")
    found = faults()  # before it is asked whether it can
    print(keep_freed(), *found)


def beside(path: Path) -> None:
    path.write_text(" ".join(map(str, faults())))


def said(**environment: str) -> tuple[str, int, int]:
    env = {"PATH": os.environ["PATH"], **environment}
    kept, first, later = warm.run(after_a_command, env=env).stdout.split()
    return kept, int(first), int(later)


def unless_another(kept: object) -> None:
    if str(kept) == "False":
        pytest.skip("another allocator than glibc's")


def test_an_array_lies_where_the_last_one_lay_in_a_command():
    kept, first, later = said()
    unless_another(kept)
    assert first >= LEAST and later < LEAST


def test_and_in_what_works_beside_it(tmp_path):
    unless_another(keep_freed())
    with Beside(beside, tmp_path / "faults") as other:
        assert other.succeeds()
    first, later = map(int, (tmp_path / "faults").read_text().split())
    assert first >= LEAST and later < LEAST


@pytest.mark.parametrize(
    "chosen",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
)
def test_what_the_environment_has_chosen_stays(chosen):
    kept, first, later = said(**chosen)
    assert kept == "False" and first >= LEAST and later >= 3 * LEAST
