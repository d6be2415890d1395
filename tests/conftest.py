"""Tests run side by side: each process computes with one thread on a core of its own.

They would fight for the cores otherwise, and the threads of each for its interpreter's lock.

Nothing that an earlier run of cnnlens kept is found, and nothing is kept in a person's own folders.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest

from cnnlens.cli.allocator import keep_freed

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# as the command line: what is imported stays, and what tensors leave is kept for the next ones
gc.set_threshold(20_000, 20, 20)
keep_freed()


@pytest.fixture(autouse=True, scope="session")
def _own_home() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNLENS_HOME", folder)
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setenv("XDG_DATA_HOME", folder)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_waiting() -> Iterator[None]:
    """Photos are read in the second in which they were written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnlens.data.seconds.AWAITS", False)
        yield


_WITHOUT_TORCH = ("umap", "skimage.segmentation", "matplotlib.pyplot", "jinja2", "hypothesis")
_LONG = ("test_types.py", "test_demo.py", "test_readme.py", "test_examples.py", "test_notebooks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end two processes would both make what it needs."""
    items.sort(key=lambda item: item.path.name not in _LONG)


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several processes a core, in turn; what it starts shares it.

    In the background of a script Ctrl-C is not heard, nor by what is started there: here it is.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    number = getattr(config, "workerinput", {}).get("workerid", "")[2:]
    if number and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(number) % len(cores)]})
    if number and int(number) % 2:  # or each would compile what the other compiles at that moment
        for name in _WITHOUT_TORCH:
            importlib.import_module(name)


def pytest_collection_finish() -> None:
    """What is imported stays: emptyings of memory, of which tests ask many, pass over it."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Nor does pytest look five times through all that a whole run has left, when it ends."""
    gc.freeze()
