"""Pictures that methods leave beside their numbers, one file per kind: arrays in, pictures out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnlens.files import atomic


def new_figure(wide: float, high: float, dpi: int = 110, **more: Any) -> Figure:
    """Open a figure of so many inches with its own Agg canvas; pyplot's state stays untouched."""
    figure = Figure(figsize=(wide, high), dpi=dpi, **more)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; equal figures give equal bytes."""
    with atomic(path) as temporary, warnings.catch_warnings():
        # scripts that no font at hand has are drawn as boxes; JSON and page have them whole
        warnings.filterwarnings("ignore", message=".*missing from font")
        figure.savefig(temporary, format="png", metadata={"Software": None})


def short(name: str, most: int = 26) -> str:
    """Cut a name to what fits, and keep matplotlib from reading it as mathematics."""
    text = "".join(c if c.isprintable() else "�" for c in name)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")
