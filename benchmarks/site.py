"""How long a site of many units takes: four layers of 2,048 units each, on 2,000 images.

    python benchmarks/site.py [FOLDER]

Writes a workspace of made-up numbers and pictures and its site, and opens that in Chromium. Prints
processor time, which other work on the machine changes little, how large the front page is with
what its script lists, and when the first unit can be seen. Needs playwright and Chromium for that.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from units_page import make

from cnnlens.report.site import write_site

SECONDS, INDEX, VISIBLE = 120, 2e6, 1000  # what is promised: s, bytes, ms


def look(index: Path) -> float:
    """Open the front page, give the milliseconds until its first unit's picture is there."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 1000}, bypass_csp=True)
        tab.goto(index.as_uri(), wait_until="commit")
        tab.wait_for_function("document.querySelector('.tile img')?.complete")
        seen: float = tab.evaluate("performance.now()")
        browser.close()
    return seen


def main() -> None:
    """Write, open, print."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    if not (folder / "images").exists():
        make(folder)
    wall, processor = time.perf_counter(), time.process_time()
    site = write_site(folder, folder / "site")
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    print(f"{site.units:,} units, {site.images:,} images: {site.files:,} files")
    print(f"{site.bytes / 1e6:.0f} MB in {processor:.0f} s of processor time, {wall:.0f} s in all")
    index = sum((site.site.parent / name).stat().st_size for name in ("index.html", "units.js"))
    visible = look(site.site)
    print(f"front page and list {index / 1e6:.2f} MB, first unit visible after {visible:.0f} ms")
    for name, value, limit in (
        ("processor time, s", processor, SECONDS), ("front page, bytes", index, INDEX),
        ("first unit, ms", visible, VISIBLE),
    ):  # fmt: skip
        print(f"{name}: limit {limit:.0f} {'kept' if value <= limit else 'NOT KEPT'}")


if __name__ == "__main__":
    main()
