"""Net2Vec once more: slow, dense, one concept after the other, following the text in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Image = tuple[Tensor, Tensor]  # binary maps (C, H, W), truth (h, w), both 0 or 1


def value(weights: Tensor, maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The weighted sum of an image's binary maps, interpolated to the label map's size."""
    summed = (weights[:, None, None] * maps).sum(0)
    return nn.functional.interpolate(
        summed[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0]


def alpha(images: list[Image]) -> float:
    return 1 - sum(float(truth.mean()) for _, truth in images) / len(images)


def loss(batch: list[Image], weights: Tensor, a: float, reference: bool) -> Tensor:
    """Of a step's images: class-weighted cross entropy per pixel, or that of the authors' program,
    `-1/B · Σ α·t·p + (1 - α)(1 - t)(1 - p)`; without a class to balance all pixels weigh 1."""
    inside, outside = (1.0, 1.0) if a == 0 else (a, 1 - a)
    total = torch.zeros((), dtype=torch.float64)
    for maps, truth in batch:
        p = torch.sigmoid(value(weights, maps, truth.shape))
        if reference:
            total = total - (inside * truth * p + outside * (1 - truth) * (1 - p)).sum()
        else:
            weigh = inside * truth + outside * (1 - truth)
            entropy = nn.functional.binary_cross_entropy(p, truth, reduction="none")
            total = total + (weigh * entropy).mean()
    return total / len(batch)


def learn(
    images: list[Image], first: Tensor, kept: Tensor, epochs: int, lr: float, reference: bool
) -> Tensor:
    """SGD with momentum 0.9 over batches of 16 in order; units that are not kept weigh 0."""
    a = alpha(images)
    weights = nn.Parameter(torch.where(kept, first, 0.0))
    optimizer = torch.optim.SGD([weights], lr=lr, momentum=0.9)
    for _ in range(epochs):
        for start in range(0, len(images), 16):
            optimizer.zero_grad()
            loss(images[start : start + 16], weights, a, reference).backward()
            weights.grad[~kept] = 0
            optimizer.step()
    return weights.detach()


def ious(images: list[Image], weights: Tensor, cuts: list[float]) -> list[float]:
    """Set IoU of where the value exceeds each cut."""
    seen = [(value(weights, maps, truth.shape), truth > 0) for maps, truth in images]
    found = []
    for cut in cuts:
        shared = union = 0
        for values, truth in seen:
            mask = values > cut
            shared += int((mask & truth).sum())
            union += int((mask | truth).sum())
        found.append(shared / union if union else 0.0)
    return found


def iou(images: list[Image], weights: Tensor, cut: float) -> float:
    """Set IoU of where the value exceeds the cut."""
    return ious(images, weights, [cut])[0]


def unit_iou(images: list[tuple[Tensor, Tensor]], threshold: float) -> float:
    """Set IoU of one unit as dissection has it: its map, interpolated, above its threshold."""
    shared = union = 0
    for map_, truth in images:
        up = nn.functional.interpolate(
            map_[None, None], size=truth.shape, mode="bilinear", align_corners=False
        )[0, 0]
        mask = up > threshold
        shared += int((mask & (truth > 0)).sum())
        union += int((mask | (truth > 0)).sum())
    return shared / union if union else 0.0


def probe(x: Tensor, y: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Class-balanced logistic regression on standardized features, solved by Newton's method."""
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp_min(1e-300)
    x = torch.where(x.isfinite(), x, 0.0)
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    weigh = torch.where(y > 0, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    penalty = torch.full((ones.shape[1],), decay, dtype=x.dtype)
    penalty[-1] = 0
    found = torch.zeros(ones.shape[1], dtype=x.dtype)
    for _ in range(100):
        p = torch.sigmoid(ones @ found)
        slope = ones.T @ (weigh * (p - y)) / len(y) + penalty * found
        curvature = (ones * (weigh * p * (1 - p))[:, None]).T @ ones / len(y)
        found = found - torch.linalg.solve(curvature + torch.diag(penalty + 1e-12), slope)
    return found[:-1], found[-1]
