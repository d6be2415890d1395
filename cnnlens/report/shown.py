"""How results show themselves to a notebook: as a table, as a data frame, as a little page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Generic, TypeVar

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.report.held import Held, Holder
from cnnlens.report.sheet import opened

LIMIT = 1_000_000  # characters that a result puts into a notebook
_LINE = 300  # characters that `print` of a result gives
_NAMED = 12  # pictures, and spans of units, that an error names
_COUNTED = ("units", "images", "concepts", "checkpoints")  # of a summary
_STYLE = "display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start"

Fact = tuple[str, str, str]  # what, its value, what chance gives ("" where there is no chance)
Picture = Path | Held | Image.Image | None


class Shown:
    """What every result can do; a result says its rows, its facts and its pictures."""

    _held: Sequence[tuple[str, Picture]] | None = None  # `_shots`, as they were

    def table(self) -> list[dict[str, Any]]:
        """Give the result as rows of plain values, by column."""
        raise NotImplementedError

    def to_pandas(self) -> Any:
        """Give `table` as a ``pandas.DataFrame``.

        Raises
        ------
        CnnlensError
            When pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise CnnlensError(
                "pandas is not installed", "pip install pandas, or use table()"
            ) from None
        return pandas.DataFrame(self.table())

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if "__repr__" not in vars(cls):  # else a dataclass would print all its arrays
            cls.__repr__ = Shown.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """Say in a line what this is, of how many, and where its files are."""
        told = [*self._told()]
        if (folder := getattr(self, "folder", None)) is not None:
            told.append(f"in {folder}")
        kind = type(self).__name__.removeprefix("Shown")
        return f"{kind}({shorten('; '.join(told), _LINE, placeholder=' …')})"

    def _told(self) -> Iterable[str]:
        """What a line says of it."""
        title, unit = self._title(), getattr(self, "unit", None)
        if title == type(self).__name__:
            return () if unit is None else (f"unit {unit}",)
        return (title,)

    def _title(self) -> str:
        return type(self).__name__

    def _facts(self) -> Iterable[Fact]:
        return ()

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        """Words and picture of what is worth a look, best first."""
        return ()

    def _within(self) -> Iterable[Shown]:
        """What it consists of that shows itself, too."""
        return ()

    def hold(self) -> None:
        """Keep its pictures as they are: later calls may write others under their names."""
        holder = Holder()
        for one in (self, *self._within()):
            shots = [
                (words, holder.hold(picture) if isinstance(picture, Path) else picture)
                for words, picture in one._shots()
            ]
            object.__setattr__(one, "_held", shots)  # most are frozen

    def _repr_html_(self) -> str:
        """Show facts beside chance, then pictures as long as there is room for them."""
        rows = [
            Markup("<tr><th style='text-align:left'>{}</th><td><b>{}</b></td><td>{}</td></tr>")
            .format(what, value, f"chance {chance}" if chance else "")
            for what, value, chance in self._facts()
        ]  # fmt: skip
        head = Markup("<h4>{}</h4><table>{}</table>").format(self._title(), Markup("").join(rows))
        parts, left = [head], LIMIT - len(head) - 1000
        for words, picture in self._shots() if self._held is None else self._held:
            shot = Markup("<div style='max-width:420px'>{}{}</div>").format(
                words, _inside(picture) if picture else ""
            )
            left -= len(shot)
            if left < 0:
                parts.append(escape("…"))
                break
            parts.append(shot)
        return str(Markup("<div style='{}'>{}</div>").format(_STYLE, Markup("").join(parts)))


def _inside(picture: Path | Held | Image.Image) -> Markup:
    """Put a picture into a page; where it is another one by now, the page says so."""
    try:
        return Markup("<br><img src='{}'>").format(inlined(picture))
    except CnnlensError as error:
        return Markup("<br>{}").format(error.message)


def inlined(picture: Path | Held | Image.Image, side: int = 420) -> str:
    """Make a ``data:`` address of a picture, reduced to at most `side` pixels."""
    small = picture.opened() if isinstance(picture, Held) else opened(picture)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


U = TypeVar("U", bound=Shown)


@dataclass(frozen=True, eq=False)
class LayerResult(Shown):
    """What a method found on one layer."""

    name: str  # the layer as it was typed
    folder: Path  # ``WORKSPACE/<method>/<layer>``
    summary: dict[str, Any]  # ``summary.json``

    def _told(self) -> Iterable[str]:
        counts = ((what, self.summary.get(what)) for what in _COUNTED)
        return self.name, *(f"{n:,} {what}" for what, n in counts if isinstance(n, int))


@dataclass(frozen=True, eq=False)
class UnitResults(LayerResult, Generic[U]):
    """What a method found on the units of a layer; ``found[12]`` is unit 12."""

    units: list[U]  # rows of ``units.csv``

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator[U]:
        return iter(self.units)

    def __getitem__(self, unit: int) -> U:
        return self.units[unit]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per unit, the columns of ``units.csv``."""
        return [row for unit in self.units for row in unit.table()]

    def _within(self) -> Iterable[Shown]:
        return self.units

    def column(self, name: str) -> np.ndarray:
        """Give a column of numbers, (C,) float64, NaN where a unit has none."""
        return np.array([row.get(name) for row in self.table()], float)


def spans(numbers: Iterable[int]) -> str:
    """Write ascending numbers as addresses of units do, the first of many: ``0-3, 9``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    words = ["-".join(map(str, span)) for span in found[:_NAMED]]
    return ", ".join([*words, *["…"] * (len(found) > _NAMED)])


class PictureResults(Shown):
    """Pictures that a method made, with what is known of each.

    Parameters
    ----------
    folder : pathlib.Path
        Where they lie.
    entries : sequence of mapping
        As the method's JSON lists them: ``file``; ``unit``, ``class``, ``image``, … where known.
    of_images : mapping of int to str, optional
        Files of pictures that are of images, by the image's place among those that were given: from
        0, those of a folder one by one, one that was given twice once. Of several pictures of an
        image it is the first.
    """

    def __init__(
        self,
        folder: Path,
        entries: Sequence[Mapping[str, Any]],
        of_images: Mapping[int, str] | None = None,
    ) -> None:
        self.folder, self.entries = folder, list(entries)
        self.of_images = dict(of_images or {})

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Image.Image]:
        return (self._open(entry) for entry in self.entries)

    def __getitem__(self, name: int | str) -> Image.Image:
        """Open a picture by its unit, its class's number, or its image's place among those given
        (see `of_images`); or by a name: the file's, the class's, the image's.
        """
        for entry in self.entries:
            if name in (_names(entry) if isinstance(name, str) else self._numbers(entry)):
                return self._open(entry)
        known = [self._called(entry) for entry in self.entries[:_NAMED]]
        known += ["…"] * (len(self.entries) > _NAMED)
        raise KeyError(f"no picture of {name!r}; there are {', '.join(known) or 'none'}")

    def _numbers(self, entry: Mapping[str, Any]) -> list[int]:
        """Numbers that a picture is found by."""
        if self.of_images:
            return [place for place, file in self.of_images.items() if file == entry["file"]]
        number = entry.get("class_index") if entry.get("unit") is None else entry["unit"]
        return [] if number is None or entry.get("position") else [number]

    def _called(self, entry: Mapping[str, Any]) -> str:
        """What a picture is called, for people: of images ``0 (dog)``."""
        stem = Path(str(entry["file"])).stem
        places = ", ".join(map(str, self._numbers(entry))) if self.of_images else ""
        return f"{places} ({stem})" if places else stem

    def table(self) -> list[dict[str, Any]]:
        """Give what is known of each picture, but for lists and settings."""
        return [
            {k: v for k, v in entry.items() if not isinstance(v, (list, dict))}
            for entry in self.entries
        ]

    def _open(self, entry: Mapping[str, Any]) -> Image.Image:
        file = self.folder / entry["file"]
        held = (one for _, one in self._held or () if isinstance(one, Held) and one.path == file)
        return found.opened() if (found := next(held, None)) else opened(file)

    def _title(self) -> str:
        return f"{len(self)} picture{'' if len(self) == 1 else 's'} in {self.folder.name}"

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        for entry in self.entries:
            name = " · ".join(str(n) for n in (_names(entry)[0], entry.get("label")) if n)
            yield name, self.folder / entry["file"]


def _names(entry: Mapping[str, Any]) -> list[str]:
    file = str(entry["file"])
    more = [
        str(entry[key])
        for key in ("class", "concept", "name", "image")
        if entry.get(key) is not None
    ]
    return [Path(file).stem, file, *more]
