"""WebDataset: tar archives whose members belong together by their names, and sets of such archives.

``0042.jpg`` and ``0042.cls`` are one sample, an image and its class. Its image is called
``<class>/0042.jpg`` here, so that shards are read as a folder of class folders. Archives without
labels are read as one folder that holds what is in all of them.

https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import IO, cast

from cnnlens.data.archives import Archive, title_of
from cnnlens.data.container import Container, Member, passed_over
from cnnlens.errors import CnnlensError, counted

MANY = 64  # archives of a set, beyond which none is kept open

_LABEL_KEYS = ("class_name", "label_name", "category", "label", "class", "cls", "target")
_LABELS = (".cls", ".json", ".txt")
_TEXTS = 0.5  # texts per image, of which more are captions and not classes
_LONGEST = 200
_WORKERS = 8
# kinds of image that are photos and no masks, the usual ones first; and names of what networks see
_PHOTOS = ("jpg", "jpeg", "jpe", "jfif", "webp", "avif", "heic", "heif", "jp2", "j2k")
_INPUTS = ("image", "img", "input", "photo", "rgb")
_NO_PHOTO = len(_PHOTOS) + 2

Found = tuple[Archive, Member]
Sample = tuple[Archive, str, str, str]  # its key, its image's path, its label
Parts = dict[str, str]  # of a sample: kind → path
Pictured = tuple[Archive, list[tuple[str, Parts, list[str]]]]  # its samples with images
Labelled = tuple[list[Sample] | None, list[str]]  # and what is said of them


class Shards(Container):
    """Several archives as one, or one whose members are samples."""

    def __init__(
        self, address: str, archives: Sequence[Archive], known: Labelled | None = None
    ) -> None:
        super().__init__(address)
        self.archives = archives
        for one in archives:
            name = one.address.rpartition("/")[2]
            self.notes += [f"{name}: {n}" for n in one.notes] if len(archives) > 1 else one.notes
        labelled, notes = known or _labelled(archives)
        self.notes += notes
        if labelled is None:
            self._take_files()
        else:
            self.has_classes = True
            self._take_samples(labelled)

    def _take_files(self) -> None:
        twice = []
        for archive in self.archives:
            for path, member in archive.members.items():
                shown = path
                if path in self.members:  # numbered anew in every archive
                    twice.append(self.members[path].size == member.size)
                    shown = _beside(path, title_of(archive.address))
                self._add(shown, archive, member)
        if twice:
            self.notes.append(_in_several("names", twice))

    def _take_samples(self, samples: Sequence[Sample]) -> None:
        bare, more = [], []
        for archive, key, path, label in samples:
            if not label:
                bare.append(path)
                continue
            name = key.removeprefix(f"{label}/").replace("/", "__")
            shown = f"{label}/{name}.{path.rpartition('.')[2]}"
            if shown in self.members:
                more.append(self.members[shown].size == archive.members[path].size)
                shown = _beside(shown, title_of(archive.address))
            self._add(shown, archive, archive.members[path])
        self.numbers = _numbers({label for _, _, _, label in samples if label})
        self.notes += passed_over("passed over, samples without a label", bare)
        if more:
            self.notes.append(_in_several("keys", more))

    def _add(self, path: str, archive: Archive, member: Member) -> None:
        if path in self.members:
            raise CnnlensError(
                f"{archive.address} holds {path} twice under one name", "give each a key of its own"
            )
        self.members[path] = replace(member, place=(archive, member))

    def open_member(self, member: Member) -> IO[bytes]:
        """Open a member of one of the archives."""
        archive, inside = cast("Found", member.place)
        return archive.open_member(inside)

    def read_member(self, member: Member) -> bytes:
        """Return the content of a member of one of the archives."""
        archive, inside = cast("Found", member.place)
        return archive.read_member(inside)

    def is_there(self) -> bool:
        """Whether all archives can still be reached."""
        return all(archive.is_there() for archive in self.archives)

    @property
    def title(self) -> str:
        """The archives' name without what tells them apart."""
        return title_of(self.address)


def _in_several(what: str, alike: Sequence[bool]) -> str:
    """Say that names are doubled, and of how many the files are of one size."""
    said = f"{len(alike)} {what} stand in several archives, and are told apart"
    same = f"{sum(alike)} of files of one size, perhaps the same images twice"
    return f"{said} ({same})" if any(alike) else said


def _numbers(labels: Iterable[str]) -> dict[str, int]:
    """The numbers that labels are; none where some are names."""
    found = {label: int(label) for label in labels if label.isdecimal() and label.isascii()}
    as_written = all(str(number) == label for label, number in found.items())
    return found if as_written and len(found) == len(set(labels)) else {}


def _beside(path: str, of: str) -> str:
    """Tell a file apart by the archive it is in."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{of}__{name}"


def as_samples(archive: Archive) -> Container:
    """Return an archive as it is, or as the samples that it holds."""
    known = _labelled([archive])
    if known[0] is not None:
        return Shards(archive.address, [archive], known)
    archive.notes += known[1]
    return archive


def _labelled(archives: Sequence[Archive]) -> Labelled:
    """List the samples that have an image, None where nothing says what class they are of; and
    what people should know of either.
    """
    pictured = [(archive, _pictured(_samples(archive.members))) for archive in archives]
    folders = {key.rpartition("/")[0] for _, some in pictured for key, _, _ in some}
    notes: list[str] = []
    for kind in (ending[1:] for ending in _LABELS):
        first = next(((a, p[kind]) for a, some in pictured for _, p, _ in some if kind in p), None)
        if first is None:
            continue
        if kind == "json" and len(folders) > 1:  # which are classes, as in the unpacked folder
            if _label(first[0].read(first[1]), kind):
                notes = [
                    "labels in .json beside images in several folders are not read, but in .cls"
                ]
            continue
        read = partial(_of_kind, kind)
        with ThreadPoolExecutor(_WORKERS) as pool:
            found = list(chain(*pool.map(read, *zip(*pictured, strict=True))))
        labels = [label for _, _, _, label in found if label]
        flat = not any("/" in path for archive in archives for path in archive.members)
        if kind == "txt" and (not flat or len(set(labels)) > _TEXTS * len(labels)):
            break  # captions, or notes beside photos in folders
        if labels:
            taken = [images for _, some in pictured for _, _, images in some]
            return found, [*_several(taken), *_left(pictured)]
    return None, notes


def _samples(paths: Iterable[str]) -> dict[str, Parts]:
    """Group files by their key: kind of part → path.

    The key is all before the name's first dot, as WebDataset has it. Where nothing is called by
    that and an ending alone, and a label is called by more, as in ``img_0.13.cls``, it is that.
    """
    every = [path for path in paths if path.rpartition("/")[2].partition(".")[0]]
    plain = {path.rpartition(".")[0] for path in every}
    labelled = {path.rpartition(".")[0] for path in every if path.lower().endswith(_LABELS)}
    found: dict[str, Parts] = defaultdict(dict)
    for path in every:
        folder, slash, name = path.rpartition("/")
        pieces = name.split(".")
        keys = [f"{folder}{slash}{'.'.join(pieces[:n])}" for n in range(1, len(pieces))]
        if keys:
            longer = (key for key in keys[1:] if key in labelled)
            key = keys[0] if keys[0] in plain else next(longer, keys[0])
            found[key][path[len(key) + 1 :].lower()] = path
    return found


def _pictured(samples: Mapping[str, Parts]) -> list[tuple[str, Parts, list[str]]]:
    """List the samples that have an image, with their kinds of image, that of the photo first.

    Of ``jpg`` and ``png`` the former: masks are never kept in formats that lose. ``mask.png`` is
    no photo, ``input.png`` is one where nothing is plainer.
    """
    from cnnlens.data.formats import endings

    found = []
    for key, parts in samples.items():
        shown = [kind for kind in parts if f".{kind.rpartition('.')[2]}" in endings()]
        shown.sort(key=lambda kind: (_likeness(kind), kind))
        if shown and _likeness(shown[0]) < _NO_PHOTO:
            found.append((key, parts, shown))
    return found


def _likeness(kind: str) -> int:
    """Rank kinds of image, the likeliest photo first."""
    name, dot, ending = kind.rpartition(".")
    if dot:
        return _NO_PHOTO - 1 if name in _INPUTS else _NO_PHOTO
    return _PHOTOS.index(ending) if ending in _PHOTOS else len(_PHOTOS)


def _several(images: Iterable[list[str]]) -> list[str]:
    """Say which image is taken of samples that hold several."""
    many = [kinds for kinds in images if len(kinds) > 1]
    if not many:
        return []
    taken = sorted({kinds[0] for kinds in many})
    left = sorted({kind for kinds in many for kind in kinds[1:]})
    words = f"{counted(len(many), 'sample')} of several images, of which .{', .'.join(taken)} is"
    return [f"{words} taken and .{', .'.join(left)} left aside"]


def _left(pictured: Sequence[Pictured]) -> list[str]:
    """Say which images are of no sample that has a photo."""
    from cnnlens.data.formats import endings

    known = tuple(endings())
    left: list[str] = []
    for archive, some in pictured:
        ours = {parts[kind] for _, parts, images in some for kind in images}
        shown = (p for p in archive.members if p.lower().endswith(known) and p not in ours)
        left += [path for path in shown if not path.rpartition("/")[2].startswith(".")]
    return passed_over("passed over, images of samples without a photo", left)


def _of_kind(
    kind: str, archive: Archive, pictured: list[tuple[str, Parts, list[str]]]
) -> list[Sample]:
    """List the samples of an archive, with labels from their parts of a kind; "" for none."""
    found: list[Sample] = []
    for key, parts, images in pictured:
        label = _label(archive.read(parts[kind]), kind) if kind in parts else ""
        found.append((archive, key, parts[images[0]], label))
    return found


def _label(content: bytes, kind: str) -> str:
    """Return the class that a part of a sample names, fit to be a folder's name."""
    text = content.decode("utf-8", "replace")
    if kind == "json":
        try:
            said = json.loads(text)
        except ValueError:
            return ""
        known = said if isinstance(said, dict) else {}
        value = next((known[key] for key in _LABEL_KEYS if key in known), "")
        text = str(value) if isinstance(value, (str, int)) else ""
    name = re.sub(r"[/\\\0-\x1f]+", "_", text.strip())[:_LONGEST]
    return f"_{name}" if name.startswith(".") else name
