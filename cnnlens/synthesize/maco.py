"""MaCo: images with the spectrum of photos, of which the phases alone are optimized.

    x(φ) = μ + M · F⁻¹(r · e^{iφ})

r is the mean magnitude of the photos' spectra, in the decorrelated colours of these photos (M Mᵀ
their covariance, μ their mean colour). Contrast and colours cannot leave those of photos, however
long the climb. Every step sees the image from near and from far, shifted, turned, with noise: what
is drawn must hold at every size. Of an image larger than the input it sees crops, as in the paper,
whose side falls from a half of it to a twentieth. What the gradient has touched most, over all
steps, is what the unit needs to see, which makes the transparency.

References
----------
Fel et al.: Unlocking Feature Visualization for Deeper Networks with Magnitude Constrained
Optimization. NeurIPS 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cnnlens.synthesize.image import colour_axes
from cnnlens.synthesize.transform import Transform, moved, resized, turning

# Views a step and NAdam's learning rate, in radians: of an image as large as the input; of a larger
# one, which is the paper's case.
VIEWS, RATE = 4, 0.4
CROPS, CROPS_RATE = 32, 1.0
# Sides of the crops over the image's, at first and in the end. The paper's are those of an image
# six times as large as the input: .05 of it is still .3 of what the network sees at once. Smaller
# ones would draw a class as large as a thumb.
_SIDES = (0.5, 0.05)
_OF_INPUT = (1.0, 0.3)
_NOISE, _VIEW_NOISE = 0.08, 0.03  # deviations of crops and of views, in units of the pixel range
_JITTER, _SCALE, _ROTATE = 1 / 5.6, 0.6, 20.0  # of views: sides of the input, share, degrees
_CENTRE = 0.15  # deviation of the crops' centres from the image's
_DEVIATION = 0.23  # of the pixels of usual photos


@dataclass(frozen=True)
class Spectrum:
    """What of photos an image keeps."""

    magnitude: Tensor  # (C, H, W // 2 + 1), in decorrelated colours
    colours: Tensor  # (C, C): from decorrelated colours to the image's channels
    mean: Tensor  # (C,), in [0, 1]


def spectrum_of(photos: np.ndarray, shape: tuple[int, int, int]) -> Spectrum:
    """Measure photos.

    They are taken to fade towards their borders (a Hann window): a photo does not go on at the
    other side, and the edge there would count for all rows and columns.

    Parameters
    ----------
    photos : numpy.ndarray
        (N, c, h, w) uint8, or float in [0, 1], of any size; fewer channels than `shape` has are
        repeated.
    shape : (int, int, int)
        (C, H, W) of the images that are to have it.
    """
    pixels = torch.from_numpy(photos)
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    pixels = resized(pixels, (shape[1], shape[2]))
    pixels = pixels.repeat(1, -(-shape[0] // pixels.shape[1]), 1, 1)[:, : shape[0]]
    mean = pixels.mean((0, 2, 3))  # (C,)
    flat = (pixels - mean[:, None, None]).movedim(1, 0).flatten(1)  # (C, N H W)
    values, axes = torch.linalg.eigh(flat @ flat.T / flat.shape[1])
    colours = axes * values.clamp_min(1e-8).sqrt()
    plain = torch.linalg.solve(colours, flat).reshape(shape[0], len(pixels), *shape[1:])
    window = torch.hann_window(shape[1])[:, None] * torch.hann_window(shape[2])
    windowed = plain * window / window.square().mean().sqrt()  # of the same power
    magnitude = torch.fft.rfft2(windowed).abs().mean(1)
    magnitude[:, 0, 0] = 0  # the mean colour is `mean`
    return Spectrum(magnitude, colours, mean)


def usual_spectrum(shape: tuple[int, int, int]) -> Spectrum:
    """Take 1/f, and the colours of ImageNet's photos: where there are no photos of one's own."""
    channels, height, width = shape
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    frequency = (rows.square() + columns.square()).sqrt()
    magnitude = 1 / frequency.clamp_min(1 / max(height, width))
    magnitude[0, 0] = 0
    colours = colour_axes(magnitude) if channels == 3 else torch.eye(channels)
    spectrum = Spectrum(magnitude.expand(channels, -1, -1), colours, torch.full((channels,), 0.5))
    # random phases leave the power, so any phases give the image's deviation
    phases = torch.rand((1, *spectrum.magnitude.shape), generator=torch.Generator().manual_seed(0))
    found = Phases(shape, spectrum).unbounded(phases * 2 * math.pi).std()
    return replace(spectrum, magnitude=spectrum.magnitude * _DEVIATION / found)


@dataclass(frozen=True)
class Phases:
    """The phases of an image whose magnitudes are given: (N, C, H, W // 2 + 1), in radians."""

    shape: tuple[int, int, int]
    spectrum: Spectrum

    def noise(self, generators: Sequence[torch.Generator], deviation: float) -> Tensor:
        """Phases that are all equally likely; `deviation` does not matter."""
        shape = (self.shape[0], self.shape[1], self.shape[2] // 2 + 1)
        drawn = [torch.rand(shape, generator=generator) for generator in generators]
        return (2 * torch.stack(drawn) - 1) * math.pi

    def decode(self, code: Tensor) -> Tensor:
        """Images (N, C, H, W); the little that leaves [0, 1] is cut off."""
        return self.unbounded(code).clamp(0, 1)

    def unbounded(self, code: Tensor) -> Tensor:
        """Images (N, C, H, W) before anything is cut off."""
        magnitude, colours, mean = (
            one.to(code)
            for one in (self.spectrum.magnitude, self.spectrum.colours, self.spectrum.mean)
        )
        plain = torch.fft.irfft2(torch.polar(magnitude.expand_as(code), code), s=self.shape[1:])
        return torch.einsum("ij,njhw->nihw", colours, plain) + mean[:, None, None]

    def encode(self, images: Tensor) -> Tensor:
        """Phases of images; their magnitudes are lost."""
        colours, mean = self.spectrum.colours.to(images), self.spectrum.mean.to(images)
        inverse = torch.linalg.inv(colours)
        plain = torch.einsum("ij,njhw->nihw", inverse, images - mean[:, None, None])
        return torch.fft.rfft2(plain).angle()

    def kept(self, code: Tensor) -> Tensor:
        """Every phase is an image."""
        return code


@dataclass(frozen=True)
class Crops:
    """Random crops of a large image, views of one like the input; `share` of the climb is over."""

    share: float = 0.0

    def at(self, share: float) -> Crops:
        """Views when a share of the climb is over."""
        return Crops(share)

    def side(self, enlarged: float) -> float:
        """Side of the crops over the image's, which is `enlarged` times the input's.

        As in the paper, but at first no smaller than the input where the image holds that, and in
        the end no smaller than .3 of it.
        """
        pairs = zip(_SIDES, _OF_INPUT, strict=True)
        first, last = (max(of_image, min(1.0, of_input / enlarged)) for of_image, of_input in pairs)
        return first + (last - first) * self.share

    def __call__(
        self, images: Tensor, size: tuple[int, int], generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Draw one of each image (N, C, h, w): (N, C, *size), differentiable."""
        enlarged = min(images.shape[2:]) / min(size)
        if enlarged > 1:
            seen, deviation = self._cropped(images, size, generators, enlarged), _NOISE
        else:
            view = Transform(min(size) * _JITTER, _SCALE, _ROTATE)
            seen, deviation = view(images, size, generators), _VIEW_NOISE
        noise = [torch.randn(seen.shape[1:], generator=one) for one in generators]
        return seen + torch.stack(noise).to(seen) * deviation

    def _cropped(
        self,
        images: Tensor,
        size: tuple[int, int],
        generators: Sequence[torch.Generator],
        enlarged: float,
    ) -> Tensor:
        side = self.side(enlarged)
        centres = torch.stack([torch.randn(2, generator=one) for one in generators]) * _CENTRE
        centres = centres.clamp((side - 1) / 2, (1 - side) / 2)  # crops stay inside
        nothing, larger = torch.zeros(len(images)), torch.full((len(images),), 1 / side)
        shift = -centres * torch.tensor(size) / side  # in pixels of the crop
        return moved(images, turning(nothing, larger, shift, size), size, "reflection")


def transparency(touched: Tensor) -> np.ndarray:
    """Opacity (N, H, W) uint8 from how much gradient each pixel has had, (N, H, W).

    The least touched fifth is clear, the most touched fifth opaque.
    """
    low, high = (torch.quantile(touched.flatten(1), q, dim=1) for q in (0.2, 0.8))
    extent = (high - low).clamp_min(1e-12)
    shares = ((touched - low[:, None, None]) / extent[:, None, None]).clamp(0, 1)
    return (shares * 255).round().byte().cpu().numpy()
