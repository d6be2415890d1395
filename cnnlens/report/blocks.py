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

from cnnlens.errors import plain
from cnnlens.report.figures import Colour


def sentence(words: str) -> str:
    """Begin words large, and end them with a full stop."""
    return f"{words[:1].upper()}{words[1:]}."


@dataclass(frozen=True)
class Shot:
    """A picture with its words."""

    picture: Path | Markup  # a file, in the workspace or elsewhere; or what is drawn in HTML
    title: str = ""  # in bold below it
    caption: str = ""  # below that
    label: str = ""  # beside the title
    facts: Sequence[tuple[str, str]] = ()  # names and figures below all
    alt: str = ""  # for those who cannot see it
    unit: int | None = None  # the unit it shows: it appears in that unit's panel too
    layer: str | None = None  # the unit's; left out: that of the `Layer` around it
    heading: str = ""  # above it in the panel; left out: the section's title
    words: str = ""  # below it in the panel; left out: `caption`
    large: Path | None = None  # what the panel shows in its place

    def __post_init__(self) -> None:
        if not isinstance(self.picture, (Path, Markup)):
            raise TypeError(f"Shot({self.picture!r}, …) takes a pathlib.Path, or Markup")


@dataclass(frozen=True)
class Cell:
    """A number in a table, with what it has to be read beside, where that is known."""

    text: str
    strong: bool = False  # whether it is what the row is about
    interval: str = ""
    chance: str = ""
    note: str = ""
    #: difference to the first column, its interval, and whether that leaves out what chance gives
    change: tuple[str, str, bool] | None = None
    level: str = ""  # what comes without learning
    kind: ClassVar[str] = "cell"


@dataclass(frozen=True)
class Lanes:
    """Values with interval and chance as dots on lines from 0 to 1, in a table's cell."""

    #: ``at``, ``chance``, ``level``, ``ends``, each in [0, 1] or None
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
    """Rows under heads."""

    heads: Sequence[Any]  # str or None, one per column
    #: of names (str), `Cell`, `Shot`, lists of these, `Lanes`, or None; the first names the row
    rows: Sequence[Sequence[Any]]
    caption: str = ""  # above it
    #: "plain", "compared", "inversions" or "beside": how large pictures are, where lines run
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
    """Pictures side by side, or (`wide`) one below the other, each of the page's width."""

    shots: Sequence[Shot]
    shown: int | None = None  # how many stand here; the others stand at their units alone
    wide: bool = False
    kind: ClassVar[str] = "gallery"


def _check_blocks(where: str, given: Any, wanted: str) -> None:
    """Raise TypeError where what is given as blocks of the page are none."""
    some = given if isinstance(given, (list, tuple)) else [given]
    wrong = [one for one in some if not isinstance(getattr(one, "kind", None), str)]
    if wrong or some is not given:
        found = type(wrong[0] if wrong else given).__name__
        raise TypeError(f"{where} takes {wanted}, not a {found}")


class Layer:
    """Blocks about one layer, under its name or another heading."""

    kind = "layer"

    def __init__(self, name: str, *blocks: Any, heading: str = "") -> None:
        _check_blocks(f"Layer({name!r}, …)", blocks, "blocks one by one, such as Gallery(shots)")
        self.name, self.blocks, self.heading = name, blocks, heading


@dataclass(frozen=True)
class Explorer:
    """What has a template and a script of its own."""

    template: str  # file in ``templates/``; it sees ``view``, and ``src(key)``: a picture's address
    view: Mapping[str, Any]  # what the template shows, also without JavaScript and in print
    data: Mapping[str, Any]  # JSON-able; the page's script finds it under the section's key
    #: the path in the workspace, by the key that template and script know a picture by
    pictures: Mapping[str, Path] = field(default_factory=dict)
    layers: Sequence[str] = ()  # those it has headings of, at ``#KEY/LAYER``
    shots: Sequence[Shot] = ()  # that stand in units' panels alone
    kind: ClassVar[str] = "explorer"


@dataclass(frozen=True)
class Section:
    """One section of the page, gathered from a workspace."""

    key: str  # the command's name: the section's address on the page
    title: str
    note: str | Note = ""  # what the reader has to know
    parts: Sequence[Any] = ()  # blocks in reading order
    sources: Sequence[Path] = ()  # result files; the newest one dates the page
    palette: Sequence[Colour] = ()  # colours of categories, by their number
    package: str = ""  # whose code it is, where that is not ours

    def __post_init__(self) -> None:
        _check_blocks(f"Section({self.key!r}, …)", self.parts, "a list of blocks")


def section_of(
    key: str, title: str, parts: Sequence[Any], sources: Sequence[Path], **told: Any
) -> Section | None:
    """Make a section with the note of its key's name, and what that is told; None of no parts."""
    return Section(key, title, Note(key, told), parts, sources) if parts else None


def walk(parts: Any, layer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every block and shot below some, with the name of the layer around it."""
    for part in parts:
        yield layer, part
        if isinstance(part, Layer):
            yield from walk(part.blocks, part.name)
        elif isinstance(part, (Gallery, Explorer)):
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


def layers_of(section: Section) -> list[str]:
    """Name the layers that a section speaks of one by one, as its headings do."""
    found = []
    for part in section.parts:
        if isinstance(part, Layer):
            found.append(part.heading or part.name)
        elif isinstance(part, Explorer):
            found += part.layers
    return found


def at_units(section: Section) -> Iterator[tuple[str, Shot]]:
    """Yield the shots that belong to a unit, with the name of its layer."""
    for layer, part in walk(section.parts):
        if isinstance(part, Shot) and part.unit is not None:
            yield part.layer or layer, part


# -- how numbers are written, for people -----------------------------------------------------------


def number(value: Any, digits: int = 0) -> str:
    """Write a number for people: thousands apart, a dash for what is not known."""
    return "–" if value is None else f"{value:,.{digits}f}"


def reach(values: Sequence[float]) -> str:
    """Write how far values reach, the highest first, whatever their order."""
    ends = (max(values), min(values))[: len(values)]
    return " to ".join(map(plain, ends))


def signed(value: float, digits: int = 0) -> str:
    """Write a difference with its sign; one that rounds to 0 has none."""
    text = f"{value:+,.{digits}f}"
    return text[1:] if not text.strip("+-0.,") else text.replace("-", "−")


def percent(value: Any) -> str:
    """Write a share as per cent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def format_p(value: float) -> str:
    """Write a p-value as papers do: two significant digits, and never 0."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
