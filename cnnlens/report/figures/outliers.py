"""What strangers and noise are predicted as: shares of classes, in a matrix and as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlens.report.figures import new_figure, short

if TYPE_CHECKING:
    from matplotlib import figure as drawing

CLASSES = 24  # of many, those that draw most
SOURCES = 60


def draw_predictions(
    sources: Sequence[str], shares: np.ndarray, classes: Sequence[str]
) -> drawing.Figure:
    """Draw the (S, K) share of each source (rows) that is taken for each class (columns)."""
    sources, shares = list(sources)[:SOURCES], shares[:SOURCES]
    chosen = np.sort(np.argsort(-shares.max(0), kind="stable")[:CLASSES])
    wide, high = 3.4 + 0.46 * len(chosen), 1.6 + 0.3 * len(sources)
    figure = new_figure(wide, high)
    axes = figure.add_subplot()
    shown = axes.imshow(shares[:, chosen], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    names = [short(classes[c], 18) for c in chosen]
    axes.set_xticks(range(len(chosen)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(sources)), [short(s, 26) for s in sources], fontsize=8)
    for row in range(len(sources)):
        for column, kind in enumerate(chosen):
            if (value := shares[row, kind]) >= 0.05:
                colour = "white" if value > 0.6 else "#1a1a1a"
                said = f"{value:.0%}"
                axes.text(column, row, said, fontsize=7, color=colour, ha="center", va="center")
    bar = figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("share of the images", fontsize=8)
    if len(chosen) < (count := shares.shape[1]):
        axes.set_xlabel(f"the {len(chosen)} of {count} classes that draw most", fontsize=8)
    figure.tight_layout()
    return figure


def draw_noise(
    share: np.ndarray, bias: np.ndarray | None, radius: np.ndarray | None, classes: Sequence[str]
) -> drawing.Figure:
    """Draw each class's share of the noise beside its bias and its region's radius, all (K,)."""
    chosen = np.argsort(-share, kind="stable")[:CLASSES]
    panels = [("share of the noise", share), ("bias", bias), ("radius of its region", radius)]
    drawn = [(title, values) for title, values in panels if values is not None]
    figure = new_figure(2.0 + 2.6 * len(drawn), 1.2 + 0.26 * len(chosen))
    for place, (title, values) in enumerate(drawn):
        one: Any = figure.add_subplot(1, len(drawn), place + 1)
        rows = np.arange(len(chosen))
        one.barh(rows, np.nan_to_num(values[chosen]), color="#3390c7" if place else "#c95400")
        one.set_ylim(len(chosen) - 0.5, -0.5)
        names = [short(classes[c], 20) for c in chosen] if place == 0 else [""] * len(chosen)
        one.set_yticks(rows, names, fontsize=8)
        one.tick_params(axis="x", labelsize=7)
        one.set_title(title, fontsize=9)
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
    figure.tight_layout()
    return figure
