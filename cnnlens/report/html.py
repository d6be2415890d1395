"""Sections as one HTML page: blocks over one template, pictures and script inside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.files import atomic_folder, write_text
from cnnlens.report.blocks import (
    Explorer,
    Section,
    at_units,
    format_p,
    layers_of,
    number,
    percent,
    pictures,
)
from cnnlens.report.contents import REDO
from cnnlens.report.faults import fault, in_place_of, warning
from cnnlens.report.figures import as_drawn
from cnnlens.report.sheet import read_apart

Tell = Callable[[CnnlensError], None]

INLINE_LIMIT = 30_000_000  # bytes of picture files, all together
FOLDER = "report_files"
_NOTHING = "data:,"  # address of a picture that cannot be shown
_TYPES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}
_SCRIPTS = (
    *("elements", "dom", "chart", "windowed", "sought", "table", "panel", "seen", "dissection"),
    *("units", "unit", "filters", "embed", "evolve", "page"),
)

_STYLES = ("style", "units")


def write_page(
    page: Path, head: Mapping[str, Any], sections: Sequence[Section], tell: Tell
) -> None:
    """Write some sections as a page; what is damaged, or fails, is named in its section.

    Parameters
    ----------
    page : pathlib.Path
        The HTML.
    head : mapping
        ``eyebrow, title, facts, commands, versions``.
    sections : sequence of Section
        In reading order.
    tell : callable
        Hears of damaged pictures, and of sections that cannot be shown.
    """
    found: dict[str, Path] = {}
    keys: dict[Path, str] = {}
    damaged: set[str] = set()
    shown = []
    for section in sections:
        one, mine = _with_pictures(section, page.parent, keys, tell)
        errors = {key: error for key, path in mine.items() if (error := damage(path))}
        warnings = [text for error in errors.values() for text in warning(error, page.parent)]
        shown.append(replace(one, parts=[*warnings, *one.parts]))
        for error in errors.values():
            tell(error)
        found |= {key: path for key, path in mine.items() if key not in errors}
        damaged |= errors.keys()
    with _addresses(page.parent, found) as src:
        addresses = src | dict.fromkeys(damaged, _NOTHING)
        pieces = list(_pieces(shown, keys, addresses, page.parent, tell))
        write_text(page, _render(head, pieces, addresses))


def _with_pictures(
    section: Section, folder: Path, keys: dict[Path, str], tell: Tell
) -> tuple[Section, dict[str, Path]]:
    """Name every picture of a section; where that fails, of what stands there instead."""
    try:
        return section, dict(_pictures(section, folder, keys))
    except Exception as error:
        return _without(section, error, folder, tell), {}


def _pictures(section: Section, folder: Path, keys: dict[Path, str]) -> Iterator[tuple[str, Path]]:
    """Name every picture of a section: by its path in the folder, else by a number."""
    for part in section.parts:
        if isinstance(part, Explorer):
            yield from part.pictures.items()
    base = folder.absolute()
    for path in pictures(section):
        if path not in keys:
            real = as_drawn(path).absolute()
            inside = real.is_relative_to(base)
            other = f"others/{len(keys)}/{real.name}"
            keys[path] = real.relative_to(base).as_posix() if inside else other
        yield keys[path], as_drawn(path)


@dataclass(frozen=True)
class _Piece:
    """A section as HTML, what of it stands at units, and the keys of pictures that it shows."""

    section: Section
    text: str
    at_unit: list[dict[str, Any]]
    shows: set[str]


def _pieces(
    sections: Sequence[Section],
    keys: Mapping[Path, str],
    src: Mapping[str, str],
    folder: Path,
    tell: Tell,
) -> Iterator[_Piece]:
    """Render sections one by one, given the name of every picture and the address of every name."""
    explorers = _explorers(sections)
    for section in sections:
        try:
            yield _piece(section, explorers, keys, src)
        except Exception as error:
            yield _piece(_without(section, error, folder, tell), explorers, keys, src)


def _piece(
    section: Section,
    explorers: Mapping[str, Explorer],
    keys: Mapping[Path, str],
    src: Mapping[str, str],
) -> _Piece:
    shows: set[str] = set()

    def address(picture: Path | str) -> str:
        key = picture if isinstance(picture, str) else keys[picture]
        shows.add(key)
        return src[key]

    html = (
        environment()
        .get_template("section.html")
        .render(section=section, explorers=explorers, src=address, key=keys.__getitem__)
    )
    return _Piece(section, html, list(_at_units(section, keys)), shows)


def _explorers(sections: Iterable[Section]) -> dict[str, Explorer]:
    return {s.key: part for s in sections for part in s.parts if isinstance(part, Explorer)}


def _without(section: Section, error: Exception, folder: Path, tell: Tell) -> Section:
    """Tell that a section cannot be shown; return what stands there instead."""
    known = fault(section.key, section.package, error)
    tell(known)
    return in_place_of(section, known, folder)


def _render(head: Mapping[str, Any], pieces: Sequence[_Piece], src: Mapping[str, str]) -> str:
    """Render a page of its sections."""
    sections = [piece.section for piece in pieces]
    explorers, templates = _explorers(sections), environment()
    scripts = ("contents", *(_SCRIPTS if explorers else ()))
    script = "\n".join(source(templates, f"{name}.js") for name in scripts)
    in_html = {key for piece in pieces for key in piece.shows}  # the script takes them from there
    text = templates.get_template("page.html").render(
        head=head,
        sections=[piece.text for piece in pieces],
        contents=[{"key": s.key, "title": s.title, "layers": layers_of(s)} for s in sections],
        palette=[colour for section in sections for colour in section.palette],
        style="\n".join(source(templates, f"{name}.css") for name in _STYLES),
        explorers=explorers,
        script=script,
        # names the page's one script, so that the page's policy runs no other
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        data=_embed({key: part.data for key, part in explorers.items()}),
        at_unit=_embed([shot for piece in pieces for shot in piece.at_unit]),
        pictures=_embed({key: src[key] for key in src if key not in in_html}),
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # a file name may hold half a character


def _at_units(section: Section, keys: Mapping[Path, str]) -> Iterator[dict[str, Any]]:
    for layer, shot in at_units(section):
        if isinstance(picture := shot.large or shot.picture, Path):
            yield {
                "layer": layer,
                "unit": shot.unit,
                "method": section.key,
                "title": shot.heading or section.title,
                "caption": shot.words or shot.caption,
                "picture": keys[picture],
                "apart": read_apart(picture),
                "small": keys[shot.picture] if isinstance(shot.picture, Path) else None,
            }


def _mark(key: str) -> str:
    """Turn a picture's key into an element's id."""
    return f"sheet-{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:12]}"


@cache  # with the templates that it has compiled
def environment() -> jinja2.Environment:
    """Find the templates of pages."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("cnnlens.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {"number": number, "percent": percent, "p_value": format_p}
    found.filters |= {"apart": read_apart, "mark": _mark, "by_parts": by_parts}
    return found


_PARTS = re.compile(r"\.?(?:\d[_.](?=\d)|[^_/\\:.])*[_/\\:]*")  # "1_0" is one, as "0.25" is


def by_parts(name: str) -> Markup:
    """Write a name that may be broken between its parts, not anywhere: paths, files, addresses."""
    return Markup("<wbr>").join(filter(None, _PARTS.findall(name)))


def source(templates: jinja2.Environment, name: str) -> str:
    """Read a template as it stands: a style, a script."""
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]


def _embed(document: Any) -> str:
    """Write JSON that no HTML parser can mistake for markup, whatever names it carries."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# -- pictures: inside the page while they are few, beside it once they are many -------------------


@contextmanager
def _addresses(workspace: Path, pictures: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """Yield the address of every picture, for the block that writes the page.

    Up to `INLINE_LIMIT` bytes they are ``data:`` addresses. Beyond it they are copied to
    ``report_files/``, which takes its place whole just before the block runs. A folder that an
    earlier page needed and this one does not is removed when the block ends well.
    """
    if sum(path.stat().st_size for path in pictures.values()) <= INLINE_LIMIT:
        yield {key: _inline(path) for key, path in pictures.items()}
        shutil.rmtree(workspace / FOLDER, ignore_errors=True)
    else:
        with atomic_folder(workspace / FOLDER) as folder:
            for key, path in pictures.items():
                (folder / key).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / key)
        yield {key: quote(f"{FOLDER}/{key}") for key in pictures}


def damage(path: Path) -> CnnlensError | None:
    """Say what is wrong with a picture, from its header; None where nothing is."""
    try:
        if path.suffix == ".svg":
            if not path.read_bytes().rstrip().endswith(b"</svg>"):
                raise ValueError("it is cut short")
            return None
        with Image.open(path) as picture:
            if picture.format == "WEBP" and path.stat().st_size < _webp_size(path):
                raise ValueError("it is cut short")
    except (OSError, ValueError, SyntaxError) as error:
        # what PIL says repeats the path, as the machine knows it
        why = "not a picture" if "cannot identify" in str(error) else str(error)
        return CnnlensError(f"{path} is damaged: {why}", f"remove it, or {REDO}")
    return None


def _webp_size(path: Path) -> int:
    # A RIFF file states its own length, less the 8 bytes that state it.
    with path.open("rb") as file:
        return int.from_bytes(file.read(8)[4:], "little") + 8


def _inline(path: Path) -> str:
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
