"""The still pictures that dissect leaves beside its tables, for READMEs and papers."""

from __future__ import annotations

from pathlib import Path

from cnnlens.files import atomic
from cnnlens.report.dissect_files import Unit, read_dissection, read_dissections
from cnnlens.report.figures import SheetUnit, category_bars, contact_sheet

SHEET_UNITS = 12


def write_detectors(folder: Path, units: int = SHEET_UNITS, distinct: bool = False) -> Path | None:
    """Write ``detectors.png``: the best units of one layer with their top images.

    Parameters
    ----------
    folder : pathlib.Path
        ``WORKSPACE/dissect/<layer>``, with its tables and pictures in place.
    units : int
        How many units to show at most.
    distinct : bool
        Only the best unit of each concept.

    Returns
    -------
    pathlib.Path or None
        The picture; None where no unit has both a label and a strip.

    Raises
    ------
    CnnlensError
        When a file is damaged or the picture cannot be written.
    """
    layer = read_dissection(folder)
    shown = [_sheet_unit(unit) for unit in layer.best()]
    shown = [unit for unit in shown if unit.label and unit.strip is not None]
    shown = (_one_each(shown) if distinct else shown)[:units]
    if not shown:
        return None
    path = folder / "detectors.png"
    with atomic(path) as temporary:
        contact_sheet(shown, categories=layer.categories).save(temporary, "PNG", optimize=True)
    return path


def write_summary_bars(workspace: Path) -> Path | None:
    """Write ``dissect/summary.png``: the papers' bar chart over all dissected layers.

    Returns
    -------
    pathlib.Path or None
        The picture; None where nothing has been dissected.
    """
    layers = read_dissections(workspace)
    if not layers:
        return None
    path = workspace / "dissect" / "summary.png"
    figure = category_bars({layer.name: layer.summary for layer in layers})
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return path


def _one_each(units: list[SheetUnit]) -> list[SheetUnit]:
    best: dict[tuple[str, str], SheetUnit] = {}
    for unit in units:
        best.setdefault((unit.label, unit.category), unit)
    return list(best.values())


def _sheet_unit(unit: Unit) -> SheetUnit:
    return SheetUnit(unit.unit, unit.label, unit.category, unit.iou, unit.p_value, unit.picture)
