"""A known architecture's first convolution with another kernel, with a bias or without one.

No tensor says a stride, a padding or a pooling: what is usual is assumed, and said.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from cnnlens.model.architectures import first_convolution
from cnnlens.model.fit import Change, Fit

# the pooling behind a first convolution of 7×7, which networks for small images go without
_POOLS = ("maxpool", "features.pool0", "maxpool1")
_SMALL = 3  # the largest kernel of those


def other_stem(net: nn.Module, found: Fit) -> list[Change]:
    """Replace the first convolution where the file has another one; empty where it has not."""
    first = first_convolution(net)
    if first is None or not isinstance(old := first[1], nn.Conv2d) or old.groups != 1:
        return []
    path, (weight, bias) = first[0], (f"{first[0]}.{part}" for part in ("weight", "bias"))
    same = (old.out_channels, found.channels or old.in_channels, *old.kernel_size)
    shape = found.differing[weight][0] if weight in found.differing else same
    has_bias = (old.bias is not None or bias in found.unexpected) and bias not in found.missing
    if (shape, has_bias) == (same, old.bias is not None) or not _likely(shape, old):
        return []
    pool = _pool(net) if _is_small(shape, old) else ""
    stride, padding = ((1, 1), (shape[2] // 2,) * 2) if pool else _usual(shape, old)

    def make() -> nn.Module:
        return _changed(old, shape, has_bias, stride, padding)

    if shape[2:] == old.kernel_size:
        return [Change(path, make, f"its first convolution has {'a' if has_bias else 'no'} bias")]
    kernel = f"{shape[2]}×{shape[3]}"
    said = f"its stem of {kernel} is assumed to have stride 1 and no max pool behind it"
    if not pool:
        said = f"its stem of {kernel} is assumed to have stride {stride[0]}, padding {padding[0]}"
    gone = [Change(pool, nn.Identity)] if pool else []
    return [Change(path, make, said, assumed=True, stem=True), *gone]


def _likely(shape: tuple[int, ...], old: nn.Conv2d) -> bool:
    return len(shape) == 4 and shape[0] == old.out_channels and shape[2] == shape[3]


def _is_small(shape: tuple[int, ...], old: nn.Conv2d) -> bool:
    return shape[2] <= _SMALL < old.kernel_size[0]


def _pool(net: nn.Module) -> str:
    """Path of the pooling behind the first convolution; empty where there is none."""
    known = dict(net.named_modules())
    return next((path for path in _POOLS if isinstance(known.get(path), nn.MaxPool2d)), "")


def _usual(shape: tuple[int, ...], old: nn.Conv2d) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stride and padding: patches stay patches, all else strides as before."""
    if old.stride == old.kernel_size and old.stride[0] > 1:
        return shape[2:], (0, 0)
    padded = not isinstance(old.padding, str) and old.padding[0] > 0
    if shape[2:] == old.kernel_size and not isinstance(old.padding, str):
        return old.stride, old.padding
    return old.stride, (shape[2] // 2,) * 2 if padded else (0, 0)


def _changed(
    old: nn.Conv2d,
    shape: tuple[int, ...],
    bias: bool,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> nn.Module:
    """Copy a convolution, of whatever class, with other numbers."""
    new = deepcopy(old)
    new.in_channels, new.kernel_size = shape[1], shape[2:]
    new.stride, new.padding = stride, padding
    new.weight = nn.Parameter(torch.empty(shape))
    new.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
    return new
