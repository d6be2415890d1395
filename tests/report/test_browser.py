"""The page in a real browser; skipped where none is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnlens.methods import sections
from cnnlens.report import html as pages
from cnnlens.report.page import write_report

from .browser import HOSTILE, needs_browser, table
from .fake_workspace import make_workspace

pytestmark = needs_browser

# Contrast of every piece of text with the first ground behind it that is not transparent.
CONTRASTS = """() => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((v) => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
        }
    };
    const own = (node) => [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const texts = "body *:not(script, option, style, title, svg, svg *)";
    return [...document.querySelectorAll(texts)].filter(own).map((node) => {
        const pair = [light(getComputedStyle(node).color), light(ground(node))];
        const [a, b] = pair.sort((x, y) => y - x);
        return [(a + 0.05) / (b + 0.05), node.className + ": " + node.textContent.slice(0, 30)];
    });
}"""


def best_first(report: Path, layer: str = "features.12") -> list[int]:
    rows = sorted(table(report, layer), key=lambda r: (-float(r["iou"]), int(r["unit"])))
    return [int(row["unit"]) for row in rows]


def test_units_come_best_first_and_sort_both_ways(visit, small):
    seen = visit(small).table_of()
    assert seen.units() == best_first(small)
    head = seen.locator("th.c-iou").first
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert seen.units()[0] == 59  # the dead unit, IoU 0
    seen.locator("th.c-unit button").first.click()
    assert head.get_attribute("aria-sort") is None
    assert seen.units() == list(range(60))
    seen.locator("th.c-p button").first.click()
    p = {int(row["unit"]): float(row["p_value"]) for row in table(small)}
    assert [p[unit] for unit in seen.units()] == sorted(p.values())
    seen.locator("th.c-label button").first.click()
    labels = [row["label"] for row in table(small)]
    shown = seen.evaluate("allUnits.list.shown.map((one) => one.found.label)")
    assert shown[-1] == "" and sorted(shown[:-1]) == sorted(label for label in labels if label)
    latin = [label for label in shown[:-1] if label.isascii() and label[0].isalpha()]
    assert latin == sorted(latin, key=str.lower)


def test_filters_and_search_leave_the_right_units(visit, small):
    seen = visit(small).table_of()
    rows = table(small)

    def expected(test) -> set[int]:
        return {int(row["unit"]) for row in rows if test(row)}

    seen.get_by_label("detectors only").first.check()
    detectors = expected(lambda r: r["is_detector"] == "true")
    seen.until(f"document.querySelector('output').textContent == '{len(detectors)} of 84 units'")
    assert set(seen.units()) == detectors
    seen.get_by_label("p-value").first.select_option(label="p < 0.01")
    seen.get_by_label("Category", exact=True).first.select_option(label="part")
    both = expected(
        lambda r: (
            r["category"] == "part" and float(r["p_value"]) < 0.01 and r["is_detector"] == "true"
        )
    )
    assert both
    seen.until(f"document.querySelector('output').textContent == '{len(both)} of 84 units'")
    assert set(seen.units()) == both
    seen.keyboard.press("/")
    seen.keyboard.type("no such thing")
    seen.get_by_role("button", name="Clear search and filters").first.click()
    seen.until("document.querySelector('output').textContent == '84 units'")
    seen.get_by_label("Layer", exact=True).select_option(label="features.12")
    seen.keyboard.press("Tab")
    seen.keyboard.press("/")
    seen.keyboard.type("CAR")
    cars = expected(lambda r: "car" in r["label"])
    seen.until(f"document.querySelector('output').textContent.startsWith('{len(cars)} of')")
    assert set(seen.units()) == cars
    assert seen.evaluate("document.activeElement.type") == "search"


def test_a_tile_shows_a_unit_as_it_is_at_the_last_checkpoint(visit, small):
    made = """(method) => alone({ method, title: "", picture: "a", small: "a",
        apart: [["epoch 0", [0, 0, 2, 1]], ["epoch 1", [9, 0, 2, 1]]] }).getAttribute("viewBox")"""
    seen = visit(small)
    assert seen.evaluate(made, "evolve") == "9 0 2 1"
    assert seen.evaluate(made, "deconv") == "0 0 2 1"


def test_every_word_of_a_search_counts(visit, small):
    seen = visit(small)
    seen.get_by_role("button", name="Table").click()
    box = seen.get_by_label("Unit, concept, class or image")
    labels = {
        (layer, int(row["unit"])): row["label"]
        for layer in ("features.12", "module:conv1")
        for row in table(small, layer)
    }
    some = next(unit for (layer, unit), label in labels.items() if label == "car")

    def found(text: str) -> set[tuple[str, int]]:
        box.fill(text)
        seen.until("allUnits.list.node.querySelector('input').value === allUnits.asked")
        return {tuple(one) for one in seen.evaluate(shown)}

    shown = "allUnits.list.shown.map((one) => [one.layer.name, one.unit])"
    seen.evaluate("""() => { const { list } = allUnits, { then } = list;
        const input = list.node.querySelector("input");
        list.then = () => { then(); allUnits.asked = input.value; }; }""")
    cars = {at for at, label in labels.items() if "car" in label}
    assert found("car features.12") == {at for at in cars if at[0] == "features.12"} != cars
    assert found("module:conv1  CAR") == {at for at in cars if at[0] == "module:conv1"}
    assert found("features.12") == {at for at in labels if at[0] == "features.12"}
    assert found("features.1") == set()  # a layer of another name
    assert found("unit 7") == found("7") == {at for at in labels if at[1] == 7}
    assert found(f"unit {some} car") == {at for at in cars if at[1] == some}
    assert found("features.12 7") == found("features.12:7") == {("features.12", 7)}
    assert found('"7"') == {at for at, label in labels.items() if "7" in label}
    two = {at for at, label in labels.items() if "car" in label and "a" in label}
    assert found("a car") == two and found('"a car"') == set() and found('""') == {*labels}


def test_a_unit_opens_moves_with_the_arrows_and_closes_with_escape(visit, small):
    seen = visit(small).table_of()
    order = best_first(small)
    seen.locator("a.number").first.click()
    assert seen.title() == f"Unit {order[0]}"
    assert seen.evaluate("location.hash") == f"#unit=features.12:{order[0]}"
    row = next(row for row in table(small) if int(row["unit"]) == order[0])
    panel = seen.locator("dialog")
    text = panel.inner_text()
    assert row["label"] in text and f"{float(row['iou']):.4f}" in text and "peak 9.5" in text
    assert "threshold" in panel.locator("svg").text_content()
    seen.wait_for_selector("dialog span.cut[style*=data]")
    assert panel.locator("span.cut").count() == 4
    assert panel.locator(".ranks").first.locator("li").count() >= 8
    seen.keyboard.press("ArrowRight")
    seen.keyboard.press("ArrowRight")
    assert seen.title() == f"Unit {order[2]}"
    seen.keyboard.press("ArrowLeft")
    assert seen.title() == f"Unit {order[1]}"
    seen.keyboard.press("Escape")
    assert not seen.locator("dialog").is_visible()
    assert "unit=" not in seen.evaluate("location.hash")
    assert seen.evaluate("document.activeElement.textContent") == str(order[1])
    seen.keyboard.press("ArrowDown")
    assert seen.evaluate("document.activeElement.textContent") == str(order[2])
    seen.keyboard.press("Enter")
    assert seen.title() == f"Unit {order[2]}"


def test_arrows_keep_to_the_units_that_the_filters_left(visit, small):
    seen = visit(small).table_of()
    seen.get_by_label("Category", exact=True).first.select_option(label="scene")
    scenes = sum(row["category"] == "scene" for row in table(small))
    seen.until(f"document.querySelector('output').textContent == '{scenes} of 84 units'")
    units = seen.units()
    seen.locator(".units-table tbody tr").first.locator("td.c-iou").click()  # anywhere on the row
    for unit in units[1:]:
        seen.keyboard.press("ArrowRight")
        assert seen.title() == f"Unit {unit}"
    seen.keyboard.press("ArrowRight")
    assert seen.title() == f"Unit {units[-1]}"
    assert seen.get_by_role("button", name="Next").is_disabled()


@pytest.mark.parametrize("link", ["#unit=module:conv1:7", "#unit=module%3Aconv1:7"])
def test_a_link_opens_its_unit_in_its_layer(visit, small, link):
    seen = visit(small, link)
    assert seen.title() == "Unit 7"
    assert "module:conv1" in seen.locator("dialog").inner_text()
    seen.keyboard.press("Escape")
    assert not seen.locator("dialog").is_visible()


@pytest.mark.parametrize(
    "link", ["#unit=nowhere:7", "#unit=features.12:999", "#unit=%E0%A4%A", "#x"]
)
def test_a_wrong_link_opens_nothing(visit, small, link):
    seen = visit(small, link)
    assert not seen.locator("dialog").is_visible()
    assert len(seen.table_of().units()) == 60


@pytest.mark.parametrize(("unit", "text"), [(59, "one and the same"), (58, "at most 0.5 % of")])
def test_a_dead_unit_says_so(visit, small, unit, text):
    seen = visit(small, f"#unit=features.12:{unit}")
    assert text in seen.locator("dialog").inner_text()


def test_back_closes_what_was_opened(visit, small):
    seen = visit(small)
    seen.locator("a.tile").first.click()
    seen.wait_for_selector("dialog[open]")
    seen.go_back()
    seen.wait_for_selector("dialog[open]", state="hidden")


@pytest.mark.parametrize("label", ["dog", HOSTILE, "собака:犬 %41#"])
def test_a_concept_opens_to_its_best_units(visit, small, label):
    seen = visit(small)
    seen.get_by_label("Concept", exact=True).first.fill(label)
    link = seen.locator(".layer:not(.inactive) .concepts-table tbody a.label")
    seen.until("document.querySelectorAll('.concepts-table tbody tr').length == 1")
    link.click()
    assert seen.title() == label
    data = json.loads(seen.evaluate("document.getElementById('data').textContent"))
    concepts = data["dissect"]["layers"][0]["concepts"]
    concept = next(c for c in concepts if c["label"] == label)
    units = seen.locator("dialog ol.units a").all_text_contents()
    assert units == [f"unit {unit}" for unit, _ in concept["top"]]
    assert f"{concept['pixels']:,} pixels" in seen.locator("dialog").inner_text()
    seen.locator("dialog ol.units a").nth(1).click()
    assert seen.title() == f"Unit {concept['top'][1][0]}"
    seen.reload()
    assert seen.title() == f"Unit {concept['top'][1][0]}"


def test_tabs_follow_the_arrow_keys(visit, small):
    seen = visit(small)
    seen.get_by_role("tab", name="features.12").focus()
    seen.keyboard.press("ArrowRight")
    assert seen.locator("#layer-1").is_visible() and not seen.locator("#layer-0").is_visible()
    assert seen.evaluate("document.activeElement.textContent") == "module:conv1"


def test_without_javascript_the_summary_and_best_units_are_there(visit, small):
    seen = visit(small, scripts=False)
    assert seen.locator("table.summary").is_visible()
    first = seen.locator("table.top").first
    assert first.locator("tbody th").all_text_contents() == [str(u) for u in best_first(small)[:12]]
    assert first.locator("img").first.is_visible()
    seen.complaints.clear()


def test_a_slider_goes_through_the_checkpoints_of_a_training(visit, small):
    seen = visit(small)
    box, slider = seen.locator(".evolving"), seen.get_by_role("slider", name="Checkpoint")
    card = box.locator("figure").nth(0)
    ground = "document.querySelector('.pair-of').style.backgroundImage"
    last = seen.evaluate(ground)
    assert last.startswith('url("data:image/webp') and "epoch 2" in box.inner_text()
    assert "2 of 60 units dead" in box.inner_text()
    assert "dead" in box.locator("figure").nth(2).inner_text()
    slider.focus()
    seen.keyboard.press("ArrowLeft")
    assert "epoch 1 · epoch-1.pt" in box.inner_text() and "photo 1.jpg" in card.inner_text()
    assert "r 0.67" in card.inner_text() and "jumped" in card.inner_text()
    assert seen.evaluate(ground) != last
    assert slider.get_attribute("aria-valuetext") == "epoch 1"
    columns = seen.locator(".evolution figure")
    assert "chosen" in columns.nth(1).get_attribute("class")
    columns.nth(0).click()
    assert "epoch 0" in box.inner_text() and "jumped" not in card.inner_text()
    card.get_by_role("link", name="unit 7").click()
    assert "7" in seen.title()


def test_without_javascript_the_columns_of_a_training_are_there(visit, small):
    seen = visit(small, scripts=False)
    columns = seen.locator(".evolution img")
    assert columns.count() == 3 and all(columns.nth(at).is_visible() for at in range(3))
    assert seen.locator(".evolution figcaption").nth(1).inner_text().startswith("epoch 1")
    seen.complaints.clear()


def test_print_shows_every_layer_and_no_controls(visit, small):
    seen = visit(small)
    seen.emulate_media(media="print")
    seen.set_viewport_size({"width": 718, "height": 1000})  # A4 within its margins
    assert seen.evaluate("document.documentElement.scrollWidth") <= 718
    assert [seen.locator("table.top").nth(i).is_visible() for i in (0, 1)] == [True, True]
    assert seen.locator("table.bars").is_visible()
    for hidden in (".tabs", ".controls", ".many"):
        assert not seen.locator(hidden).first.is_visible()
    decoded = "[...document.querySelectorAll('table.top img')].every((i) => i.naturalWidth > 0)"
    assert seen.evaluate(decoded)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit, small, scheme):
    seen = visit(small, "#unit=features.12:3", color_scheme=scheme)
    ratios = seen.evaluate(CONTRASTS)
    assert len(ratios) > 300
    assert min(ratios)[0] >= 4.5, min(ratios)


def test_the_narrow_page_does_not_scroll_sideways_without_javascript(visit, small):
    seen = visit(small, scripts=False)
    for width in (820, 390):
        seen.set_viewport_size({"width": width, "height": 800})
        assert seen.evaluate("document.documentElement.scrollWidth") <= width
    seen.complaints.clear()


def test_the_narrow_page_does_not_scroll_sideways(visit, small):
    seen = visit(small)
    seen.set_viewport_size({"width": 380, "height": 800})
    assert seen.evaluate("document.documentElement.scrollWidth") <= 380
    seen.goto(small.as_uri() + "#unit=features.12:3")
    assert seen.evaluate("document.querySelector('dialog').scrollWidth") <= 380


@pytest.mark.parametrize("inline", [True, False])
def test_many_units_load_their_pictures_when_they_are_seen(visit, tmp_path, monkeypatch, inline):
    if not inline:
        monkeypatch.setattr(pages, "INLINE_LIMIT", 0)
    root = make_workspace(tmp_path / "many", {"layer4": 2048}, images=2)
    seen = visit(write_report(root, sections()))
    tiles = "document.querySelectorAll('.tile').length"
    seen.until(f"{tiles} > 8")
    assert seen.evaluate(tiles) < 150
    fetched = [url for url in seen.requests if "report_files" in url]
    assert len(fetched) < 150 and bool(fetched) is not inline
    last = seen.evaluate("allUnits.list.shown.at(-1).unit")
    seen.evaluate("document.querySelector('.tile-box').scrollTo(0, 1e9)")
    seen.until(f"[...document.querySelectorAll('.tile b')].at(-1).textContent == '{last}'")
    assert seen.evaluate(tiles) < 150
    height = seen.evaluate("document.querySelector('.tiles').offsetHeight")
    seen.get_by_role("button", name="Table").click()
    seen.until("document.querySelectorAll('.units-table tbody tr').length > 5")
    assert seen.evaluate("document.querySelectorAll('.units-table tbody tr').length") < 60
    assert height > 10_000


def test_pictures_of_other_methods_stand_at_the_unit(visit, workspace):
    from .test_page import with_picture_at_unit

    more = [*sections(), ("likes", with_picture_at_unit)]
    seen = visit(write_report(workspace, more), "#unit=features.12:7")
    extra = seen.locator("dialog .extra")
    assert extra.locator("h3").inner_text() == "What it <likes>"
    seen.until("document.querySelector('.extra img').naturalWidth > 0")
    seen.keyboard.press("ArrowRight")
    assert extra.count() == 0
