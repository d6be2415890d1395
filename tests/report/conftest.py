from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnlens.methods import sections
from cnnlens.report.page import write_report

from .browser import HOSTILE, Seen, Tabs, launched
from .fake_workspace import LABELS, make_evolution, make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "cnnlens-out", {"features.12": 40, "features.9": 24})


@pytest.fixture(scope="session")
def read_only_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `workspace`, shared by tests that only look."""
    root = tmp_path_factory.mktemp("shared") / "cnnlens-out"
    return make_workspace(root, {"features.12": 40, "features.9": 24})


@pytest.fixture(scope="package")
def browser() -> Iterator:
    """One for all; it is gone before tests of other folders run, which have loops of their own."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        chromium = launched(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small") / "cnnlens-out"
    labels = {**LABELS, "object": [*LABELS["object"], HOSTILE, "собака:犬 %41#"]}
    make_workspace(root, {"features.12": 60, "module:conv1": 24}, labels=labels, images=4)
    make_evolution(root, "features.12", [7, 3, 11])
    return write_report(root, sections())


@pytest.fixture(scope="package")
def tabs(browser) -> Tabs:
    """Open pages that wait for the next visit, which is a third as dear then."""
    return Tabs(browser)


@pytest.fixture
def visit(tabs) -> Iterator:
    opened: list[Seen] = []

    def open_page(path: Path, hash: str = "", **options) -> Seen:
        opened.append(tabs.show(path, hash, **options))
        return opened[-1]

    yield open_page
    hacked = [seen.page.evaluate("window.hacked") for seen in opened]
    for seen in opened:
        tabs.leave(seen)
    assert hacked == [None] * len(opened)
    for seen in opened:
        assert seen.complaints == []
        assert not [url for url in seen.requests if not url.startswith(("file:", "data:"))]
