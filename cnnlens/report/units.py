"""The section about units: what each of them responds to."""
from __future__ import annotations
from pathlib import Path
from cnnlens.report.blocks import Section
def units(workspace: Path) -> Section | None:
    return None
