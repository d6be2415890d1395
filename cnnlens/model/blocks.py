"""Blocks of transformers: where the residual stream stands after each, and their MLPs.

Read off the traced operations. Along the stream every addition takes up a branch: attention, or an
MLP, or both. A block ends with the addition of its MLP; the MLP's hidden units are what its last
linear layer reads.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cnnlens.model.positions import SOFTMAX, VIEWS
from cnnlens.model.tokens import Tokens
from cnnlens.model.trace import Op, Trace

ACTIVATIONS = {
    *("relu", "relu6", "hardtanh", "leaky_relu", "elu", "celu", "selu", "silu", "gelu", "mish"),
    *("hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus", "threshold"),
    *("log_sigmoid_forward", "prelu", "_prelu_kernel", "rrelu_with_noise", "clamp", "clamp_min"),
    *("softshrink", "hardshrink"),
}
_TURNS = {*VIEWS, "permute", "transpose"}
_LINEAR = {"addmm": 1, "mm": 0, "linear": 0, "bmm": 0, "matmul": 0}  # which input is the data


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes
    ----------
    stream : int
        Number of the value that leaves it.
    hidden : int
        Number of its MLP's hidden units, after the activation.
    """

    stream: int
    hidden: int


@dataclass(frozen=True)
class _Since:
    """What a value has met since it left the residual stream."""

    attention: bool = False
    activation: bool = False

    def __bool__(self) -> bool:
        return self.attention or self.activation


def find_blocks(passed: Trace, tokens: Tokens, last: Collection[int]) -> list[Block]:
    """Find the blocks of a transformer, in order; none in other networks.

    Parameters
    ----------
    passed : Trace
        One forward pass.
    tokens : Tokens
        See `find_tokens`.
    last : collection of int
        Values that hold maps as (N, H, W, C).
    """
    maker = {value: op for op in passed.ops for value in op.outputs}
    laid = {*tokens.rows, *tokens.last, *last}
    # where maps become tokens, whatever came before is no branch
    begin = {grid.origin for grid in tokens.rows.values()}
    begin |= {
        v
        for op in passed.ops
        if not tokens.maps.isdisjoint(op.inputs)
        for v in op.outputs
        if v in laid
    }
    since = {passed.source: _Since()}
    found: list[Block] = []
    attended = False  # since the last block's end
    for op in passed.ops:
        met = [since[v] for v in op.inputs if v in since]
        if not met or not op.outputs:
            continue
        branch = _branch(op, since) if op.outputs[0] in laid else None
        if branch is None and op.outputs[0] in laid:
            branch = _of_itself(op, since, passed)
        if branch is None:
            mixes = _attends(op) or not tokens.mixed.isdisjoint(op.outputs)
            after = _combined([*met, _Since(mixes, op.name in ACTIVATIONS)])
            since.update((v, _Since() if v in begin else after) for v in op.outputs)
            continue
        attended = attended or since[branch].attention
        hidden = _hidden(branch, maker, since, laid) if since[branch].activation else None
        if hidden is not None and (attended or found):
            block = Block(_end(op, passed), hidden)
            found = [*found, block] if attended else [*found[:-1], block]
            attended = False
        since.update(dict.fromkeys(op.outputs, _Since()))
    return found


def _attends(op: Op) -> bool:
    return "attention" in op.name or op.name in SOFTMAX


def _combined(met: list[_Since]) -> _Since:
    return _Since(any(one.attention for one in met), any(one.activation for one in met))


def _branch(op: Op, since: dict[int, _Since]) -> int | None:
    """The branch that an addition takes up into the stream; None where it is no such addition."""
    if op.name != "add" or len(op.inputs) != 2 or op.read[0] != op.read[1]:
        return None
    one, other = op.inputs
    if one not in since or other not in since or bool(since[one]) == bool(since[other]):
        return None
    return one if since[one] else other


def _of_itself(op: Op, since: dict[int, _Since], passed: Trace) -> int | None:
    """The branch, where the stream itself begins with attention that nothing is added to.

    So it does where attention has fewer rows than it reads (LeViT), and where a class token that
    has read another stream is put ahead of it (CrossViT).
    """
    if op.name != "add" or len(op.inputs) != 2 or op.read[0] != op.read[1]:
        return None
    for stream, branch in (op.inputs, op.inputs[::-1]):
        if stream not in since or not since[stream].attention:
            continue
        leading = passed.leading_to(branch)
        if stream in leading and branch in since and _met_between(stream, leading, passed):
            return branch
    return None


def _met_between(stream: int, leading: set[int], passed: Trace) -> bool:
    """Whether attention or an activation lies on the way from a value to what it leads to."""
    inside, met = {stream}, False
    for op in passed.ops:
        if not inside.isdisjoint(op.inputs) and not leading.isdisjoint(op.outputs):
            inside.update(op.outputs)
            met = met or _attends(op) or op.name in ACTIVATIONS
    return met


def _end(op: Op, passed: Trace) -> int:
    """What leaves the block: its last sum; or, where the block norms that itself or lays it out
    anew before it returns it, what comes out.
    """
    returned = {call.value for call in passed.calls if call.path}
    value = end = op.outputs[0]
    while value not in returned:
        readers = [one for one in passed.ops if value in one.inputs]
        if len(readers) != 1 or not (
            _is_norm_in(readers[0], op.module) or readers[0].name in _TURNS
        ):
            return end
        value = readers[0].outputs[0]
    return value


def _is_norm_in(op: Op, block: str) -> bool:
    return op.name == "native_layer_norm" and bool(block) and op.module.startswith(f"{block}.")


def _hidden(
    branch: int, maker: dict[int, Op], since: dict[int, _Since], laid: Collection[int]
) -> int | None:
    """Walk from a branch's end back over its last linear layer; None where there is none."""
    value, linear = branch, False
    while (op := maker.get(value)) is not None:
        if linear and value in laid and op.name not in {*VIEWS, "native_layer_norm"}:
            return value
        if op.name in _LINEAR and not linear:
            value, linear = op.inputs[_LINEAR[op.name]], True
        else:
            active = [v for v in op.inputs if v in since and since[v].activation]
            value = active[0] if active else op.inputs[0] if op.inputs else -1
    return None
