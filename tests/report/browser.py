"""Pages in a real browser, and what they do there that they should not."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FOUND = next((path for name in _NAMES if (path := shutil.which(name))), None)

VIEW = {"width": 1280, "height": 900}
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"

needs_browser = pytest.mark.skipif(_FOUND is None, reason="no Chromium is installed")


def launched(playwright):
    """Start the installed one."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    return playwright.chromium.launch(executable_path=_FOUND, args=arguments)


@dataclass
class Seen:
    """A page that is open, and what it did that it should not."""

    page: object
    report: Path
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    scripts: bool = True
    listeners: dict = field(init=False)

    def __post_init__(self) -> None:
        self.listeners = {
            "console": lambda message: self.complaints.append(message.text),
            "pageerror": lambda error: self.complaints.append(str(error)),
            "request": lambda request: self.requests.append(request.url),
        }

    def __getattr__(self, name: str):
        return getattr(self.page, name)

    def units(self) -> list[int]:
        """Units in the list's order; those at its top are in the page in the same order."""
        found = self.page.evaluate("allUnits.list.shown.map((one) => one.unit)")
        rows = self.page.locator(".units-table a.number").all_text_contents()
        assert rows and [int(text) for text in rows] == found[: len(rows)]
        return found

    def table_of(self, layer: str = "features.12") -> Seen:
        """Look at the table of one layer's units."""
        self.page.get_by_label("Layer", exact=True).select_option(label=layer)
        self.page.get_by_role("button", name="Table").click()
        self.page.get_by_label("Order").select_option(label="highest IoU first")
        count = f"{len(table(self.report, layer))} of"
        self.until(f"document.querySelector('output').textContent.startsWith('{count}')")
        return self

    def until(self, expression: str) -> None:
        """Wait for an expression; the page's own policy forbids what playwright waits with."""
        for _ in range(150):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"never true: {expression}")

    def title(self) -> str:
        return self.page.locator("#panel-title").inner_text()


class Tabs:
    """Tabs of a browser, each shown one page after the other; none knows of those before."""

    def __init__(self, browser) -> None:
        self._browser = browser
        self._idle: dict[bool, list] = {True: [], False: []}
        self._shown = 0

    def show(
        self, path: Path, hash: str = "", color_scheme: str = "light", scripts: bool = True
    ) -> Seen:
        """Load a page, as if for the first time."""
        idle = self._idle[scripts]
        page = idle.pop() if idle else self._opened(scripts)
        page.emulate_media(color_scheme=color_scheme)
        seen = Seen(page, path, scripts=scripts)
        for event, listener in seen.listeners.items():
            page.on(event, listener)
        self._shown += 1  # it would not be loaded anew where all but the hash is the same
        page.goto(f"{path.as_uri()}?{self._shown}{hash}")
        return seen

    def leave(self, seen: Seen) -> None:
        """Forget what a page kept and how it was looked at."""
        page = seen.page
        page.evaluate("localStorage.clear(); sessionStorage.clear()")
        for event, listener in seen.listeners.items():
            page.remove_listener(event, listener)
        page.set_viewport_size(VIEW)
        page.emulate_media(media="null", color_scheme="light")
        self._idle[seen.scripts].append(page)

    def _opened(self, scripts: bool):
        context = self._browser.new_context(viewport=VIEW, java_script_enabled=scripts)
        page = context.new_page()
        page.set_default_timeout(15_000)
        return page


def table(report: Path, layer: str = "features.12") -> list[dict]:
    path = report.parent / "dissect" / layer / "units.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
