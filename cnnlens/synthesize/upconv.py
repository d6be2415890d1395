"""The up-convolutional network: from a layer's answer to an image, in one forward pass.

Conv features go through three 3×3 convolutions; a layer without places through three fully
connected ones onto 4×4 places. Up-convolutions then double the size until it is the image's: each
value becomes a 2×2 block, with itself at the top left and 0 elsewhere, and a 5×5 convolution
follows. Leaky ReLU 0.2 between all of them, nothing behind the last.

Beyond the paper, so that any layer of any network can be inverted: sizes are halved from the
image's down (rounded up, so that an up-convolution may leave its last row out), the answer is
brought to the smallest of them by interpolation; answers are standardized; and what comes out, in
units of a photo's contrast, is added to the mean image, at which training begins.

References
----------
Dosovitskiy and Brox: Inverting Visual Representations with Convolutional Networks, CVPR 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2  # of the leaky ReLU
_PLACES = (4, 4)  # that fully connected layers answer at
_WIDEST = 256  # channels of a convolution, at most
_CONTRAST = 0.25  # of photos: what comes out of the last layer counts in it
_CONNECTED = 1024  # units of a fully connected layer, at most

Size = tuple[int, int]
Shape = tuple[int, int, int]


class UpConv(nn.ConvTranspose2d):
    """Zeros between the values, then a 5×5 convolution: twice the size, or one less.

    Computed as a transposed convolution, which never multiplies by these zeros; its kernel is the
    convolution's, turned by 180 degrees.

    Parameters
    ----------
    channels, units : int
        In and out.
    size, to : (int, int)
        Height and width of what comes in, and of what is to come out.
    """

    def __init__(self, channels: int, units: int, size: Size, to: Size) -> None:
        more = tuple(b - (2 * a - 1) for a, b in zip(size, to, strict=True))
        super().__init__(channels, units, 5, 2, padding=2, output_padding=more)  # type: ignore[arg-type]


class UpconvNet(nn.Module):
    """From features (N, C, H, W) to images (N, C', H', W').

    Parameters
    ----------
    features, image : (int, int, int)
        Channels, height and width of a layer's answer and of an image. An answer of 1×1 goes
        through fully connected layers.
    width : int
        Channels at half of the image's size; twice as many at each smaller one, up to 256.
    seed : int
        Of the weights.

    Attributes
    ----------
    shift, scale : torch.Tensor
        (C, 1, 1), what `standardize` found.
    floor : torch.Tensor
        (C', H', W'), the mean image.
    """

    shift: Tensor
    scale: Tensor
    floor: Tensor

    def __init__(self, features: Shape, image: Shape, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        connected = features[1:] == (1, 1)
        self.sizes = sizes_between(_PLACES if connected else features[1:], image[1:])
        widths = [min(_WIDEST, width << max(0, n - 1)) for n in range(len(self.sizes))][::-1]
        with torch.random.fork_rng([]):  # the weights that modules begin with are not kept
            self.head = (_connected if connected else _convolutions)(features[0], widths[0])
            self.tail = self._up(widths, image[0])
        self.register_buffer("shift", torch.zeros(features[0], 1, 1))
        self.register_buffer("scale", torch.ones(features[0], 1, 1))
        self.register_buffer("floor", torch.zeros(image))
        self._begin(seed)

    def _up(self, widths: Sequence[int], channels: int) -> nn.Sequential:
        if len(self.sizes) == 1:  # the features are as large as the image
            return nn.Sequential(nn.Conv2d(widths[0], channels, 5, padding=2))
        layers: list[nn.Module] = []
        for n, (size, to) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            units = widths[n + 1] if n + 2 < len(self.sizes) else channels
            layers += [UpConv(widths[n], units, size, to), nn.LeakyReLU(SLOPE)]
        return nn.Sequential(*layers[:-1])

    def _begin(self, seed: int) -> None:
        """Draw weights that keep the size of what goes through; the last are 0."""
        generator = torch.Generator().manual_seed(seed)
        layers = [m for m in self.modules() if isinstance(m, nn.Linear | nn.Conv2d | UpConv)]
        for layer in layers:
            taps = 25 / 4 if isinstance(layer, UpConv) else layer.weight[0, 0].numel()
            inputs = layer.weight.shape[0 if isinstance(layer, UpConv) else 1] * taps
            deviation = math.sqrt(2 / (1 + SLOPE**2) / inputs)
            nn.init.normal_(layer.weight, 0.0, deviation, generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(layers[-1].weight)

    def standardize(self, shift: Tensor, scale: Tensor, floor: Tensor) -> None:
        """Take mean and deviation of each unit (C,), and the mean image (C', H', W')."""
        self.shift.copy_(shift.reshape(self.shift.shape))
        self.scale.copy_(scale.reshape(self.scale.shape))
        self.floor.copy_(floor)

    def forward(self, features: Tensor) -> Tensor:
        """Give the images of features (N, C, H, W): (N, C', H', W'), in any range."""
        maps: Tensor = self.head((features - self.shift) / self.scale)
        if maps.shape[2:] != self.sizes[0]:
            maps = F.interpolate(maps, self.sizes[0], mode="bilinear")
        images: Tensor = self.floor + _CONTRAST * self.tail(maps)
        return images


def sizes_between(small: Size, large: Size) -> list[Size]:
    """Sizes from about `small` up to `large`, each half of the next, rounded up.

    The first is the one that is nearest to `small`, by ratio.
    """

    def ratio(size: Size) -> float:
        return sum(abs(math.log(a / b)) for a, b in zip(size, small, strict=True))

    found = [large]
    while ratio(half := _halved(found[-1])) < ratio(found[-1]):
        found.append(half)
    return found[::-1]


def _halved(size: Size) -> Size:
    return -(-size[0] // 2), -(-size[1] // 2)


def _convolutions(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in (channels, width, width):
        layers += [nn.Conv2d(units, width, 3, padding=1), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def _connected(channels: int, width: int) -> nn.Sequential:
    places = width * _PLACES[0] * _PLACES[1]
    hidden = min(_CONNECTED, places)
    layers: list[nn.Module] = [nn.Flatten()]
    for units, to in ((channels, hidden), (hidden, hidden), (hidden, places)):
        layers += [nn.Linear(units, to), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Unflatten(1, (width, *_PLACES)))
