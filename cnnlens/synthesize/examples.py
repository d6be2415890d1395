"""Images with what a layer answers to them: pairs that a network learns to invert it from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cnnlens.activations.passes import Forward
from cnnlens.errors import CnnlensError
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.progress import Step

IN_MEMORY = 1 << 31  # bytes of answers that are kept; of more, each is computed when it is needed


class Examples:
    """Images and a layer's answers.

    Parameters
    ----------
    model, layer : Model, Layer
        The frozen network; it is run up to the layer.
    pixels : torch.Tensor
        (N, C, H, W) uint8, or float32 in [0, 1].
    limit : int
        Images in the network at once.
    in_memory : int
        Bytes of answers that are kept.

    Attributes
    ----------
    shape : (int, int, int)
        Of an image: the network's channels, height, width.
    """

    def __init__(
        self,
        model: Model,
        layer: Layer,
        pixels: Tensor,
        limit: int = 32,
        in_memory: int = IN_MEMORY,
    ) -> None:
        self.layer, self.pixels = layer, pixels
        self.shape = (model.preprocess.channels, pixels.shape[2], pixels.shape[3])
        self._forward = Forward(model, [layer], logits=False, limit=limit)
        keeps = 4 * len(pixels) * int(np.prod(layer.shape)) <= in_memory
        self._kept = torch.empty(len(pixels), *layer.shape) if keeps else None

    def read(self, training: Tensor) -> Iterator[Step]:
        """Run the network over all images once; learn the statistics of those to train on.

        Raises
        ------
        CnnlensError
            When answers are not finite.
        """
        count, channels = len(self.pixels), self.layer.shape[0]
        sums, squares = torch.zeros(2, channels, dtype=torch.float64)
        learned = torch.zeros(count, dtype=torch.bool)
        learned[training] = True
        for rows in torch.arange(count).split(self._forward.limit):
            answers = self._answers(rows)
            if self._kept is not None:
                self._kept[rows] = answers
            some = answers[learned[rows]].double()
            sums += some.sum(dim=(0, 2, 3))
            squares += some.square().sum(dim=(0, 2, 3))
            yield Step(int(rows[-1]) + 1, count, f"reading {self.layer.name}")
        number = len(training) * self.layer.shape[1] * self.layer.shape[2]
        self.mean = sums / number
        spread = (squares / number - self.mean.square()).clamp_min(0).sqrt()
        self.deviation = torch.where(spread > 1e-6 * spread.max(), spread, 1.0)  # dead units: 1
        self.floor = self._mean_image(training)

    def _answers(self, rows: Tensor) -> Tensor:
        (maps,), _ = self._forward(self.pixels[rows])
        if not np.isfinite(maps.sum(dtype=np.float64)):
            raise CnnlensError(
                f"layer '{self.layer.name}' is not finite on some of the images",
                "the network overflows there: check its weights, and --mean and --std",
            )
        return torch.from_numpy(maps)

    def _mean_image(self, some: Tensor) -> Tensor:
        total = torch.zeros(self.shape, dtype=torch.float64)
        for rows in some.split(256):
            total += self.images(rows).double().sum(0)
        return (total / len(some)).float()

    def features(self, rows: Tensor) -> Tensor:
        """Give the layer's answers to some images, (B, C, H, W)."""
        return self._answers(rows) if self._kept is None else self._kept[rows]

    def images(self, rows: Tensor) -> Tensor:
        """Give some images as the network sees them, (B, C, H, W) in [0, 1]."""
        return as_planes(self.pixels[rows], self.shape[0])


def as_planes(pixels: Tensor, channels: int) -> Tensor:
    """Pixels (…, c, H, W) uint8, or float in [0, 1], as (…, C, H, W) in [0, 1]: colours repeat,
    and those beyond the network's are left out.
    """
    planes = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    copies = -(-channels // planes.shape[-3])
    return torch.cat([planes] * copies, dim=-3)[..., :channels, :, :]
