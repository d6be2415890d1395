"""What a site says to programs: a unit as JSON, a layer as CSV, all units to the site's script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.report.site_content import SiteLayer, SiteUnit
from cnnlens.report.unit_page import UnitPage

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
