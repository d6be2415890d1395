"""The section about parts, read back from what stability left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.report.contents import finished
from cnnlens.report.section import Section, UnitPicture
from cnnlens.report.stability_figures import part_colours
from cnnlens.report.stability_files import read_stability

SHOWN = 6  # units per layer in the section; all are shown at their units
_KEYS = ("layer", "units", "dead_units", "images", "baselines", "parts", "interpretability")


def parts(workspace: Path) -> Section | None:
    """Gather the section about parts; None where nothing was measured.

    Raises
    ------
    CnnlensError
        When a file is damaged.
    """
    folders = finished(workspace, "stability")
    layers = [_layer(folder) for folder in folders]
    if not layers:
        return None
    pictures = {key: path for layer in layers for key, path in layer["pictures"].items()}
    return Section(
        template="stability.html",
        view={"layers": layers, "dots": part_colours(layers[-1]["names"])},
        data={},
        pictures=pictures,
        at_unit=tuple(one for layer in layers for one in layer["at_unit"]),
        sources=tuple(folder / "summary.json" for folder in folders),
    )


def _layer(folder: Path) -> dict[str, Any]:
    found = read_stability(folder)
    if missing := [key for key in _KEYS if key not in found.summary]:
        what = f"{folder / 'summary.json'} is damaged: it lacks {', '.join(missing)}"
        raise CnnlensError(what, "redo `cnnlens stability` with --force")
    where = folder / "where.png"
    keys = {u.unit: f"stability/{folder.name}/{u.unit}.webp" for u in found.units if u.picture}
    pictures = {keys[u.unit]: u.picture for u in found.units if u.picture}
    if where.is_file():
        pictures[f"stability/{folder.name}/where.png"] = where
    return {
        **found.summary,
        "names": [part["name"] for part in found.summary["parts"]],
        "where": f"stability/{folder.name}/where.png" if where.is_file() else None,
        "steadiest": [
            {"unit": u.unit, "caption": u.words, "key": keys.get(u.unit)} for u in found.best(SHOWN)
        ],
        "pictures": pictures,
        "at_unit": [
            UnitPicture(found.name, u.unit, "Where it peaks on objects", u.words, keys[u.unit])
            for u in found.units
            if u.picture
        ],
    }
