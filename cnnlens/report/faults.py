"""What fails costs its own section of the page, which says where the fault is: a file, a code."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.report.blocks import Section, Text
from cnnlens.report.contents import REDO, local

OURS = __name__.partition(".")[0]


def package_of(gather: Callable[..., Any]) -> str:
    """Name the package whose code gathers a section; empty where that is ours."""
    while hasattr(gather, "func"):  # of a partial
        gather = gather.func
    package = str(getattr(gather, "__module__", "") or type(gather).__module__).partition(".")[0]
    return "" if package == OURS else package


def fault(name: str, package: str, error: Exception) -> CnnlensError:
    """Say in a line why a section is not on the page; what already is such a line stays."""
    if isinstance(error, CnnlensError):
        return error
    if not package:
        return CnnlensError(f"the results of {name} are damaged: {error!r}", REDO)
    return CnnlensError(
        f"the code of {package}, which makes the section '{name}', failed: "
        f"{type(error).__name__}: {error}",
        "upgrade that package, or uninstall it",
    )


def in_place_of(section: Section, error: CnnlensError, workspace: Path) -> Section:
    """Make the section that stands there instead, and says why."""
    words = warning(error, workspace)
    return replace(section, note="", parts=words, palette=())


def warning(error: CnnlensError, workspace: Path) -> list[Text]:
    """Say on the page what was left out and why, with paths from the workspace on."""
    said = (error.message + (f"; {error.hint}" if error.hint else "")) + "."
    for folder in dict.fromkeys((workspace, workspace.resolve())):
        said = said.replace(f"{folder}{os.sep}", "")
    return [Text(f"Left out: {local(said, workspace)}", "warning")]
