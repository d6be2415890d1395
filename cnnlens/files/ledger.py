"""What a run has made so far, and from what: the one way to go on, and to leave finished things be.

A ledger is the JSON of a folder of results. While it grows, one line per entry is appended to a
hidden journal beside it, so that an entry costs the same however many there are; at the end the
JSON is written whole and the journal goes. A run that was killed leaves the journal, and the next
one takes it over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnlens.files import (
    LostError,
    make_folder,
    read_json,
    to_json,
    write_json,
    writing_error,
)
from cnnlens.files.locks import alone_in

MADE_FROM = "made_from"  # of an entry: everything that it depends on
RAW = "raw"  # of an entry: the arrays that were written with it, where they were asked for


@dataclass(frozen=True)
class Item:
    """One thing to be made."""

    name: str  # in the ledger: a picture's file, a station of a tree
    made_from: Mapping[str, Any]  # all it depends on: equal, and it need not be made again
    files: tuple[str, ...] = ()  # that must be there too, below the ledger's folder
    subject: Any = None  # whatever its maker needs to know
    #: says of what an earlier entry was made from whether that serves too: a sheet of nine images
    #: where four are asked for; left out: it must be equal
    serves: Callable[[Mapping[str, Any]], bool] | None = None
    #: whether the arrays behind it are asked for, which stand beside it then; None: it has none
    raw: bool | None = None

    @property
    def arrays(self) -> str:
        """The file of the arrays behind it."""
        return Path(self.name).with_suffix(".npz").as_posix()


@dataclass
class Ledger:
    """The entries of one folder of results.

    Entries of earlier runs stay as long as their files are there; one that is made anew takes the
    old one's place.

    Raises
    ------
    CnnlensError
        When the JSON is damaged.
    """

    path: Path  # the JSON
    #: the key under which it lists its entries, each with its "file"; empty: entries stand in the
    #: document itself, by name, and it is one of its own, by the file's name, where it says what
    #: it was made from
    listed: str = "pictures"
    force: bool = False  # make everything anew, and pass over a damaged JSON
    #: by name, in the order they were first made
    entries: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    #: what the JSON said beside its entries, when it was read
    summary: dict[str, Any] = field(default_factory=dict, init=False)

    _made: set[str] = field(default_factory=set, init=False)  # names of what this run has made

    def __post_init__(self) -> None:
        self.entries = self._on_disk(pass_over=self.force)

    @property
    def folder(self) -> Path:
        """Where the results are."""
        return self.path.parent

    @property
    def _journal(self) -> Path:
        return self.path.with_name(f".{self.path.name}.journal")

    def _is_file(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def _is_there(self, name: str) -> bool:
        return not self.listed or self._is_file(name)

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.listed:
            document, entries = read_list(self.path, self.listed, "--force makes it anew")
            self.summary = {k: v for k, v in document.items() if k != self.listed}
            return {entry["file"]: entry for entry in entries}
        document = read_json(self.path, finite=True)
        if not isinstance(document, dict):
            raise LostError(f"{self.path} is damaged: it lists no results", "--force makes it anew")
        within = {k: v for k, v in document.items() if isinstance(v, dict) and MADE_FROM in v}
        return {self.path.name: document, **within} if MADE_FROM in document else within

    def _read_journal(self) -> dict[str, dict[str, Any] | None]:
        """Read what a killed run left, up to the line that it was writing; None of what it had
        begun to write over.
        """
        found: dict[str, dict[str, Any] | None] = {}
        if not self._journal.is_file():
            return found
        for line in self._journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                name, entry = json.loads(line)
            except (ValueError, TypeError):  # cut short by a kill
                continue
            if isinstance(name, str) and isinstance(entry, dict | None):
                found[name] = entry
        return found

    def forget_cleared(self) -> None:
        """Forget entries whose lists were removed meanwhile: they were another model's."""
        if not self.path.exists() and not self._journal.exists():
            self.entries, self.summary = {}, {}

    def is_made(self, item: Item) -> bool:
        """Whether it, and the files beside it, were made from just this."""
        entry = self.entries.get(item.name)
        if self.force or entry is None or not isinstance(entry.get(MADE_FROM), dict):
            return False
        if not all(map(self._is_file, item.files)):
            return False
        if item.raw and not (entry.get(RAW) == item.arrays and self._is_file(item.arrays)):
            return False
        earlier, mine = entry[MADE_FROM], as_read(item.made_from)
        if without_places(earlier) == without_places(mine):
            return True
        return item.serves is not None and item.serves(earlier)

    def missing(self, items: Iterable[Item]) -> list[Item]:
        """Return what is still to be made."""
        return [item for item in items if not self.is_made(item)]

    def there(self, items: Iterable[Item], todo: Iterable[Item]) -> list[Item]:
        """Return those of `items` that are listed as they were asked for: of `todo`, which was
        missing, only what has been made. In the place of what came to nothing an earlier entry may
        stand, made from something else.
        """
        lacking = {item.name for item in todo} - self._made
        return [i for i in items if i.name in self.entries and i.name not in lacking]

    def begin(self, item: Item) -> None:
        """Note that its files are about to be written over.

        Who is killed before `keep` leaves files that are of neither what is listed nor for certain
        of anything: they are made anew, whatever is asked for.
        """
        if self.entries.pop(item.name, None) is not None:
            self._note(item.name, None)

    def keep(self, item: Item, entry: Mapping[str, Any]) -> None:
        """Note what has just been made; it is safe from now on.

        Arrays that an earlier run wrote beside it are of another picture, and go.
        """
        raw = {RAW: item.arrays} if item.raw else {}
        if item.raw is False:
            with suppress(OSError):  # what cannot be removed is not named by the entry either
                (self.folder / item.arrays).unlink(missing_ok=True)
        self.amend(item.name, {**entry, **raw, MADE_FROM: as_read(item.made_from)})

    def amend(self, name: str, entry: Mapping[str, Any]) -> None:
        """Put an entry in the place of the one of that name."""
        self.entries[name] = dict(entry)
        self._made.add(name)
        self._note(name, self.entries[name])

    def _note(self, name: str, entry: Mapping[str, Any] | None) -> None:
        """Append a line to the journal."""
        line = json.dumps([name, entry], ensure_ascii=True, allow_nan=False)
        make_folder(self.folder)
        try:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")  # on a line of its own, whatever a kill left
        except OSError as error:
            raise writing_error(self.path, error) from error

    def drop_renamed(
        self, items: Iterable[Item], shows: Callable[[Mapping[str, Any]], str]
    ) -> None:
        """Remove pictures that show what one of `items` shows that is there, under another name.

        `shows` gives equal texts for entries that show the same. What cannot be removed stays.
        """
        entries = self.entries
        now = {shows(entries[one.name]): one.name for one in items if one.name in entries}
        for name in [n for n, entry in entries.items() if now.get(shows(entry), n) != n]:
            file = self.folder / name
            with suppress(OSError):
                file.unlink(missing_ok=True)
                del entries[name]
                file.with_suffix(".npz").unlink(missing_ok=True)

    def document(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON: `summary`, then the entries."""
        if not self.listed:
            return {**summary, **self.entries}
        return {**summary, self.listed: list(self.entries.values())}

    def close(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Write the JSON, and return it; what another process has made meanwhile stays."""
        make_folder(self.folder)
        with alone_in(self.folder):
            # damaged, it was passed over when this run began
            theirs = self._on_disk(pass_over=True)
            begun = [name for name, entry in self._read_journal().items() if entry is None]
            self.entries = {**theirs, **self._mine(theirs)}
            document = self.document(summary)
            write_json(self.path, document)
            self._journal.unlink(missing_ok=True)
            for name in begun:  # by a run that is still at it, or was killed
                if name in self.entries and name not in self._made:
                    self._note(name, None)
        return document

    def _mine(self, theirs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Give the entries without those that another run has made from other things meanwhile."""
        return {
            name: entry
            for name, entry in self.entries.items()
            if name in self._made
            or name not in theirs
            or theirs[name].get(MADE_FROM) == entry.get(MADE_FROM)
        }

    @contextmanager
    def held(self) -> Iterator[list[dict[str, Any]]]:
        """Yield what is listed, by whomever, and let nobody list more in the meantime."""
        make_folder(self.folder)
        with alone_in(self.folder):
            yield list(self._on_disk(pass_over=True).values())

    def _on_disk(self, pass_over: bool) -> dict[str, dict[str, Any]]:
        """Read what is listed and what a killed run left, of which the files are there."""
        try:
            known = self._read() if self.path.exists() else {}
        except LostError:  # one that cannot be read may be whole, and is never written over
            if not pass_over:
                raise
            known = {}
        left = {**known, **self._read_journal()}
        return {name: one for name, one in left.items() if one is not None and self._is_there(name)}


def read_list(path: Path, listed: str, redo: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a JSON that lists results under a key, each with its "file".

    Raises
    ------
    CnnlensError
        When it lists none, or one has no file; `redo` is the way out.
    """
    document = read_json(path, finite=True)
    entries = document.get(listed) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise LostError(f"{path} is damaged: it lists no {listed}", redo)
    if not all(isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in entries):
        raise LostError(f"{path} is damaged: one of its {listed} has no file", redo)
    return document, entries


def pictures_of(ledgers: Iterable[Ledger]) -> dict[str, tuple[str, Any]]:
    """Names that pictures of earlier runs have, and what they show: an image by its mark, and the
    category that was named for it, else None.
    """
    return {
        Path(entry["file"]).stem: (mark, entry[MADE_FROM].get("category"))
        for entry, mark in of_images(ledgers)
    }


def names_in_use(ledgers: Iterable[Ledger]) -> dict[str, str]:
    """Names of the images that earlier runs made pictures of, and the marks of these images."""
    return {image_name(entry): mark for entry, mark in of_images(ledgers)}


def of_images(ledgers: Iterable[Ledger]) -> Iterator[tuple[dict[str, Any], str]]:
    """Entries whose pictures are of a given image, each with that image's mark."""
    for ledger in ledgers:
        for entry in ledger.entries.values():
            made_from: Any = entry.get(MADE_FROM)
            mark = made_from.get("image") if isinstance(made_from, dict) else None
            if isinstance(mark, str) and isinstance(entry.get("file"), str):
                yield entry, mark


def image_name(entry: Mapping[str, Any]) -> str:
    """Name the image that an entry's picture is of; the picture's own name may say more."""
    if isinstance(name := entry.get("name"), str):
        return name
    stem, image = Path(entry["file"]).stem, Path(str(entry.get("image")))
    if "target" not in entry[MADE_FROM]:
        return stem
    # one that `fool` listed when it did not say names yet: NAME--CLASS
    own = "|".join(map(re.escape, (image.name, image.stem)))
    found = re.match(rf"(?:.*?__)?(?:{own})(?=--|$)", stem)
    return found[0] if found else stem


_PLACE = re.compile(r"^[0-9a-f]{16}@(?=[0-9a-f]{16})")  # ahead of what an image's mark says of it


def without_places(made_from: Any) -> Any:
    """Leave out where given images were: one that was moved is the same."""
    if isinstance(made_from, dict):
        return {key: without_places(value) for key, value in made_from.items()}
    if isinstance(made_from, list):
        return [*map(without_places, made_from)]
    return _PLACE.sub("", made_from) if isinstance(made_from, str) else made_from


def as_read(made_from: Mapping[str, Any]) -> Any:
    """Bring it to what a JSON gives back: lists for tuples, texts for keys."""
    return json.loads(to_json(made_from))
