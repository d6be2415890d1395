"""DeconvNet spelled out: transposed convolutions, adding unpooling, rules by hand, no autograd.

Each network here comes with its own backward pass, written down line by line after Zeiler and
Fergus (2014, §2.1) and Springenberg et al. (2015, figure 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_back(signal: Tensor, conv: nn.Conv2d, size: Sequence[int]) -> Tensor:
    """Transposed convolution back to an input of `size`; the bias takes no part."""
    spare = [
        before - ((after - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1)
        for before, after, stride, pad, kernel, dilation in zip(
            size,
            signal.shape[2:],
            conv.stride,
            conv.padding,  # type: ignore[arg-type]
            conv.kernel_size,
            conv.dilation,
            strict=True,
        )
    ]
    return F.conv_transpose2d(
        signal,
        conv.weight,
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        output_padding=spare,
        groups=conv.groups,
        dilation=conv.dilation,  # type: ignore[arg-type]
    )


def pool(x: Tensor, kernel: int, stride: int, ceil: bool = False) -> tuple[Tensor, Tensor]:
    pooled, switches = F.max_pool2d(x, kernel, stride, ceil_mode=ceil, return_indices=True)
    return pooled, switches


def unpool_back(signal: Tensor, switches: Tensor, size: Sequence[int]) -> Tensor:
    """Put every value where its switch points; where windows overlap, values add."""
    flat = torch.zeros(*signal.shape[:2], size[0] * size[1])
    for image in range(signal.shape[0]):
        for channel in range(signal.shape[1]):
            flat[image, channel].index_add_(
                0, switches[image, channel].flatten(), signal[image, channel].flatten()
            )
    return flat.view(*signal.shape[:2], *size)


def average_back(signal: Tensor, kernel: int, size: Sequence[int]) -> Tensor:
    """Spread every value evenly over its window (windows do not overlap)."""
    spread = signal.repeat_interleave(kernel, 2).repeat_interleave(kernel, 3) / kernel**2
    full = torch.zeros(*signal.shape[:2], *size)
    full[:, :, : spread.shape[2], : spread.shape[3]] = spread
    return full


def norm_back(signal: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return signal * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]


def rectifier_back(signal: Tensor, forward: Tensor, method: str) -> Tensor:
    """`forward` is what the rectifier gave out."""
    if method == "deconvnet":
        return signal * (signal > 0)
    if method == "guided":
        return signal * (signal > 0) * (forward > 0)
    return signal * (forward > 0)


def only_peak(maps: Tensor, unit: int) -> Tensor:
    """The unit's highest activation at its place, all else zero."""
    seed = torch.zeros_like(maps)
    for image in range(len(maps)):
        at = int(maps[image, unit].argmax())
        seed[image, unit].view(-1)[at] = maps[image, unit].reshape(-1)[at]
    return seed


def sequential(layers: nn.Sequential, x: Tensor, unit: int, method: str) -> Tensor:
    """Project through convolutions, rectifiers, norms and pools in a row (AlexNet, VGG)."""
    steps = []
    for layer in layers:
        size = x.shape[2:]
        switches = torch.empty(0)
        if isinstance(layer, nn.MaxPool2d):
            x, switches = pool(x, layer.kernel_size, layer.stride, layer.ceil_mode)
        elif isinstance(layer, nn.ReLU):
            x = x.clamp(min=0)
        else:
            x = layer(x)
        steps.append((layer, size, switches, x))
    signal = only_peak(x, unit)
    for layer, size, switches, output in reversed(steps):
        if isinstance(layer, nn.Conv2d):
            signal = conv_back(signal, layer, size)
        elif isinstance(layer, nn.BatchNorm2d):
            signal = norm_back(signal, layer)
        elif isinstance(layer, nn.MaxPool2d):
            signal = unpool_back(signal, switches, size)
        else:
            signal = rectifier_back(signal, output, method)
    return signal


class Functional(nn.Module):
    """Rectifiers as functions, one in place, one clamped; overlapping pool."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3)
        self.three = nn.Conv2d(8, 6, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.one(x)), 3, 2)
        x = F.relu(self.two(x), inplace=True)
        return self.three(x).clamp(min=0)

    def project(self, x: Tensor, unit: int, method: str) -> Tensor:
        a = self.one(x) * (self.one(x) > 0)
        b, switches = pool(a, 3, 2)
        c = self.two(b) * (self.two(b) > 0)
        d = self.three(c) * (self.three(c) > 0)
        signal = rectifier_back(only_peak(d, unit), d, method)
        signal = conv_back(signal, self.three, c.shape[2:])
        signal = conv_back(rectifier_back(signal, c, method), self.two, b.shape[2:])
        signal = unpool_back(signal, switches, a.shape[2:])
        return conv_back(rectifier_back(signal, a, method), self.one, x.shape[2:])


class Reused(nn.Module):
    """One rectifier module, in place, called three times; ReLU6 among them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.three = nn.Conv2d(8, 6, 3)
        self.relu, self.six = nn.ReLU(inplace=True), nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.relu(self.three(self.six(self.relu(self.two(x)) * 4)))

    def project(self, x: Tensor, unit: int, method: str) -> Tensor:
        a = self.one(x).clamp(min=0)
        b = self.two(a).clamp(min=0)
        c = (b * 4).clamp(0, 6)
        d = self.three(c).clamp(min=0)
        signal = rectifier_back(only_peak(d, unit), d, method)
        signal = conv_back(signal, self.three, c.shape[2:])
        # on the way back the ceiling has no meaning to DeconvNet; a gradient stops at it
        open_ = c if method == "deconvnet" else c * (c < 6)
        signal = rectifier_back(signal, open_, method) * 4
        signal = conv_back(rectifier_back(signal, b, method), self.two, a.shape[2:])
        return conv_back(rectifier_back(signal, a, method), self.one, x.shape[2:])


class Residual(nn.Module):
    """A residual block with batch norms and a strided short cut, one rectifier module for all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.two = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.norm, self.norm_two = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.short = nn.Conv2d(8, 8, 1, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        inner = self.norm_two(self.two(self.relu(self.norm(self.one(x)))))
        inner += self.short(x)
        return self.relu(inner)

    def project(self, x: Tensor, unit: int, method: str) -> Tensor:
        a = self.stem(x).clamp(min=0)
        b = self.norm(self.one(a)).clamp(min=0)
        c = (self.norm_two(self.two(b)) + self.short(a)).clamp(min=0)
        signal = rectifier_back(only_peak(c, unit), c, method)
        inner = conv_back(norm_back(signal, self.norm_two), self.two, b.shape[2:])
        inner = norm_back(rectifier_back(inner, b, method), self.norm)
        inner = conv_back(inner, self.one, a.shape[2:])
        signal = inner + conv_back(signal, self.short, a.shape[2:])
        return conv_back(rectifier_back(signal, a, method), self.stem, x.shape[2:])


class Dense(nn.Module):
    """Concatenation of what went before, norm and rectifier ahead of the convolution, averages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.one = nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, padding=1)
        self.norm_two, self.two = nn.BatchNorm2d(9), nn.Conv2d(9, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.one(F.relu(self.norm(x)))], 1)
        return F.avg_pool2d(self.two(F.relu(self.norm_two(x), inplace=True)), 2)

    def project(self, x: Tensor, unit: int, method: str) -> Tensor:
        a = self.stem(x)
        b = self.norm(a).clamp(min=0)
        c = torch.cat([a, self.one(b)], 1)
        d = self.norm_two(c).clamp(min=0)
        e = F.avg_pool2d(self.two(d), 2)
        signal = average_back(only_peak(e, unit), 2, d.shape[2:])
        signal = conv_back(signal, self.two, d.shape[2:])
        signal = norm_back(rectifier_back(signal, d, method), self.norm_two)
        old, new = signal[:, :4], signal[:, 4:]
        new = rectifier_back(conv_back(new, self.one, b.shape[2:]), b, method)
        return conv_back(old + norm_back(new, self.norm), self.stem, x.shape[2:])
