"""What every data set is to the engines: a folder, an ordered list of images, a kind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from cnnlens.data.decode import DamagedImage
from cnnlens.data.folder import existing_folder
from cnnlens.data.formats import endings
from cnnlens.data.paths import container_of, is_there, name_of, state_of
from cnnlens.data.ranges import NO_RANGES, Ranges
from cnnlens.data.splits import splits_within
from cnnlens.data.walk import Listing, list_files
from cnnlens.errors import CnnlensError
from cnnlens.files import atomic_folder
from cnnlens.model.numbered import OutputName, written

if TYPE_CHECKING:
    from PIL import Image

    from cnnlens.model.preprocess import Preprocess

_LOOKED_AT = 32  # images whose bands are counted


@dataclass(frozen=True, repr=False)
class ImageSet:
    """An ordered list of images in a folder.

    Attributes
    ----------
    root : pathlib.Path
        The data folder.
    paths : tuple of str
        Images relative to `root`, with forward slashes, in the data's order.
    kind : {"images", "classes", "broden", "parts"}
        A flat folder, class subfolders, Broden's layout (label maps), objects with parts.
    image_categories : tuple of str or None
        The class of each image, where the data has classes.
    split : str or None
        The only part of the folder that it is, as it is called there.
    notes : tuple of str
        What was passed over or assumed, for people.
    ranges : Ranges
        Which values become black and white, of files deeper than 8 bits.
    bands : frozenset of int
        How many bands pictures of other than greys and colours have.
    """

    root: Path
    paths: tuple[str, ...]
    kind: str = "images"
    image_categories: tuple[str, ...] | None = None
    split: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    ranges: Ranges = NO_RANGES
    bands: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        known = self.image_categories
        classes = f", {len(set(known))} categories" if known else ""
        return f"<{type(self).__name__} {self.name}: {len(self.paths):,} images{classes}>"

    @property
    def name(self) -> str:
        """The folder's name, with the split and the range that were asked for: it names its
        activation stores.
        """
        asked = [f"{bound:g}" for bound in self.ranges.everything or ()]
        parts = [name_of(self.root) or "data", self.split or "", *asked]
        return "-".join(part.replace("/", "-") for part in parts if part)

    @property
    def aligned(self) -> bool:
        """Whether pixels carry labels, so that images are squashed and never cropped."""
        return self.kind in ("broden", "parts")

    @property
    def in_files(self) -> bool:
        """Whether every image is a file of its own, and not a part of another or of memory."""
        return container_of(self.root) is None

    @property
    def in_memory(self) -> bool:
        """Whether they are of one process alone, which nobody can open again."""
        return False

    @property
    def one_by_one(self) -> bool:
        """Whether they are read in the calling thread alone."""
        return False

    @property
    def place(self) -> str:
        """Where they lie, whatever the current folder."""
        return str(self.root.resolve())

    def take(self, positions: Sequence[int], called: str) -> Self:
        """Keep some images, by position; the data's name says what they are `called`."""
        known = self.image_categories
        return replace(
            self,
            paths=tuple(self.paths[row] for row in positions),
            image_categories=known and tuple(known[row] for row in positions),
            split="-".join(filter(None, (self.split, called))),
        )

    def file(self, index: int) -> Path:
        """Where an image is."""
        return self.root / self.paths[index]

    def check_there(self) -> None:
        """Tell one image that is gone from all of them being away, a disk that was unplugged.

        Raises
        ------
        CnnlensError
            When the data folder is not there any more.
        """
        if not is_there(self.root):
            raise CnnlensError(
                f"{self.root} is gone since the command began",
                "bring it back; the same command goes on",
            )

    def is_turned(self, index: int, stored: tuple[int, int], turned: tuple[int, int]) -> bool:
        """Whether an image is turned as its orientation tag says, by both its sizes (H, W)."""
        return True

    def load(self, index: int, mode: str = "RGB") -> Image.Image:
        """Decode an image, as `decode.load_image` does and with its errors."""
        from cnnlens.data.decode import load_image

        return load_image(self.file(index), mode, self.ranges, partial(self.is_turned, index))

    def pixel_type(self, preprocess: Preprocess) -> str:
        """What `pixels` gives: "uint8", or "float32" in units of [0, 1]."""
        return "float32" if preprocess.channels in self.bands else "uint8"

    def shape(self, preprocess: Preprocess) -> tuple[int, int, int]:
        """What `pixels` gives: (C, H, W)."""
        has_bands = preprocess.channels in self.bands
        channels = preprocess.channels if has_bands else 1 if preprocess.channels == 1 else 3
        return (channels, *preprocess.size)

    def plane(self, index: int, preprocess: Preprocess, squash: bool | None = None) -> np.ndarray:
        """Decode an image and resample it to a network's input plane, (H, W, C) uint8.

        `squash` as in `Preprocess.pixels`; None: where pixels carry labels.

        Raises
        ------
        DamagedImage
            When it cannot be read.
        """
        image = self.load(index, "L" if preprocess.channels == 1 else "RGB")
        return preprocess.pixels(image, squash=self.aligned if squash is None else squash)

    def pixels(self, index: int, preprocess: Preprocess, squash: bool | None = None) -> np.ndarray:
        """Bring an image to a network's input plane; `squash` as in `plane`.

        Returns
        -------
        numpy.ndarray
            `shape`, of `pixel_type`.

        Raises
        ------
        DamagedImage
            When it cannot be read, or has bands, and not as many as the network has channels.
        """
        squash = self.aligned if squash is None else squash
        if self.bands and (planes := self._planes(index, preprocess, squash)) is not None:
            return planes
        plain = self.plane(index, preprocess, squash).transpose(2, 0, 1)  # (C, H, W)
        return np.ascontiguousarray(plain)

    def _planes(self, index: int, preprocess: Preprocess, squash: bool) -> np.ndarray | None:
        """Bring an image of a set with bands to the input plane; None where it has no more than
        greys or colours, and no other has.
        """
        from cnnlens.data.decode import load_planes

        is_turned = partial(self.is_turned, index)
        planes = load_planes(self.file(index), preprocess.channels, self.ranges, is_turned)
        if planes is not None:
            return preprocess.planes(planes, squash=squash)
        if preprocess.channels not in self.bands:
            return None
        plain = self.plane(index, preprocess, squash).transpose(2, 0, 1).astype(np.float32) / 255
        return np.resize(plain, self.shape(preprocess))  # channels are repeated

    def bands_of(self, index: int) -> int:
        """How many bands a file says that it has; 3 where it does not, as JPEGs do not."""
        from cnnlens.data.bands import header_of

        header = header_of(self.file(index))
        return header.bands if header else 3

    def lacking(self, channels: int) -> str:
        """Say of some images how many have not as many bands; "" where all of them have."""
        found = []
        for index in np.unique(np.linspace(0, len(self.paths) - 1, _LOOKED_AT).round()):
            with suppress(DamagedImage, OSError):
                found.append(self.bands_of(int(index)))
        few = sum(bands != channels for bands in found)
        return f"{few} of {len(found)} images of {self.name} looked at" if few else ""

    def sample(self, count: int, preprocess: Preprocess) -> np.ndarray:
        """Bring evenly spaced images to a network's input plane, those that can be read.

        Returns
        -------
        numpy.ndarray
            (N, C, H, W) as `pixels` gives them, N at most `count`.
        """
        found = []
        for place in sorted({round(at) for at in np.linspace(0, len(self.paths) - 1, count)}):
            with suppress(DamagedImage):
                found.append(self.pixels(place, preprocess))
        shape = (0, *self.shape(preprocess))
        return np.stack(found) if found else np.empty(shape, self.pixel_type(preprocess))

    @property
    def labels_fingerprint(self) -> str:
        """Hash of all that says what is on the images, files included; empty where nothing does."""
        if self.image_categories is None:
            return ""
        text = written(self.image_categories)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the image list with sizes and modification times, of the content of some images,
        and of how deep values are taken: equal hash, same images.

        Times count in seconds, as copies keep them on every disk; where an image was written in
        this one, it is awaited that it passes, so that who writes it again writes it later.
        """
        files = ((path, self.file(index)) for index, path in enumerate(self.paths))
        return state_of(files, repr(self.ranges).encode() if self.ranges else b"")


def open_folder(root: Path | str, split: str | None = None) -> ImageSet:
    """List a folder's images in a fixed order.

    Parameters
    ----------
    root : path
        A folder with images in it (kind "images"), or with class subfolders, nested as deep as
        you like (kind "classes"; the class is the first folder's name). With both, the images
        of all depths are one flat list. Hidden files, leftovers of systems and tools, and folders
        that cnnlens wrote itself are passed over; so is, with a note, what is no image.
    split : str, optional
        The only folder in it to be read, as it is called there.

    Raises
    ------
    CnnlensError
        When it is missing, no folder, unreadable, or holds no image, or where none of a class's
        files is an image.
    """
    root = existing_folder(root)
    listing = list_files(root, f"{split}/" if split else "")
    if not listing.images:
        raise _no_images(root / (split or ""), listing)
    for name, files in listing.vanished():
        folder = root / listing.start / name
        raise CnnlensError(
            f"the folder {folder} would be a category without an image: {files}",
            "convert them to PNG or JPEG, or move the folder away",
        )
    return listed_images(root, listing, split)


def listed_images(root: Path, listing: Listing, split: str | None = None) -> ImageSet:
    """Make the data set of a folder's files."""
    kind = "images" if listing.is_flat else "classes"
    categories = None if listing.is_flat else tuple(map(listing.top, listing.images))
    if categories and (inside := container_of(root)) and set(categories) <= inside.numbers.keys():
        categories = tuple(OutputName(name, inside.numbers[name]) for name in categories)
    notes = [*listing.notes()]
    below = [path[len(listing.start) :] for path in listing.images]
    if not listing.is_flat and not splits_within(below) and (deep := listing.deep_note()):
        notes.append(deep)
    return ImageSet(root, listing.images, kind, categories, split, tuple(notes))


def _no_images(root: Path, listing: Listing) -> CnnlensError:
    inside = container_of(root)
    passed = "; ".join(inside.notes) if inside else ""
    found = (next(listing.notes(), "") if listing.others else "") or passed
    hint = f"images end in {' '.join(sorted(endings()))} (in any case)"
    if passed and not listing.others:
        hint = "unpack or copy it, and name the folder"
    return CnnlensError(f"no images in {root}{': ' if found else ''}{found}", hint)


@contextmanager
def new_dataset_folder(out: Path, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` when the block ends well, else vanishes.

    Raises
    ------
    CnnlensError
        When `out` is in the way: a file, or a folder with something in it. With `force` an
        earlier data set (a folder with ``index.csv``) is replaced; anything else never is.
    """
    out = Path(os.path.abspath(out))  # so that "." and "x/.." have a name  # noqa: PTH100
    _check_free(out, force)
    with atomic_folder(out) as folder:
        yield folder
        _check_free(out, force)  # something may have come there meanwhile


def _check_free(out: Path, force: bool) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir() or out.is_symlink():
        raise CnnlensError(f"{out} exists and is not a folder", "choose another place")
    if not any(out.iterdir()):
        return
    if not force:
        raise CnnlensError(
            f"{out} is not empty", "choose another folder, or replace it with --force"
        )
    if not (out / "index.csv").is_file():
        raise CnnlensError(
            f"{out} is not empty and holds no data set that could be replaced",
            "choose another folder",
        )
