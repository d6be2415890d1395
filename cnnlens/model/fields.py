"""Receptive fields, composed along the traced operations.

What an operation is known to do with places is followed: windows that slide, norms, what is
computed element by element, views, permutations, branches that join. Behind anything else, and
where places move, the field is the whole input: a wrong place is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cnnlens.model.channels_last import channels_last
from cnnlens.model.places import LIKE, POINTWISE, SHARING, Places, Shape, carried_by, to_one
from cnnlens.model.receptive_field import Field, Fields, covering
from cnnlens.model.tokens import is_attention
from cnnlens.model.trace import Op, Trace
from cnnlens.model.windows import ADAPTIVE, along, is_cut, is_resampling, touched, windows_of

_REDUCING = {"mean", "amax"}
_MULTIPLYING = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "linear": 0}  # the first operand
_ONE = Places(1, 1, 1, 1)  # all of a value is of one place


@dataclass(frozen=True)
class _Seen:
    """What the units of a value see, and where in it they stand (None: nobody knows).

    Of an input also its shape, and which of the operation's inputs it is. It is a `mask` where it
    has the extent of maps, but is computed of one place alone, such as the position of their peak.
    """

    fields: Fields
    places: Places | None
    shape: Shape = ()
    at: int = 0
    mask: bool = False

    @property
    def is_one(self) -> bool:
        """Whether there is but one place."""
        return self.places is not None and self.places.is_one

    @property
    def attends(self) -> bool:
        """Whether it is behind attention."""
        return self.fields[0].attends


def receptive_fields(trace: Trace, input_shape: Sequence[int]) -> dict[int, Fields]:
    """Receptive fields (rows, columns) of every value that descends from the input.

    Parameters
    ----------
    trace : Trace
        One forward pass.
    input_shape : sequence of int
        (N, C, H, W).
    """
    size = tuple(input_shape)
    known = {trace.source: _Seen((Field(), Field()), Places.at(size, 2, 3), size)}
    shapes: dict[int, Shape] = {}
    base: dict[int, int] = {}  # of values that share another's memory
    for op in trace.ops:
        shapes.update(zip(op.outputs, op.shapes, strict=True))
        if op.name in SHARING and op.inputs:
            base.update(dict.fromkeys(op.outputs, base.get(op.inputs[0], op.inputs[0])))
        inputs = [replace(known[v], at=at) for at, v in enumerate(op.inputs) if v in known]
        if not inputs or op.name in LIKE:
            continue
        for value, after in zip(op.outputs, op.shapes, strict=True):
            known[value] = replace(_seen(op, inputs, after, size), shape=after)
        if op.name == "copy" and (whole := base.get(op.inputs[0])) is not None:
            found = _written(known.get(whole), known.get(op.inputs[0]), known[op.outputs[0]], size)
            known[whole] = replace(found, shape=shapes.get(whole, size))
    last = channels_last(trace)
    return {value: _as_read(one, value in last, size) for value, one in known.items()}


def unknown_fields(extent: Sequence[int]) -> Fields:
    """Those of a value that nobody followed from the input, (H, W): all of it."""
    rows, columns = (Field(size=n, whole=True, scattered=True) for n in extent)
    return rows, columns


def _written(whole: _Seen | None, part: _Seen | None, written: _Seen, size: Shape) -> _Seen:
    """What a value sees of which a part was written: some channels, each at its own place."""
    kept = whole and part and part.places and written.places == part.places
    if kept and whole and part and part.fields == whole.fields:
        return replace(whole, fields=_covering([whole, written]))
    return _scattered([one for one in (whole, written) if one], size)


def _as_read(one: _Seen, is_last: bool, size: Shape) -> Fields:
    """Fields of a value as it is read: maps (N, C, H, W), or (N, H, W, C)."""
    if one.places is None or one.is_one or len(one.shape) != 4:
        return one.fields
    dims = (1, 2) if is_last else (2, 3)
    stands = one.places.stand_at(one.shape, *dims)
    return one.fields if stands else _scattered([one], size).fields


def _covering(several: Iterable[_Seen]) -> Fields:
    rows, columns = zip(*(one.fields for one in several), strict=True)
    return covering(rows), covering(columns)


def _whole(several: Iterable[_Seen], attends: bool = False) -> Fields:
    rows, columns = _covering(several)
    attends = attends or rows.attends
    marks = {"whole": True, "attends": attends, "scattered": rows.scattered and not attends}
    return replace(rows, **marks), replace(columns, **marks)


def _scattered(several: Iterable[_Seen], size: Shape) -> _Seen:
    """What is seen of the whole input, from nobody knows where; behind attention it is that."""
    rows, columns = _covering(several)
    if not rows.attends:
        rows = replace(rows, whole=True, scattered=True, size=size[2])
        columns = replace(columns, whole=True, scattered=True, size=size[3])
    return _Seen((rows, columns), None)


# -- one operation --------------------------------------------------------------------------------


def _seen(op: Op, inputs: list[_Seen], after: Shape, size: Shape) -> _Seen:
    """What an output of that shape sees, and where its places stand."""
    first = inputs[0]
    if is_attention(op) or "attention" in op.name:
        return _Seen(_whole(inputs[:1], attends=True), None)  # it stands where its queries do
    if is_global_pool(op, first.shape) or _gathers(op, first):
        return _Seen(_whole(inputs), Places.at(after, 2, 3) if len(after) == 4 else _ONE)
    if windows_of(op) or is_resampling(op) or is_cut(op):
        found = _resized(op, inputs, after)
    elif all(one.is_one or one.mask for one in inputs):
        found = _of_one(op, inputs, after) or replace(_scattered(inputs, size), mask=True)
    elif op.name in POINTWISE or op.name in ("cat", "stack"):
        found = _joined(op, inputs, after)
    elif _mixes_positions(op, first):
        kept = after[-1 if first.at == _MULTIPLYING[op.name] else -2] > 1
        return _Seen(_whole(inputs, attends=kept), None if kept else _ONE)
    else:
        found = _carried(op, inputs, after)
    return found or _scattered(inputs, size)


def _gathers(op: Op, one: _Seen) -> bool:
    """Whether it reduces a value's places to one, in whatever dimensions they stand."""
    return bool(one.places and not one.is_one and to_one(op, one.places, one.shape))


def _resized(op: Op, inputs: list[_Seen], after: Shape) -> _Seen | None:
    """Along rows and columns, what a window, padding, slicing or resampling makes of fields."""
    one, before = inputs[0], inputs[0].shape
    if one.at or not all(other.is_one for other in inputs[1:]) or len(after) != len(before):
        return None  # weights that are computed, place by place
    dims = _dims(one)
    if dims is None or (one.places is None and not windows_of(op)):
        return one if one.attends else None
    stands = one.places is None or one.places.stand_at(before, *dims)
    if one.places and touched(op, before).isdisjoint(dims):
        places = one.places.carried(before, after, lambda dim: dim)
        return None if places is None else replace(one, places=places)
    if not stands:
        return None
    rows, columns = (
        along(op, field, dim, before, after) for field, dim in zip(one.fields, dims, strict=True)
    )
    return _Seen((rows, columns), one.places and Places.at(after, *dims))


def _dims(one: _Seen) -> tuple[int, int] | None:
    """The dimensions of rows and columns; of maps behind attention, the usual ones."""
    is_map = len(one.shape) == 4
    if one.places is None or (one.is_one and is_map):
        return (2, 3) if is_map and (one.attends or one.is_one) else None
    rows, columns = one.places.dims(one.shape)
    return None if rows is None or columns is None else (rows, columns)


def _of_one(op: Op, inputs: list[_Seen], after: Shape) -> _Seen | None:
    """What is computed of one place, also where it is laid over a map: a gate."""
    fields = _covering(inputs)
    if len(after) != 4 or after[2] == after[3] == 1 or after[1] == after[2] == 1:
        return _Seen(fields, _ONE)
    if op.name == "expand" and fields[0].whole:
        return _Seen(fields, Places.at(after, 2, 3))
    return None


def _joined(op: Op, inputs: list[_Seen], after: Shape) -> _Seen | None:
    """What is computed of elements at the same place; gates and masks are laid over them."""
    placed = {at: place for at, one in enumerate(inputs) if (place := _laid_over(op, one, after))}
    if len({*placed.values()}) != 1:
        return None
    place = next(iter(placed.values()))
    others = [one for at, one in enumerate(inputs) if at not in placed]
    if op.name == "mul":
        others = [one for one in others if not one.mask]
    others = [one for one in others if not _is_gate(one.shape, after, place)]
    if not all(one.attends for one in others):
        return None
    return _Seen(_covering([*(inputs[at] for at in placed), *others]), place)


def _laid_over(op: Op, one: _Seen, after: Shape) -> Places | None:
    """Places of a value in one that it is broadcast to, or put side by side with others in."""
    if one.places is None or one.is_one:
        return None
    if op.name == "stack":
        return carried_by(op, one.places, one.shape, after)
    more = len(after) - len(one.shape)
    if tuple(one.shape) == tuple(after):
        return one.places
    return one.places.carried(one.shape, after, lambda dim: dim + more)


def _is_gate(shape: Shape, after: Shape, place: Places) -> bool:
    """Whether a value is broadcast along rows, along columns, or both."""
    more = len(after) - len(shape)
    dims = [dim for dim in place.dims(after) if dim is not None]
    own = [shape[dim - more] if dim >= more else 1 for dim in dims]
    return any(mine == 1 < after[dim] for mine, dim in zip(own, dims, strict=True)) and all(
        mine in (1, after[dim]) for mine, dim in zip(own, dims, strict=True)
    )


def _summed_over(op: Op, one: _Seen) -> int | None:
    """Over which dimension of it a value is multiplied with a matrix; None where it is not."""
    first = _MULTIPLYING.get(op.name, -2)
    return {first: len(one.shape) - 1, first + 1: len(one.shape) - 2}.get(one.at)


def _mixes_positions(op: Op, one: _Seen) -> bool:
    """Whether a matrix joins all positions of a row of tokens, as attention does."""
    dim = _summed_over(op, one)
    if one.places is None or dim is None:
        return False
    alone = one.shape[dim] == one.places.height * one.places.width
    return alone and one.places.dims(one.shape) == (dim, dim)


def _carried(op: Op, inputs: list[_Seen], after: Shape) -> _Seen | None:
    """What one value becomes whose places stay whole, in whatever dimensions."""
    one = inputs[0]
    if len(inputs) > 1 or one.places is None:
        return None
    if (summed := _summed_over(op, one)) is not None:
        places = one.places.carried(one.shape, after, lambda dim: None if dim == summed else dim)
    else:
        places = carried_by(op, one.places, one.shape, after)
    return None if places is None else replace(one, places=places)


def is_global_pool(op: Op, before: Sequence[int]) -> bool:
    """Whether the operation reduces maps to one value each."""
    if len(before) != 4 or not op.shapes or op.name not in ADAPTIVE | _REDUCING:
        return False
    after = op.shapes[0]
    one = (len(after) == 4 and after[2] * after[3] == 1) or len(after) == 2
    if op.name in _REDUCING and before[2] * before[3] == 1:  # over space, or over channels?
        dims = op.arguments[1] if len(op.arguments) > 1 else None
        return one and (not dims or {d % 4 for d in dims} >= {2, 3})
    return one
