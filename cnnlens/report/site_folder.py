"""A site's folder, written whole or not at all and in nobody else's place; its pictures, each kept
once, whoever shows it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape
from PIL import Image

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import atomic_folder, read_json
from cnnlens.report.figures.units import tile
from cnnlens.report.html import Tell, damage
from cnnlens.report.seen import Seen
from cnnlens.report.unit_page import UnitLayer, UnitPage

MARK = "site.json"
MAKER = "cnnlens"
_FOLDERS = ("units", "images", "pictures", "report_files")
_FILES = (MARK, "index.html", "report.html", "site.css", "site.js", "units.js", ".nojekyll")
_ENDINGS = (".html", ".json", ".webp", ".csv", ".png", ".svg")
_ELSEWHERE = "name another folder with --site DIR"


@contextmanager
def site_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends well.

    What is there already is replaced where it is a site of ours and nothing else.

    Raises
    ------
    UsageError
        When `path` is anything else; it is left as it is.
    CnnlensError
        When it cannot be written.
    """
    folder = path.resolve()
    check_folder(folder, path)
    with atomic_folder(folder) as fresh:
        yield fresh


def check_folder(folder: Path, named: Path) -> None:
    """Raise UsageError where a site cannot take a folder's place (see `site_folder`)."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{named} is a file", _ELSEWHERE)
    if Path.cwd().is_relative_to(folder):
        raise UsageError(f"{named} is where this command runs", f"go elsewhere, or {_ELSEWHERE}")
    if not any(folder.iterdir()):
        return
    if not _is_ours(folder):
        raise UsageError(
            f"{named} holds something else than a site of cnnlens; it is left as it is", _ELSEWHERE
        )
    if foreign := next(_foreign(folder), None):
        raise UsageError(
            f"{named} holds {foreign.relative_to(folder)}, which is no part of its site; "
            "it is left as it is",
            f"move that elsewhere, or {_ELSEWHERE}",
        )


def _is_ours(folder: Path) -> bool:
    try:
        document = read_json(folder / MARK)
    except CnnlensError:
        return False
    return isinstance(document, dict) and document.get("made_by") == MAKER


def _foreign(folder: Path) -> Iterator[Path]:
    """Find what no site has."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if here == folder:
            yield from (here / name for name in folders if name not in _FOLDERS)
            yield from (here / name for name in files if name not in _FILES)
        else:
            yield from (here / name for name in files if not name.endswith(_ENDINGS))


# -- pictures; damaged ones are named and left out ------------------------------------------------

QUALITY = 82  # of pictures that become WebP here
LONGEST = 1600  # pixels: larger ones are reduced to this


@dataclass(frozen=True)
class Made:
    """A picture that another method made of a unit, as the site shows it."""

    method: str
    heading: str
    words: str
    href: str


class Shown(dict[Path | None, str]):
    """The key of every image that is shown; empty of one that is not."""

    def __missing__(self, path: Path | None) -> str:
        return ""


class Pictures:
    """Keeps pictures in a site's folder.

    Attributes
    ----------
    shown : dict of pathlib.Path to str
        By its file in the workspace: the key of an image, ``images/<key>.webp``.
    """

    def __init__(self, folder: Path, tell: Tell) -> None:
        self.folder, self.tell = folder, tell
        self.shown = Shown()
        self._known: dict[Path, str] = {}

    def keep_images(self, layers: Iterable[UnitLayer]) -> None:
        """Keep the images that units show, as the workspace has them."""
        found = dict.fromkeys(
            path for one in layers if one.responses for path in one.responses.files if path
        )
        for path in found:
            if self._is_sound(path):
                place = self.folder / "images" / path.name
                place.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, place)
                self.shown[path] = path.stem

    def see(self, seen: Seen, root: str, masked: bool = False) -> Markup:
        """Cut out of an image what a unit sees, as SVG; `root` leads to the site's folder."""
        (high, wide), key = seen.size, self.shown[seen.picture]
        # what is put together here are numbers and keys; templates would take ten times as long
        parts = [f'<svg class="see" viewBox="{seen.view_box()}" aria-hidden="true">']
        if key:
            parts.append(f'<image href="{root}images/{key}.webp" width="{wide}" height="{high}"/>')
        if masked and (line := seen.outline()):
            parts.append(f'<path class="mask" d="M-999,-999H9999V9999H-999Z{line}"/>')
        return Markup("".join([*parts, "</svg>"]))

    def show(self, seen: Seen, root: str, masked: bool = False) -> Markup:
        """Give `see` as a link to the image's page; its name where there is no picture."""
        if not (key := self.shown[seen.picture]):
            return Markup('<span class="name small">{}</span>').format(seen.image)
        link = f'<a href="{root}images/{key}.html" title="{escape(seen.image)}">'
        return Markup(f"{link}{self.see(seen, root, masked)}</a>")

    def keep_tile(self, page: UnitPage, href: str) -> str:
        """Keep the picture of a unit in one look; give its address, empty where there is none."""
        if page.dead or (picture := tile(page)) is None:
            return ""
        place = self.folder / href
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place, "WEBP", quality=70, method=0)
        return href

    def keep_made(self, page: UnitPage) -> list[Made]:
        """Keep what other methods made of a unit."""
        made = ((one, self.keep(one.picture)) for one in page.pictures)
        return [Made(one.method, one.heading, one.words, href) for one, href in made if href]

    def keep(self, path: Path) -> str:
        """Keep a picture as WebP; give its address, empty where it is damaged."""
        if path not in self._known:
            self._known[path] = self._kept(path) if self._is_sound(path) else ""
        return self._known[path]

    def _kept(self, path: Path) -> str:
        key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        href = f"pictures/{key}.webp"
        place = self.folder / href
        place.parent.mkdir(exist_ok=True)
        if path.suffix.lower() == ".webp":
            shutil.copyfile(path, place)
            return href
        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGBA" if "A" in opened.getbands() else "RGB")
        except (OSError, ValueError, SyntaxError) as error:
            self.tell(CnnlensError(f"{path} is damaged: {error}"))
            return ""
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        picture.save(place, "WEBP", quality=QUALITY, method=2)
        return href

    def _is_sound(self, path: Path) -> bool:
        error = damage(path)
        if error:
            self.tell(error)
        return error is None
