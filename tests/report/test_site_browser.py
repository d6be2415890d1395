"""A site in a real browser, from the disk; skipped where none is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlens.report.site import write_site

from .browser import needs_browser
from .fake_workspace import make_workspace
from .test_site import photos
from .test_units import respond

__all__ = ["photos"]  # a fixture
pytestmark = needs_browser


@pytest.fixture(scope="module")
def site(photos, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("browsed")
    make_workspace(root / "ws", {"conv5": 5}, images=4)
    for layer in ("conv5", "conv4"):
        respond(root / "ws", photos, layer)
    return write_site(root / "ws", root / "site").site.parent


def test_units_are_found_by_number_and_the_address_says_what_was_asked(visit, site: Path) -> None:
    page = visit(site / "index.html")
    assert page.locator(".still-units .tile").first.is_visible()
    page.keyboard.press("/")
    page.keyboard.type("conv4:1")
    page.until("document.querySelectorAll('.finder .tile').length === 1")
    assert not page.locator(".still-units").is_visible()
    assert "find=conv4%3A1" in page.evaluate("location.hash")
    again = visit(site / "index.html", "#find=conv4%3A1")
    again.until("document.querySelectorAll('.finder .tile').length === 1")
    again.keyboard.press("Tab")
    again.locator(".finder .tile").click()
    again.page.wait_for_url("**/units/conv4/1.html")


def test_every_word_of_a_search_counts(visit, site: Path) -> None:
    page = visit(site / "index.html")
    for asked, count in [("conv4", 2), ("unit 1", 2), ("conv4 unit 1", 1), ("conv4 2.png", 1)]:
        page.page.fill("input[type=search]", asked)
        page.until(f"document.querySelector('.finder output').textContent.startsWith('{count} ')")
    page.page.fill("input[type=search]", "conv4 conv5")
    page.until("document.querySelector('.finder output').textContent.startsWith('0 ')")


def test_keys_go_from_unit_to_unit_and_switch_what_is_seen(visit, site: Path) -> None:
    page = visit(site / "units" / "conv4" / "0.html")
    box = page.locator(".nine .see").first.get_attribute("viewBox")
    page.keyboard.press("w")
    assert page.locator(".nine .see").first.get_attribute("viewBox") == "0 0 32 32" != box
    assert not page.locator(".nine .mask").first.is_visible()
    page.keyboard.press("m")
    assert page.locator(".nine .mask").first.is_visible()
    page.keyboard.press("ArrowRight")
    page.page.wait_for_url("**/units/conv4/1.html")
    assert page.locator(".nine .mask").first.is_visible()  # it is remembered


def test_it_reads_without_a_script_on_a_phone(visit, site: Path) -> None:
    page = visit(site / "index.html", scripts=False)
    page.page.set_viewport_size({"width": 400, "height": 800})
    page.locator("a.tile[href^='units/conv4/']").first.click()
    page.page.wait_for_url("**/units/**")
    assert page.locator(".nine image").count() > 0
    page.locator("#masks").check()
    assert page.locator(".nine .mask").first.is_visible()
    page.locator(".nine a").first.click()
    page.page.wait_for_url("**/images/**")
    page.locator(".near-tiles a").first.click()
    page.page.wait_for_url("**/units/**")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(visit, site: Path, scheme: str) -> None:
    for path in ("index.html", "units/conv5/1.html", "units/conv4/index.html"):
        page = visit(site / path, color_scheme=scheme)
        page.page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == 400, path
