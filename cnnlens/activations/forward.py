"""Running a network over batches of pictures, in whatever batches it and the memory allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.device import is_memory_error
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model
from cnnlens.model.read import read_and_run
from cnnlens.model.scores import class_scores


@dataclass
class Forward:
    """Reads layers of a model for batches of pixels.

    Attributes
    ----------
    model : Model
        The network.
    layers : sequence of Layer
        What to read; the forward pass stops at the deepest, unless `logits`.
    logits : bool
        Run to the end and return the network's output too.
    limit : int
        The largest batch that goes through at once; halves itself when memory runs out.
    """

    model: Model
    layers: Sequence[Layer]
    logits: bool
    limit: int

    def __post_init__(self) -> None:
        self.limit = self.model.batch or self.limit

    def __call__(self, pixels: Tensor) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Return each layer's maps (N, C, H, W) and the logits (N, K), as float32 arrays.

        Parameters
        ----------
        pixels : torch.Tensor
            (N, C, H, W), uint8, on any device.
        """
        parts = []
        start = 0
        while start < len(pixels):
            try:
                parts.append(self._run(pixels[start : start + self.limit]))
                start += self.limit
            except (RuntimeError, MemoryError) as error:
                self._smaller(error)
        maps = [
            np.concatenate(p) if len(p) > 1 else p[0]
            for p in zip(*(m for m, _ in parts), strict=True)
        ]
        return maps, np.concatenate([o for _, o in parts]) if self.logits else None

    def _run(self, pixels: Tensor) -> tuple[list[np.ndarray], np.ndarray | None]:
        count = len(pixels)
        if self.model.batch and count < self.model.batch:  # a fixed batch is filled up
            filler = pixels[-1:].expand(self.model.batch - count, -1, -1, -1)
            pixels = torch.cat([pixels, filler])
        x = self.model.preprocess.normalize(pixels.to(self.model.device, non_blocking=True))
        places = [layer.place for layer in self.layers]
        # not inference mode: what a network caches must serve gradients later
        with torch.no_grad():
            values, output = read_and_run(self.model.net, x, places, stop=not self.logits)
        maps = [_array(v, count) for v in values]
        return maps, _array(class_scores(output, len(x)), count) if self.logits else None

    def _smaller(self, error: BaseException) -> None:
        if not is_memory_error(error):
            raise error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.limit == 1 or self.model.batch:
            raise CnnlensError(
                f"not enough memory on {self.model.device} for "
                + (
                    f"its fixed batch of {self.model.batch}"
                    if self.model.batch
                    else "even one image"
                ),
                "use --device cpu, a smaller --image-size, or close what else uses the memory",
            ) from error
        self.limit = max(1, self.limit // 2)


def _array(value: Tensor, count: int) -> np.ndarray:
    return value[:count].float().cpu().contiguous().numpy()
