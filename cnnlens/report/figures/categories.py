"""Pictures of categories: their dendrogram, spanning tree and distances; how their images lie."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlens.cluster.categories import CategoryTree
from cnnlens.cluster.embed import Layout, Layouts
from cnnlens.cluster.places import branches, dendrogram_places, radial
from cnnlens.cluster.vectors import Groups
from cnnlens.report.figures import new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_STAR = 24  # categories up to which the spanning tree is drawn around its centre
_NAMED = 120  # categories up to which the heat map bears names
_FIRM, _WEAK, _LINE = "#0072b2", "#c95400", "#444444"
FIRM = 0.7  # support from which a merge counts as firm (Hillis and Bull 1993)

SIDE = 32  # pixels: side of a thumbnail in the sprite of a layout
COLUMNS = 50
MOST = 6000  # thumbnails in the sprite
_LEGEND = 20  # categories with a line in the legend of layouts


def _figure(wide: float, high: float) -> tuple[Figure, Any]:
    figure = new_figure(wide, high)
    return figure, figure.add_subplot()


def dendrogram(tree: CategoryTree) -> Figure:
    """Draw a tree of two categories or more on its side, a line of text each, however many.

    The dot at a merge shows its support: blue from 0.7 on, orange below, hollow where unknown.
    """
    count = len(tree.names)
    line = 0.26 if count <= 40 else 0.2 if count <= 200 else 0.14  # inches per category
    high = 0.9 + line * count
    figure, axes = _figure(8.6, high)
    axes.set_position((0.03, 0.55 / high, 0.62, 1 - 0.9 / high))
    xs, ys = dendrogram_places(tree)
    _draw_merges(axes, tree, xs, ys)
    widest = float(tree.merges[:, 2].max()) or 1.0
    size = 72 * line * 0.62
    for leaf, row in zip(tree.order, range(count), strict=True):
        axes.text(-0.015 * widest, row, short(tree.names[leaf]), va="center", fontsize=size)
    if count <= 60 and tree.support is not None:
        for merge, value in enumerate(tree.support[:-1]):
            if np.isnan(value):
                continue
            at = (xs[count + merge], ys[count + merge])
            style: Any = {"textcoords": "offset points", "fontsize": 7, "ha": "right"}
            axes.annotate(f"{100 * value:.0f}", at, (-3, 3), **style)
    axes.set_xlim(1.04 * widest, 0)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("distance ½(1 − cos) at which two groups merge", fontsize=8)
    axes.tick_params(labelsize=7)
    return figure


def _draw_merges(axes: Any, tree: CategoryTree, xs: list[float], ys: list[float]) -> None:
    from matplotlib.collections import LineCollection

    count = len(tree.names)
    lines = []
    for merge, (a, b) in enumerate(tree.merges[:, :2].astype(int)):
        x = xs[count + merge]
        lines.append([(xs[a], ys[a]), (x, ys[a]), (x, ys[b]), (xs[b], ys[b])])
    axes.add_collection(LineCollection(lines, colors=_LINE, linewidths=1.1))
    if tree.support is None:
        axes.scatter(xs[count:], ys[count:], s=9, facecolor="white", edgecolor=_LINE, zorder=3)
        return
    inner = slice(count, 2 * count - 2)  # the root holds everything in any tree
    edges, fills = [], []
    for value in tree.support[:-1]:
        edges.append(_LINE if np.isnan(value) else _FIRM if value >= FIRM else _WEAK)
        fills.append("white" if np.isnan(value) else edges[-1])
    size = 14 if count <= 200 else 6
    axes.scatter(xs[inner], ys[inner], s=size, facecolor=fills, edgecolor=edges, zorder=3)


def heat_map(tree: CategoryTree) -> Figure:
    """Draw the matrix of distances in the tree's order."""
    count = len(tree.names)
    side = float(np.clip(1.6 + 0.16 * count, 4.2, 16)) if count <= _NAMED else 9.0
    figure, axes = _figure(side + 1.8, side + 1.2)
    sorted_ = tree.distances[np.ix_(tree.order, tree.order)]
    # "none": as many pixels as there are distances, where these are about as many as are shown
    how = "nearest" if count <= _NAMED else "none"
    shown = axes.imshow(sorted_, cmap="viridis_r", interpolation=how)
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label("distance ½(1 − cos)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if count <= _NAMED:
        names = [short(tree.names[i], 18) for i in tree.order]
        size = float(np.clip(72 * side / count * 0.62, 4.5, 9))
        axes.set_xticks(range(count), names, rotation=90, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"{count} categories in the order of the tree", fontsize=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from font")
        figure.tight_layout()
    return figure


def spanning_tree_figure(tree: CategoryTree) -> Figure:
    """Draw the spanning tree from its centre: around it, or for many categories a line for each.

    The shorter an edge, the thicker and darker.
    """
    return _as_star(tree) if len(tree.names) <= _STAR else _as_lines(tree)


def _near(tree: CategoryTree) -> list[float]:
    """How short each edge is, from 0 (the longest) to 1."""
    lengths = np.array([edge[2] for edge in tree.edges])
    return list(map(float, 1 - (lengths - lengths.min()) / (np.ptp(lengths) or 1.0)))


def _grey(near: float) -> str:
    return str(round(0.72 - 0.6 * near, 3))


def _as_star(tree: CategoryTree) -> Figure:
    places = radial(tree)
    side = float(np.clip(3 + 1.1 * np.sqrt(len(places)), 4.5, 9))
    figure, axes = _figure(side, side)
    axes.set_position((0, 0, 1, 1))
    for (a, b, length), near in zip(tree.edges, _near(tree), strict=True):
        (xa, ya), (xb, yb) = places[a], places[b]
        axes.plot([xa, xb], [ya, yb], color=_grey(near), linewidth=0.8 + 2.4 * near, zorder=1)
        axes.text(
            (xa + xb) / 2, (ya + yb) / 2, f"{length:.3f}", fontsize=6.5, color="#555555",
            ha="center", va="center",
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    for node, (x, y) in enumerate(places):
        _name(axes, tree, node, x, y, 9, "center")
    reach = places.min(0), places.max(0)
    for limit, low, high in zip((axes.set_xlim, axes.set_ylim), *reach, strict=True):
        limit(low - 0.7, high + 0.7)
    axes.set_axis_off()
    return figure


def _as_lines(tree: CategoryTree) -> Figure:
    order, parent, depth = branches(tree)
    high = 0.5 + 0.17 * len(order)
    wide = 4.0 + 0.28 * max(depth.values())
    figure, axes = _figure(wide, high)
    axes.set_position((0, 0, 1, 1))
    row = {node: number for number, node in enumerate(order)}
    near = {frozenset(e[:2]): n for e, n in zip(tree.edges, _near(tree), strict=True)}
    for node in order[1:]:
        above, close = parent[node], near[frozenset((node, parent[node]))]
        corner = [(depth[above], row[above]), (depth[above], row[node]), (depth[node], row[node])]
        axes.plot(*zip(*corner, strict=True), color=_grey(close), linewidth=0.6 + 1.8 * close)
    for node in order:
        _name(axes, tree, node, depth[node], row[node], 7, "left")
    axes.set_xlim(-0.5, wide / 0.28 - 0.5)
    axes.set_ylim(len(order), -1)
    axes.set_axis_off()
    return figure


def _name(
    axes: Any, tree: CategoryTree, node: int, x: float, y: float, size: float, side: str
) -> None:
    centre = node == tree.centre
    axes.text(
        x, y, short(tree.names[node]), ha=side, va="center", zorder=3, fontsize=size,
        color="white" if centre else "#1a1a1a",
        bbox={"boxstyle": "round,pad=0.2", "facecolor": _FIRM if centre else "#eef3f7",
              "edgecolor": _FIRM if side == "center" else "none", "linewidth": 0.7},
    )  # fmt: skip


def hues(count: int) -> list[str]:
    """One colour per category: far apart while they are few."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if count <= 10:
        return [to_hex(colormaps["tab10"](i)) for i in range(count)]
    if count <= 20:
        return [to_hex(colormaps["tab20"](i)) for i in range(count)]
    return [to_hex(colormaps["hsv"](i / count)) for i in range(count)]


def draw_layouts(layouts: Layouts, groups: Groups | None, name: str) -> Figure:
    """Draw layouts (as Dai 2020, Fig. 9), with how separated each is.

    Side by side a layer's, by its `name`, and that of raw pixels; above flat, below deep. Each of
    `groups` has a colour.
    """
    figure = new_figure(11, 10.4)
    palette = hues(len(groups.names)) if groups else []
    colours = [palette[i] for i in groups.of_image] if groups else "#3390c7"
    sides = ((layouts.layer, f"layer {name}"), (layouts.pixels, "raw pixels"))
    for column, (layout, what) in enumerate(sides, 1):
        if layout is None:
            continue
        for below, (at, key) in enumerate(((layout.flat, "2d"), (layout.deep, "3d"))):
            projection = "3d" if below else None
            axes: Any = figure.add_subplot(2, 2, 2 * below + column, projection=projection)
            axes.scatter(*at.T, s=5 if len(at) > 500 else 14, c=colours, linewidths=0, alpha=0.8)
            axes.set_title(f"{short(what, 40)}, {key}\n{_words(layout, key)}", fontsize=9)
            axes.tick_params(labelbottom=False, labelleft=False, length=0)
            if below:
                axes.tick_params(labelright=False)
                axes.set_zticklabels([])
    figure.subplots_adjust(left=0.03, right=0.97, top=0.94, bottom=0.09, hspace=0.16, wspace=0.06)
    if groups is not None:
        _legend(figure, groups.names, palette)
    return figure


def _words(layout: Layout, key: str) -> str:
    found = layout.separation[key]
    if found.neighbours is None:
        return "no categories to measure by"
    silhouette = "–" if found.silhouette is None else f"{found.silhouette:.2f}"
    return (
        f"silhouette {silhouette}, neighbours of the same category {found.neighbours:.0%} "
        f"(chance {found.chance:.0%})"
    )


def _legend(figure: Figure, names: Sequence[str], palette: Sequence[str]) -> None:
    dot = {"marker": "o", "markersize": 5}
    shown = zip(names[:_LEGEND], palette, strict=False)
    handles = [_line(label=short(name, 18), color=colour, **dot) for name, colour in shown]
    if len(names) > _LEGEND:
        handles.append(_line(label=f"and {len(names) - _LEGEND} more"))
    figure.legend(handles=handles, loc="lower center", ncols=8, fontsize=8, frameon=False)


def _line(**style: Any) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", **style)
