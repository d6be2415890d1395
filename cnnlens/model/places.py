"""Where in a value the rows and columns of its maps stand, however it is laid out.

Of the elements of a value, counted in order, number i belongs to row (i // `rows`) % `height` and
to column (i // `columns`) % `width`. So a view moves nothing, whatever shapes it goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from cnnlens.model.trace import Op

Shape = Sequence[int]


@dataclass(frozen=True)
class Places:
    """Rows and columns: elements from one to the next, and how many there are."""

    rows: int
    columns: int
    height: int
    width: int

    @classmethod
    def at(cls, shape: Shape, rows: int, columns: int) -> Places:
        """Those of a value that has them as two of its dimensions."""
        behind = elements_behind(shape)
        return cls(behind[rows], behind[columns], shape[rows], shape[columns])

    @property
    def is_one(self) -> bool:
        """Whether there is one place: whatever is computed of it sees what it sees."""
        return self.height == self.width == 1

    def dims(self, shape: Shape) -> tuple[int | None, int | None]:
        """The dimensions in which the rows and the columns stand; None where several hold them."""
        return (
            _dim(shape, self.rows, self.height),
            _dim(shape, self.columns, self.width),
        )

    def stand_at(self, shape: Shape, rows: int, columns: int) -> bool:
        """Whether two dimensions are the rows and the columns, and nothing else."""
        there = Places.at(shape, rows, columns)
        return (there.height, there.width) == (self.height, self.width) and all(
            extent == 1 or mine == its
            for extent, mine, its in (
                (self.height, self.rows, there.rows),
                (self.width, self.columns, there.columns),
            )
        )

    def carried(
        self, before: Shape, after: Shape, where: Callable[[int], int | None]
    ) -> Places | None:
        """Follow dimensions to `where` they are afterwards; None where places do not stay whole."""
        found, behind = [], (elements_behind(before), elements_behind(after))
        for dim, stride in zip(self.dims(before), (self.rows, self.columns), strict=True):
            at = None if dim is None else where(dim)
            if dim is None or at is None or not 0 <= at < len(after) or after[at] != before[dim]:
                return None
            found.append(stride // behind[0][dim] * behind[1][at])
        rows, columns = found
        return Places(rows, columns, self.height, self.width)


def elements_behind(shape: Shape) -> list[int]:
    """How many elements lie between neighbours along each dimension."""
    return [*accumulate(reversed(shape[1:]), mul, initial=1)][::-1] if shape else []


def _dim(shape: Shape, stride: int, extent: int) -> int | None:
    """Which dimension holds an axis, alone or together with others."""
    if 0 in shape:
        return None
    every = list(enumerate(zip(elements_behind(shape), shape, strict=True)))
    alone = [dim for dim, found in every if found == (stride, extent)]
    if alone:
        return alone[-1]
    for dim, (behind, count) in every:
        whole = behind * count
        if stride % behind == 0 and stride < whole and whole % (stride * extent) == 0:
            return dim
    return None


# -- what is known to keep places, by what an operation does with a dimension ----------------------

# every element is computed of those at its own place; norms, by statistics of all, count as such
_POINTWISE = """
relu hardtanh hardswish hardsigmoid silu gelu mish sigmoid tanh elu celu selu leaky_relu prelu
_prelu_kernel softplus softshrink hardshrink threshold log_sigmoid_forward rrelu rrelu_with_noise
exp exp2 log log1p log2 expm1 sqrt rsqrt square pow abs neg sgn sign reciprocal sin cos tan sinh
cosh asin acos atan erf clamp clamp_min clamp_max clip round floor ceil trunc frac nan_to_num add
sub rsub mul div addcmul addcdiv lerp maximum minimum fmax fmin where masked_fill eq ne lt le gt
ge logical_not logical_and logical_or bitwise_and bitwise_or bitwise_not isnan isinf isfinite
remainder fmod atan2 heaviside dropout native_dropout bernoulli _to_copy to copy clone detach
alias lift_fresh lift_fresh_copy batch_norm native_batch_norm _native_batch_norm_legit
cudnn_batch_norm _native_batch_norm_legit_no_training _batch_norm_no_update batch_norm2d
batch_norm2d_relu native_group_norm native_layer_norm _fused_rms_norm rms_norm channel_shuffle
native_channel_shuffle quantize_per_tensor quantize_per_channel quantize_per_tensor_dynamic
dequantize int_repr fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask
fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask add_relu mul_relu
"""
POINTWISE = frozenset(_POINTWISE.split())
VIEWING = {
    "view",
    "_unsafe_view",
    "reshape",
    "_reshape_alias",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "view_as",
}
#: the argument that names dimensions along which elements read each other, move, or are chosen
ALONG = {
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax", "flip", "cumsum", "sort"), 1),
    **dict.fromkeys(("index_select", "gather", "glu", "cat", "cumprod"), 1),
    **dict.fromkeys(("split", "split_with_sizes", "topk", "roll"), 2),
}
#: the argument that names the dimensions that are reduced
REDUCED = {
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "argmax", "argmin"), 1),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean", "prod", "logsumexp", "any", "all"), 1),
    **dict.fromkeys(("linalg_vector_norm", "norm"), 2),
}
#: made in the likeness of a value, not of its content
LIKE = {
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided", "sym_size"),
}
#: outputs that share their memory with the first input: written there, it is written here
SHARING = {*VIEWING, "slice", "select", "permute", "transpose", "t", "expand", "alias"}
SHARING |= {"detach", "split", "split_with_sizes", "unbind", "as_strided"}


def carried_by(op: Op, places: Places, before: Shape, after: Shape) -> Places | None:
    """Follow places through an operation on one value; None where that is not known."""
    a, count = op.arguments, len(before)
    if op.name in VIEWING:
        return places
    if op.name in ("permute", "transpose", "t"):
        return places.carried(before, after, order_before(op, count).index)
    if op.name in ("expand", "repeat"):
        more = len(after) - count
        return places.carried(before, after, lambda dim: dim + more)
    if op.name in ("unbind", "select"):
        gone = (a[1] if len(a) > 1 else 0) % count
        return places.carried(
            before, after, lambda dim: None if dim == gone else dim - (dim > gone)
        )
    if op.name == "stack":
        new = (a[1] if len(a) > 1 else 0) % len(after)
        return places.carried(before, after, lambda dim: dim + (dim >= new))
    if op.name == "index":
        chosen = {dim for dim, index in enumerate(a[1]) if index is not None}
        plain = len(chosen) == 1 and all(i is None or i.dim() == 1 for i in a[1])
        return _untouched(places, before, after, chosen) if plain else None
    if op.name in ALONG:
        return _untouched(places, before, after, named_dims(op, ALONG[op.name], count))
    if op.name in REDUCED:
        return _reduced(places, before, after, named_dims(op, REDUCED[op.name], count))
    return None


def to_one(op: Op, places: Places, before: Shape) -> bool:
    """Whether an operation reduces all places to one, in whatever dimensions they stand."""
    at = REDUCED.get(op.name)
    return at is not None and {*places.dims(before)} <= named_dims(op, at, len(before))


def order_before(op: Op, count: int) -> list[int]:
    """Which dimension each one was before."""
    a, order = op.arguments, [*range(count)]
    if op.name == "permute":
        return [dim % count for dim in a[1]]
    one, other = (a[1] % count, a[2] % count) if op.name == "transpose" else (0, count - 1)
    order[one], order[other] = order[other], order[one]
    return order


def named_dims(op: Op, at: int, count: int) -> set[int]:
    """The dimensions that an operation names; none where it means all."""
    a = op.arguments
    missing = 0 if op.name in ("cat", "split", "split_with_sizes") else None
    dims = a[at] if len(a) > at else missing
    if dims is None or isinstance(dims, bool):
        return set()
    return {dim % count for dim in ([dims] if isinstance(dims, int) else dims)}


def _untouched(places: Places, before: Shape, after: Shape, dims: set[int]) -> Places | None:
    """Places where elements read each other, move or are chosen along other dimensions."""
    if not dims:
        return None
    return places.carried(before, after, lambda dim: None if dim in dims else dim)


def _reduced(places: Places, before: Shape, after: Shape, dims: set[int]) -> Places | None:
    """Places where other dimensions are reduced."""
    if not dims:
        return None
    gone = dims if len(after) < len(before) else set()
    return places.carried(
        before,
        after,
        lambda dim: None if dim in dims else dim - sum(one < dim for one in gone),
    )
