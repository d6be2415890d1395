"""Curves of classes without their best units, beside random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.report.figures import new_figure, save_figure, short

MOST = 12  # classes that are drawn: those that lose most
_ACROSS = 4
_OWN, _RANDOM = "#c95400", "#8a8a8a"


def save_curves(
    path: Path, curves: Sequence[Mapping[str, Any]], classes: Sequence[Mapping[str, Any]]
) -> None:
    """Draw each class's accuracy over the number of units taken out.

    Parameters
    ----------
    path : pathlib.Path
        The PNG; an SVG goes beside it.
    curves : sequence of mapping
        "class", "k", "accuracy", "low", "high", "random_mean", "random_low", "random_high".
    classes : sequence of mapping
        "class", and its "accuracy" with all units.
    """
    before = {str(one["class"]): float(one["accuracy"]) for one in classes}
    lost = {str(one["class"]): before[str(one["class"])] - one["accuracy"] for one in curves}
    chosen = sorted(lost, key=lambda name: -lost[name])[:MOST]
    shown = [name for name in before if name in chosen]
    across = min(_ACROSS, len(shown))
    down = ceil(len(shown) / across)
    wide, high = 2.3 * across + 0.4, 1.75 * down + 0.4
    figure = new_figure(wide, high)
    figure.subplots_adjust(
        0.75 / wide, 0.55 / high, 1 - 0.1 / wide, 1 - 0.3 / high, wspace=0.12, hspace=0.32
    )
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for one, name in zip(axes, shown, strict=False):
        _draw(one, [row for row in curves if row["class"] == name], before[name])
        one.set_title(short(name), fontsize=9)
    for one in axes[len(shown) :]:
        one.set_visible(False)
    figure.supxlabel("units taken out", fontsize=9)
    figure.supylabel("balanced one-class accuracy", fontsize=9)
    save_figure(figure, path)


def _draw(axes: Any, rows: Sequence[Mapping[str, Any]], before: float) -> None:
    from matplotlib.ticker import MaxNLocator

    ks = [0, *(row["k"] for row in rows)]
    if rows[0]["random_mean"] is not None:
        low, high, mean = (
            [before, *(row[f"random_{key}"] for row in rows)] for key in ("low", "high", "mean")
        )
        axes.fill_between(ks, low, high, color=_RANDOM, alpha=0.3, lw=0)
        axes.plot(ks, mean, color=_RANDOM, lw=1)
    own = np.array([before, *(row["accuracy"] for row in rows)])
    axes.plot(ks, own, "o-", color=_OWN, ms=3, lw=1.4)
    for row in rows:
        if row["low"] is not None:
            axes.plot([row["k"]] * 2, [row["low"], row["high"]], color=_OWN, lw=0.8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
