"""A layer: a place in a network, under the name it was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cnnlens.model.receptive_field import Fields
from cnnlens.model.trace import Place


@dataclass(frozen=True, repr=False)
class Layer:
    """A place in a network, under the name it was asked for.

    Attributes
    ----------
    name : str
        As typed.
    alias : str or None
        Its ``convN``, where it has one.
    kind : str
        Type of the module, or the operation's name where no module returns the value.
    shape : (int, int, int)
        (C, H, W): units and output size.
    fields : (Field, Field)
        Receptive field along rows and columns.
    place : Place
        Where to read it.
    depth : int
        Operations done before it is known: orders layers along the forward pass.
    """

    name: str
    alias: str | None
    kind: str
    shape: tuple[int, int, int]
    fields: Fields
    place: Place
    depth: int

    def __repr__(self) -> str:
        alias = f", {self.alias}" if self.alias not in (None, self.name) else ""
        return f"Layer({self.name}{alias}: {self.kind}, {times(self.shape)})"

    @property
    def units(self) -> int:
        """Number of units (channels)."""
        return self.shape[0]

    @property
    def is_vector(self) -> bool:
        """Whether it is fully connected or a class token: read as a map of one position."""
        return self.place.vector

    @property
    def sees_all(self) -> bool:
        """Whether attention lets every unit read the whole input: it has no receptive field."""
        return self.fields[0].attends

    @property
    def folder(self) -> str:
        """The name as a file name."""
        return file_name(self.name)

    def as_row(self) -> dict[str, object]:
        """One entry of ``cnnlens layers --json``."""
        rows, columns = self.fields
        is_local = not (self.sees_all or self.is_vector)
        return {
            "name": self.name,
            "alias": self.alias,
            "kind": self.kind,
            "units": self.units,
            "size": list(self.shape[1:]),
            "receptive_field": _whole_number(max(rows.size, columns.size)) if is_local else None,
            "stride": None if self.is_vector else _whole_number(max(rows.stride, columns.stride)),
            "vector": self.is_vector,
        }


def file_name(layer: str) -> str:
    """Return a layer's name as a file name."""
    return re.sub(r"[^\w.@+-]", "_", layer)


def times(shape: Iterable[int]) -> str:
    """Say a shape for people: ``64×55×55``."""
    return "×".join(map(str, shape)) or "one number"


def _whole_number(value: float) -> int | float:
    return int(value) if value == int(value) else round(value, 2)
