"""Images named on the command line, and what the pictures made of them are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnlens.errors import CnnlensError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.model.preprocess import Preprocess

ImagesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--image",
        "-i",
        metavar="IMAGE",
        help="An image, or a folder of images; repeatable.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class GivenImage:
    """One image that was named.

    Attributes
    ----------
    path : pathlib.Path
        As typed, or found in the folder that was typed.
    name : str
        What a picture of it is called, without ending.
    """

    path: Path
    name: str

    @property
    def mark(self) -> str:
        """Where it is and which state it is in: equal marks, the same image."""
        stat = self.path.stat()
        return f"{self.path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"

    def pixels(self, preprocess: Preprocess) -> np.ndarray:
        """Decode and resample, (C, H, W) uint8.

        Raises
        ------
        DamagedImage
            When it cannot be read.
        """
        from cnnlens.data.decode import load_image

        image = load_image(self.path, "L" if preprocess.channels == 1 else "RGB")
        pixels = preprocess.pixels(image, squash=False)  # (H, W, C)
        return pixels.transpose(2, 0, 1).copy()


def given_images(paths: Sequence[Path], taken: Mapping[str, str] | None = None) -> list[GivenImage]:
    """List the images that were named, each once.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Images and folders of images.
    taken : mapping of str to str, optional
        Names that pictures of earlier runs have, and the images they show.

    Raises
    ------
    CnnlensError
        When a folder holds no image.
    UsageError
        When a file does not exist.
    """
    from cnnlens.data.dataset import open_folder

    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise _missing(path)
        if path.is_dir():
            images = open_folder(path)
            found.update(dict.fromkeys(images.root / inside for inside in images.paths))
        else:
            found[path] = None
    once = {path.resolve(): path for path in reversed(found)}
    kept = [path for path in found if once[path.resolve()] == path]
    return [GivenImage(p, n) for p, n in zip(kept, picture_names(kept, taken), strict=True)]


def picture_names(paths: Sequence[Path], taken: Mapping[str, str] | None = None) -> list[str]:
    """Name pictures by their images' stems, with as many parent folders as make them unique.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        All different.
    taken : mapping of str to str, optional
        Names that are in use already, and the resolved path of the image that each stands for.

    Returns
    -------
    list of str
        ``cat`` for ``a/cat.jpg``; ``a__cat`` where ``b/cat.jpg`` is there too. Where images differ
        in nothing but their ending, it joins the name: ``cat.jpg``, ``cat.png``.
    """
    real = [path.resolve() for path in paths]
    others = {name: Path(path) for name, path in (taken or {}).items()}
    known = {path: name for name, path in others.items()}  # an image keeps the name it has
    return [
        known.get(path) or _unique(path, [p for p in real if p != path], others) for path in real
    ]


def _unique(path: Path, others: list[Path], taken: Mapping[str, Path]) -> str:
    depth = len(path.parts) - 1
    for stem in (True, False):
        for parents in range(depth):
            name = _name(path, parents, stem)
            clash = any(_name(other, parents, stem) == name for other in others)
            if not clash and taken.get(name, path) == path:
                return name
    return _name(path, depth, False)


def _name(path: Path, parents: int, stem: bool) -> str:
    folders = path.parts[1:-1]
    above = folders[len(folders) - parents :] if parents else ()
    return "__".join([*above, path.stem if stem else path.name])


def _missing(path: Path) -> CnnlensError:
    from cnnlens.errors import did_you_mean

    folder = path.parent
    near = did_you_mean(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
    return UsageError(f"no image {path}", near or "name an image, or a folder of images, with -i")
