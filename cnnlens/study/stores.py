"""Activations of a study: where they are kept, as what numbers, and how they are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cnnlens.errors import CnnlensError
from cnnlens.settings import ExtractSettings
from cnnlens.study.images import Images

if TYPE_CHECKING:
    from cnnlens.activations.extract import StoredLayer
    from cnnlens.activations.sources import Source
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layer import Layer
    from cnnlens.progress import Step

_USUAL = ExtractSettings().type


@dataclass
class Stores(Images):
    """A network, images, and activations of its layers on them."""

    _types: dict[tuple[str, str], str] = field(default_factory=dict)

    def stored_as(
        self, images: ImageSet, layer: Layer, settings: ExtractSettings | None = None
    ) -> str:
        """Say as what numbers a layer's activations on images are kept, or will be: those that are
        asked for, else those that are there already, which is said, else the usual ones.
        """
        key = images.fingerprint, layer.place.key
        if settings is not None and settings.dtype:
            self._types[key] = settings.dtype
        if key not in self._types:
            self._types[key] = found = self._there(images, layer) or _USUAL
            if found != _USUAL:
                self.voice.note(f"{layer.name}: its activations of {images.name} stay {found}")
        return self._types[key]

    def _there(self, images: ImageSet, layer: Layer) -> str | None:
        try:
            return self.stored(images, layer).dtype
        except CnnlensError:  # damaged, which is said where it is needed
            return None

    def fill(
        self,
        images: ImageSet,
        layers: Sequence[Layer],
        settings: ExtractSettings | None = None,
        logits: bool = False,
        force: bool = False,
    ) -> Iterator[Step]:
        """Make the stores that are missing, in one forward pass for all of a type."""
        from cnnlens.activations.extract import extract

        asked = settings or ExtractSettings()
        types = self.share.from_first(
            lambda: [self.stored_as(images, layer, asked) for layer in layers]
        )
        for dtype in dict.fromkeys(types):
            some = [layer for layer, of in zip(layers, types, strict=True) if of == dtype]
            steps = extract(
                self.model, images, some, self.workspace.stores(images),
                settings=replace(asked, dtype=dtype), run=self.run, logits=logits, force=force,
                share=self.share,
            )  # fmt: skip
            yield from self.voice.limits(steps)

    def source(self, images: ImageSet, layers: Sequence[Layer]) -> AbstractContextManager[Source]:
        """Give the layers' activations: from their stores where all fit, else from the model."""
        from cnnlens.activations.extract import open_source

        folder = self.workspace.stores(images)
        return open_source(self.model, images, layers, folder, self.run, self.force)

    def stored(self, images: ImageSet, layer: Layer) -> StoredLayer:
        """Describe a layer's activations on images, whether they are stored yet or not."""
        from cnnlens.activations.extract import StoredLayer

        folder = self.workspace.stores(images)
        return StoredLayer(self.model, images, layer, folder, self.force)
