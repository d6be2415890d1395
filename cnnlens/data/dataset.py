"""What every data set is to the engines: a folder, an ordered list of images, a kind."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnlens.data.decode import ENDINGS, DamagedImage
from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.files import atomic_folder

if TYPE_CHECKING:
    from PIL import Image

    from cnnlens.model.preprocess import Preprocess

HOME_VARIABLE = "CNNLENS_HOME"


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

    @property
    def pixel_type(self) -> str:
        """What `pixels` gives: "uint8", or "float32" in units of [0, 1]."""
        return "uint8"

    def plane(self, index: int, preprocess: Preprocess) -> np.ndarray:
        """Decode an image and resample it to a network's input plane, (H, W, C) uint8.

        Raises
        ------
        DamagedImage
            When it cannot be read.
        """
        image = self.load(index, "L" if preprocess.channels == 1 else "RGB")
        return preprocess.pixels(image, squash=self.aligned)

    def pixels(self, index: int, preprocess: Preprocess) -> np.ndarray:
        """Bring an image to a network's input plane.

        Returns
        -------
        numpy.ndarray
            (C, H, W) of `pixel_type`.

        Raises
        ------
        DamagedImage
            When it cannot be read.
        """
        return np.ascontiguousarray(self.plane(index, preprocess).transpose(2, 0, 1))  # (C, H, W)

    def sample(self, count: int, preprocess: Preprocess) -> np.ndarray:
        """Bring evenly spaced images to a network's input plane, those that can be read.

        Returns
        -------
        numpy.ndarray
            (N, C, H, W) of `pixel_type`, N at most `count`.
        """
        found = []
        for place in sorted({round(at) for at in np.linspace(0, len(self.paths) - 1, count)}):
            with suppress(DamagedImage):
                found.append(self.pixels(place, preprocess))
        shape = (0, preprocess.channels, *preprocess.size)
        return np.stack(found) if found else np.empty(shape, self.pixel_type)

    @property
    def labels_fingerprint(self) -> str:
        """Hash of all that says what is on the images, files included; empty where nothing does."""
        if self.image_categories is None:
            return ""
        text = "\0".join(self.image_categories).encode("utf-8", "surrogateescape")
        return hashlib.sha256(text).hexdigest()[:16]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the image list with sizes and modification times: equal hash, same images."""
        return state_of((path, self.file(index)) for index, path in enumerate(self.paths))


def state_of(
    files: Iterable[tuple[str, Path | str]], before: bytes = b"", *, exact: bool = False
) -> str:
    """Hash names, and their files' sizes and modification times, after what came `before`.

    Parameters
    ----------
    files : iterable of (str, path)
        Names, and where they are.
    before : bytes
        What else the hash stands for.
    exact : bool
        Times in nanoseconds instead of seconds: a file written twice within one is told apart.
    """
    digest = hashlib.sha256(before)
    for name, file in files:
        try:
            stat = os.stat(file)  # noqa: PTH116  (there may be hundreds of thousands)
            state = f"{stat.st_size}:{stat.st_mtime_ns if exact else int(stat.st_mtime)}"
        except (OSError, ValueError):
            state = "missing"
        digest.update(f"{name}\0{state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def open_folder(root: Path | str) -> ImageSet:
    """List a folder's images in a fixed order.

    Parameters
    ----------
    root : path
        A folder with images in it (kind "images"), or with class subfolders, nested as deep as
        you like (kind "classes"; the class is the first folder's name). With both, the images
        of all depths are one flat list. Hidden files, other files, and folders that cnnlens
        wrote itself are passed over.

    Raises
    ------
    CnnlensError
        When it is missing, no folder, unreadable, or holds no image.
    """
    root = existing_folder(Path(root))
    paths = tuple(sorted(_images(root)))
    if not paths:
        raise CnnlensError(
            f"no images in {root}", f"images end in {' '.join(ENDINGS)} (in any case)"
        )
    if any("/" not in path for path in paths):
        return ImageSet(root, paths, "images")
    categories = tuple(path.split("/", 1)[0] for path in paths)
    return ImageSet(root, paths, "classes", categories)


def existing_folder(root: Path) -> Path:
    """Return `root` when it is a folder that can be listed, else say what is wrong with it."""
    try:
        next(iter(os.scandir(root)), None)
    except FileNotFoundError:
        raise UsageError(f"no folder {root}", _near(root)) from None
    except NotADirectoryError:
        raise UsageError(f"{root} is a file, not a folder", "name the folder it is in") from None
    except PermissionError:
        raise CnnlensError(f"{root} cannot be read: permission denied") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CnnlensError(f"{root} cannot be read: {reason}") from error
    return root


def _near(root: Path) -> str:
    """Offer folders beside the missing one, or name the first part of the path that is missing."""
    parent = root.parent
    try:
        beside = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    except OSError:
        return f"there is no folder {parent} either"
    return did_you_mean(root.name, beside)


def _images(root: Path) -> Iterator[str]:
    """Walk the folder, level by level, real folders before links, none of them twice."""
    waiting = deque([""])
    seen: set[str] = set()
    while waiting:
        below = waiting.popleft()
        folder = root / below
        real = os.path.realpath(folder)
        if real in seen or (below and (folder / "workspace.json").is_file()):
            continue
        seen.add(real)
        for entry in sorted(_listed(folder), key=lambda e: (e.is_symlink(), e.name)):
            if _is_folder(entry):
                waiting.append(f"{below}{entry.name}/")
            elif entry.name.lower().endswith(ENDINGS):
                yield f"{below}{entry.name}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        reason = error.strerror or str(error)
        raise CnnlensError(f"{folder} cannot be read: {reason}") from error


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


def home() -> Path:
    """Folder of downloaded data sets: ``$CNNLENS_HOME``, else the platform's data folder."""
    if os.environ.get(HOME_VARIABLE):
        return Path(os.environ[HOME_VARIABLE]).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("cnnlens"))
