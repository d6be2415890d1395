"""Another process does a part meanwhile, says nothing, and never outlives who began it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from cnnlens.cli import beside, demo
from cnnlens.cli.beside import Beside
from cnnlens.cli.demo import Tour
from cnnlens.cli.screen import Screen
from cnnlens.files import write_json
from cnnlens.settings import run
from tests.warm import Process, runs, until


def told(folder: Path) -> None:
    (folder / "made").write_text(str(os.getpid()))


def sleeps(folder: Path) -> None:
    told(folder)
    time.sleep(300)


def fails(folder: Path) -> None:
    told(folder)
    raise ZeroDivisionError


def begun(folder: Path) -> int:
    """The process that a function has noted, once it has."""
    made = folder / "made"
    until(lambda: made.exists() and bool(made.read_text()))
    return int(made.read_text())


def waits(folder: Path) -> None:
    with Beside(sleeps, folder):
        time.sleep(300)


def test_it_works_meanwhile_and_says_that_it_is_done(tmp_path: Path) -> None:
    with Beside(told, tmp_path) as other:
        assert other.succeeds() and not other.runs
        assert int((tmp_path / "made").read_text()) != os.getpid()


def test_what_goes_wrong_is_not_said_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Beside(fails, tmp_path) as other:
        assert not other.succeeds()
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_is_not_answered_by_it_and_it_ends_with_the_block(tmp_path: Path) -> None:
    def struck() -> None:
        with Beside(sleeps, tmp_path) as other:
            os.kill(begun(tmp_path), signal.SIGINT)
            time.sleep(0.3)
            assert other.runs
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        struck()
    with pytest.raises(ProcessLookupError):
        os.kill(begun(tmp_path), 0)


def test_one_that_is_killed_has_not_succeeded(tmp_path: Path) -> None:
    with Beside(sleeps, tmp_path) as other:
        os.kill(begun(tmp_path), signal.SIGKILL)
        assert not other.succeeds()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells")
def test_it_ends_with_who_began_it_even_if_that_is_killed(tmp_path: Path) -> None:
    one = Process(waits, (tmp_path,), os.environ)
    other = begun(tmp_path)
    assert runs(other)
    one.kill()
    until(lambda: not runs(other))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone says it")
def test_cores_are_those_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert run.cores() == 12 and beside.has_room()
    for sharing, cores in (("3", 4), ("20", 1), ("0", 12), ("many", 12)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", sharing)
        assert run.cores() == cores
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5})
    assert run.cores() == 1 and not beside.has_room()


class Ahead:
    """Another process that is done: it has succeeded, or not."""

    runs = False

    def __init__(self, good: bool) -> None:
        self.good = good

    def succeeds(self) -> bool:
        return self.good


@pytest.mark.parametrize("ahead", [None, Ahead(True), Ahead(False)])
def test_animals_are_learned_here_where_no_other_process_has(
    ahead: Ahead | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    done: list[str] = []
    for name in ("finetune", "stability"):
        monkeypatch.setattr(demo, name, lambda tour, name=name: done.append(name))
    for name in ("animals", "ordinary", "interpretable"):
        write_json(tmp_path / f"{name}.json", {"accuracy": {"after": 0.875}})
    demo.animals(Tour(Screen(), tmp_path, ahead=ahead))  # type: ignore[arg-type]
    assert done == ([] if ahead and ahead.good else ["finetune", "stability"])
    assert "interpretable: 87.5% of its answers are right" in capsys.readouterr().err


def test_a_process_begins_where_there_is_something_to_learn_and_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(Beside, "__init__", lambda self, *more: given.append(more))
    monkeypatch.setattr(demo, "has_room", lambda: True)

    def asked(**more: bool) -> int:
        given.clear()
        demo._ahead(Tour(Screen(quiet=True), tmp_path, seed=3, **more))  # type: ignore[arg-type]
        return len(given)

    assert asked() == 1
    assert given == [(demo.train_and_measure, tmp_path, 3, False)]
    assert asked(quick=True) == 0
    write_json(tmp_path / "interpretable.json", {})
    assert asked() == 0
    assert asked(force=True) == 1
    monkeypatch.setattr(demo, "has_room", lambda: False)
    assert asked(force=True) == 0
