"""Addresses inside a network: dotted module paths, and aliases on any network.

`convN` is the N-th convolution of the forward pass, read after the normalization and the pointwise
activation that directly follow it. `blockN` is the residual stream after a transformer's N-th
block, `mlpN` the hidden units of its MLP, `blockN:cls` the class token there. `last` is the last
block, else the last convolution, on the way to the classes. All are found from the traced order of
operations, not from names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

from cnnlens.errors import UsageError, did_you_mean
from cnnlens.model.aliases import find_aliases
from cnnlens.model.channels_last import channels_last
from cnnlens.model.fields import receptive_fields, unknown_fields
from cnnlens.model.layer import Layer, times
from cnnlens.model.model import Model
from cnnlens.model.outputs import choose, said_of
from cnnlens.model.positions import Grid
from cnnlens.model.receptive_field import Field, Fields
from cnnlens.model.tokens import find_tokens
from cnnlens.model.trace import Call, Place, Trace, trace

CLASS_TOKEN = ":cls"


class Layers:
    """Everything that can be addressed in one network, in the order of its forward pass."""

    def __init__(
        self, passed: Trace, input_shape: tuple[int, ...], head: str | None = None
    ) -> None:
        self._fields, self._input = receptive_fields(passed, input_shape), input_shape[2:]
        self._channels_last = channels_last(passed)
        self._tokens = find_tokens(passed, self._channels_last)
        self._channels_last |= self._tokens.last
        self._batch = passed.batch
        self._silent = passed.silent
        self._calls = [c for c in passed.calls if c.path]
        chosen = choose(passed.shapes, passed.batch, head)
        #: which output of several is the classes', for people
        self.notes = [said] if (said := said_of(passed.shapes, chosen)) else []
        found = find_aliases(passed, self._tokens, self._channels_last, chosen)
        self._aliases = {a: self._of_value(passed, v, a) for a, v in found.values.items()}
        self._deepest, self._goes_on = found.last, found.goes_on
        self._paths = self._find_paths()
        #: modules that return one vector per image, by path
        self.vectors = self._find_vectors()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.rows)

    def __contains__(self, name: object) -> bool:
        """Whether a layer can be addressed by a name, fully connected ones included."""
        try:
            self.resolve(str(name), vectors=True)
        except UsageError:
            return False
        return True

    def __getitem__(self, key: int | str) -> Layer:
        """Return a layer by its place in the forward pass, or by a name (see `resolve`)."""
        return self.rows[key] if isinstance(key, int) else self.resolve(key, vectors=True)

    def __repr__(self) -> str:
        rows = [layer.as_row() for layer in self.rows]
        cells = [list(rows[0])] if rows else []
        cells += [[_cell(name, value) for name, value in row.items()] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in cells
        )
        return "\n".join(line.rstrip() for line in lines)

    @cached_property
    def rows(self) -> list[Layer]:
        """One entry per place: modules that return maps or vectors, aliases that no module returns,
        class tokens.
        """
        by_place = {layer.place: layer for layer in (*self._paths.values(), *self.vectors.values())}
        for layer in self._aliases.values():
            known = by_place.get(layer.place)
            by_place[layer.place] = replace(known, alias=layer.alias) if known else layer
        rows = [self._unambiguous(layer) for layer in by_place.values()]
        rows += self._class_tokens()
        return sorted(rows, key=lambda one: (one.depth, one.is_vector, -one.name.count(".")))

    def _class_tokens(self) -> list[Layer]:
        named = [one for one in self.blocks if (grid := one.place.tokens) and grid.has_class]
        return [self._class_token(f"{one.name}{CLASS_TOKEN}", vectors=True) for one in named]

    def about_fields(self) -> list[str]:
        """Say why there are no receptive fields, for people."""
        if any(layer.sees_all for layer in self.rows):
            return ["behind attention every unit sees all of the input: no receptive field"]
        return []

    @property
    def blocks(self) -> list[Layer]:
        """The blocks of a transformer, in order."""
        return [layer for alias, layer in self._aliases.items() if alias.startswith("block")]

    def _unambiguous(self, layer: Layer) -> Layer:
        # where a module bears an alias's name, the bare name means the alias
        taken = self._aliases.get(layer.name)
        return layer if taken is None or taken.place == layer.place else self._module_form(layer)

    def _module_form(self, layer: Layer) -> Layer:
        return replace(layer, name=f"module:{layer.name}")

    def resolve(self, name: str, vectors: bool = False) -> Layer:
        """Find a layer by path or alias; with `vectors`, fully connected ones too.

        Raises
        ------
        UsageError
            When there is none; the nearest names are offered.
        """
        if name.startswith("module:"):
            path = name.removeprefix("module:")
            return replace(self._path(path, name, vectors), name=name)
        if name == "last":
            return replace(self._last(), name=name)
        if name in self._aliases:
            return self._aliases[name]
        if name.endswith(CLASS_TOKEN):
            return self._class_token(name, vectors)
        return self._path(name, name, vectors)

    def times(self, path: str) -> int:
        """Return how often a forward pass calls a module."""
        return sum(call.path == path for call in self._calls)

    def _last(self) -> Layer:
        if self._deepest is None:
            raise UsageError("the network has no convolution", "name a layer with -l PATH")
        if self._goes_on:
            raise UsageError(
                f"'last' is not known: after {self._deepest} the network goes on with "
                f"{self._goes_on}",
                "name a layer with -l PATH; `cnnlens layers` lists them",
            )
        return self._aliases[self._deepest]

    def _class_token(self, name: str, vectors: bool) -> Layer:
        """The class token of a layer of tokens, `blockN:cls`."""
        layer = self.resolve(name.removesuffix(CLASS_TOKEN))
        if layer.place.tokens is None or not layer.place.tokens.has_class:
            raise UsageError(f"no layer '{name}': there is no class token", "name the layer itself")
        if not vectors:
            raise UsageError(
                f"layer '{name}' gives no map: it is one vector per image",
                f"name its map, {layer.name}",
            )
        place = replace(layer.place, vector=True)
        return replace(layer, name=name, alias=None, shape=(layer.units, 1, 1), place=place)

    def _path(self, path: str, typed: str, vectors: bool) -> Layer:
        if path in self._paths:
            return self._with_alias(self._paths[path])
        if vectors and path in self.vectors:
            return self.vectors[path]
        why = self._silent.get(path)
        if called := [c for c in self._calls if c.path == path]:
            why = f"gives no map: its output is {times(called[-1].shape[1:])} per image"
        if why is not None:
            raise UsageError(
                f"layer '{typed}' {why}",
                "choose a layer with maps (units × height × width); `cnnlens layers` lists them",
            )
        named = [*self._paths, *self._aliases, *(self.vectors if vectors else ())]
        near = did_you_mean(typed, named)
        raise UsageError(
            f"no layer '{typed}' in the network" + (f"; {near}" if near else ""),
            "`cnnlens layers` lists what can be addressed",
        )

    def _with_alias(self, layer: Layer) -> Layer:
        same = [a.alias for a in self._aliases.values() if a.place == layer.place]
        return replace(layer, alias=same[0]) if same else layer

    def _find_paths(self) -> dict[str, Layer]:
        last = {c.path: c for c in self._calls}  # a reused module means its last call
        return {path: self._of_call(call) for path, call in last.items() if self._is_map(call)}

    def _is_map(self, call: Call) -> bool:
        if call.value in self._tokens.rows:
            return True
        is_inside = call.value in self._tokens.inside  # heads of attention, not units
        return len(call.shape) == 4 and call.shape[0] == self._batch and not is_inside

    def _find_vectors(self) -> dict[str, Layer]:
        """Modules that return vectors (N, C): fully connected layers, and what follows them."""
        found = {}
        flat = [c for c in self._calls if len(c.shape) == 2 and c.shape[0] == self._batch]
        for call in {c.path: c for c in flat}.values():
            place = Place(path=call.path, call=call.number, vector=True)
            fields = self._fields.get(call.value) or self._fields[min(self._fields)]
            shape = (call.shape[1], 1, 1)
            found[call.path] = Layer(call.path, None, call.kind, shape, fields, place, call.after)
        return found

    def _of_call(self, call: Call) -> Layer:
        place = Place(path=call.path, call=call.number, **self._laid_out(call.value))
        return self._layer(call.path, call.kind, call.value, call.shape, place, call.after)

    def _laid_out(self, value: int) -> dict[str, Any]:
        grid = self._tokens.rows.get(value)
        return {"channels_last": value in self._channels_last and grid is None, "tokens": grid}

    def _layer(
        self, name: str, kind: str, value: int, full: tuple[int, ...], place: Place, depth: int
    ) -> Layer:
        if place.tokens is not None:
            full = place.tokens.as_shape(full)
        _, units, height, width = (
            full[i] for i in ((0, 3, 1, 2) if place.channels_last else range(4))
        )
        fields = self._fields_of(value, place.tokens)
        if fields[0].attends or fields[0].scattered:
            fields = self._spread(fields[0], height), self._spread(fields[1], width, axis=1)
        return Layer(name, None, kind, (units, height, width), fields, place, depth)

    def _fields_of(self, value: int, grid: Grid | None) -> Fields:
        fields = self._fields.get(value) or unknown_fields(self._input)
        if grid is None:
            return fields
        seen = list(self._fields[grid.origin])  # attention moves no position
        for axis, window in grid.windows:
            seen[axis] = seen[axis].window(*window)
        rows, columns = (replace(one, attends=fields[0].attends) for one in seen)
        return rows, columns

    def _spread(self, field: Field, count: int, axis: int = 0) -> Field:
        """Lay positions evenly over the input where attention or what is not known blurs them."""
        even = self._input[axis] / count
        if even / 2 < field.stride < 2 * even:
            return field
        return replace(field, stride=even, start=even / 2)

    def _of_value(self, passed: Trace, value: int, alias: str) -> Layer:
        for call in self._calls:  # innermost first
            if call.value == value:
                return replace(self._of_call(call), name=alias, alias=alias)
        number = next(n for n, op in enumerate(passed.ops) if value in op.outputs)
        op = passed.ops[number]
        at = op.outputs.index(value)
        place = passed.place(number, at, **self._laid_out(value))
        layer = self._layer(alias, op.name, value, op.shapes[at], place, number + 1)
        return replace(layer, alias=alias)


def find_layers(model: Model) -> Layers:
    """Trace a model and list what can be addressed in it.

    Raises
    ------
    CnnlensError
        When it does not run on its input size.
    """
    with model.in_use():
        x = model.example()
        return Layers(trace(model.net, x), tuple(x.shape), model.head)


def _cell(name: str, value: object) -> str:
    if name == "vector":
        return "yes" if value else ""
    return times(value) if isinstance(value, list) else "" if value is None else str(value)
