"""The types hold. Among the tests, since it takes a minute of one core: others run meanwhile."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cnnlens


@pytest.mark.timeout(600)
def test_types_hold() -> None:
    words = [sys.executable, "-m", "mypy", "cnnlens", "tests/typed.py", "benchmarks"]
    done = subprocess.run(
        words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found" in done.stdout


def test_a_checker_sees_every_public_name() -> None:
    """Each is imported for it from where the package finds it."""
    tree = ast.parse(Path(cnnlens.__file__).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and isinstance(n.test, ast.Name))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    homes = {**cnnlens._HOMES, "cluster": "cnnlens.cluster.clustering"}  # what can be called
    assert seen == homes
