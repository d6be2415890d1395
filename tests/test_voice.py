"""What a run says where nobody looks at a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from cnnlens.cli.tables import aligned, write_ruled
from cnnlens.progress import Step
from cnnlens.voice import Lines, TerminalBars, Voice, about, write_line


def lines_of(seconds: list[float], total: int) -> list[str]:
    """Lines of a stage whose steps end at these times."""
    clock = iter([0.0, *seconds])
    stream = io.StringIO()
    bars = Lines(stream, lambda: next(clock))
    for number in range(len(seconds)):
        bars.show(Step(number + 1, total, "dissecting", note="error 0.1"))
    return stream.getvalue().splitlines()


def test_a_quick_run_says_nothing():
    assert lines_of([0.1 * i for i in range(1, 40)], 40) == []


def test_a_slow_run_says_a_line_every_half_minute():
    lines = lines_of([10.0 * i for i in range(1, 13)], 100)
    assert len(lines) == 4
    assert lines[1] == "dissecting: 4 of 100 images, error 0.1, about 16 min to go"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s"), (75, "about 75 s"), (600, "about 10 min"), (7200, "about 2.0 h")],
)
def test_durations(seconds, words):
    assert about(seconds) == words


def test_notes_are_said_once_and_on_standard_error(capsys):
    voice = Voice()
    voice.note("twice\nover")
    voice.note("twice\nover")
    assert capsys.readouterr() == ("", "twice over\n")
    Voice(quiet=True).note("never")
    assert capsys.readouterr().err == ""


def test_a_milestone_has_a_line_of_its_own():
    stream = io.StringIO()
    bars = Lines(stream, lambda: 0.0)
    bars.show(Step(4, 8, "training", note="epoch 1, loss 0.5", unit="steps"))
    bars.show(Step(4, 8, "training", note="epoch 1, loss 0.4", unit="steps", milestone=True))
    bars.show(Step(8, 8, "training", note="epoch 2, loss 0.3", unit="steps", milestone=True))
    first, last = stream.getvalue().splitlines()
    assert first.startswith("training: 4 of 8 steps, epoch 1, loss 0.4")
    assert last == "training: 8 of 8 steps, epoch 2, loss 0.3"


def test_who_is_hushed_says_nothing(capsys):
    voice = Voice()
    voice.hush()
    voice.note("never")
    with voice.progress() as bars:
        bars.show(Step(1, 2, "training", milestone=True))
    assert capsys.readouterr().err == ""


HOSTILE = ("\x1b]0;name\x07", "a\nname: b", "[/name]", "[link=javascript:name]x", "\x9b31mname")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_stays_on_its_line_wherever_it_stands(monkeypatch, name):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    bare, ruled = aligned([name, "n"], [[name, 1]], f"{name}: units"), Terminal()
    write_ruled(ruled, [name, "n"], [[name, 1]], f"{name}: units")
    write_line(ruled, f"about {name}", style="dim")
    monkeypatch.setattr("sys.stderr", ruled)
    with Voice().progress() as bars:
        assert isinstance(bars, TerminalBars)
        bars.show(Step(1, 2, f"reading {name}", note=name))
        bars.show(Step(2, 2, f"reading {name}", note=name))
    shown = re.sub(
        r"\x1b\[[\d;?]*[a-zA-Z]|\r", "", ruled.getvalue()
    )  # rich's own colours and moves
    for text in (bare, shown):
        assert not [c for c in text if not c.isprintable() and c != "\n"]
        assert not [line for line in text.splitlines() if line.strip().startswith("name: b")]
    assert bare.count("name") == 3 and shown.count("name") >= 4


def test_a_log_that_lacks_letters_is_written_on(tmp_path: Path) -> None:
    with (tmp_path / "log.txt").open("w", encoding="ascii") as log:
        for text in ("first", "12 × 4", "last", "Übung – 3"):
            write_line(log, text)
    lines = (tmp_path / "log.txt").read_text(encoding="ascii").splitlines()
    assert lines == ["first", "12 x 4", "last", r"\xdcbung \u2013 3"]
