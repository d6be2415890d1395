"""Runs the command line: in this process where that is enough, else as users do."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from cnnlens.cli.app import _run
from tests import warm


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that says what went wrong; fails where there is not exactly one."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert "unexpected" not in lines[0], self.err
        return lines[0]


def cnnlens(*arguments: object) -> Answer:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    words = [str(a) for a in arguments]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["cnnlens", *words]),
    ):
        code = _run(words)
    return Answer(code, out.getvalue(), err.getvalue())


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CNNLENS_", "FORCE_COLOR"))}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), **more}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cnnlens", *map(str, arguments)]


def process(*arguments: object, cwd: Path | None = None, **env: str) -> Answer:
    """Run a command in a process of its own, its output in pipes."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment(**env),
        cwd=cwd,
        timeout=240,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def warm_process(*arguments: object, **env: str) -> Answer:
    """The same, where it does not matter how a process starts: seconds less."""
    done = warm.run(warm.command, *arguments, env=environment(**env))
    return Answer(done.returncode, done.stdout, done.stderr)


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(folder: Path) -> list[str]:
    """Half-written files below a folder."""
    return [p.name for p in folder.rglob("*") if p.name.endswith((".tmp", ".old"))]


def sound(workspace: Path) -> None:
    """Everything that has its final name is whole, and nothing else is there."""
    assert leftovers(workspace) == []
    for path in workspace.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    if (workspace / "dissect").exists():
        for folder in (workspace / "dissect").iterdir():
            assert not folder.name.startswith(".")
            assert not folder.is_dir() or (folder / "summary.json").exists()
