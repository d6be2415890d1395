"""Addresses inside a network: dotted module paths, and `conv1 … convN`, `last` on any network.

`convN` is the N-th convolution of the forward pass, read after the normalization and the pointwise
activation that directly follow it. It is found from the traced order of operations, not from names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from cnnlens.errors import UsageError, did_you_mean
from cnnlens.model.model import Model
from cnnlens.model.receptive_field import Fields, channels_last, is_global_pool, receptive_fields
from cnnlens.model.trace import Call, Op, Place, Trace, trace

NORMS = {
    "batch_norm",
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_impl_index",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "native_group_norm",
}
_ACTIVATIONS = {
    *("relu", "relu6", "hardtanh", "leaky_relu", "elu", "celu", "selu", "silu", "gelu", "mish"),
    *(
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "tanh",
        "softplus",
        "threshold",
        "log_sigmoid_forward",
    ),
    *(
        "prelu",
        "_prelu_kernel",
        "rrelu_with_noise",
        "clamp",
        "clamp_min",
        "softshrink",
        "hardshrink",
    ),
}


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
        return f"Layer({self.name}{alias}: {self.kind}, {_times(self.shape)})"

    @property
    def units(self) -> int:
        """Number of units (channels)."""
        return self.shape[0]

    @property
    def is_vector(self) -> bool:
        """Whether it is fully connected: one number per unit, read as a map of one position."""
        return self.place.vector

    @property
    def folder(self) -> str:
        """The name as a file name."""
        return file_name(self.name)

    def as_row(self) -> dict[str, object]:
        """One entry of ``cnnlens layers --json``."""
        rows, columns = self.fields
        return {
            "name": self.name,
            "alias": self.alias,
            "kind": self.kind,
            "units": self.units,
            "size": list(self.shape[1:]),
            "receptive_field": _whole_number(max(rows.size, columns.size)),
            "stride": _whole_number(max(rows.stride, columns.stride)),
        }


def file_name(layer: str) -> str:
    """Return a layer's name as a file name."""
    return re.sub(r"[^\w.@+-]", "_", layer)


class Layers:
    """Everything that can be addressed in one network, in the order of its forward pass."""

    def __init__(self, passed: Trace, input_shape: tuple[int, ...]) -> None:
        self._fields = receptive_fields(passed, input_shape)
        self._channels_last = channels_last(passed)
        self._silent = passed.silent
        self._calls = [c for c in passed.calls if c.path]
        self._aliases = self._find_aliases(passed)
        self._paths = self._find_paths()
        self._vectors = self._find_vectors()

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
        cells += [[_cell(value) for value in row.values()] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in cells
        )
        return "\n".join(line.rstrip() for line in lines)

    @cached_property
    def rows(self) -> list[Layer]:
        """One entry per place: modules that return maps, and aliases that no module returns."""
        by_place = {layer.place: layer for layer in self._paths.values()}
        for layer in self._aliases.values():
            known = by_place.get(layer.place)
            by_place[layer.place] = replace(known, alias=layer.alias) if known else layer
        rows = [self._unambiguous(layer) for layer in by_place.values()]
        return sorted(rows, key=lambda layer: (layer.depth, layer.name.count(".") * -1))

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
        return self._path(name, name, vectors)

    def _last(self) -> Layer:
        if not self._aliases:
            raise UsageError("the network has no convolution", "name a layer with -l PATH")
        return list(self._aliases.values())[-1]

    def _path(self, path: str, typed: str, vectors: bool) -> Layer:
        if path in self._paths:
            return self._with_alias(self._paths[path])
        if vectors and path in self._vectors:
            return self._vectors[path]
        called = [c for c in self._calls if c.path == path]
        if called:
            shape = _times(called[-1].shape[1:])
            raise UsageError(
                f"layer '{typed}' gives no map: its output is {shape} per image",
                "choose a layer with maps (units × height × width); `cnnlens layers` lists them",
            )
        if path in self._silent:
            raise UsageError(
                f"layer '{typed}' {self._silent[path]}",
                "choose a layer with maps (units × height × width); `cnnlens layers` lists them",
            )
        named = [*self._paths, *self._aliases, *(self._vectors if vectors else ())]
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
        return {path: self._of_call(call) for path, call in last.items() if len(call.shape) == 4}

    def _find_vectors(self) -> dict[str, Layer]:
        """Modules that return vectors (N, C): fully connected layers, and what follows them."""
        found = {}
        for call in {c.path: c for c in self._calls if len(c.shape) == 2}.values():
            place = Place(path=call.path, call=call.number, vector=True)
            fields = self._fields.get(call.value) or self._fields[min(self._fields)]
            shape = (call.shape[1], 1, 1)
            found[call.path] = Layer(call.path, None, call.kind, shape, fields, place, call.after)
        return found

    def _of_call(self, call: Call) -> Layer:
        last = call.value in self._channels_last
        place = Place(path=call.path, call=call.number, channels_last=last)
        return self._layer(call.path, call.kind, call.value, call.shape, place, call.after)

    def _layer(
        self, name: str, kind: str, value: int, full: tuple[int, ...], place: Place, depth: int
    ) -> Layer:
        _, units, height, width = (
            full[i] for i in ((0, 3, 1, 2) if place.channels_last else range(4))
        )
        fields = self._fields.get(value) or self._fields[min(self._fields)]
        return Layer(name, None, kind, (units, height, width), fields, place, depth)

    def _find_aliases(self, passed: Trace) -> dict[str, Layer]:
        readers: dict[int, list[int]] = defaultdict(list)
        for number, op in enumerate(passed.ops):
            for value in set(op.inputs):
                readers[value].append(number)
        found: dict[str, Layer] = {}
        for number in convolution_ops(passed):
            alias = f"conv{len(found) + 1}"
            end = _followed(passed.ops, readers, number)
            found[alias] = replace(self._of_op(passed.ops[end], end, alias), alias=alias)
        return found

    def _of_op(self, op: Op, number: int, alias: str) -> Layer:
        value = op.outputs[0]
        for call in self._calls:  # innermost first
            if call.value == value:
                return replace(self._of_call(call), name=alias)
        place = Place(op=number, op_name=op.name, channels_last=value in self._channels_last)
        return self._layer(alias, op.name, value, op.shapes[0], place, number + 1)


def find_layers(model: Model) -> Layers:
    """Trace a model and list what can be addressed in it.

    Raises
    ------
    CnnlensError
        When it does not run on its input size.
    """
    with model.in_use():
        x = model.example()
        return Layers(trace(model.net, x), tuple(x.shape))


def convolution_ops(passed: Trace) -> Iterable[int]:
    """Numbers of the operations that count as convolutions: on maps, and not in a gate."""
    pooled: set[int] = set()
    shapes = {v: s for op in passed.ops for v, s in zip(op.outputs, op.shapes, strict=True)}
    descends = {passed.source}
    for number, op in enumerate(passed.ops):
        inputs = [v for v in op.inputs if v in descends]
        if not inputs:
            continue
        descends.update(op.outputs)
        if is_global_pool(op, shapes.get(inputs[0], ())) or all(v in pooled for v in inputs):
            pooled.update(op.outputs)
        counts = op.name == "convolution" and len(op.shapes[0]) == 4 and not op.arguments[6]
        if counts and not pooled.issuperset(op.outputs):
            yield number


def _followed(ops: tuple[Op, ...], readers: dict[int, list[int]], number: int) -> int:
    """Walk from a convolution over the norm and the activation that alone read its output."""
    for names in (NORMS, _ACTIVATIONS):
        after = readers[ops[number].outputs[0]]
        if len(after) == 1 and ops[after[0]].name in names:
            number = after[0]
    return number


def _whole_number(value: float) -> int | float:
    return int(value) if value == int(value) else round(value, 2)


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _cell(value: object) -> str:
    if isinstance(value, list):
        return _times(value)
    return "" if value is None else str(value)
