"""Label masks of other kinds, written in Broden's layout: COCO, VOC, ADE20K, folders of masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnlens.data.dataset import new_dataset_folder
from cnnlens.data.folder import check_unpacked
from cnnlens.data.imports.ade20k import open_ade20k
from cnnlens.data.imports.coco import open_coco
from cnnlens.data.imports.masks import open_masks
from cnnlens.data.imports.voc import open_voc
from cnnlens.data.imports.write import write_source
from cnnlens.errors import UsageError

KINDS = ("coco", "voc", "ade20k", "masks")


def import_data(
    kind: str,
    src: Path | str,
    out: Path | str,
    *,
    names: Path | None = None,
    supercategories: bool = False,
    link: bool = False,
    force: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a data set with label masks in Broden's layout, whole or not at all.

    Parameters
    ----------
    kind : {"coco", "voc", "ade20k", "masks"}
        What `src` is.
    src, out : path
        The folder to read, and the one to make, outside of `src`.
    names : path, optional
        ``masks`` only: names of numbers or colours, see `label_names.read_names`.
    supercategories : bool
        ``coco`` only: a category ``supercategory`` beside ``object``.
    link : bool
        Hard links to the images instead of copies, where the file system has them.
    force : bool
        Replace an earlier data set in `out`.
    progress : callable, optional
        Called with (stage, images done, images in all).

    Returns
    -------
    dict
        What was written, as in ``import.json``: images, skipped, labels, notes.

    Raises
    ------
    UsageError
        When an option is of no use for the kind, or `out` lies in `src`.
    CnnlensError
        When `src` is of another kind, or no image of it can be used.
    """
    src, out = Path(src).expanduser(), Path(out).expanduser()
    _check(kind, src, out, names, supercategories)
    told = progress or (lambda stage, done, total: None)

    def stage(name: str) -> Callable[[int, int], None]:
        return lambda done, total: told(name, done, total)

    with new_dataset_folder(out, force) as folder:  # refused before anything large is read
        if kind == "coco":
            source = open_coco(src, supercategories=supercategories)
        elif kind == "masks":
            source = open_masks(src, names, stage("reading masks"))
        else:
            source = {"voc": open_voc, "ade20k": open_ade20k}[kind](src)
        return write_source(source, folder, link=link, progress=stage("writing"))


def _check(kind: str, src: Path, out: Path, names: Path | None, supercategories: bool) -> None:
    if kind not in KINDS:
        raise UsageError(f"no kind '{kind}' to import", f"known are: {', '.join(KINDS)}")
    check_unpacked(src)
    if names is not None and kind != "masks":
        raise UsageError(f"--names is of no use for {kind}", "it has names of its own")
    if supercategories and kind != "coco":
        raise UsageError(f"{kind} has no supercategories", "leave --supercategories out")
    if out.resolve().is_relative_to(src.resolve()):
        raise UsageError(f"--out {out} lies in {src}", "choose a folder beside it")
