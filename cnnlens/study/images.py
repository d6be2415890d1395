"""Images of a study: those that were named, or what the workspace knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import GivenImages, given_images, spaced_images
from cnnlens.data.given_ranges import KnownData, with_ranges
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files.ledger import Ledger, names_in_use
from cnnlens.settings import DataSettings
from cnnlens.study.network import Network

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.data.given import GivenImage, ImageOfSet

ANY = ("images", "classes", "broden", "parts")  # kinds of data


@dataclass
class Images(Network):
    """A network, and the images that it is asked about."""

    #: each with whether it was named, and whether it becomes the default of later commands
    _images: list[tuple[ImageSet, bool, bool]] = field(default_factory=list)

    def images(
        self,
        data: Path | str | ImageSet | None,
        kinds: tuple[str, ...] = ANY,
        default: bool = True,
        remember: bool = True,
    ) -> ImageSet:
        """Open the named data, or the workspace's last one of a fitting kind.

        Parameters
        ----------
        data : path or ImageSet or None
            As named.
        kinds : tuple of str
            Those that serve, the one that is wanted first.
        default : bool
            Whether it becomes the default of later commands.
        remember : bool
            Whether the workspace is to know it at all.

        Raises
        ------
        UsageError
            When there is none, or it is of another kind.
        """
        from cnnlens.data.open import check_kind

        images = self._opened(data, kinds)
        check_kind(images, kinds)
        self._say(images)
        if remember:
            named = data is not None or self.reading != DataSettings()
            self._images.append((images, named, default))
            self.take_natural_size(images)
        return images

    def negatives(self, data: Path | str | ImageSet | None) -> ImageSet | None:
        """Open images of no category where some are named; the workspace does not know them."""
        from cnnlens.data.open import open_data

        if isinstance(data, (str, Path)):  # what split the data is read in is not theirs
            data = open_data(data, bounds=self.reading.bounds)
            self._say(data)
        return data

    def _opened(self, data: Path | str | ImageSet | None, kinds: tuple[str, ...]) -> ImageSet:
        from cnnlens.data.open import in_split, open_data, wanted

        split, bounds = self.reading.split, self.reading.bounds
        if isinstance(data, (str, Path)):
            known = self.workspace.called(str(data))
            return open_data(data, split, bounds) if known is None else self.remembered(known)
        if data is not None:
            images = in_split(data, split)
            self.workspace.keep_in_memory(images)
            return images
        entry = self.workspace.data_entry(kinds)
        if entry is not None:
            return self.remembered({**entry, "split": split or entry.get("split")})
        _ = self.model  # who has neither hears of the model first
        raise UsageError(
            f"no data given, and the workspace {self.workspace.path} knows no {wanted(kinds)} data",
            "name a folder with -d DIR",
        )

    def remembered(self, entry: Mapping[str, Any]) -> ImageSet:
        """Open data of the workspace, by its entry there, as it was read before."""
        from cnnlens.data.open import open_data

        if (known := self.workspace.in_memory(entry)) is not None:
            return known
        bounds = self.reading.bounds or entry.get("range", {}).get("all")
        return open_data(entry["path"], entry.get("split"), bounds and (bounds[0], bounds[1]))

    def _say(self, images: ImageSet) -> None:
        """Say what was passed over or assumed when images were opened."""
        if images.notes:
            self.voice.note(f"{images.name}: {'; '.join(images.notes)}")

    def _say_channels(self, images: ImageSet) -> None:
        """Say that colours are repeated where a network takes more channels than there are."""
        channels = self.model.preprocess.channels
        if channels in (1, 3):
            return
        takes, again = f"the network takes {channels} channels, and", "they are repeated"
        if images.shape(self.model.preprocess)[0] != channels:
            self.voice.note(f"{takes} {images.name} has colours alone: {again}")
        elif lacking := images.lacking(channels):
            self.voice.note(f"{takes} {lacking} have colours alone: {again}")

    def given(
        self,
        paths: Sequence[Path],
        ledgers: Sequence[Ledger] = (),
        taken: Mapping[str, str] | None = None,
    ) -> GivenImages:
        """List images that were named one by one; names agree with those in `ledgers`, or `taken`.

        Deep ones are taken as those of the workspace's data that they are in, or as its last.
        """
        names = names_in_use(ledgers) if taken is None else taken
        images = given_images([Path(p) for p in paths], names)
        data = KnownData.of_entries(self.workspace.document["data"])
        images, notes = with_ranges(images, self.reading.bounds, data)
        if notes:
            self.voice.note("; ".join(notes))
        return GivenImages(images)

    def examples(
        self, given: Sequence[GivenImage], most: int = 24
    ) -> Sequence[GivenImage | ImageOfSet]:
        """Choose evenly spaced images of the workspace's data, where it is there and holds two;
        else of the given.
        """
        try:
            images = self.images(None, remember=False)
        except CnnlensError:  # there is none, or it was moved away
            return given[:most]
        return spaced_images(images, most) if len(images.paths) > 1 else given[:most]

    def photos(self) -> ImageSet | None:
        """Open what of the workspace's data was used last and is still there; None without any."""
        for known in reversed(self.workspace.document["data"]):
            with suppress(CnnlensError):
                if (found := self.remembered(known)).paths:
                    return found
        return None
