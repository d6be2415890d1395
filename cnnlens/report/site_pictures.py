"""The pictures of a site: each kept once, whoever shows it; damaged ones are named and left out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape
from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.report.figures.tile import tile
from cnnlens.report.html import Tell, damage
from cnnlens.report.seen import Seen
from cnnlens.report.unit_page import UnitLayer, UnitPage

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
        picture.save(place, "WEBP", quality=QUALITY)
        return href

    def _is_sound(self, path: Path) -> bool:
        error = damage(path)
        if error:
            self.tell(error)
        return error is None
