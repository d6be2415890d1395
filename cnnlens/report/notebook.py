"""Units in a notebook: a layer as a gallery, a unit's page as one fragment that needs nothing else.

Styles stand at the elements and pictures inside them, since notebooks show fragments side by side,
and hosts of notebooks take away style sheets and scripts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from cnnlens.errors import plain
from cnnlens.measure.unit_maps import SHOWN
from cnnlens.report import unit_files
from cnnlens.report.figures.units import cell, spread, tile
from cnnlens.report.seen import Seen
from cnnlens.report.shown import LIMIT, inlined
from cnnlens.report.unit_page import Neighbour, UnitLayer, UnitPage, unit_layers
from cnnlens.report.unit_result import Unit, UnitsResult

TILES = 48  # of a gallery
_TOP, _SMALL, _TILE = 120, 60, 112  # pixels: sides of pictures
_FLEX = "display:flex;flex-wrap:wrap;gap:{}px;align-items:flex-start"
_SOFT = "opacity:.7;font-size:12px;line-height:1.35"
_ENDED = Markup("<p>…</p>")

Find = Callable[[Neighbour], UnitPage | None]


@dataclass(frozen=True, eq=False)
class ShownUnit(Unit):
    """A unit that shows itself as its page; `layer` is what it was measured with."""

    layer: UnitsResult

    def _repr_html_(self) -> str:
        return unit_html(self.layer, self.unit)


@dataclass(frozen=True, eq=False)
class ShownUnits(UnitsResult):
    """A layer's units that show themselves as a gallery."""

    def _repr_html_(self) -> str:
        return gallery_html(UnitLayer(self.name, self.folder.name, self))


def read_units(folder: Path) -> ShownUnits:
    """Read the files of one layer (`unit_files.read_units`), to be shown in a notebook."""
    found = unit_files.read_units(folder)
    units: list[Unit] = [ShownUnit(**vars(unit), layer=found) for unit in found.units]
    return ShownUnits(**{**vars(found), "units": units})


def gallery_html(layer: UnitLayer) -> str:
    """Show a layer's units as tiles of their top images, the highest peaks first."""
    pages = layer.pages
    alive = sorted((p for p in pages if not p.dead), key=lambda p: (-(p.peak or 0.0), p.unit))
    facts = [f"{len(pages):,} units", f"{len(pages) - len(alive):,} dead"]
    facts += [f"{pages[0].images:,} images"] if pages and pages[0].images else []
    more = f", the {TILES} of highest peak" if len(alive) > TILES else ""
    head = Markup("<h3>What the units of {} respond to</h3><p>{}{}</p>").format(
        layer.name, ", ".join(facts), more
    )
    tiles = [_tile(page, f"{page.unit}", _told(page)) for page in alive[:TILES]]
    return _within([head, Markup("<div style='{}'>").format(_FLEX.format(10)), *tiles], "</div>")


def unit_html(layer: UnitsResult, unit: int) -> str:
    """Show all that the workspace knows of a unit, as far as it is of what `layer` holds."""
    layers = _layers_beside(layer)
    page = next(one for one in layers if one.responses is layer).page(unit)
    assert page is not None, unit
    named = {one.name: one for one in layers}

    def find(near: Neighbour) -> UnitPage | None:
        return named[near.layer].page(near.unit) if near.layer in named else None

    return _within(list(_parts(page, find)))


def _layers_beside(own: UnitsResult) -> list[UnitLayer]:
    """Gather what is known of a layer and of others; of the layer alone where its units have been
    measured anew since, otherwise: what is known now may be of other images or another network.
    """
    layers = unit_layers(own.folder.parents[1])
    for place, one in enumerate(layers):
        now = one.responses
        if now is not None and (now.folder, now.summary) == (own.folder, own.summary):
            layers[place] = replace(one, responses=own)
            return layers
    return [UnitLayer(own.name, own.folder.name, own)]


def _within(parts: Sequence[Markup], end: str = "") -> str:
    """Join what there is room for."""
    shown, left = [], LIMIT - 1000
    for part in parts:
        left -= len(part)
        if left < 0:
            shown.append(_ENDED)
            break
        shown.append(part)
    return str(Markup("<div>{}{}</div>").format(Markup("").join(shown), Markup(end)))


def _parts(page: UnitPage, find: Find) -> Iterator[Markup]:
    name = Markup("<h3>Unit {} of {}</h3><p>{}</p>")
    yield name.format(page.unit, page.layer, page.words)
    if page.label:
        yield _label(page)
    yield Markup("<div style='{}'>{}</div>").format(_FLEX.format(24), Markup("").join(_first(page)))
    if page.neighbours:
        yield _row("Units that respond alike", [_near(one, find(one)) for one in page.neighbours])
    if page.bins:
        bins = [_bin(one.share, one.low, one.high, one.examples) for one in reversed(page.bins)]
        yield _section("Over its whole range", Markup("").join(bins))
    if page.bottom:
        yield _row("Lowest peaks", [_seen(one, _SMALL) for one in page.bottom[:SHOWN]])
    if page.histogram:
        drawn = spread(page.histogram, page.threshold)
        yield _section("All its values, log counts",
                       Markup("<div style='max-width:460px'>{}</div>").format(drawn))  # fmt: skip
    for called in sorted(page.names, key=lambda one: one.rank) if page.has_names else ():
        yield Markup("<p>named by {}: <b>{}</b></p>").format(called.source, called.words)
    for what, value in page.facts:
        yield Markup("<p>{}: <b>{}</b></p>").format(what, value)
    for one in page.pictures:
        if one.method != "visualize":
            yield _picture(one.heading, one.words, one.picture)


def _first(page: UnitPage) -> Iterator[Markup]:
    """Show its top images, and beside them what was drawn for it."""
    if page.top:
        yield _row("Highest peaks", [_seen(one, _TOP) for one in page.top[:SHOWN]], 3 * _TOP + 24)
    for one in page.pictures:
        if one.method == "visualize":
            yield _picture(one.heading, one.words, one.picture, 380)


def _label(page: UnitPage) -> Markup:
    label = page.label
    assert label is not None
    said = [f"{label.text} ({label.category})", f"{label.measure} {label.score:.3f}"]
    if not label.is_sure:
        said[0] = f"nearest label {said[0]}, below the limit"
    if label.runner_up:
        said.append(f"second {label.runner_up} {label.runner_up_score:.3f}")
    said += [] if label.chance is None else [f"chance {label.chance:.3f}"]
    said += [] if label.p_value is None else [f"p {label.p_value:.2g}"]
    return Markup("<p>{}</p>").format(", ".join(said))


def _told(page: UnitPage) -> str:
    if page.label and page.label.is_sure:
        return page.label.text
    if page.classes and page.classes.telling and page.classes.share:
        return f"{page.classes.most} {page.classes.share:.0%}"
    return "" if page.density is None else f"{page.density:.1%} above 0"


def _tile(page: UnitPage | None, name: str, words: str) -> Markup:
    picture = page and tile(page)
    shown = _image(picture, _TILE, f"Top images of unit {name}") if picture else ""
    text = Markup("<div style='width:{}px;overflow-wrap:anywhere'>{}<b>{}</b>").format(
        _TILE, shown, name
    )
    return text + Markup("<div style='{}'>{}</div></div>").format(_SOFT, words)


def _near(near: Neighbour, page: UnitPage | None) -> Markup:
    return _tile(page, f"{near.layer}:{near.unit}", f"r {near.correlation:.2f}")


def _seen(seen: Seen, side: int) -> Markup:
    if seen.picture is None or not seen.picture.is_file():
        return Markup("<span style='{}'>{}</span>").format(_SOFT, seen.image)
    peak = "" if seen.peak is None else f", peak {plain(seen.peak)}"
    return _image(cell(seen, side), side, f"{seen.image}{peak}")


def _bin(share: float, low: float, high: float, examples: Sequence[Seen]) -> Markup:
    words = Markup("<div style='width:130px'><b>{:.1%}</b><br><span style='{}'>{} to {}")
    row = Markup("<div style='{};padding:2px 0'>{}</span></div>{}</div>")
    said = words.format(share, _SOFT, plain(low), plain(high))
    return row.format(_FLEX.format(4), said, Markup("").join(_seen(s, _SMALL) for s in examples))


def _row(heading: str, parts: Sequence[Markup], wide: int | None = None) -> Markup:
    style = _FLEX.format(6) + (f";max-width:{wide}px" if wide else "")
    body = Markup("<div style='{}'>{}</div>").format(style, Markup("").join(parts))
    return _section(heading, body)


def _picture(heading: str, words: str, picture: Path, wide: int = 760) -> Markup:
    if not picture.is_file():
        return Markup()
    shown = _image(picture, wide, heading)
    text = Markup("{}<div style='max-width:{}px;{}'>{}</div>").format(shown, wide, _SOFT, words)
    return _section(heading, text)


def _section(heading: str, body: Markup) -> Markup:
    return Markup("<div><h4>{}</h4>{}</div>").format(heading, body)


def _image(picture: Path | Image.Image, wide: int, words: str) -> Markup:
    shape = "display:inline-block;border-radius:2px;margin:0"
    return Markup("<img src='{}' width='{}' alt='{}' title='{}' style='{}'>").format(
        inlined(picture, wide), wide, words, words, shape
    )
