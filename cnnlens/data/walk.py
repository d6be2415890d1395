"""The files below a folder: which are images, what is passed over, what systems and tools left."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from cnnlens.data.formats import endings, looks_like_image
from cnnlens.data.member_path import MemberEntry, MemberPath
from cnnlens.errors import CnnlensError

# left beside photos by systems, network drives and notebooks; in lower case
_LEFT = frozenset(
    (
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
        *("__macosx", "__pycache__", "lost+found", "$recycle.bin", "system volume information"),
        *("network trash folder", "temporary items", "icon\r", "desktop.ini"),
        *("thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db"),
    )
)
# files that tell about images, so that a folder of nothing else is no class of images
_ABOUT = frozenset(
    (
        *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst"),
        *(".html", ".htm", ".pdf", ".py", ".ipynb", ".sh", ".log", ".toml", ".ini", ".cfg"),
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".pkl", ".mat", ".pt", ".pth"),
        *(".h5", ".url", ".lock"),
    )
)
_TABLES = (".csv", ".tsv")
_NAMED = 3  # files that a note names before it counts the rest


@dataclass(frozen=True)
class Listing:
    """What is below a folder; paths are relative, with forward slashes, sorted.

    Attributes
    ----------
    images : tuple of str
        Files that are taken for images.
    unnamed : tuple of str
        Those among them that have no ending, and are images by their first bytes.
    others : tuple of str
        Files that are passed over.
    folders : tuple of str
        Names of the folders in it, without those that systems and tools left.
    leftovers : tuple of str
        Names of files and folders that systems and tools left.
    doubled : tuple of str
        Links to folders that are read already.
    start : str
        What all paths begin with, where they are relative to a folder above.
    """

    images: tuple[str, ...]
    unnamed: tuple[str, ...]
    others: tuple[str, ...]
    folders: tuple[str, ...]
    leftovers: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    start: str = ""

    @cached_property
    def filled(self) -> tuple[str, ...]:
        """Folders that hold images."""
        tops = {self.top(path) for path in self.images}
        return tuple(name for name in self.folders if name in tops)

    def said_of_leftovers(self) -> list[str]:
        """Say what systems and tools left."""
        return [f"left by systems and tools: {_listed(self.leftovers)}"] if self.leftovers else []

    @property
    def is_flat(self) -> bool:
        """Whether images lie in the folder itself."""
        return any(not self.top(path) for path in self.images)

    def top(self, path: str) -> str:
        """Return the folder that a file is in; empty where it lies beside them."""
        first, slash, _ = path[len(self.start) :].partition("/")
        return first if slash else ""

    def vanished(self) -> Iterator[tuple[str, str]]:
        """Yield classes of which no file is an image, and what their files are."""
        if self.is_flat:
            return
        for name in self.folders:
            inside = [path for path in self.others if self.top(path) == name]
            if name not in self.filled and any(ending(path) not in _ABOUT for path in inside):
                said = f"{_files(len(inside))}, none of them an image ({_by_ending(inside)})"
                yield name, said + _apple(inside)

    def notes(self) -> Iterator[str]:
        """Say what is passed over, and what is taken for an image without an ending."""
        if self.others:
            of = "no image" if len(self.others) == 1 else "no images"
            said = f"{_files(len(self.others))} passed over, {of} ({_by_ending(self.others)})"
            tables = self.is_flat and any(ending(path) in _TABLES for path in self.others)
            yield (
                said + _apple(self.others) + ("; folders are classes, tables are not read" * tables)
            )
        if self.unnamed:
            words = "an image" if len(self.unnamed) == 1 else "images"
            yield f"{_files(len(self.unnamed))} without an ending read, by content {words}"
        if self.is_flat and self.filled:
            yield f"images lie beside folders ({_listed(self.filled)}): there are no categories"
        elif empty := [name for name in self.folders if name not in self.filled]:
            words = "the folder" if len(empty) == 1 else "the folders"
            yield f"no image in {words} {_listed(empty)}: no category"
        if self.doubled:
            yield f"links to folders that are read already: {_listed(self.doubled)}"
        if not self.is_flat:
            yield from self._alike()

    def deep_note(self) -> str:
        """Say that folders in a class are no classes, where one has several."""
        below = {path[len(self.start) :].rpartition("/")[0] for path in self.images}
        inner = Counter(folder.split("/")[0] for folder in below)
        deep = sorted(folder for folder in below if inner[folder.split("/")[0]] > 1)
        return f"folders in a class are all that class ({_listed(deep)})" if deep else ""

    def _alike(self) -> Iterator[str]:
        same = Counter(map(_plain, self.filled))
        if alike := [name for name in self.filled if same[_plain(name)] > 1]:
            yield (
                f"classes whose names differ in case, blanks or accents' coding alone: "
                f"{_listed(alike)}"
            )


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _apple(paths: Sequence[str]) -> str:
    there = any(ending(path) in (".heic", ".heif") for path in paths)
    return "; HEIC is read with pip install pillow-heif" if there else ""


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _by_ending(paths: list[str] | tuple[str, ...]) -> str:
    """Count files by their endings, and name the first: ``6 .psd: cat/1.psd, …``."""
    counts = Counter(ending(path) or "without ending" for path in paths)
    kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common(_NAMED))
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(_NAMED))
    kinds += f", {rest} others" if rest else ""
    return f"{kinds}: {_listed(tuple(paths))}"


def ending(path: str) -> str:
    """Return what a file's name says it is, in lower case: ``.jpg``; of ``frame.0001`` nothing."""
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if any(c.isalpha() for c in suffix) else ""


def list_files(root: Path, start: str = "", deep: bool = True) -> Listing:
    """Walk a folder, level by level, real folders before links, none of them twice.

    With `start` (``train/``) the folder of that name in it; paths begin with it all the same.
    Not `deep`: its own files alone.
    Folders that cnnlens wrote, hidden files, and leftovers of systems and tools (``@eaDir``,
    ``__MACOSX``, ``Thumbs.db`` …) are not there.

    Raises
    ------
    CnnlensError
        When a folder cannot be read.
    """
    images: list[str] = []
    unnamed: list[str] = []
    others: list[str] = []
    folders: list[str] = []
    leftovers: set[str] = set()
    doubled: list[str] = []
    waiting = deque([start])
    seen: set[str] = set()
    known = endings()
    while waiting:
        below = waiting.popleft()
        folder = root / below
        real = os.path.realpath(folder)
        if real in seen:
            doubled.append(below[:-1])
            continue
        entries = _listing(folder)
        if below != start and any(entry.name == "workspace.json" for entry in entries):
            continue
        seen.add(real)
        if below.count("/") == start.count("/") + 1:
            folders.append(below[len(start) : -1])
        for entry in sorted(entries, key=lambda e: (e.is_symlink(), e.name)):
            path = f"{below}{entry.name}"
            if is_leftover(entry.name):
                leftovers.add(entry.name)
            elif _is_folder(entry):
                waiting.extend([f"{path}/"] if deep else [])
            elif ending(entry.name) in known:
                images.append(path)
            elif not ending(entry.name) and looks_like_image(folder / entry.name):
                unnamed.append(path)
            else:
                others.append(path)
    found = tuple(sorted(images + unnamed)), tuple(unnamed), tuple(others), tuple(sorted(folders))
    return Listing(*found, tuple(sorted(leftovers)), tuple(doubled), start)


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is left by a system or a tool, or is hidden."""
    return name.startswith(".") or name.lower() in _LEFT


def _is_folder(entry: os.DirEntry[str] | MemberEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _listing(folder: Path) -> Sequence[os.DirEntry[str] | MemberEntry]:
    try:
        if isinstance(folder, MemberPath):
            return folder.entries()
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise CnnlensError(f"{folder} cannot be read: {reason}") from error
