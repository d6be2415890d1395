"""How far apart a layer's answers to different images are: the measure that errors are held to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cnnlens.data.given import GivenImage
from cnnlens.errors import CnnlensError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.model.preprocess import Preprocess
    from cnnlens.study.session import Study

_MOST = 24  # images


@dataclass(frozen=True)
class _OfData:
    """One image of a data set, as `GivenImage` is one that was named."""

    images: ImageSet
    index: int

    @property
    def mark(self) -> str:
        try:
            stat = self.images.file(self.index).stat()
        except OSError:  # in memory
            return f"{self.images.fingerprint}:{self.index}"
        return f"{self.images.paths[self.index]}:{stat.st_size}:{stat.st_mtime_ns}"

    def pixels(self, preprocess: Preprocess) -> np.ndarray:
        if not self.images.aligned:
            return self.images.pixels(self.index, preprocess)
        # labels do not count here: cropped, as the photos are
        image = self.images.load(self.index, "L" if preprocess.channels == 1 else "RGB")
        return preprocess.pixels(image, squash=False).transpose(2, 0, 1).copy()  # (C, H, W)


class Pairs:
    """Mean distance of pairs of images: evenly spaced ones of the workspace's data, else the given.

    Parameters
    ----------
    study : Study
        Whose model is used, and whose workspace's data where it is there and holds two images.
    given : sequence of GivenImage
        In their place.
    """

    def __init__(self, study: Study, given: Sequence[GivenImage]) -> None:
        self._study, self._given = study, given
        self._known: dict[Layer, float | None] = {}

    @cached_property
    def _images(self) -> Sequence[GivenImage | _OfData]:
        try:
            images = self._study.images(None, remember=False)
        except CnnlensError:  # there is none, or it was moved away
            return self._given[:_MOST]
        count = len(images.paths)
        spaced = [_OfData(images, index) for index in range(0, count, -(-count // _MOST))]
        return spaced if count > 1 else self._given[:_MOST]

    @cached_property
    def mark(self) -> str:
        """Equal marks, equal images."""
        marks = "\0".join(image.mark for image in self._images)
        return hashlib.sha256(marks.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def distance(self, layer: Layer) -> float | None:
        """Mean of ‖Φ(a) − Φ(b)‖ over all pairs; None where there is none."""
        from cnnlens.synthesize.reconstruct import mean_distance

        if layer not in self._known:
            limit = self._study.run.batch_size
            self._known[layer] = mean_distance(self._study.model, layer, self._pixels, limit)
        return self._known[layer]

    @cached_property
    def _pixels(self) -> Tensor:
        """Those that can be read, (N, C, H, W) uint8."""
        import numpy as np
        import torch

        from cnnlens.data.decode import DamagedImage

        rows = []
        for image in self._images:
            try:
                rows.append(image.pixels(self._study.model.preprocess))
            except DamagedImage:  # one of many that only serve as a measure
                continue
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0)
