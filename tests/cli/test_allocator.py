"""In processes of their own: what one has asked of its allocator stays."""

from __future__ import annotations

import os
import resource
import sys

import numpy as np
import pytest

from cnnlens.cli.allocator import keep_freed
from tests import warm

SIZE = 48 << 20  # above what glibc keeps of itself, as the maps of a batch
LEAST = SIZE // (4 << 20)  # half as many as there are pages of the largest usual kind


def faults_of_second_arrays() -> None:
    kept = keep_freed()
    found = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(SIZE, np.uint8)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    print(kept, found[0], sum(found[1:]))


def said(**environment: str) -> tuple[str, int, int]:
    env = {"PATH": os.environ["PATH"], **environment}
    kept, first, later = warm.run(faults_of_second_arrays, env=env).stdout.split()
    return kept, int(first), int(later)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_an_array_lies_where_the_last_one_lay():
    kept, first, later = said()
    if kept == "False":
        pytest.skip("another allocator than glibc's")
    assert first >= LEAST and later < LEAST  # pages, which the system clears one by one


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
