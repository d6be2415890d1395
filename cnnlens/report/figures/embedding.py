"""Pictures of layouts: a layer beside raw pixels, in two and in three dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnnlens.report.figures import new_figure, short

if TYPE_CHECKING:  # umap, which it imports, is slow to load
    from cnnlens.cluster.embed import Layout
    from cnnlens.cluster.vectors import Groups

SIDE = 32  # pixels: side of a thumbnail in the sprite
COLUMNS = 50
MOST = 6000  # thumbnails in the sprite
_LEGEND = 20  # categories with a line in the legend


def hues(count: int) -> list[str]:
    """One colour per category: far apart while they are few."""
    if count <= 10:
        return [to_hex(colormaps["tab10"](i)) for i in range(count)]
    if count <= 20:
        return [to_hex(colormaps["tab20"](i)) for i in range(count)]
    return [to_hex(colormaps["hsv"](i / count)) for i in range(count)]


def draw_layouts(layer: Layout, raw: Layout, groups: Groups | None, name: str) -> Figure:
    """Draw four layouts (as Dai 2020, Fig. 9), with how separated each is.

    Parameters
    ----------
    layer, raw : Layout
        Of the layer's vectors and of raw pixels.
    groups : Groups or None
        Categories, one colour each.
    name : str
        The layer.
    """
    figure = new_figure(11, 10.4)
    colours = _colours(groups, len(layer.flat))
    for row, (places, key) in enumerate((("flat", "2d"), ("deep", "3d"))):
        for column, (layout, what) in enumerate(((layer, f"layer {name}"), (raw, "raw pixels"))):
            at = getattr(layout, places)
            number = 2 * row + column + 1
            axes: Any = figure.add_subplot(2, 2, number, projection="3d" if row else None)
            axes.scatter(*at.T, s=5 if len(at) > 500 else 14, c=colours, linewidths=0, alpha=0.8)
            axes.set_title(f"{short(what, 40)}, {key}\n{_words(layout, key)}", fontsize=9)
            axes.tick_params(labelbottom=False, labelleft=False, length=0)
            if row:
                axes.tick_params(labelright=False)
                axes.set_zticklabels([])
    figure.subplots_adjust(left=0.03, right=0.97, top=0.94, bottom=0.09, hspace=0.16, wspace=0.06)
    if groups is not None:
        _legend(figure, groups)
    return figure


def _colours(groups: Groups | None, count: int) -> list[str]:
    if groups is None:
        return ["#3390c7"] * count
    palette = hues(len(groups.names))
    return [palette[i] for i in groups.of_image]


def _words(layout: Layout, key: str) -> str:
    found = layout.separation[key]
    if found.neighbours is None:
        return "no categories to measure by"
    silhouette = "–" if found.silhouette is None else f"{found.silhouette:.2f}"
    return (
        f"silhouette {silhouette}, neighbours of the same category {found.neighbours:.0%} "
        f"(chance {found.chance:.0%})"
    )


def _legend(figure: Figure, groups: Groups) -> None:
    palette = hues(len(groups.names))
    shown = list(zip(groups.names, palette, strict=True))[:_LEGEND]
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=colour, label=short(name, 18))
        for name, colour in shown
    ]
    more = len(groups.names) - len(shown)
    if more:
        handles.append(Line2D([], [], linestyle="", label=f"and {more} more"))
    figure.legend(handles=handles, loc="lower center", ncols=8, fontsize=8, frameon=False)
