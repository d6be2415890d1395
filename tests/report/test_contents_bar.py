"""The page as a whole in a browser: its contents bar, what folds, what a printer gets."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageColor

from cnnlens.methods import sections
from cnnlens.report.blocks import Figure, Gallery, Layer, Section, Shot, Text
from cnnlens.report.figures import new_figure, save_figure
from cnnlens.report.page import write_report
from cnnlens.report.sheet import Apart, Picture, Row, save_png, sheet

from .browser import needs_browser

pytestmark = needs_browser

HERE = "document.querySelector('.contents [aria-current]')?.textContent"


def more(workspace):
    """Give a section of two layers, long enough to scroll, with a picture."""
    path = workspace / "tall.png"
    Image.fromarray(np.full((1500, 600, 3), 90, np.uint8)).save(path)
    layers = [Layer(f"a b/{i}", Figure(path, "tall"), Text("it ends")) for i in (1, 2)]
    many = Section("many", "Many", parts=[Gallery([Shot(path, "one")] * 4)])
    return [
        ("more", lambda _: Section("more", "More of it", "It goes on. " * 99, layers)),
        ("many", lambda _: many),
    ]


def test_a_drawing_leaves_no_white_plate_on_a_dark_page(visit, workspace):
    def figure(_):
        drawing = new_figure(4, 3)
        drawing.add_subplot().plot([0, 1])
        save_figure(drawing, workspace / "drawn.png")
        return Section("drawn", "Drawn", parts=[Figure(workspace / "drawn.png", "a line")])

    page = write_report(workspace, [("drawn", figure)])
    for scheme, fits in (("light", lambda grey: grey > 200), ("dark", lambda grey: grey < 60)):
        seen = visit(page, color_scheme=scheme)
        shot = Image.open(BytesIO(seen.locator("figure img").screenshot())).convert("L")
        assert fits(np.median(shot)), scheme
        assert np.asarray(shot).std() > 5  # and the drawing is there


@pytest.fixture(scope="module")
def long(small):
    return write_report(small.parent, [*sections(), *more(small.parent)])


def links(seen) -> list[str]:
    return seen.locator(".contents a").all_text_contents()


def test_the_contents_name_sections_and_their_layers_and_say_where_one_is(visit, long):
    seen = visit(long)
    assert links(seen) == [
        "Its units, one by one", "What its units detect", "features.12", "module:conv1",
        "How its units came about", "features.12",
        "More of it", "a b/1", "a b/2",
        "Many",
    ]  # fmt: skip
    assert seen.evaluate(HERE) == "Its units, one by one"
    for text in ("a b/2", "a b/1", "Many"):
        seen.locator(".contents a", has_text=text).evaluate("link => link.click()")
        seen.until(f"{HERE} === '{text}'")
        top = seen.evaluate("document.querySelector('.contents').getBoundingClientRect().top")
        assert 0 <= top < 100  # it stays in view
    seen.evaluate("document.getElementById('more').scrollIntoView()")
    seen.until(f"{HERE} === 'More of it'")


def test_a_link_to_a_layer_behind_a_tab_shows_it(visit, long):
    seen = visit(long, "#dissect/module:conv1")
    assert seen.get_by_role("tab", selected=True).first.inner_text() == "module:conv1"
    seen.locator(".contents a", has_text="features.12").first.click()
    seen.until("!document.querySelector('.layer').classList.contains('inactive')")


def test_sections_fold_stay_folded_and_open_for_a_link(visit, long):
    seen = visit(long)
    inside = seen.get_by_text("it ends").first
    seen.locator("#more > details > summary").click()
    assert not inside.is_visible()
    seen.until("Object.values(sessionStorage).some((left) => left.includes('more'))")
    seen.reload()
    assert not inside.is_visible() and seen.locator("table.summary").is_visible()
    seen.locator(".contents a", has_text="More of it").click()
    inside.wait_for()  # what the link leads to opens once the address has changed
    seen.get_by_role("button", name="Fold all").click()
    assert not inside.is_visible() and not seen.locator("table.summary").is_visible()
    seen.get_by_role("button", name="Unfold all").click()
    assert inside.is_visible() and seen.locator("table.summary").is_visible()


def test_print_unfolds_and_folds_again(visit, long):
    seen = visit(long)
    seen.get_by_role("button", name="Fold all").click()
    seen.evaluate(
        "addEventListener('afterprint', () => window.printed = true);"
        "addEventListener('beforeprint', () => "
        "window.seen = !document.querySelector('details.fold:not([open]), img[loading=lazy]'))"
    )
    seen.page.pdf()
    seen.until("window.printed")
    assert seen.evaluate("window.seen")
    assert not seen.get_by_text("it ends").first.is_visible()
    seen.reload()
    assert not seen.get_by_text("it ends").first.is_visible()


def test_without_javascript_everything_is_open_and_the_contents_lead_there(visit, long):
    seen = visit(long, scripts=False)
    assert seen.locator(".contents a").count() == 10
    assert not seen.locator(".contents button").first.is_visible()
    assert seen.get_by_text("it ends").first.is_visible()
    seen.complaints.clear()


def test_on_a_phone_the_contents_open_from_a_line_at_the_top(visit, long):
    seen = visit(long)
    seen.set_viewport_size({"width": 400, "height": 800})
    assert seen.evaluate("document.documentElement.scrollWidth") <= 400
    link = seen.locator(".contents a", has_text="a b/2")
    assert not link.is_visible()
    opens = seen.locator(".contents .opens")
    opens.click()
    link.click()
    seen.until(f"{HERE} === 'a b/2'")
    assert not link.is_visible() and "a b/2" in opens.inner_text()
    assert seen.evaluate("document.querySelector('.contents').getBoundingClientRect().top") == 0
    heading = "document.getElementById('more/a b/2').getBoundingClientRect().top"
    assert 40 <= seen.evaluate(heading) < 200  # not beneath it


def test_parts_of_a_sheet_stand_apart_without_its_white(visit, workspace):
    colours = ["#a02020", "#2020a0"]
    blocks = [Apart(Picture(Image.new("RGB", (60, 40), one)), one) for one in colours]
    save_png(workspace / "sheet.png", sheet(Row(*blocks, gap=30)))
    shot = Shot(workspace / "sheet.png", "unit 7", unit=7)
    layer = Layer("features.12", Gallery([shot], wide=True))
    seen = visit(
        write_report(
            workspace, [*sections(), ("deconv", lambda _: Section("deconv", "D", "", [layer]))]
        )
    )
    parts = seen.locator(".apart svg")
    for index, colour in enumerate(colours):
        shown = Image.open(BytesIO(parts.nth(index).screenshot())).convert("RGB")
        assert shown.getpixel((shown.width // 2, shown.height // 2)) == ImageColor.getrgb(colour)
        assert min(shown.getpixel((2, 2))) < 200  # no margin
    seen.locator("#deconv a", has_text="unit 7").click()
    seen.until("document.querySelectorAll('dialog .apart svg').length === 2")
    assert seen.locator("dialog .apart figcaption").all_text_contents() == colours
