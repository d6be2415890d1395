"""How a unit's values spread, drawn without a script: counts on a logarithmic scale, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from cnnlens.measure.dissected_units import Histogram

Scale = Callable[[float], float]
BINS = 64
# where there is no style sheet, in a notebook
_INK = 'fill="currentColor" font-size="11" font-family="sans-serif"'
_FILLS = {"below": "#8a8a82", "above": "#2b7cb3"}
_WIDE, _HIGH, _LEFT, _TOP, _BOTTOM, _RIGHT = 460, 190, 40, 26, 24, 8


def spread(histogram: Histogram, threshold: float | None) -> Markup:
    """Draw a histogram; `threshold` is marked, and what lies above it stands out."""
    found = filled(histogram).merged(BINS)
    if found is None:
        return Markup()
    counts, edges = found["counts"], found["edges"]
    low, high = edges[0], edges[-1]
    decades = max(1, math.ceil(math.log10(max(*counts, 1) + 1)))

    def x(value: float) -> float:
        return _LEFT + (value - low) / ((high - low) or 1) * (_WIDE - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return _HIGH - _BOTTOM - math.log10(count + 1) / decades * (_HIGH - _TOP - _BOTTOM)

    parts = [*_axis(y, decades), *_bars(counts, [x(edge) for edge in edges], edges, y, threshold)]
    for value, anchor in ((low, "start"), (high, "end")):
        place = f'x="{x(value):.1f}" y="{_HIGH - 7}" text-anchor="{anchor}"'
        parts.append(f"<text {_INK} {place}>{value:.3g}</text>")
    if threshold is not None and low <= threshold <= high:
        parts += _cut(x(threshold), threshold)
    said = f"Values from {low:.3g} to {high:.3g}, log counts"
    head = f'<svg class="chart" viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{said}">'
    return Markup("".join([head, *parts, "</svg>"]))  # of numbers alone


def filled(histogram: Histogram) -> Histogram:
    """Leave out the empty bins at its end."""
    last = int(np.flatnonzero(histogram.counts).max(initial=0)) + 1
    return Histogram(histogram.counts[:last], histogram.edges[: last + 1])


def _axis(y: Scale, decades: int) -> list[str]:
    parts = []
    for power in range(0, decades + 1, 2 if decades > 5 else 1):
        at, name = y(10**power - (0 if power else 1)), _power(power) if power else "0"
        text = f'<text {_INK} x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{name}</text>'
        parts.append(
            f'<path class="axis" stroke="#8886" d="M{_LEFT},{at:.1f}H{_WIDE - _RIGHT}"/>{text}'
        )
    return parts


def _power(power: int) -> str:
    names = {0: "", 1: "k", 2: "M", 3: "G"}
    return f"{10 ** (power % 3)}{names.get(power // 3, f'e{power // 3 * 3}')}"


def _bars(
    counts: Sequence[int],
    at: Sequence[float],
    edges: Sequence[float],
    y: Scale,
    cut: float | None,
) -> list[str]:
    """Draw bars as two paths: those above the threshold, and the others."""
    paths = {"below": "", "above": ""}
    for bin, count in enumerate(counts):
        if count:
            side = "above" if cut is not None and edges[bin] >= cut else "below"
            wide = max(at[bin + 1] - at[bin] - 0.6, 0.5)
            base = _HIGH - _BOTTOM
            paths[side] += f"M{at[bin]:.1f},{base}V{y(count):.1f}h{wide:.1f}V{base}z"
    return [
        f'<path class="{side}" fill="{_FILLS[side]}" d="{path}"/>'
        for side, path in paths.items()
        if path
    ]


def _cut(at: float, threshold: float) -> list[str]:
    anchor, beside = ("end", -5) if at > _WIDE * 0.7 else ("start", 5)
    place = f'x="{at + beside:.1f}" y="{_TOP - 4}" text-anchor="{anchor}"'
    return [
        f'<path class="cut" stroke="currentColor" d="M{at:.1f},{_TOP - 12}V{_HIGH - _BOTTOM}"/>',
        f'<text class="cut-label" {_INK} {place}>threshold {threshold:.3g}</text>',
    ]
