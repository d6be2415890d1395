"""Data sets that can be downloaded, and the way from an address to a folder ready for use."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlens.data.dataset import new_dataset_folder
from cnnlens.data.fetch import Progress, discard, fetch
from cnnlens.data.open import kind_of
from cnnlens.data.unpack import DamagedArchive, unpack
from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.files import make_folder
from cnnlens.files.locks import lock_at, or_remove


@dataclass(frozen=True)
class Downloadable:
    """A data set somewhere else.

    Attributes
    ----------
    title, licence, citation, page : str
        For people.
    folder : str
        Its name below the data folder.
    url : str
        The archive; "" when there is none and `page` says where to get it.
    size : str
        Roughly, for people; "" when not known for sure.
    md5 : str
        Of the archive, where publicly known; "" otherwise.
    note : str
        What else one must know.
    """

    title: str
    folder: str
    url: str
    licence: str
    citation: str
    page: str
    size: str = ""
    md5: str = ""
    note: str = ""


_NETDISSECT = "http://netdissect.csail.mit.edu"
_BAU = "Bau et al., Network Dissection, CVPR 2017"


def _broden(size: int) -> Downloadable:
    return Downloadable(
        title=f"Broden, 63,305 images of {size} pixels, 1,197 labelled concepts",
        folder=f"broden1_{size}",
        url=f"{_NETDISSECT}/data/broden1_{size}.zip",
        licence="research; each source (ADE20K, OpenSurfaces, Pascal, DTD) under its own terms",
        citation=_BAU,
        page=_NETDISSECT,
    )


DATASETS = {
    "broden": _broden(224),
    "broden1_227": _broden(227),
    "broden1_384": _broden(384),
    "cub": Downloadable(
        title="Caltech-UCSD Birds-200-2011, 11,788 images, 15 part positions",
        folder="CUB_200_2011",
        url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        licence="non-commercial research and education",
        citation="Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001",
        page="https://data.caltech.edu/records/65de6-vp158",
        size="1.1 GB",
        md5="97eceeb196236b17998738112f37df78",
    ),
    "voc-part": Downloadable(
        title="PASCAL-Part, part masks for PASCAL VOC 2010",
        folder="voc-part",
        url="http://roozbehm.info/pascal-parts/trainval.tar.gz",
        licence="research",
        citation="Chen et al., Detect What You Can, CVPR 2014",
        page="http://roozbehm.info/pascal-parts/pascal-parts.html",
        note="annotations only: put the JPEGImages folder of PASCAL VOC 2010 beside them",
    ),
    "animal-part": Downloadable(
        title="ILSVRC Animal-Part, part centres on 30 animal categories",
        folder="animal-part",
        url="",
        licence="research",
        citation="Zhang et al., Growing Interpretable Part Graphs on ConvNets, AAAI 2017",
        page="https://github.com/zqs1022/detanimalpart",
        note="there is no archive: clone the repository, and put the part annotations (folders "
        "n01443537 … with truth_partNN.mat) from zqs1022/interpretableCNN beside its photos",
    ),
}


def listing(home: Path) -> list[dict[str, Any]]:
    """List the data sets: name, title, licence, and the path of those that are in `home`."""
    rows = []
    for name, known in DATASETS.items():
        folder = home / known.folder
        path = str(folder) if folder.is_dir() and any(folder.iterdir()) else None
        rows.append({"name": name, "title": known.title, "licence": known.licence, "path": path})
    return rows


def download(
    name: str,
    home: Path,
    progress: Progress | None = None,
    url_override: str | None = None,
) -> Path:
    """Fetch a data set into ``home/<folder>``; one that is there already is left alone.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    home : pathlib.Path
        The folder of downloaded data sets.
    progress : callable, optional
        Called with (stage, bytes done, bytes in all or None); the stages are "download",
        "check" and "unpack".
    url_override : str, optional
        Take the archive from here. A checksum that is known is still checked.

    Returns
    -------
    pathlib.Path
        The data set's folder, complete.

    Raises
    ------
    UsageError
        For a name that is not in `DATASETS`.
    CnnlensError
        When it cannot be had; what was downloaded is kept for the next try, unless it is damaged.
    """
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS) or f"known are {', '.join(DATASETS)}"
        raise UsageError(f"no data set {name!r}", hint)
    wanted = DATASETS[name]
    url = url_override or wanted.url
    target = home / wanted.folder
    if target.is_dir() and any(target.iterdir()):
        return target
    if not url:
        raise CnnlensError(f"{name} cannot be downloaded: {wanted.note}", wanted.page)
    make_folder(home)
    with _alone(home / f".{wanted.folder}.lock", name):
        if not (target.is_dir() and any(target.iterdir())):  # another process may have just done it
            _bring(wanted, url, target, progress)
    return target


def _bring(wanted: Downloadable, url: str, target: Path, progress: Progress | None) -> None:
    for leftover in target.parent.glob(f".{wanted.folder}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a run that was killed; the lock is ours
    part = fetch(url, target.with_name(f".{wanted.folder}.part"), progress)
    try:
        _check_sum(part, wanted, url, progress)
        with new_dataset_folder(target) as temporary:
            unpacked = temporary / ".unpacked"
            unpacked.mkdir()
            unpack(part, unpacked, progress)
            _lift(unpacked, temporary)
    except DamagedArchive:
        discard(part)  # going on with it would never mend it
        raise
    discard(part)


def _check_sum(part: Path, wanted: Downloadable, url: str, progress: Progress | None) -> None:
    if not wanted.md5:
        return
    digest = hashlib.md5(usedforsecurity=False)
    total, done = part.stat().st_size, 0
    with part.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress("check", done, total)
    if digest.hexdigest() != wanted.md5:
        raise DamagedArchive(f"{url}: its MD5 is {digest.hexdigest()}, it should be {wanted.md5}")


def _lift(unpacked: Path, target: Path) -> None:
    """Move up what matters: most archives wrap the data set in a folder of its own."""
    inside = sorted(unpacked.iterdir())
    if not inside:
        raise DamagedArchive("the archive is empty")
    folders = [entry for entry in inside if entry.is_dir()]
    recognised = [folder for folder in folders if kind_of(folder) is not None]
    source = unpacked
    if kind_of(unpacked) is None:
        if recognised:
            source = recognised[0]
        elif len(inside) == 1 and folders:
            source = folders[0]
    for entry in list(source.iterdir()):
        entry.rename(target / entry.name)
    shutil.rmtree(unpacked)


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Keep a second process from writing the same download."""
    import filelock

    try:
        with lock_at(path):
            yield
    except filelock.Timeout as error:
        raise CnnlensError(
            f"{name} is being downloaded by another process",
            f"wait for it, or end it{or_remove(error)}",
        ) from None
