"""What methods share that look at a layer's stored activations, category by category."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cnnlens.files import mark
from cnnlens.progress import Step

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.activations.store import Store
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.study.session import Study


@dataclass(frozen=True)
class StoredLayer:
    """A layer's activations on a data set, which are stored, or will be."""

    study: Study
    images: ImageSet
    layer: Layer

    @property
    def dtype(self) -> str | None:
        """Type of the stored numbers; None where there is no store of just these images."""
        store = self.study.stored(self.images, self.layer)
        if store is None:
            return None
        with store:
            return store.key.dtype

    def key(self, **more: Any) -> dict[str, Any]:
        """Say what results depend on that are found in the store, and in nothing but the
        categories of its images.
        """
        labels = mark(self.images.image_categories)
        dtype = self.dtype or "float32"
        return self.study.key(self.layer, self.images, labels=labels, dtype=dtype, **more)

    def about(self) -> dict[str, Any]:
        """Say what results depend on that are found in the store, among those of other images."""
        return {
            "name": self.images.name,
            "data": self.images.fingerprint,
            "labels": mark(self.images.image_categories),
            "squash": self.images.aligned,
            "dtype": self.dtype or "float32",
        }

    @cached_property
    def detects(self) -> dict[int, str]:
        """What the layer's units detect, as far as it was dissected."""
        from cnnlens.report.dissect_files import detected

        return detected(self.study.workspace.path, self.layer.folder)

    def fill(self) -> Iterator[Step]:
        """Make the store where there is none; the model is not run otherwise.

        A new one gets the class scores too, where there are some, for other commands.
        """
        from cnnlens.model.classes import gives_scores

        if self.dtype is None:
            scores = gives_scores(self.study.model)
            yield from self.study.fill(self.images, [self.layer], logits=scores)

    @contextmanager
    def opened(self) -> Iterator[tuple[Store, Any]]:
        """Open the store; with it come `Groups`: its rows by the categories that its images have
        now, None without categories.
        """
        from cnnlens.cluster.vectors import group

        known = self.images.image_categories
        with self.study.store(self.images, self.layer) as store:
            yield store, None if known is None else group([known[at] for at in store.positions])

    def as_seen(self, store: Store, row: int, side: int) -> np.ndarray:
        """An image of the store as the network sees it, (side, side, 3) uint8."""
        from cnnlens.report.figures import as_seen

        at = int(store.positions[row])
        return as_seen(self.images, at, self.study.model.preprocess, side)
