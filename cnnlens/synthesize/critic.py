"""What a generator is trained against: it tells photos from made images, given the code.

References
----------
Dosovitskiy and Brox: Generating Images with Perceptual Similarity Metrics based on Deep Networks.
NeurIPS 2016.
"""

from __future__ import annotations

from torch import Tensor, nn

from cnnlens.synthesize.upconv import SLOPE

_WIDEST = 128  # channels


class Critic(nn.Module):
    """Tells photos from made images, given the code: (N, C, H, W) and (N, c, h, w) to (N,)."""

    def __init__(self, image: tuple[int, int, int], units: int) -> None:
        super().__init__()
        channels, width, sides = 16, 32, list(image[1:])
        layers: list[nn.Module] = [nn.Conv2d(image[0], channels, 3, 1, 1), nn.LeakyReLU(SLOPE)]
        while max(sides) > 4:  # kernels of twice the stride: no raster is overlooked
            # along a side of one pixel nothing is left to halve
            kernel, stride, padding = (
                (one if sides[0] > 1 else other, one if sides[1] > 1 else other)
                for one, other in ((4, 1), (2, 1), (1, 0))
            )
            layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.LeakyReLU(SLOPE)]
            channels, width = width, min(2 * width, _WIDEST)
            sides = [max(side // 2, 1) for side in sides]
        self.body = nn.Sequential(*layers)
        self.plain, self.given = nn.Linear(channels, 1), nn.Linear(units, channels)

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """Give what is above 0 for photos; codes are standardized."""
        seen = self.body(2 * images - 1).mean((2, 3))  # (N, K)
        match = (seen * self.given(codes.mean((2, 3)))).sum(1) / seen.shape[1] ** 0.5
        found: Tensor = self.plain(seen)[:, 0] + match
        return found
