"""What keeps images natural: penalties, edits between steps, and random filters of the gradient.

A penalty maps images (N, C, H, W) to a number each. An edit changes images between two steps. A
gradient filter blurs, shifts and turns the gradient before it is followed.

References
----------
Yosinski et al.: Understanding Neural Networks Through Deep Visualization, 2015 (edits).
Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them, 2015 (penalties).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlens.synthesize.transform import drawn, moved, turning

_FLAT = 1e-10  # squared steps below this count as none: a power below 1 has no slope at 0


def total_variation(images: Tensor, beta: float = 2.0) -> Tensor:
    """Mean over pixels of (Δx² + Δy²)^(β/2), forward differences.

    In images of one row or column there is a difference along it alone, in one pixel none.

    Parameters
    ----------
    images : torch.Tensor
        (N, C, H, W).
    beta : float
        1 spares edges, 2 blurs them.

    Returns
    -------
    torch.Tensor
        (N,).
    """
    height, width = images.shape[-2:]
    if min(height, width) == 1:  # what stands alone is set beside itself: across it nothing changes
        images = images.repeat(1, 1, 1 + (height == 1), 1 + (width == 1))
    right = images[..., :-1, 1:] - images[..., :-1, :-1]
    down = images[..., 1:, :-1] - images[..., :-1, :-1]  # (N, C, H - 1, W - 1)
    squares = right.square() + down.square()
    return (squares.clamp_min(_FLAT) ** (beta / 2)).flatten(1).mean(1)


def alpha_norm(images: Tensor, alpha: float = 6.0, centre: float = 0.5) -> Tensor:
    """Mean over pixels of \\|2 (x − centre)\\|^α: 1 for black and white, 0 for grey; (N,)."""
    return (2 * (images - centre)).abs().pow(alpha).flatten(1).mean(1)


@dataclass(frozen=True)
class Penalty:
    """A weighted penalty.

    Attributes
    ----------
    name : str
        For messages.
    weight : float
        Its factor.
    value : callable
        From images (N, C, H, W) to (N,).
    """

    name: str
    weight: float
    value: Callable[[Tensor], Tensor]


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images (N, C, H, W) with a Gaussian of deviation `sigma` pixels, mirrored at borders."""
    if sigma <= 0:
        return images
    for axis in (2, 3):
        reach = min(int(4 * sigma + 0.5), images.shape[axis] - 1)
        at = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        kernel = torch.exp(-0.5 * (at / sigma).square())
        kernel = (kernel / kernel.sum()).reshape(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        flat = F.pad(images.flatten(0, 1)[:, None], pad, mode="reflect")  # (N * C, 1, …)
        images = F.conv2d(flat, kernel).reshape(images.shape)
    return images


@dataclass(frozen=True)
class Edits:
    """What is done to the images between steps.

    Attributes
    ----------
    decay : float
        Share of the distance to the mean colour that is taken off in every step (L2 decay).
    blur : float
        Deviation of the Gaussian, in pixels; 0: none.
    every : int
        Steps between blurs and clippings.
    small_pixels : float
        Share of the pixels, those nearest to the mean colour, that become it.
    small_contributions : float
        Share of the pixels that become the mean colour: those that the objective would miss least.
    """

    decay: float = 0.0
    blur: float = 0.0
    every: int = 4
    small_pixels: float = 0.0
    small_contributions: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.decay or self.blur or self.small_pixels or self.small_contributions)

    def is_due(self, step: int) -> bool:
        """Whether anything happens after step `step`, counted from 1."""
        return bool(self) and (self.decay > 0 or step % self.every == 0)

    def __call__(self, images: Tensor, gradient: Tensor, mean: Tensor, step: int) -> Tensor:
        """Edit images after step `step`.

        Parameters
        ----------
        images, gradient : torch.Tensor
            (N, C, H, W); the gradient is the objective's.
        mean : torch.Tensor
            The mean colour, (C, 1, 1).
        step : int
            Counted from 1.
        """
        rest = (images - mean) * (1 - self.decay)
        if step % self.every == 0:
            if self.small_pixels:
                rest = _without(rest, rest.square().sum(1), self.small_pixels)
            if self.small_contributions:
                # to first order, what setting a pixel to the mean takes from the objective
                missed = (rest * gradient).sum(1).abs()
                rest = _without(rest, missed, self.small_contributions)
            rest = gaussian_blur(rest, self.blur)
        return rest + mean


def _without(images: Tensor, size: Tensor, share: float) -> Tensor:
    """Set the pixels of smallest `size` (N, H, W) to 0."""
    least = torch.quantile(size.flatten(1), share, dim=1)  # (N,)
    return images * (size > least[:, None, None])[:, None]


@dataclass(frozen=True)
class GradientFilter:
    """Blurs, shifts and turns the gradient a little, anew in each step (seed of lifelike images).

    Attributes
    ----------
    blur : float
        Largest deviation of the Gaussian, in pixels.
    shift : float
        Largest shift, in pixels.
    rotate : float
        Largest angle, in degrees.
    """

    blur: float = 0.0
    shift: float = 0.0
    rotate: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.blur or self.shift or self.rotate)

    def __call__(self, gradient: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Filter gradients (N, C, H, W), each by its own generator."""
        numbers = drawn(generators, 4)  # (N, 4) in [0, 1)
        if self.shift or self.rotate:
            angle = (2 * numbers[:, 0] - 1) * self.rotate
            shift = (2 * numbers[:, 1:3] - 1) * self.shift
            turns = turning(angle, torch.ones(len(angle)), shift, gradient.shape[2:])
            gradient = moved(gradient, turns, gradient.shape[2:], "zeros")
        if self.blur:
            sigmas = (numbers[:, 3] * self.blur).tolist()
            rows = zip(gradient.split(1), sigmas, strict=True)
            gradient = torch.cat([gaussian_blur(row, sigma) for row, sigma in rows])
        return gradient
