"""From a folder to a data set: what kind it is shows in what is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cnnlens.data.animal_part import PATTERN as ANIMAL_PART
from cnnlens.data.animal_part import open_animal_part
from cnnlens.data.broden import Broden, open_broden
from cnnlens.data.cub import open_cub
from cnnlens.data.dataset import ImageSet, open_folder
from cnnlens.data.folder import existing_folder
from cnnlens.data.member_path import MemberPath, located
from cnnlens.data.ranges import Bounds
from cnnlens.data.splits import chosen, meaning, splits_in, splits_within, unchosen, within
from cnnlens.data.survey import surveyed
from cnnlens.data.voc_part import open_voc_part
from cnnlens.data.walk import is_leftover
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files.home import home

BRODEN_FOLDERS = {224: "broden1_224", 227: "broden1_227", 384: "broden1_384"}

# what shows that a folder is a data set of a certain kind: all of these must be in it
_MARKS = {
    "broden": ("index.csv", "label.csv"),
    "cub": ("images.txt", "parts/part_locs.txt"),
    "voc-part": ("Annotations_Part",),
}

_KINDS = {"broden": "Broden-layout", "classes": "class-folder", "parts": "parts"}
# what data of a kind has that others lack, and where it comes from
_LACKING = {
    "broden": (
        "label maps",
        "`cnnlens data download broden` fetches some, `cnnlens data make shapes` makes some",
    ),
    "classes": ("categories", "put the images into one subfolder per category"),
    "images": ("images", "name a folder of images"),
    "parts": (
        "parts",
        "CUB-200-2011, VOC-Part and Animal-Part have them, `cnnlens data make animals` makes some",
    ),
}


def open_data(
    path: Path | str, split: str | None = None, bounds: Bounds | None = None
) -> ImageSet | Broden:
    """Open a data folder of any kind.

    Parameters
    ----------
    path : path
        A folder in Broden's layout, a parts data set, or a folder of images; or one that holds
        nothing but such a labelled data set, as unzipping leaves it; or a ``.zip`` or ``.tar``
        that holds one of these, read where it lies. The `root` of the result says which folder
        was used.
    split : str, optional
        The only part of it that is wanted: of a folder whose only subfolders are splits
        (``train``, ``val``, ``test`` …) or lie in every class (``cat/train``), by the ``split``
        column of ``index.csv``, or by CUB-200-2011's own list.
    bounds : (float, float), optional
        The values that become black and white, of files deeper than 8 bits; left out, they are
        taken from the files, see `cnnlens.data.survey`.

    Raises
    ------
    UsageError
        When there is no such split, or one of several is to be named.
    CnnlensError
        When the folder is missing, holds no images, or its tables are malformed.
    """
    named = existing_folder(path)
    root, kind = labelled_folder(named)
    if kind == "cub":
        return surveyed(open_cub(root, split), bounds)
    if kind is not None:
        return surveyed(in_split(_OPENERS[kind](root), split), bounds)
    root, known = split_folder(root)
    if known:
        if split is None:
            raise unchosen(root, known)
        return surveyed(open_folder(root, chosen(root, split, known)), bounds)
    images = open_folder(root)
    known = splits_within(images.paths)
    if split is not None:
        images = within(images, chosen(root, split, known))
    elif known:
        raise unchosen(root, known, "folders in the classes")
    if root != named and images.kind == "images":
        images = replace(images, notes=(*images.notes, _no_category(named, root)))
    return surveyed(images, bounds)


def in_split(images: ImageSet, split: str | None) -> ImageSet:
    """Return the images of one split of a labelled data set; all where none is named.

    Raises
    ------
    UsageError
        When it has no such split.
    """
    if split is None:
        return images
    if not isinstance(images, Broden):
        raise UsageError(
            f"{images.root} has no split '{split}' (found: {images.kind})",
            "splits are the split column of index.csv, or folders called train, val, test",
        )
    return images.of_split(chosen(images.root, split, sorted(set(images.splits))))


def held_out_beside(images: ImageSet) -> ImageSet | None:
    """Open the images to validate on that lie beside those to train on (``train``, then ``val``,
    else ``test``), in folders of their own or in every class; None where it is no such split.
    """
    root = images.root if images.split else images.root.parent
    name = images.split or images.root.name
    if meaning(name) != "train" or images.aligned or not root.is_dir():
        return None
    known = splits_in(root)
    if not known and images.split:
        known = splits_within(open_folder(root).paths)
    beside = [name for kind in ("val", "test") for name in known if meaning(name) == kind]
    return replace(open_data(root, beside[0]), ranges=images.ranges) if beside else None


def train_split(data: Path | str | ImageSet) -> str | None:
    """What the split to train on is called in a folder whose subfolders are splits; else None."""
    if not isinstance(data, (str, Path)) or not (root := located(data)).is_dir():
        return None
    return next((name for name in split_folder(root)[1] if meaning(name) == "train"), None)


def split_folder(root: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder whose subfolders are splits, `root` or the only one in it, and these."""
    if known := splits_in(root):
        return root, known
    inner = _only_folder(root)
    known = splits_in(inner) if inner is not None else ()
    return (inner, known) if inner is not None and known else (root, ())


def labelled_folder(path: Path | str) -> tuple[Path, str | None]:
    """Return the folder of a labelled data set, `path` or the only folder in it, and its kind.

    Where there is none: `path` and None; of an archive that holds one folder alone, that folder.
    """
    root = existing_folder(path)
    kind = kind_of(root)
    inner = _only_folder(root) if kind is None else None
    if inner is not None and kind_of(inner) is not None:
        return inner, kind_of(inner)
    if inner is not None and isinstance(root, MemberPath) and root.is_wrapping:
        return inner, None  # what an archive holds is often packed with the folder it was in
    return root, kind


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
    """Name the layout of the labelled data set in a folder: a key of `_OPENERS`, or None."""
    for kind, marks in _MARKS.items():
        present = [(root / mark).exists() for mark in marks]
        # half of Broden's pair is a damaged Broden, not a folder of images
        if all(present) or (kind == "broden" and present[0] and (root / "images").is_dir()):
            return kind
    return "animal-part" if next(root.glob(f"*/{ANIMAL_PART}"), None) else None


def _no_category(named: Path, inner: Path) -> str:
    """Say that the only folder of an archive is no category, as it would be in a folder."""
    return (
        f"all of {named.name} is in one folder, {inner.name}, which is taken for the data and not "
        "for a category"
    )


def _only_folder(root: Path) -> Path | None:
    inside = [entry for entry in root.iterdir() if not is_leftover(entry.name)]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else None


_OPENERS: dict[str, Callable[[Path], ImageSet]] = {
    "broden": open_broden,
    "cub": open_cub,
    "voc-part": open_voc_part,
    "animal-part": open_animal_part,
    "images": open_folder,
}


def check_kind(images: ImageSet, kinds: Sequence[str]) -> None:
    """Raise UsageError where data is of no kind that serves; the one that is wanted comes first."""
    if images.kind not in kinds:
        lacking, help_ = _LACKING[kinds[0]]
        raise UsageError(
            f"{images.root} holds no {lacking} (found: {images.kind})",
            f"this command needs {wanted(kinds)} data; {help_}",
        )


def wanted(kinds: Sequence[str]) -> str:
    """Name kinds of data for people."""
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds)
