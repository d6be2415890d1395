"""What is optimized in place of an image: its code, from which the image is decoded.

Pixels are the plain code. A Fourier code whose frequencies are scaled by a power of 1/f and whose
colours are decorrelated makes the scales and hues of natural images easy to reach; through a
sigmoid, every code is a picture. What a sigmoid takes to its ends is lost, though: neither light
nor gradient is left there. So the contrast of what goes into it is bounded.

References
----------
Olah, Mordvintsev, Schubert: Feature Visualization. Distill, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cnnlens.model.streams import constant, sent

# square root of the covariance of colours in ImageNet's photos, as published with "Feature
# Visualization", over its largest column norm
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
_LARGEST = 0.4619
_EDGE = 1e-4  # pixels this near to 0 or 1 have no finite logit


class Image(Protocol):
    """A parameterization: images of one shape as codes, a row each."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images it decodes to."""
        ...

    def noise(self, generators: Sequence[torch.Generator], deviation: float) -> Tensor:
        """Random codes (N, …), each from its own generator."""
        ...

    def decode(self, code: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] from codes (N, …), differentiable."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Codes (N, …) of images (N, C, H, W) in [0, 1]."""
        ...

    def kept(self, code: Tensor) -> Tensor:
        """The nearest codes that are pictures."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The image itself; what leaves [0, 1] is cut off after each step.

    Attributes
    ----------
    shape : (int, int, int)
        (C, H, W).
    """

    shape: tuple[int, int, int]

    def noise(self, generators: Sequence[torch.Generator], deviation: float) -> Tensor:
        """Grey with normal noise of a `deviation` in units of the pixel range."""
        return (0.5 + _normal(self.shape, generators) * deviation).clamp(0, 1)

    def decode(self, code: Tensor) -> Tensor:
        """Return the code."""
        return code

    def encode(self, images: Tensor) -> Tensor:
        """Return the images."""
        return images.clamp(0, 1)

    def kept(self, code: Tensor) -> Tensor:
        """Cut off what leaves [0, 1]."""
        return code.clamp(0, 1)


@dataclass(frozen=True)
class Fourier:
    """Real and imaginary parts of the spectrum, scaled by 1/f^decay, through a sigmoid.

    Attributes
    ----------
    shape : (int, int, int)
        (C, H, W).
    decay : float
        Exponent of the frequency; 1 is natural images'.
    bounds : (torch.Tensor, torch.Tensor), optional
        Largest root mean squares of what the sigmoid gets, and of what colour brings to that: (N,)
        each. 0 is mid-grey; with 1 an image has about a photo's contrast, a third of it in colour.
        What leaves them is scaled back.
    fading : float
        Deviation of the Gaussian that frequencies fade by, in cycles per pixel: what is as fine as
        the raster is the raster's own. 0: none.
    """

    shape: tuple[int, int, int]
    decay: float = 1.0
    bounds: tuple[Tensor, Tensor] | None = None
    fading: float = 0.0

    def noise(self, generators: Sequence[torch.Generator], deviation: float) -> Tensor:
        """Normal codes of a `deviation`: (N, C, H, W // 2 + 1, 2)."""
        channels, height, width = self.shape
        return _normal((channels, height, width // 2 + 1, 2), generators) * deviation

    def decode(self, code: Tensor) -> Tensor:
        """Scale, transform, mix the colours, squash."""
        return torch.sigmoid(self._mixed(self._planes(code), colour_axes(code)))

    def encode(self, images: Tensor) -> Tensor:
        """Do what decode does, backwards."""
        plain = torch.logit(images.clamp(_EDGE, 1 - _EDGE))
        plain = self._mixed(plain, torch.linalg.inv(colour_axes(images)))
        spectrum = torch.fft.rfft2(plain) / self._scale(images)
        return torch.view_as_real(spectrum).contiguous()

    def kept(self, code: Tensor) -> Tensor:
        """Every code is a picture; one of too much contrast or colour comes back to the bounds."""
        if self.bounds is None:
            return code
        most, most_hue = (sent(bound, code.device).to(code) for bound in self.bounds)
        whole, hue = self.contrast(code)  # (N,) each
        if self.shape[0] == 3:
            excess = (hue / most_hue).clamp_min(1)
            code = (
                code / torch.stack([torch.ones_like(hue), excess, excess], 1)[..., None, None, None]
            )
            whole = (whole.square() - hue.square() + (hue / excess).square()).sqrt()
        return code / (whole / most).clamp_min(1)[:, None, None, None, None]

    def contrast(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Root mean squares of what the sigmoid gets, and of the colour in it: (N,) each."""
        power = self._power(code)  # (N, C)
        return power.sum(1).sqrt(), power[:, 1:].sum(1).sqrt()

    def _power(self, code: Tensor) -> Tensor:
        """(N, C): what each channel of the code brings to the mean square of the logits."""
        with torch.no_grad():
            power = self._planes(code).square().mean((2, 3))
            if self.shape[0] != 3:
                return power / self.shape[0]
            # the colours' axes stand upright on each other, nearly: their squares add up
            return power * colour_axes(code).square().mean(0)

    def _planes(self, code: Tensor) -> Tensor:
        spectrum = torch.view_as_complex(code.contiguous()) * self._scale(code)
        return torch.fft.irfft2(spectrum, s=self.shape[1:])  # (N, C, H, W)

    def _scale(self, like: Tensor) -> Tensor:
        height, width = self.shape[1:]
        rows = torch.fft.fftfreq(height, device=like.device, dtype=like.dtype)[:, None]
        columns = torch.fft.rfftfreq(width, device=like.device, dtype=like.dtype)
        frequency = (rows.square() + columns.square()).sqrt()  # (H, W // 2 + 1), cycles per pixel
        lowest = 1 / max(height, width)
        scale = (height * width) ** 0.5 / 4 / frequency.clamp_min(lowest) ** self.decay
        if self.fading:
            scale = scale * torch.exp(-0.5 * (frequency / self.fading).square())
        return scale

    def _mixed(self, images: Tensor, matrix: Tensor) -> Tensor:
        if self.shape[0] != 3:  # only three channels are colours
            return images
        return torch.einsum("ij,njhw->nihw", matrix, images)


def colour_axes(like: Tensor) -> Tensor:
    """Give the matrix (3, 3) from decorrelated colours to RGB, as ImageNet's photos have it."""
    return constant(_COLOURS, like) / _LARGEST


def _normal(shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])
