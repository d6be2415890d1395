"""What a site shows: layers, their units, images with the units that fire most on them.

The same for programs: a unit as JSON, a layer as CSV, all units for the site's script.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnlens.files import free_name
from cnnlens.measure.compared import data_name
from cnnlens.report.seen import Seen, Size
from cnnlens.report.unit_page import UnitLayer, UnitPage
from cnnlens.report.unit_result import UnitsResult

BEST = 21  # units of a layer that the index shows: whole rows of seven, or of three
MOST = 0.5  # from where on a class stands for a unit: of its highest peaks, beyond chance
FIRING = 8  # units of a layer that an image's page shows


@dataclass
class SiteUnit:
    """A unit, as other pages link to it.

    Attributes
    ----------
    page : UnitPage
        All that is known of it.
    href, tile : str
        Its page, and its picture in one look: from the site's folder on.
    """

    page: UnitPage
    href: str
    tile: str = ""

    @property
    def what(self) -> str:
        """What it responds to, in a word or two; empty where nothing says it."""
        page = self.page
        if page.dead:
            return ""
        if page.label and page.label.is_sure:
            return page.label.text
        return page.classes.telling if page.classes else ""

    @property
    def is_telling(self) -> bool:
        """Whether `what` stands for the unit: a sure label, or a class that most of its have."""
        label, classes = self.page.label, self.page.classes
        share = (classes.share or 0.0) if classes else 0.0
        chance = (classes.chance or 0.0) if classes else 0.0
        most = share >= chance + MOST * (1 - chance)
        return bool(self.what) and ((label is not None and label.is_sure) or most)

    @property
    def figure(self) -> str:
        """The one figure beside it."""
        page = self.page
        if page.dead:
            return "dead"
        if page.label and page.label.is_sure:
            return f"{page.label.measure} {page.label.score:.2f}"
        if self.what and page.classes and page.classes.share is not None:
            return f"{page.classes.share:.0%} of its top"
        if page.density is not None:
            return f"{page.density:.1%} above 0"
        return page.pictures[0].heading if page.pictures else ""

    @property
    def rank(self) -> tuple[float, ...]:
        """What is worth a look comes first: sure labels, few classes, high peaks."""
        label, classes = self.page.label, self.page.classes
        score = label.score if label and label.is_sure else 0.0
        share = (classes.share or 0.0) if classes else 0.0
        return -score, -share, -(self.page.peak or 0.0), self.page.unit


@dataclass
class SiteLayer:
    """A layer and its units."""

    of: UnitLayer
    href: str
    units: list[SiteUnit]

    @property
    def name(self) -> str:
        """As it was typed."""
        return self.of.name

    @cached_property
    def by_number(self) -> dict[int, SiteUnit]:
        """Units by number."""
        return {unit.page.unit: unit for unit in self.units}

    @cached_property
    def best(self) -> list[SiteUnit]:
        """Those that stand for the layer: one of each kind first, none that is dead."""
        alive = sorted((u for u in self.units if not u.page.dead), key=lambda unit: unit.rank)
        first = {unit.what or unit.page.unit: unit for unit in reversed(alive)}
        chosen = {id(unit) for unit in first.values()}
        return sorted(alive, key=lambda unit: id(unit) not in chosen)[:BEST]

    @property
    def words(self) -> str:
        """How many units on what, as a sentence."""
        said = [f"{len(self.units):,} units"]
        if found := self.of.responses:
            name = Path(data_name(found.summary)).name
            said[0] += f" on {len(found.images):,} images" + (f" of {name}" if name else "")
        if dead := sum(unit.page.dead for unit in self.units):
            said.append(f"{dead:,} dead")
        if labelled := sum(bool(u.page.label and u.page.label.is_sure) for u in self.units):
            said.append(f"{labelled:,} with a label")
        return ", ".join(said) + "."


@dataclass(frozen=True)
class SiteImage:
    """An image, and the units that fire most on it.

    Attributes
    ----------
    key : str
        Of its file.
    size : (int, int)
        Height and width in which places are given.
    names : list of str
        Its paths in the data; several where files are equal.
    firing : list of (SiteLayer, list of (SiteUnit, Seen, float))
        By layer: units, what they see of it, and their peak as a share of their highest.
    """

    key: str
    size: Size
    names: list[str] = field(default_factory=list)
    firing: list[tuple[SiteLayer, list[tuple[SiteUnit, Seen, float]]]] = field(default_factory=list)


def gather_layers(layers: Sequence[UnitLayer]) -> list[SiteLayer]:
    """Give every unit its address."""
    slugs = slugs_of([layer.name for layer in layers])
    return [
        SiteLayer(layer, f"units/{slug}/index.html", [
            SiteUnit(page, f"units/{slug}/{page.unit}.html") for page in layer.pages
        ])
        for layer, slug in zip(layers, slugs, strict=True)
    ]  # fmt: skip


def gather_images(layers: Sequence[SiteLayer], shown: Mapping[Path | None, str]) -> list[SiteImage]:
    """Give every image that is shown, in the data's order, with the units that fire most on it:
    those of every layer that saw the same data, whether it shows the image itself or not.
    """
    found: dict[str, SiteImage] = {}
    files: dict[tuple[str, str], Path] = {}
    for layer, responses in _responding(layers):
        size, data = layer.of.view.size if layer.of.view else (1, 1), data_name(responses.summary)
        for name, file in zip(responses.images, responses.files, strict=True):
            if file is None or not (key := shown[file]):
                continue
            image = found.setdefault(key, SiteImage(key, size))
            files.setdefault((data, name), file)
            if name not in image.names:
                image.names.append(name)
    for layer, responses in _responding(layers):
        data = data_name(responses.summary)
        for name in responses.images:
            if file := files.get((data, name)):
                firing = list(_firing(layer, responses.strongest(name)[:FIRING], name, file))
                image = found[shown[file]]
                if firing and all(one is not layer for one, _ in image.firing):
                    image.firing.append((layer, firing))
    return list(found.values())


def _responding(layers: Sequence[SiteLayer]) -> Iterator[tuple[SiteLayer, UnitsResult]]:
    return ((layer, layer.of.responses) for layer in layers if layer.of.responses is not None)


def _firing(
    layer: SiteLayer, strongest: Iterable[Any], name: str, file: Path | None
) -> Iterable[tuple[SiteUnit, Seen, float]]:
    for number, peak, place in strongest:
        if (unit := layer.by_number.get(number)) and unit.page.peak:
            seen = Seen(name, peak, place, file, layer.of.view)
            yield unit, seen, peak / unit.page.peak


# -- names of folders, safe on any disk and in any address -----------------------------------------

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows
_LONGEST = 80


def slugs_of(names: Sequence[str]) -> list[str]:
    """Give every name a folder name of its own: ASCII letters, digits, ``.``, ``-`` and ``_``.

    Names that would then be equal get numbers, on a disk that does not tell cases apart, too.
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_LONGEST].strip(".") or "_"
        slug = f"{slug}_" if _RESERVED.fullmatch(slug) else slug
        found.append(free_name(slug, lambda free: free.casefold() in taken))
        taken.add(found[-1].casefold())
    return found


# -- what programs read ---------------------------------------------------------------------------

CSV_COLUMNS = (
    "unit", "dead", "peak_max", "density", "mean", "label", "label_category", "label_score",
    "label_chance", "label_p_value", "category", "category_share", "category_entropy",
    "class_selectivity", "top_image", "neighbour", "neighbour_correlation",
)  # fmt: skip


def as_json(page: UnitPage, title: str, shown: Mapping[Path | None, str], tile: str) -> str:
    """Write all that is known of a unit; ``images`` says which file of the site shows an image."""
    seen = [*page.top, *page.bottom, *(one for bin in page.bins for one in bin.examples)]
    files = {one.image: f"../../images/{key}.webp" for one in seen if (key := shown[one.picture])}
    document = {"model": title, "words": page.words, **page.as_dict()}
    document["picture"] = Path(tile).name or None
    return compact({**document, "files": files}) + "\n"


def csv_row(page: UnitPage) -> list[object]:
    """Give a unit's row under `CSV_COLUMNS`."""
    label, classes, near = page.label, page.classes, next(iter(page.neighbours), None)
    named = [label.text, label.category, label.score, label.chance, label.p_value] if label else []
    kinds = [classes.most, classes.share, classes.entropy, classes.selectivity] if classes else []
    return [
        page.unit, int(page.dead), page.peak, page.density, page.mean,
        *(named or [None] * 5), *(kinds or [None] * 4), page.top[0].image if page.top else None,
        near and f"{near.layer}:{near.unit}", near and near.correlation,
    ]  # fmt: skip


def script_data(layers: Sequence[SiteLayer]) -> str:
    """Write what the script lists, by column: a script itself, since a page that was opened from a
    disk may read nothing else.
    """
    words: dict[str, int] = {"": 0}
    listed = [_listed(layer, words) for layer in layers]
    return f"const SITE = {_in_script({'layers': listed, 'words': list(words)})};\n"


def _listed(layer: SiteLayer, words: dict[str, int]) -> dict[str, Any]:
    def number(word: str) -> int:
        return words.setdefault(word, len(words))

    units = layer.units
    return {
        "name": layer.name,
        "folder": str(Path(layer.href).parent),
        "unit": [unit.page.unit for unit in units],
        "what": [number(unit.what) for unit in units],
        "figure": [number(unit.figure) for unit in units],
        "image": [number(unit.page.top[0].image if unit.page.top else "") for unit in units],
        "class": [number(unit.page.classes.most if unit.page.classes else "") for unit in units],
        "tile": [int(bool(unit.tile)) for unit in units],
        "dead": [int(unit.page.dead) for unit in units],
        "rank": _places(units),
        "peak": [_short(unit.page.peak) for unit in units],
        "density": [_short(unit.page.density) for unit in units],
        "selectivity": [
            _short(unit.page.classes.selectivity if unit.page.classes else None) for unit in units
        ],
    }


def _places(units: Sequence[SiteUnit]) -> list[int]:
    """Give each unit's place where what is worth a look comes first."""
    order = sorted(range(len(units)), key=lambda index: units[index].rank)
    places = [0] * len(units)
    for place, index in enumerate(order):
        places[index] = place
    return places


def compact(document: Any) -> str:
    """Write JSON on one line; a number that is none is null, what is no Unicode an escape."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(_finite(document), allow_nan=False, separators=(",", ":"))
    except ValueError:
        return compact(_finite(document))
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def _in_script(document: Any) -> str:
    return compact(document).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.3g}")
