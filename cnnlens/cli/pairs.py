"""How far apart a layer's answers to different images are: the measure that errors are held to."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cnnlens.cli.given import GivenImage
from cnnlens.cli.session import open_images
from cnnlens.errors import CnnlensError
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model

KINDS = ("images", "classes", "broden", "parts")
_MOST = 24  # images


class Pairs:
    """Mean distance of pairs of images: evenly spaced ones of the workspace's data, else the given.

    Parameters
    ----------
    model : Model
        The network.
    space : Workspace
        Whose data is used, where it is there and holds two images that can be read.
    given : sequence of GivenImage
        Readable ones.
    batch_size : int
        Images in the network at once.
    """

    def __init__(
        self, model: Model, space: Workspace, given: list[GivenImage], batch_size: int
    ) -> None:
        self._model, self._batch_size = model, batch_size
        self._images = _of_data(space) or given[:_MOST]
        self._pixels: Tensor | None = None
        self._known: dict[Layer, float | None] = {}

    @property
    def mark(self) -> str:
        """Equal marks, equal images."""
        marks = "\0".join(image.mark for image in self._images)
        return hashlib.sha256(marks.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def distance(self, layer: Layer) -> float | None:
        """Mean of ‖Φ(a) − Φ(b)‖ over all pairs; None where there is none."""
        from cnnlens.activations.forward import Forward
        from cnnlens.synthesize.invert import pair_distance

        if layer not in self._known:
            if self._pixels is None:
                self._pixels = self._read()
            forward = Forward(self._model, [layer], logits=False, limit=self._batch_size)
            (maps,), _ = forward(self._pixels)
            self._known[layer] = pair_distance(maps)
        return self._known[layer]

    def _read(self) -> Tensor:
        """Pixels (N, C, H, W), uint8."""
        import torch

        from cnnlens.data.decode import DamagedImage

        rows = []
        for image in self._images:
            try:
                rows.append(torch.tensor(image.pixels(self._model.preprocess)))
            except DamagedImage:  # one of many that only serve as a measure
                continue
        return torch.stack(rows)


def _of_data(space: Workspace) -> list[GivenImage]:
    path = space.data_path(KINDS)
    if path is None:
        return []
    try:
        images = open_images(path, space, KINDS)
    except CnnlensError:  # moved away: the given images serve instead
        return []
    every = -(-len(images.paths) // _MOST)
    found = [images.file(index) for index in range(0, len(images.paths), every)]
    there = [GivenImage(path, path.stem) for path in found if path.is_file()]
    return there if len(there) > 1 else []
