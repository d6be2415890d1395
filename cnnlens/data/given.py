"""Images that were named one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.addresses import as_address
from cnnlens.data.member_path import located
from cnnlens.data.paths import content_mark, file_state, real_path
from cnnlens.data.picture_names import mark_of, picture_names, place_of, shown_path
from cnnlens.data.ranges import NO_RANGES, Ranges
from cnnlens.data.signed import check_apart
from cnnlens.errors import CnnlensError, UsageError, counted, meant_file

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.preprocess import Preprocess


@dataclass(frozen=True)
class GivenImage:
    """One image that was named.

    Attributes
    ----------
    path : pathlib.Path
        As typed, or found in the folder that was typed.
    name : str
        What a picture of it is called, without ending.
    ranges : Ranges
        Which values become black and white, of a file deeper than 8 bits.
    """

    path: Path
    name: str
    ranges: Ranges = NO_RANGES

    @property
    def mark(self) -> str:
        """Where it is, what is in it and how deep it is taken; see `mark_of`.

        Results are of the same image where marks are equal but for the place.
        """
        deep = f":{json.dumps(self.ranges.as_dict())}" if self.ranges else ""
        return f"{mark_of(self.path)}{deep}"

    @property
    def state(self) -> str:
        """Its mark but for the place."""
        return self.mark.partition("@")[2]

    @property
    def place(self) -> str:
        """A hash of where it is."""
        return place_of(self.path)

    @property
    def shown(self) -> str:
        """Its path for people and for files that are shared."""
        return shown_path(self.path)

    def pixels(self, preprocess: Preprocess) -> np.ndarray:
        """Decode and resample, (C, H, W) uint8, or of many bands or floats float32 in [0, 1].

        Raises
        ------
        DamagedImage
            When it cannot be read, or has bands, and not as many as the network has channels.
        """
        if (planes := self.planes(preprocess.channels)) is not None:
            return preprocess.planes(planes, squash=False)
        pixels = preprocess.pixels(self.load(preprocess.channels), squash=False)  # (H, W, C)
        return pixels.transpose(2, 0, 1).copy()

    def planes(self, channels: int) -> np.ndarray | None:
        """Decode bands or floats, (C, h, w) float32 in units of [0, 1], of as many channels as a
        network has; None of greys or colours of 8 bits.

        Raises
        ------
        DamagedImage
            As `pixels` does.
        """
        from cnnlens.data.decode import load_planes
        from cnnlens.data.planes_file import read_planes

        planes = read_planes(self.path, channels)
        return load_planes(self.path, channels, self.ranges) if planes is None else planes

    def load(self, channels: int) -> Image.Image:
        """Decode in colours, or (one channel) in greys.

        Raises
        ------
        DamagedImage
            When it cannot be read.
        """
        from cnnlens.data.decode import load_image
        from cnnlens.data.planes_file import planes_picture, read_planes

        mode = "L" if channels == 1 else "RGB"
        if (planes := read_planes(self.path)) is not None:
            return planes_picture(planes, mode)
        return load_image(self.path, mode, self.ranges)


@dataclass(frozen=True)
class ImageOfSet:
    """One image of a data set, as `GivenImage` is one that was named."""

    images: ImageSet
    index: int

    @property
    def mark(self) -> str:
        """Which image it is, and in which state: equal marks, the same image."""
        try:
            file = self.images.file(self.index)
            state = file_state(file, exact=True)
        except OSError:  # in memory
            return f"{self.images.fingerprint}:{self.index}"
        return f"{self.images.paths[self.index]}:{state}:{content_mark(file)}"

    @property
    def state(self) -> str:
        """As its mark: data have no other place."""
        return self.mark

    def pixels(self, preprocess: Preprocess) -> np.ndarray:
        """Decode and resample, (C, H, W) as those of its set: cropped, as photos are, since labels
        do not count.

        Raises
        ------
        DamagedImage
            When it cannot be read.
        """
        return self.images.pixels(self.index, preprocess, squash=False)


def spaced_images(images: ImageSet, most: int) -> list[ImageOfSet]:
    """Choose at most so many images of a data set, evenly spaced."""
    count = len(images.paths)
    return [ImageOfSet(images, index) for index in range(0, count, -(-count // most))]


@contextmanager
def readable(hint: str = "") -> Iterator[None]:
    """Make an error of an image that cannot be read: of one that nothing goes without."""
    from cnnlens.data.decode import DamagedImage

    try:
        yield
    except DamagedImage as damage:
        where = shown_path(Path(damage.path))
        raise CnnlensError(f"{where} cannot be read: {damage.reason}", hint) from damage


@dataclass
class GivenImages:
    """The images of one run, each read when its turn comes; damaged ones are collected.

    Attributes
    ----------
    images : list of GivenImage
        All that were named.
    skipped : list of dict
        Those met so far that could not be read: "image" and "reason".
    """

    images: list[GivenImage]
    skipped: list[dict[str, str]] = field(default_factory=list)

    def read(
        self, preprocess: Preprocess, some: Iterable[GivenImage] | None = None
    ) -> Iterator[tuple[GivenImage, np.ndarray]]:
        """Yield the readable ones of `some` (else of all) with their pixels (C, H, W) uint8.

        Raises
        ------
        CnnlensError
            When not one of all the images can be read.
        """
        from cnnlens.data.decode import DamagedImage

        for image in self.images if some is None else some:
            try:
                yield image, image.pixels(preprocess)
            except DamagedImage as damage:
                self.skipped.append({"image": image.shown, "reason": damage.reason})
        if self.skipped and len(self.skipped) == len(self.images):
            bad = self.skipped[0]
            raise CnnlensError(
                f"{bad['image']} cannot be read: {bad['reason']}", "name another image with -i"
            )


@dataclass
class Photos:
    """Images by their number, of a data set or named one by one, as a network takes them."""

    names: Sequence[str]
    words: str  #: what they are, for people
    about: dict[str, Any]  #: what results depend on
    read: Callable[[int], np.ndarray]  #: gives one of them, (C, H, W); raises `CnnlensError`
    #: those that cannot be read, "image" and "reason"; None: not known before all were read
    skipped: list[dict[str, str]] | None = None

    @classmethod
    def of_set(cls, images: ImageSet, preprocess: Preprocess) -> Photos:
        """Take those of a data set, each read when it is needed."""

        def read(number: int) -> np.ndarray:
            with readable():
                return images.pixels(number, preprocess)

        names = [str(path) for path in images.paths]
        about = {"name": images.name, "fingerprint": images.fingerprint}
        return cls(names, f"{counted(len(names), 'image')} in {images.name}", about, read)

    @classmethod
    def of_given(cls, given: GivenImages, preprocess: Preprocess) -> Photos:
        """Read those that were named one by one."""
        read = list(given.read(preprocess))
        names, pixels = [image.shown for image, _ in read], [pixels for _, pixels in read]
        words = "1 given image" if len(read) == 1 else f"{len(read)} given images"
        about = {"given": [image.mark for image, _ in read]}
        return cls(names, words, about, pixels.__getitem__, given.skipped)


def given_images(paths: Sequence[Path], taken: Mapping[str, str] | None = None) -> list[GivenImage]:
    """List the images that were named, each once.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Images and folders of images; those in archives and at addresses, too.
    taken : mapping of str to str, optional
        As in `picture_names`: an image keeps the name that a picture of it has already.

    Raises
    ------
    CnnlensError
        When a folder holds no image.
    UsageError
        When a file does not exist, or none was named.
    """
    from cnnlens.data.dataset import open_folder

    if not paths:
        raise UsageError("no images were named", "name some with -i IMAGE")
    check_apart(as_address(str(path)) for path in paths)
    found: dict[Path, None] = {}
    for path in map(located, paths):
        if not path.exists():
            raise _missing(path)
        if path.is_dir():
            images = open_folder(path)
            found.update(dict.fromkeys(images.root / inside for inside in images.paths))
        else:
            found[path] = None
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(real_path(path), path)
    kept = [*once.values()]
    names = picture_names(kept, taken)
    return [GivenImage(p, n) for p, n in zip(kept, names, strict=True)]


def _missing(path: Path) -> UsageError:
    lost = path
    while not lost.parent.is_dir() and lost.parent != lost:
        lost = lost.parent
    beside = [p.name for p in lost.parent.iterdir()] if lost.parent.is_dir() else []
    near = meant_file(lost.name, beside)
    if near and lost != path:
        near = f"there is no folder {lost}; {near}"
    return UsageError(f"no image {path}", near or "name an image, or a folder of images, with -i")
