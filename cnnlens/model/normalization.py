"""A normalization of pixels among a network's own tensors, which is part of how it is fed.

Networks may begin with a layer that subtracts a mean and divides by a deviation, kept as buffers:
``normalize.mean``, ``normalizer.new_std``. The layer is in no architecture; its numbers are the
preprocessing's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from cnnlens.model.entries import View

_NAME = re.compile(r"(?P<start>(?:.*[._])?)(?P<kind>mean|std|sigma|stdev|running_mean)")
# of something else than the network's input
_ELSE = re.compile(r"loss|criterion|percept|lpips|target|label|output|denorm|unnorm|decoder", re.I)
_INPUT = re.compile(r"norm|pixel|image|img|input", re.I)
_UNIT, _BYTES = 1.0, 8.0  # largest of pixels in [0, 1]; what lies above is of pixels to 255


@dataclass(frozen=True)
class Normalization:
    """A mean and a deviation per channel, of pixels in [0, 1], and the tensors' names."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, str]


def find_normalization(
    view: View, left_out: list[str], channels: int
) -> tuple[Normalization | None, list[str]]:
    """Find the normalization of a network's input in what its architecture has no place for.

    Parameters
    ----------
    view : View
        The network's tensors, and those beside it.
    left_out : list of str
        Names among its own that its architecture lacks.
    channels : int
        Of its input; so many numbers are a mean.

    Returns
    -------
    (Normalization or None, list of str)
        None where there is none, or several that differ; and the names of tensors that look like
        one all the same.
    """
    inside = {view.prefix + name: view.state[name] for name in left_out}
    tensors = {k: v for k, v in {**view.beside, **inside}.items() if _may_be(k, v, channels)}
    maps = [k for k, v in view.beside.items() if v.ndim >= 4 and k.endswith("weight")]
    tensors = {k: v for k, v in tensors.items() if _before(k, view.prefix, maps)}
    found = _pairs(tensors)
    different = {(pair.mean, pair.std) for pair in found}
    one = found[0] if len(different) == 1 else None
    used = {name for pair in found for name in pair.names} if one else set()
    return one, [name for name in tensors if name not in used]


def _may_be(name: str, tensor: torch.Tensor, channels: int) -> bool:
    said = _NAME.fullmatch(name)
    return (
        said is not None
        and tensor.is_floating_point()
        and tensor.numel() == channels
        and not _ELSE.search(name)
        and (channels > 1 or _INPUT.search(name) is not None)
    )


def _before(name: str, prefix: str, maps: list[str]) -> bool:
    """Whether a layer so called can stand before the network, and before no other one."""
    layer = name.rpartition(".")[0]
    around = layer.rpartition(".")[0]
    if around and not prefix.startswith(f"{around}."):
        return False
    inside = f"{layer}." if layer else ""
    return prefix.startswith(inside) or not any(k.startswith(inside) for k in maps)


def _pairs(tensors: Mapping[str, torch.Tensor]) -> list[Normalization]:
    parts: dict[str, dict[str, str]] = {}
    for name in tensors:
        said = _NAME.fullmatch(name)
        if said is not None and said["kind"] != "running_mean":
            kind = "mean" if said["kind"] == "mean" else "std"
            parts.setdefault(said["start"], {})[kind] = name
    found = []
    for pair in parts.values():
        if len(pair) == 2:
            mean, std = (
                tensors[pair[kind]].double().flatten().tolist() for kind in ("mean", "std")
            )
            if (scale := _scale(mean, std)) is not None:
                unit = [tuple(round(v / scale, 7) for v in row) for row in (mean, std)]
                found.append(Normalization(unit[0], unit[1], (pair["mean"], pair["std"])))
    return found


def _scale(mean: list[float], std: list[float]) -> float | None:
    """The largest value of the pixels that a mean and a deviation are for; None where not clear."""
    if not all(map(_finite, (*mean, *std))) or min(std) <= 0:
        return None
    largest = max(map(abs, (*mean, *std)))
    if largest <= _UNIT:
        return 1.0
    return 255.0 if _BYTES < largest <= 255 else None


def _finite(value: float) -> bool:
    return abs(value) != float("inf") and value == value
