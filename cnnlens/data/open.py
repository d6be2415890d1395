"""From a folder to a data set: what kind it is shows in what is in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cnnlens.data.broden import Broden, open_broden
from cnnlens.data.dataset import ImageSet
from cnnlens.data.folder import existing_folder, open_folder
from cnnlens.errors import CnnlensError

HOME_VARIABLE = "CNNLENS_HOME"
BRODEN_FOLDERS = {224: "broden1_224", 227: "broden1_227", 384: "broden1_384"}

# what shows that a folder is a data set of a certain kind: all of these must be in it
_MARKS = {
    "broden": ("index.csv", "label.csv"),
    "cub": ("images.txt", "parts/part_locs.txt"),
    "voc-part": ("Annotations_Part",),
}


def open_data(path: Path | str) -> ImageSet | Broden:
    """Open a data folder of any kind.

    Parameters
    ----------
    path : path
        A folder in Broden's layout, a parts data set (opened for its images alone), or a folder
        of images; or one that holds nothing but such a labelled data set, as unzipping leaves it.
        The `root` of the result says which folder was used.

    Raises
    ------
    CnnlensError
        When the folder is missing, holds no images, or its tables are malformed.
    """
    root, kind = labelled_folder(Path(path))
    return _OPENERS[kind or "images"](root)


def labelled_folder(path: Path) -> tuple[Path, str | None]:
    """Return the folder of a labelled data set, `path` or the only folder in it, and its kind.

    Where there is none: `path` and None.
    """
    root = existing_folder(path.expanduser())
    kind = kind_of(root)
    inner = _only_folder(root) if kind is None else None
    if inner is not None and kind_of(inner) is not None:
        return inner, kind_of(inner)
    return root, kind


def home() -> Path:
    """Folder of downloaded data sets: ``$CNNLENS_HOME``, else the platform's data folder."""
    if os.environ.get(HOME_VARIABLE):
        return Path(os.environ[HOME_VARIABLE]).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("cnnlens"))


def find_broden(size: int = 224) -> Broden:
    """Open the downloaded Broden whose images are nearest to a network's input size.

    Parameters
    ----------
    size : int
        Wanted image size in pixels; of two equally near, the smaller.

    Raises
    ------
    CnnlensError
        When Broden was not downloaded.
    """
    for near in sorted(BRODEN_FOLDERS, key=lambda has: (abs(has - size), has)):
        folder = home() / BRODEN_FOLDERS[near]
        if (folder / "index.csv").is_file():
            return open_broden(folder)
    raise CnnlensError(
        f"Broden is not in {home()}",
        "`cnnlens data download broden` fetches it; -d DIR names a folder in Broden's layout",
    )


def kind_of(root: Path) -> str | None:
    """Name the kind of labelled data set in a folder: broden, cub or voc-part; else None."""
    for kind, marks in _MARKS.items():
        present = [(root / mark).exists() for mark in marks]
        # half of Broden's pair is a damaged Broden, not a folder of images
        if all(present) or (kind == "broden" and present[0] and (root / "images").is_dir()):
            return kind
    return None


def _only_folder(root: Path) -> Path | None:
    inside = [entry for entry in root.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else None


def _images_of_parts(root: Path) -> ImageSet:
    """The images of a parts data set: those below ``images`` where it has such a folder."""
    for name in ("images", "JPEGImages"):
        if (root / name).is_dir():
            images = open_folder(root / name)
            return replace(images, root=root, paths=tuple(f"{name}/{p}" for p in images.paths))
    return open_folder(root)


def _voc_part(root: Path) -> ImageSet:
    try:
        return _images_of_parts(root)
    except CnnlensError:
        raise CnnlensError(
            f"{root} holds VOC-Part's annotations but not its images",
            "put the JPEGImages folder of PASCAL VOC 2010 beside Annotations_Part",
        ) from None


_OPENERS: dict[str, Callable[[Path], ImageSet]] = {
    "broden": open_broden,
    "cub": _images_of_parts,
    "voc-part": _voc_part,
    "images": open_folder,
}
