"""Addresses of units: ``LAYER:UNITS``, with a position or without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cnnlens.errors import UsageError

if TYPE_CHECKING:
    from cnnlens.model.layer import Layer
    from cnnlens.model.layers import Layers

_HOW = "write LAYER:UNITS, like conv5:12, conv5:0-15, conv5:3,7,9 or conv5:all"
_CONCEPT = re.compile(r"(?P<layer>.+):\[(?P<name>.*)\]", re.DOTALL)
_UNITS = re.compile(r"(?P<units>all|[\d,\s-]+)(@(?P<at>.*))?")


class Filters(NamedTuple):
    """Units of one layer.

    Attributes
    ----------
    layer : Layer
        The layer, under the name it was typed with.
    units : list of int or None
        In the order typed, each once; None: the layer as a whole.
    position : (int, int) or None
        Row and column in the layer's map; None: no particular one.
    """

    layer: Layer
    units: list[int] | None
    position: tuple[int, int] | None


def parse_filters(texts: Sequence[str], layers: Layers, vectors: bool = False) -> list[Filters]:
    """Resolve filter addresses, in the order typed.

    Parameters
    ----------
    texts : sequence of str
        ``LAYER:UNITS``, ``LAYER:UNITS@y,x``, or ``LAYER`` for a layer as a whole.
    layers : Layers
        Of the model.
    vectors : bool
        Whether fully connected layers may be named too.

    Raises
    ------
    UsageError
        For an unknown layer, a unit or position that the layer does not have, or bad grammar.
    """
    return [_parse(text, layers, vectors) for text in texts]


def units_by_layer(
    named: Sequence[Filters],
) -> list[tuple[Layer, list[tuple[int, tuple[int, int] | None]]]]:
    """List the units that were named, each place and each unit at a position once.

    Raises
    ------
    UsageError
        For a layer without units.
    """
    found: dict[object, tuple[Layer, dict[tuple[int, tuple[int, int] | None], None]]] = {}
    for layer, units, position in named:
        if units is None:
            raise UsageError(
                f"'{layer.name}' names no units", f"write {layer.name}:12 or {layer.name}:all"
            )
        _, targets = found.setdefault(layer.place, (layer, {}))
        targets.update(dict.fromkeys((unit, position) for unit in units))
    return [(layer, list(targets)) for layer, targets in found.values()]


def concept_in(text: str) -> tuple[str, str] | None:
    """Take ``LAYER:[category:label]`` apart: the layer and the concept; None where it is no such
    address.

    Raises
    ------
    UsageError
        When the concept has no name.
    """
    found = _CONCEPT.fullmatch(text.strip())
    if found is not None and not found["name"].strip():
        raise UsageError(f"'{text}' names no concept", "write LAYER:[part:hair]")
    return None if found is None else (found["layer"], found["name"].strip())


def _parse(text: str, layers: Layers, vectors: bool) -> Filters:
    if concept_in(text) is not None:
        raise UsageError(f"'{text}' is a concept, and units are wanted here", _HOW)
    name, colon, rest = text.rpartition(":")
    if not colon or name == "module" or rest == "cls":  # `module:conv1`, `block2:cls` are layers
        return Filters(layers.resolve(text, vectors), None, None)
    if not name.strip() or not rest.strip():
        lacking = "layer" if not name.strip() else "unit"
        raise UsageError(f"'{text}' names no {lacking}", _HOW)
    found = _UNITS.fullmatch(rest.strip())
    if found is None:
        raise UsageError(f"'{rest}' in '{text}' names no units", _HOW)
    layer = layers.resolve(name, vectors)
    units = _units(found["units"].strip(), layer, text)
    position = None if found["at"] is None else _position(found["at"], layer, text)
    return Filters(layer, units, position)


def _units(text: str, layer: Layer, whole: str) -> list[int]:
    if text == "all":
        return list(range(layer.units))
    units: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"'{part.strip()}' in '{whole}' is no unit and no range", _HOW)
        low, high = int(first), int(last or first)
        if high < low:
            raise UsageError(f"the range {low}-{high} in '{whole}' runs backwards", _HOW)
        _check_unit(high, layer)
        units.update(dict.fromkeys(range(low, high + 1)))
    return list(units)


def _check_unit(unit: int, layer: Layer) -> None:
    if unit >= layer.units:
        raise UsageError(f"no unit {unit} in {layer.name}", f"its units are 0 to {layer.units - 1}")


def _position(text: str, layer: Layer, whole: str) -> tuple[int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"'@{text}' in '{whole}' is no position", "write LAYER:UNIT@y,x: row, column, from 0"
        )
    y, x = int(parts[0]), int(parts[1])
    height, width = layer.shape[1:]
    if y >= height or x >= width:
        raise UsageError(
            f"no position {y},{x} in {layer.name}",
            f"its maps are {height}×{width}: rows 0 to {height - 1}, columns 0 to {width - 1}",
        )
    return y, x
