"""What every data set is to the engines: a folder, an ordered list of images, a kind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
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
    """

    root: Path
    paths: tuple[str, ...]
    kind: str = "images"
    image_categories: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The folder's name, which names its activation stores."""
        return self.root.resolve().name or "data"

    @property
    def aligned(self) -> bool:
        """Whether pixels carry labels, so that images are squashed and never cropped."""
        return self.kind in ("broden", "parts")

    def file(self, index: int) -> Path:
        """Where an image is."""
        return self.root / self.paths[index]

    def load(self, index: int, mode: str = "RGB") -> Image.Image:
        """Decode an image, as `decode.load_image` does and with its errors."""
        from cnnlens.data.decode import load_image

        return load_image(self.file(index), mode)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the image list with sizes and modification times: equal hash, same images."""
        digest = hashlib.sha256()
        for index, path in enumerate(self.paths):
            try:
                stat = self.file(index).stat()
                state = f"{stat.st_size}:{int(stat.st_mtime)}"
            except OSError:
                state = "missing"
            digest.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]
