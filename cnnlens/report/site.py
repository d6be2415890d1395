"""A folder for any static host: an index, a page and a JSON for every unit, a page for every image.

    site = write_site(Path("cnnlens-out"), Path("site"))
    site.site, site.units, site.bytes

Every page is plain HTML with relative links, so that it opens from a disk, too, and reads without
JavaScript; the script adds search, order and keys. Equal results make equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import to_json
from cnnlens.files.tables import csv_writer
from cnnlens.progress import Step, followed
from cnnlens.report.contents import read_once, read_workspace
from cnnlens.report.figures.units import spread
from cnnlens.report.html import Tell, environment, source, write_page
from cnnlens.report.page import Gather, gathered, header
from cnnlens.report.site_content import (
    CSV_COLUMNS,
    SiteImage,
    SiteLayer,
    SiteUnit,
    as_json,
    csv_row,
    gather_images,
    gather_layers,
    script_data,
)
from cnnlens.report.site_folder import MAKER, MARK, Pictures, site_folder
from cnnlens.report.states import remarks
from cnnlens.report.unit_page import unit_layers

_STYLES = ("style.css", "units.css", "site.css")
_SCRIPTS = ("elements.js", "sought.js", "site.js")


@dataclass(frozen=True)
class Site:
    """What was written: its front page, and how much of it."""

    site: Path
    units: int
    images: int
    files: int
    bytes: int


def write_site(
    workspace: Path,
    folder: Path,
    url: str = "",
    tell: Tell | None = None,
    progress: Callable[[Step], None] | None = None,
    sections: Iterable[tuple[str, Gather]] = (),
) -> Site:
    """Write a site over every unit of a workspace, whole or not at all.

    Parameters
    ----------
    workspace : pathlib.Path
        The folder of one investigation.
    folder : pathlib.Path
        Where to: a new or an empty folder, or an earlier site, which is replaced.
    url : str
        Where it will be hosted, for link previews, which want whole addresses.
    tell : callable, optional
        Hears of every picture that is damaged; it is left out.
    progress : callable, optional
        Hears how far it is.
    sections : iterable of (str, callable)
        What else may be known, as in `write_report`: it stands on a page of its own, report.html.

    Raises
    ------
    UsageError
        When `folder` holds anything else; it is left as it is.
    CnnlensError
        When nothing is known of any unit, or the folder cannot be written.
    """
    if url and not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url} is no address", "say where the site will be: https://…")
    url = f"{url.rstrip('/')}/" if url else ""
    tell = tell or (lambda fault: None)
    with read_once(), site_folder(folder) as fresh:
        layers = unit_layers(workspace)
        if not layers:
            page = workspace / "report.html"
            run = "run `cnnlens units MODEL -d PHOTOS` or `cnnlens dissect MODEL --broden` first"
            other = f"share {page}, one file with all it has" if page.is_file() else ""
            raise CnnlensError(
                f"{workspace} knows nothing of any unit yet",
                f"{run}, or {other or 'name another workspace with -w DIR'}",
            )
        pictures = Pictures(fresh, tell)
        others = [(name, gather) for name, gather in sections if name != "units"]
        findings = list(gathered(workspace, others, tell))
        writer = _Writer(workspace, fresh, url, pictures, gather_layers(layers), bool(findings))
        steps = writer.steps()
        followed(steps, progress)
        if findings:
            write_page(fresh / "report.html", {**writer.head, "home": "index.html"}, findings, tell)
        sizes = [path.stat().st_size for path in fresh.rglob("*") if path.is_file()]
        counts = sum(len(layer.pages) for layer in layers), len(set(pictures.shown.values()))
    return Site(folder / "index.html", *counts, len(sizes), sum(sizes))


class _Writer:
    """Writes one site."""

    def __init__(
        self,
        workspace: Path,
        folder: Path,
        url: str,
        pictures: Pictures,
        layers: list[SiteLayer],
        findings: bool,
    ) -> None:
        self.folder, self.pictures, self.layers = folder, pictures, layers
        pictures.keep_images([layer.of for layer in layers])
        self.images = gather_images(layers, pictures.shown)
        self.by_name = {layer.name: layer for layer in layers}
        self.head = header(read_workspace(workspace), _sources(layers), workspace)
        self.head["mixed"] = [one.sentence for one in remarks(workspace)]
        self.site = {
            "title": self.head["title"],
            "url": url,
            "see": pictures.see,
            "show": pictures.show,
            "images": len(self.images),
            "findings": findings,
            "date": dict(self.head["facts"]).get("Results of", ""),
        }

    def steps(self) -> Generator[Step, None, None]:
        """Write it; the pictures of units first, which pages show of other units, too."""
        total = sum(1 for _ in self._work())
        for done, write in enumerate(self._work(), 1):
            write()
            yield Step(done, total, "site", unit="pages")

    def _work(self) -> Iterator[Callable[[], None]]:
        for layer in self.layers:
            yield from (partial(self._tile, unit) for unit in layer.units)
        for layer in self.layers:
            yield partial(self._layer, layer)
            yield from (partial(self._unit, layer, *some) for some in _beside(layer.units))
        yield from (partial(self._image, *some) for some in _beside(self.images))
        yield self._front

    def _tile(self, unit: SiteUnit) -> None:
        unit.tile = self.pictures.keep_tile(unit.page, unit.href.replace(".html", ".webp"))

    # -- pages ------------------------------------------------------------------------------------

    def _unit(
        self, layer: SiteLayer, before: SiteUnit | None, unit: SiteUnit, after: SiteUnit | None
    ) -> None:
        page = unit.page
        made = self.pictures.keep_made(page)
        near = [(one, self._find(one.layer, one.unit)) for one in page.neighbours]
        self._page(
            "site_unit.html", unit.href, _titled(unit), page.words or unit.figure,
            unit.tile, page=page, unit=unit, layer=layer,
            before=before and f"{before.page.unit}.html", after=after and f"{after.page.unit}.html",
            neighbours=near, strip=page.strip and self.pictures.keep(page.strip),
            drawn=[one for one in made if one.method == "visualize"],
            others=[one for one in made if one.method != "visualize"],
            spread=page.histogram and spread(page.histogram, page.threshold),
        )  # fmt: skip
        document = as_json(page, self.site["title"], self.pictures.shown, unit.tile)
        self._text(unit.href.replace(".html", ".json"), document)

    def _find(self, layer: str, unit: int) -> SiteUnit | None:
        found = self.by_name.get(layer)
        return found.by_number.get(unit) if found else None

    def _layer(self, layer: SiteLayer) -> None:
        place = self.layers.index(layer)
        neighbours = self.layers[:place][-1:], self.layers[place + 1 :][:1]
        before, after = (next(iter(some), None) for some in neighbours)
        self._page(
            "site_layer.html", layer.href, layer.name, layer.words, _preview(layer),
            layer=layer, before=before, after=after,
        )  # fmt: skip
        file = (self.folder / layer.href).with_name("units.csv")
        with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as opened:
            writer = csv_writer(opened)
            writer.writerow(CSV_COLUMNS)
            writer.writerows(csv_row(unit.page) for unit in layer.units)

    def _image(self, before: SiteImage | None, image: SiteImage, after: SiteImage | None) -> None:
        title = image.names[0].split("/")[-1]
        about = "The units that fire most on this image."
        self._page(
            "site_image.html", f"images/{image.key}.html", title, about,
            f"images/{image.key}.webp", key=image.key, names=image.names, size=image.size,
            firing=image.firing, before=before and before.key, after=after and after.key,
        )  # fmt: skip

    def _front(self) -> None:
        count = sum(len(layer.units) for layer in self.layers)
        about = f"What {count:,} units of a trained network respond to."
        names = ", ".join(layer.name for layer in self.layers)
        preview = next(filter(None, map(_preview, self.layers)), "")
        self._page(
            "site_index.html", "index.html", self.site["title"], f"{about} Layers: {names}.",
            preview, head=self.head, layers=self.layers, count=count,
        )  # fmt: skip
        if self.images:
            images = [(image.key, image.names[0]) for image in self.images]
            about = f"{len(images):,} images, each with the units that fire most on it."
            self._page("site_images.html", "images/index.html", "Images", about, "", images=images)
        templates = environment()
        self._text("site.css", "\n".join(source(templates, name) for name in _STYLES))
        self._text("site.js", "\n".join(source(templates, name) for name in _SCRIPTS))
        self._text("units.js", script_data(self.layers))
        self._text(".nojekyll", "")  # GitHub Pages serves every file as it is
        self._text(MARK, to_json(self._mark()))

    def _mark(self) -> dict[str, Any]:
        layers = [
            {"name": one.name, "folder": str(Path(one.href).parent), "units": len(one.units)}
            for one in self.layers
        ]
        facts = dict(self.head["facts"])
        return {"made_by": MAKER, "title": self.site["title"], "facts": facts, "layers": layers}

    def _page(
        self, template: str, here: str, title: str, about: str, preview: str, **told: Any
    ) -> None:
        root = "../" * here.count("/")
        text = environment().get_template(template).render(
            site=self.site, here=here, root=root, title=title, about=about, preview=preview, **told
        )  # fmt: skip
        self._text(here, text)

    def _text(self, here: str, text: str) -> None:
        path = self.folder / here
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def _titled(unit: SiteUnit) -> str:
    said = f": {unit.what}" if unit.is_telling else ""
    return f"Unit {unit.page.unit} of {unit.page.layer}{said}"


def _preview(layer: SiteLayer) -> str:
    return next((unit.tile for unit in layer.best if unit.tile), "")


def _beside(some: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield each with the one before and the one after it."""
    around = [None, *some, None]
    for (before, one), after in zip(pairwise(around), around[2:], strict=False):
        yield before, one, after


def _sources(layers: Sequence[SiteLayer]) -> list[Path]:
    results = [found for layer in layers for found in (layer.of.responses, layer.of.dissected)]
    return [found.folder / "summary.json" for found in results if found]
