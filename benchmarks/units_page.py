"""How fast the page is with many units: four layers of 2,048 units each, on 2,000 images.

    python benchmarks/units_page.py [FOLDER]

Writes a workspace of made-up numbers and pictures and its page, then opens that in Chromium and
times the first tiles, a search and a unit that opens. Needs playwright and Chromium for the latter.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.measure.responses import Responses
from cnnlens.measure.unit_maps import STRONGEST
from cnnlens.methods import sections
from cnnlens.report.page import write_report
from cnnlens.report.unit_files import write_pictured, write_tables
from cnnlens.settings import UnitsSettings

LAYERS, UNITS, IMAGES, SIDE, MAP = 4, 2048, 2000, 224, 7
CLASSES = tuple(f"class {number}" for number in range(100))


def made_up(layer: int) -> Responses:
    """Numbers as `cnnlens units` finds them, of no network."""
    rng = np.random.default_rng(layer)
    settings = UnitsSettings()
    lists, bins, drawn = settings.top, settings.bins, settings.per_bin
    peaks = -np.sort(-rng.gamma(2, 20, (UNITS, lists)).astype(np.float32), axis=1)
    edges = np.linspace(0, 1, 65) * peaks[:, :1]
    maps = rng.integers(0, 16, (UNITS, lists, MAP, MAP)).astype(np.uint8)
    return Responses(
        settings=settings,
        positions=np.arange(IMAGES),
        shape=(UNITS, MAP, MAP),
        repeated=np.zeros(0, np.int64),
        density=rng.random(UNITS) ** 3,
        mean=rng.random(UNITS),
        lowest=np.zeros(UNITS),
        peak_max=peaks[:, 0],
        top=rng.integers(0, IMAGES, (UNITS, lists)),
        bottom=rng.integers(0, IMAGES, (UNITS, lists)),
        top_peak=peaks,
        top_position=rng.integers(0, MAP, (UNITS, lists, 2)),
        bottom_position=rng.integers(0, MAP, (UNITS, lists, 2)),
        examples=rng.integers(0, IMAGES, (UNITS, bins, drawn)),
        example_position=rng.integers(0, MAP, (UNITS, bins, drawn, 2)),
        bin_images=rng.multinomial(IMAGES, np.geomspace(128, 1, bins) / 255, UNITS),
        bin_edges=np.linspace(0, 1, bins + 1) * peaks[:, :1],
        histogram=(1e6 * np.exp(-np.arange(64) / rng.uniform(2, 9, (UNITS, 1)))).astype(np.int64),
        edges=edges,
        categories=CLASSES,
        category_counts=np.full(len(CLASSES), IMAGES // len(CLASSES)),
        category=rng.integers(0, len(CLASSES), UNITS),
        category_images=rng.multinomial(100, np.full(len(CLASSES), 1 / len(CLASSES)), UNITS),
        category_share=rng.random(UNITS),
        category_entropy=rng.random(UNITS) * 5,
        class_selectivity=rng.random(UNITS),
        layers=tuple(f"layer{(layer + k) % LAYERS + 1}" for k in range(LAYERS)),
        neighbours=rng.integers(0, UNITS, (UNITS, settings.neighbours)),
        neighbour_layer=rng.integers(0, LAYERS, (UNITS, settings.neighbours)),
        neighbour_correlation=-np.sort(-rng.random((UNITS, settings.neighbours)), axis=1),
        top_map=np.where(maps > 9, maps, 0).astype(np.uint8),
        image_units=rng.integers(0, UNITS, (IMAGES, STRONGEST)),
        image_peak=rng.random((IMAGES, STRONGEST)).astype(np.float32),
        image_place=rng.integers(0, MAP, (IMAGES, STRONGEST, 2)),
    )


def draw_images(folder: Path) -> dict[int, str]:
    """Write coloured clouds; about as many bytes each as a photo has."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = {}
    for image in range(IMAGES):
        small = Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8))
        large = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        files[image] = f"{image:016x}.webp"
        large.save(folder / files[image], "WEBP", quality=80, method=0)
    return files


def make(workspace: Path) -> None:
    """Write the workspace."""
    files = draw_images(workspace / "images")
    paths = [f"{CLASSES[image % 100]}/{image:05d}.jpg" for image in range(IMAGES)]
    axes = [[16.0, 32.0, 99.0, False]] * 2
    for layer in range(LAYERS):
        folder = workspace / "units" / f"layer{layer + 1}"
        folder.mkdir(parents=True)
        found = made_up(layer)
        write_tables(folder, found, paths)
        write_pictured(folder, found, files)
        summary = {"layer": folder.name, "data": {"name": "made up"}, "dead_units": 0,
                   "seen": {"size": [SIDE, SIDE], "axes": axes}}  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))


# Milliseconds until two frames after something was done: what it changes is then on the screen.
TIMED = """(act) => new Promise((done) => {
    const from = performance.now();
    eval(act);
    requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(
        () => done(performance.now() - from))));
})"""
SEARCH = (
    "const i = document.querySelector('.units-explorer input[type=search]');"
    "i.value = 'class 42'; i.dispatchEvent(new Event('input', {{bubbles: true}}))"
)


def look(page: Path) -> None:
    """Open the page and time it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 1000}, bypass_csp=True)
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_selector(".tile .see")
        print(f"first tiles: {time.perf_counter() - start:.2f} s")
        paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        print(f"first paint: {tab.evaluate(paint):.0f} ms")
        for name, act in (
            ("search", SEARCH.format()),
            ("order", "allUnits.list.sortBy('density', true)"),
            ("a unit opens", "go('#unit=layer3:1234')"),
            ("an image opens", "go('#image=' + allUnits.layers[0].sight.images[5])"),
        ):
            print(f"{name}: {tab.evaluate(TIMED, act):.0f} ms")
        print(f"nodes: {tab.evaluate('document.querySelectorAll(`*`).length')}")
        browser.close()


def main() -> None:
    """Write, open, print."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    if not (folder / "images").exists():
        make(folder)
    start = time.perf_counter()
    page = write_report(folder, sections())
    print(f"page written in {time.perf_counter() - start:.1f} s")
    pictures = sum(path.stat().st_size for path in (folder / "images").iterdir())
    print(f"{page.stat().st_size / 1e6:.1f} MB, of {pictures / 1e6:.1f} MB of pictures")
    look(page)


if __name__ == "__main__":
    main()
