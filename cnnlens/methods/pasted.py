"""Labels of a layer's units that a user's table gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnlens.errors import UsageError, counted
from cnnlens.files.user_tables import read_user_table
from cnnlens.methods.examined import LabelSet

if TYPE_CHECKING:
    from cnnlens.model.layer import Layer
    from cnnlens.model.layers import Layers

_HINT = "it is a table with the columns unit,label"


def pasted(file: Path, layer: Layer, layers: Layers) -> tuple[LabelSet, list[str]]:
    """Read labels from a table with the columns unit and label; of several of a unit, the first.

    Where it has a column layer, rows of other layers are passed over.

    Parameters
    ----------
    file : pathlib.Path
        The table; see `read_user_table`.
    layer : Layer
        Whose units they are.
    layers : Layers
        The network's, by all their names.

    Returns
    -------
    LabelSet
        Its labels.
    list of str
        What was left out, for people.

    Raises
    ------
    UsageError
        When it cannot be read, names a unit that the layer does not have, or none of the layer's.
    """
    from cnnlens.measure.exam_papers import Given

    rows = read_user_table(file, ("unit", "label"))
    found: dict[int, Given] = {}
    further = 0
    if rows and "layer" in rows[0][1]:
        rows = _rows_of(file, rows, layer, layers)
    for line, row in rows:
        text = row["unit"]
        if not text.isdecimal() or int(text) >= layer.units:
            units = f"{layer.name} has units 0 to {layer.units - 1}"
            raise UsageError(f"{file}, line {line}: no unit '{text}'", units)
        if label := row["label"]:
            one = Given(int(text), label, row.get("category", ""))
            further += found.setdefault(one.unit, one) != one
    if not found:
        raise UsageError(f"{file} holds no labels", _HINT)
    words = f"{counted(further, 'further label')} of units {'is' if further == 1 else 'are'}"
    notes = [f"{file.name}: {words} left out"] if further else []
    return LabelSet("given", [found[unit] for unit in sorted(found)], {}), notes


def _rows_of(
    file: Path, rows: list[tuple[int, dict[str, str]]], layer: Layer, layers: Layers
) -> list[tuple[int, dict[str, str]]]:
    """Choose the rows of a layer, by whichever of its names."""
    names = {row["layer"] for _, row in rows}
    mine = {name for name in names if name == layer.name or _place(name, layers) == layer.place}
    kept = [(line, row) for line, row in rows if row["layer"] in mine]
    if not kept:
        said = ", ".join(sorted(names - {""})[:8]) or "none"
        raise UsageError(
            f"{file} holds no labels of {layer.name}: layers in it are {said}", "name one with -l"
        )
    return kept


def _place(name: str, layers: Layers) -> object:
    try:
        return layers.resolve(name, vectors=True).place
    except UsageError:
        return None
