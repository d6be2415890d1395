"""The section about units: everything known of each, image first, in one place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cnnlens.measure.compared import data_name
from cnnlens.measure.unit_maps import SHOWN
from cnnlens.report.blocks import Explorer, Note, Section
from cnnlens.report.figures.units import filled
from cnnlens.report.seen import Seen, written_map
from cnnlens.report.unit_names import Name
from cnnlens.report.unit_page import UnitLayer, UnitPage, unit_layers
from cnnlens.report.unit_result import UnitsResult

STILL = 8  # units per layer that print and readers without JavaScript see
BINS = 32  # finer histograms are merged to this


def units(workspace: Path) -> Section | None:
    """Gather the section; None where nothing is known of any unit."""
    layers = unit_layers(workspace)
    if not layers:
        return None
    responding = [layer for layer in layers if layer.responses]
    pictured = {
        _key(path): path
        for layer in responding
        for path in dict.fromkeys(layer.responses.files if layer.responses else [])
        if path is not None
    }
    number = {key: place for place, key in enumerate(pictured)}
    still = {layer.name: _best(layer) for layer in responding}
    shown = [one for pages in still.values() for page in pages for one in page.top[:SHOWN]]
    explorer = Explorer(
        template="units.html",
        view={
            "layers": layers,
            "still": still,
            "images": {_key(one.picture): one for one in shown if one.picture},
            "shown": SHOWN,
            "key": _key,
            "bare": [x.name for x in responding if x.responses and not any(x.responses.files)],
            "data": lambda summary: Path(data_name(summary)).name,
        },
        data={
            "files": [Path(key).stem for key in pictured],
            "layers": [_data(layer, number) for layer in layers],
        },
        pictures=pictured,
    )
    sources = [layer.responses.folder / "summary.json" for layer in responding if layer.responses]
    return Section(
        "units", "Its units, one by one", Note("units", _told(layers)), [explorer], sources
    )


def _told(layers: Sequence[UnitLayer]) -> dict[str, bool]:
    """Say what is known of units: whether any was measured, which kinds of pictures tiles have."""
    pages = [page for layer in layers for page in layer.pages]
    seen = [bool(page.top or page.strip) for page in pages]
    others = (page.pictures for page, is_seen in zip(pages, seen, strict=True) if not is_seen)
    measured = any(page.measured for page in pages)
    return {"measured": measured, "seen": any(seen), "others": any(map(bool, others))}


def _key(path: Path) -> str:
    return f"images/{path.name}"


def _best(layer: UnitLayer) -> list[UnitPage]:
    """Choose units for print: those of highest peak, which are of every kind."""
    alive = [page for page in layer.pages if page.top and not page.dead]
    return sorted(alive, key=lambda page: (-(page.peak or 0), page.unit))[:STILL]


# -- what the script shows -----------------------------------------------------------------------


def _data(layer: UnitLayer, number: dict[str, int]) -> dict[str, Any]:
    """Give what the script shows of a layer: first what it lists, then what opens, as JSON texts
    that it reads one by one.
    """
    about = _about(layer)
    if (found := layer.responses) is None:
        return {**about, "responses": None}
    pages = [page for page in layer.pages if page.measured]
    names = list(dict.fromkeys(_listed(pages)))
    met = sorted({name for page in pages if page.classes for name, _ in page.classes.makeup})
    kinds = {name: place for place, name in enumerate(met)}
    index = {name: place for place, name in enumerate(names)}
    file = dict(zip(found.images, found.files, strict=True))
    files = [number[_key(path)] if (path := file[name]) else -1 for name in names]
    view, wide = layer.view, _columns(found)
    return {
        **about,
        "data": Path(data_name(found.summary)).name,
        "measured": len(found.images),
        "seen": view and view.as_dict(),
        "wide": wide,
        "map": list(found.looked["top_map"].shape[2:]) if found.looked else None,
        "classes": met,
        "images": names,
        "files": files,
        "strongest": [_strongest(found, name, wide) for name in names],
        "responses": _listing(pages, index, wide),
        "more": [
            json.dumps(_more(page, index, kinds, wide), separators=(",", ":")) for page in pages
        ],
    }


def _about(layer: UnitLayer) -> dict[str, Any]:
    """Give what is known of units without their responses, each by its number."""
    return {
        "name": layer.name,
        "facts": {page.unit: page.facts for page in layer.pages if page.facts},
        "names": {
            page.unit: [_name(one) for one in page.names] for page in layer.pages if page.has_names
        },
        "worst": {
            page.unit: [page.worst.cls, *map(_short, page.worst.weight)]
            for page in layer.pages
            if page.worst
        },
    }


def _name(one: Name) -> list[Any]:
    """Give a name, in the order in which the script takes it."""
    own = [one.source, one.text, one.measure, one.score, one.chance, one.p_value]
    exam = [one.verdict, one.exam_score, one.exam_chance, one.exam_p_value, int(one.passes)]
    return [_short(value) if isinstance(value, float) else value for value in own + exam]


def _listed(pages: Sequence[UnitPage]) -> Iterator[str]:
    """Name the images that units show."""
    for page in pages:
        for seen in (page.top[:SHOWN], page.bottom[:SHOWN], *(one.examples for one in page.bins)):
            yield from (one.image for one in seen)


def _columns(found: UnitsResult) -> int:
    """Give what places are told by, row · columns + column: more than any place has."""
    names = ("top_position", "bottom_position", "example_position", "image_place")
    known = {**found.arrays, **found.looked}
    return 1 + max(int(known[name][..., 1].max(initial=0)) for name in names if name in known)


def _listing(pages: Sequence[UnitPage], index: dict[str, int], wide: int) -> dict[str, list[Any]]:
    """Give what is listed of all units, by column."""
    classes = [page.classes for page in pages]
    return {
        "unit": [page.unit for page in pages],
        "dead": [int(page.dead) for page in pages],
        "peak": [_short(page.peak) for page in pages],
        "density": [_short(page.density) for page in pages],
        "mean": [_short(page.mean) for page in pages],
        "class": [one and one.most for one in classes],
        "telling": [one and int(one.stands_out) for one in classes],
        "share": [one and _short(one.share) for one in classes],
        "chance": [one and _short(one.chance) for one in classes],
        "entropy": [one and _short(one.entropy) for one in classes],
        "selectivity": [one and _short(one.selectivity) for one in classes],
        "top": [_places(page.top[:SHOWN], index, wide) for page in pages],
    }


def _places(seen: Sequence[Seen], index: dict[str, int], wide: int) -> list[int]:
    """Give image, place, image, place, …"""
    return [n for one in seen for n in (index[one.image], one.place[0] * wide + one.place[1])]


def _more(page: UnitPage, index: dict[str, int], kinds: dict[str, int], wide: int) -> list[Any]:
    """Give what opens, in the order in which the script takes it."""
    top = page.top[:SHOWN]
    return [
        [_short(one.peak) for one in top],
        [written_map(one.map) for one in top],
        _places(page.bottom[:SHOWN], index, wide),
        [_places(one.examples, index, wide) for one in page.bins],
        [one.images for one in page.bins],
        [_short(page.bins[0].low), _short(page.bins[-1].high)] if page.bins else None,
        [(one.layer, one.unit, round(one.correlation, 3)) for one in page.neighbours],
        page.histogram and filled(page.histogram).merged(BINS),
        [n for name, count in page.classes.makeup for n in (kinds[name], count)]
        if page.classes
        else [],
    ]


def _strongest(found: UnitsResult, image: str, wide: int) -> list[float | int | None]:
    """Give unit, place, peak, unit, place, peak, …"""
    return [
        value
        for unit, peak, (y, x) in found.strongest(image)
        for value in (unit, y * wide + x, _short(peak))
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
