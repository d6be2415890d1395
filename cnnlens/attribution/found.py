"""Where classes were seen on images: maps, scores, probabilities, and how lists describe them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cnnlens.model.classes import class_name


@dataclass(frozen=True)
class Found:
    """Class maps of a batch of images.

    Attributes
    ----------
    maps : torch.Tensor
        (N, K, H, W), at the layer's own size: CAM without bias or rectifier, Grad-CAM rectified.
    classes : torch.Tensor
        (N, K) int64.
    scores : torch.Tensor
        (N, K), before any softmax.
    probabilities : torch.Tensor or None
        (N, K), after the softmax (or the sigmoid, where the network ends in one); None of a single
        output, which may be anything.
    """

    maps: Tensor
    classes: Tensor
    scores: Tensor
    probabilities: Tensor | None

    def of(self, row: int) -> Found:
        """Those of one image."""
        part = slice(row, row + 1)
        shares = None if self.probabilities is None else self.probabilities[part]
        return Found(self.maps[part], self.classes[part], self.scores[part], shares)

    def probability(self, index: int) -> float | None:
        """Of the first image's `index`-th class; None where the network gives none."""
        return None if self.probabilities is None else float(self.probabilities[0, index])

    def arrays(self) -> dict[str, np.ndarray]:
        """The first image's "map" of its first class (H, W), all "maps" (K, H, W), and of each
        class its number ("classes") and its score.
        """
        maps, scores = (one[0].float().cpu().numpy() for one in (self.maps, self.scores))
        classes = self.classes[0].cpu().numpy()
        return {"map": maps[0], "maps": maps, "classes": classes, "scores": scores}

    def as_dict(self, names: Sequence[str] | None, method: str) -> dict[str, Any]:
        """Describe the first image for a list, with its likeliest class and all."""
        classes = self._described(names)
        score = classes[0]["score"]
        return {
            "class": classes[0]["class"],
            "class_name": classes[0]["name"],
            "method": method,
            "initial": score,
            "final": score,
            "trace": [score],
            "classes": classes,
        }

    def _described(self, names: Sequence[str] | None) -> list[dict[str, Any]]:
        """Describe the first image's classes: number, name, score, range and peak (y, x) of map."""
        found = []
        for index, heat in enumerate(self.maps[0].float().cpu().numpy()):  # (H, W)
            number = int(self.classes[0, index])
            y, x = divmod(int(heat.argmax()), heat.shape[1])
            found.append(
                {
                    "class": number,
                    "name": class_name(number, names),
                    "score": float(self.scores[0, index]),
                    "probability": self.probability(index),
                    "lowest": float(heat.min()),
                    "highest": float(heat.max()),
                    "position": [y, x],
                }
            )
        return found
