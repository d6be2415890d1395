"""What the pictures of ``visualize`` take from photos: nothing, or their spectrum (maco)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, counted
from cnnlens.progress import Step

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.methods.ascents import Ascents
    from cnnlens.settings.synthesize import VisualizeSettings
    from cnnlens.study.session import Study
    from cnnlens.synthesize.usual import Prior

_PHOTOS = 128  # whose spectrum counts, at most


def photos_named(study: Study, data: Path | None) -> ImageSet | None:
    """Open photos that were named; of a folder of splits, those to train on."""
    from cnnlens.data.open import train_split

    if data is None:
        return None
    if study.reading.split is None:
        study.reading = replace(study.reading, split=train_split(data))
    return study.images(data)


class Nothing:
    """Pictures of pixels take nothing from photos.

    Attributes
    ----------
    value : Prior or None
        What they take, once there is something to make.
    shown : dict
        What every picture is made from besides, for its key and for people.
    """

    value: Prior | None = None

    def __init__(
        self, study: Study, settings: VisualizeSettings, data: ImageSet | None = None
    ) -> None:
        self.study, self.settings, self.data = study, settings, data
        self.shown: dict[str, Any] = {}
        self.resolve()

    def resolve(self) -> None:
        """Find what is needed; raise before anything is written."""

    def plan(self) -> str:
        """Say what is made before the first picture; empty: nothing."""
        return ""

    def work(self) -> Iterator[Step]:
        """Make that."""
        return iter(())

    def compare(self, part: Ascents) -> None:
        """Set a part's pictures beside photos."""


class PhotosSpectrum(Nothing):
    """Maco's: magnitudes and colours of the workspace's photos."""

    def resolve(self) -> None:
        """Measure it; say whose it is."""
        from cnnlens.synthesize.maco import spectrum_of
        from cnnlens.synthesize.usual import image_size

        model, voice = self.study.model, self.study.voice
        shape = (model.preprocess.channels, *image_size(model, self.settings))
        data = self.data or self.study.photos()
        if data is None:
            voice.note("the workspace has no photos: their spectrum is taken to be 1/f")
            self.shown = {"spectrum": "1/f"}
            return
        photos = data.sample(_PHOTOS, model.preprocess)
        if not len(photos):
            raise CnnlensError(f"no image of {data.name} can be read", "extract other data first")
        voice.note(f"the spectrum is that of {counted(len(photos), 'photo')} of {data.name}")
        self.value = spectrum_of(photos, shape)
        self.shown = {"spectrum": f"{len(photos)} of {data.name}, {data.fingerprint}"}
