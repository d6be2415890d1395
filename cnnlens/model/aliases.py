"""Values of a forward pass that bear an alias: `convN`, `blockN`, `mlpN`; and which is `last`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cnnlens.model.blocks import ACTIVATIONS, find_blocks
from cnnlens.model.fields import is_global_pool
from cnnlens.model.outputs import is_auxiliary
from cnnlens.model.tokens import Tokens, is_attention
from cnnlens.model.trace import Op, Trace

NORMS = {
    "batch_norm",
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_impl_index",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "native_group_norm",
}


@dataclass(frozen=True)
class Aliases:
    """What bears an alias in one network.

    Attributes
    ----------
    values : dict of str to int
        Numbers of the values, by alias.
    last : str or None
        The alias of the last convolution or block that leads to the classes; None without any.
    goes_on : str
        What it goes on with from there, of which no block was found; empty where it does not.
    """

    values: dict[str, int]
    last: str | None
    goes_on: str


def find_aliases(
    passed: Trace, tokens: Tokens, last: Collection[int], chosen: str | None
) -> Aliases:
    """Find everything in a network that has an alias.

    Parameters
    ----------
    passed : Trace
        One forward pass.
    tokens : Tokens
        See `find_tokens`.
    last : collection of int
        Values that hold maps as (N, H, W, C).
    chosen : str or None
        The output that is the classes'.
    """
    ends = list(_convolved(passed))
    values = {f"conv{number}": value for number, value in enumerate(ends, 1)}
    for number, block in enumerate(find_blocks(passed, tokens, last), 1):
        values |= {f"block{number}": block.stream, f"mlp{number}": block.hidden}
    main = None if chosen is None else passed.leading_to(passed.outputs[chosen])
    made = {value: number for number, op in enumerate(passed.ops) for value in op.outputs}
    lead = [a for a, v in values.items() if main is None or v in main]
    deepest = max(
        (alias for alias in lead if not alias.startswith("mlp")),
        key=lambda alias: made[values[alias]],
        default=None,
    )
    goes_on = _goes_on(passed, deepest, made[values[deepest]], main) if deepest else ""
    return Aliases(values, deepest, goes_on)


def _goes_on(passed: Trace, alias: str, made: int, leading: set[int] | None) -> str:
    """What follows that is no pooling and no classifier; empty where nothing does."""
    after = [op for op in passed.ops[made + 1 :] if leading is None or leading & {*op.outputs}]
    attending = sum(is_attention(op) for op in after)
    # attention may pool what a convolution gives, once; what comes of a block is not pooled so
    if attending > (0 if alias.startswith("block") else 1):
        return "attention among tokens whose places are not known"
    sums = sum(op.name == "add" and op.read[:1] == op.read[1:] and _is_wide(op) for op in after)
    return "blocks without a convolution" if sums > _SUMS else ""


_SUMS = 2  # residual branches that a convolution may be followed by in its own block


def _is_wide(op: Op) -> bool:
    return len(op.shapes[0]) == 4 and min(op.shapes[0][1:]) > 1


def _convolved(passed: Trace) -> Iterable[int]:
    readers: dict[int, list[int]] = defaultdict(list)
    for number, op in enumerate(passed.ops):
        for value in set(op.inputs):
            readers[value].append(number)
    for number in convolution_ops(passed):
        yield passed.ops[_followed(passed.ops, readers, number)].outputs[0]


def convolution_ops(passed: Trace) -> Iterable[int]:
    """Numbers of the operations that count as convolutions: on maps, in no gate or ``aux`` head."""
    aside = _of_training_heads(passed)
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
        counts = _convolves(op, passed.batch)
        if counts and not pooled.issuperset(op.outputs) and aside.isdisjoint(op.outputs):
            yield number


def _convolves(op: Op, batch: int) -> bool:
    maps = op.name == "convolution" and len(op.shapes[0]) == 4 and not op.arguments[6]
    return maps and op.shapes[0][0] == batch  # not the heads of attention, one by one


def _of_training_heads(passed: Trace) -> set[int]:
    """Values that lead to outputs of training's heads alone (``aux``)."""
    aside = [value for name, value in passed.outputs.items() if is_auxiliary(name)]
    others = [value for name, value in passed.outputs.items() if not is_auxiliary(name)]
    if not aside or not others:
        return set()
    used = set().union(*(passed.leading_to(value) for value in others))
    return set().union(*(passed.leading_to(value) for value in aside)) - used


def _followed(ops: tuple[Op, ...], readers: dict[int, list[int]], number: int) -> int:
    """Walk from a convolution over the norm and the activation that alone read its output."""
    for names in (NORMS, ACTIVATIONS):
        after = readers[ops[number].outputs[0]]
        if len(after) == 1 and ops[after[0]].name in names:
            number = after[0]
    return number
