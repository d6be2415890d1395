"""What the page is made of: a section is data, and one template shows all of it.

    Section("deconv", "What drove its units", "Each unit’s …", [Layer("conv5", Gallery(shots))])

A `Shot` of a unit appears in that unit's panel, whichever section opened it. Texts are escaped;
a `markupsafe.Markup` is taken as HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from markupsafe import Markup

from cnnlens.report.palette import Colour


@dataclass(frozen=True)
class Shot:
    """A picture with its words.

    Attributes
    ----------
    picture : pathlib.Path or markupsafe.Markup
        A file, in the workspace or elsewhere; or what is drawn in HTML.
    title, label : str
        In bold below it, and what stands beside that.
    caption : str
        Below that.
    facts : sequence of (str, str)
        Names and figures below all.
    alt : str
        For those who cannot see it.
    unit : int, optional
        The unit it shows: it appears in that unit's panel too.
    layer : str, optional
        The unit's layer; that of the `Layer` around it where it is left out.
    heading, words : str
        Above and below it in the panel; the section's title and `caption` where left out.
    large : pathlib.Path, optional
        What the panel shows in its place.
    """

    picture: Path | Markup
    title: str = ""
    caption: str = ""
    label: str = ""
    facts: Sequence[tuple[str, str]] = ()
    alt: str = ""
    unit: int | None = None
    layer: str | None = None
    heading: str = ""
    words: str = ""
    large: Path | None = None


@dataclass(frozen=True)
class Cell:
    """A number in a table, with what it has to be read beside.

    Attributes
    ----------
    text : str
        The number.
    strong : bool
        Whether it is what the row is about.
    interval, chance, note : str
        Beside it, where they are known.
    change : (str, str, bool), optional
        Difference to the first column, its interval, and whether that leaves out 0.
    """

    text: str
    strong: bool = False
    interval: str = ""
    chance: str = ""
    note: str = ""
    change: tuple[str, str, bool] | None = None
    kind: ClassVar[str] = "cell"


@dataclass(frozen=True)
class Lanes:
    """Values with interval and chance as dots on lines from 0 to 1, in a table's cell.

    Attributes
    ----------
    marks : sequence of mapping or None
        ``at``, ``chance``, ``ends``, each in [0, 1] or None.
    """

    marks: Sequence[Mapping[str, Any] | None]
    kind: ClassVar[str] = "lanes"


@dataclass(frozen=True)
class Text:
    """A paragraph: a "note", a "warning", "small", or a "legend"."""

    text: str
    style: str = "note"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Note:
    """A paragraph of ``templates/notes.html``: the macro's name, and what it is told."""

    name: str
    told: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "prose"


@dataclass(frozen=True)
class Facts:
    """Terms with what is known of them; those without are passed over."""

    facts: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Table:
    """Rows under heads.

    Attributes
    ----------
    heads : sequence of str or None
        One per column.
    rows : sequence of sequence
        Of names (str), `Cell`, `Shot`, lists of these, `Lanes`, or None. The first names the row.
    caption : str
        Above it.
    style : str
        "plain", "compared", "inversions" or "beside": how large pictures are, where lines run.
    """

    heads: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    style: str = "plain"
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """One large picture; `tall` ones scroll, `still` ones are for print and without JavaScript."""

    picture: Path
    caption: str = ""
    alt: str = ""
    tall: bool = False
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, or (`wide`) one below the other.

    Attributes
    ----------
    shots : sequence of Shot
        All of them.
    shown : int, optional
        How many stand here; the others stand at their units alone.
    wide : bool
        Whether each has the page's width.
    """

    shots: Sequence[Shot]
    shown: int | None = None
    wide: bool = False
    kind: ClassVar[str] = "gallery"


class Layer:
    """Blocks about one layer, under its name or another heading."""

    kind = "layer"

    def __init__(self, name: str, *blocks: Any, heading: str = "") -> None:
        self.name, self.blocks, self.heading = name, blocks, heading


@dataclass(frozen=True)
class Explorer:
    """What has a template and a script of its own.

    Attributes
    ----------
    template : str
        File in ``templates/``; it sees `view` as ``view`` and ``src(key)``, a picture's address.
    view : mapping
        What the template shows, also without JavaScript and in print.
    data : mapping
        JSON-able; the page's script finds it under the section's key.
    pictures : mapping of str to pathlib.Path
        By the key that template and script know them by: the path in the workspace.
    """

    template: str
    view: Mapping[str, Any]
    data: Mapping[str, Any]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    kind: ClassVar[str] = "explorer"


@dataclass(frozen=True)
class Section:
    """One section of the page, gathered from a workspace.

    Attributes
    ----------
    key : str
        The command's name: the section's address on the page.
    title : str
        Heading.
    note : str or Note
        What the reader has to know.
    parts : sequence of block
        In reading order.
    sources : sequence of pathlib.Path
        Result files; the newest one dates the page.
    palette : sequence of Colour
        Colours of categories, by their number.
    """

    key: str
    title: str
    note: str | Note = ""
    parts: Sequence[Any] = ()
    sources: Sequence[Path] = ()
    palette: Sequence[Colour] = ()


def walk(parts: Any, layer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every block and shot below some, with the name of the layer around it."""
    for part in parts:
        yield layer, part
        if isinstance(part, Layer):
            yield from walk(part.blocks, part.name)
        elif isinstance(part, Gallery):
            yield from walk(part.shots, layer)
        elif isinstance(part, Table):
            yield from walk([cell for row in part.rows for cell in row], layer)
        elif isinstance(part, list):
            yield from walk(part, layer)


def pictures(section: Section) -> Iterator[Path]:
    """Yield every picture of a section but those that an `Explorer` names itself."""
    for _, part in walk(section.parts):
        found = (getattr(part, name, None) for name in ("picture", "large"))
        yield from (path for path in found if isinstance(path, Path))


def at_units(section: Section) -> Iterator[tuple[str, Shot]]:
    """Yield the shots that belong to a unit, with the name of its layer."""
    for layer, part in walk(section.parts):
        if isinstance(part, Shot) and part.unit is not None:
            yield part.layer or layer, part
