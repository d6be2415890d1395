"""Random views of an image: what excites a unit only from one exact angle is noise.

Scale, rotation and jitter are drawn per image and done by one resampling, which also brings the
image to the size of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlens.model.streams import sent


class Views(Protocol):
    """Draws what a step sees of each image."""

    def at(self, share: float) -> Views:
        """Views when a share of the climb is over."""
        ...

    def __call__(
        self, images: Tensor, size: tuple[int, int], generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Draw one view (N, C, *size) of each image (N, C, h, w), differentiable."""
        ...


@dataclass(frozen=True)
class Transform:
    """How far views differ from the image itself.

    Attributes
    ----------
    jitter : float
        Largest shift along each axis, in input pixels.
    scale : float
        Largest relative change of size: 0.1 draws factors from 0.9 to 1.1.
    rotate : float
        Largest angle, in degrees.
    pad : float
        Width of the mirrored border around the image, in input pixels.
    """

    jitter: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    pad: float = 0.0

    def at(self, share: float) -> Transform:
        """Views when a share of the climb is over: the same all along."""
        return self

    def __call__(
        self, images: Tensor, size: tuple[int, int], generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Draw one view of each image.

        Parameters
        ----------
        images : torch.Tensor
            (N, C, h, w) in [0, 1].
        size : (int, int)
            Height and width of the views.
        generators : sequence of torch.Generator
            One per image.

        Returns
        -------
        torch.Tensor
            (N, C, *size), differentiable; outside, an image goes on mirrored: a plain border would
            be an edge that units answer to.
        """
        if not (self.jitter or self.scale or self.rotate or self.pad):
            return resized(images, size)
        numbers = 2 * drawn(generators, 4) - 1  # (N, 4) in [-1, 1)
        border = torch.tensor([1 - 2 * self.pad / side for side in size])
        factor = (1 + numbers[:, 0] * self.scale) * border.clamp_min(0.1).mean()
        turns = turning(numbers[:, 1] * self.rotate, factor, numbers[:, 2:] * self.jitter, size)
        return moved(smaller(images, size), turns, size, "reflection")


def drawn(generators: Sequence[torch.Generator], count: int) -> Tensor:
    """(N, count) float32 numbers in [0, 1), a row from each generator."""
    return torch.stack([torch.rand(count, generator=generator) for generator in generators])


def turning(angle: Tensor, factor: Tensor, shift: Tensor, size: Sequence[int]) -> Tensor:
    """Matrices of a rotation, then a scaling about the centre, then a shift.

    Parameters
    ----------
    angle : torch.Tensor
        (N,), degrees, counter-clockwise.
    factor : torch.Tensor
        (N,); above 1 enlarges.
    shift : torch.Tensor
        (N, 2), down and right, in pixels of the result.
    size : sequence of int
        Height and width of the result.

    Returns
    -------
    torch.Tensor
        (N, 2, 3): from the result's coordinates to the source's, both from -1 to 1.
    """
    height, width = size
    turn = angle * (math.pi / 180)
    cos, sin = torch.cos(turn) / factor, torch.sin(turn) / factor
    down, right = 2 * shift[:, 0] / height, 2 * shift[:, 1] / width
    ratio = height / width  # pixels are square, coordinates need not be
    rows = torch.stack([cos, -sin * ratio, sin / ratio, cos], 1).reshape(-1, 2, 2)
    offset = -rows @ torch.stack([right, down], 1)[..., None]
    return torch.cat([rows, offset], 2)


def moved(images: Tensor, turns: Tensor, size: Sequence[int], outside: str) -> Tensor:
    """Resample images (N, C, h, w) to (N, C, *size) along `turns`.

    `outside` is what lies beyond their borders: "zeros" or "reflection".
    """
    turns = sent(turns, images.device).to(images)
    grid = F.affine_grid(turns, [len(images), 1, *size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring images (N, C, h, w) to (N, C, *size), unchanged where they have it."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def smaller(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring images that are larger than `size` down to it, so that none of their detail folds."""
    height, width = images.shape[2:]
    return resized(images, size) if height > size[0] or width > size[1] else images
