"""Tables of many rows in a real browser, at the widths of its windows."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import pytest

from cnnlens.methods import sections
from cnnlens.report.page import write_report

from .browser import needs_browser

pytestmark = needs_browser

# For a table: its head's lower edge, its first row's upper one, and cells that a row cuts off.
LAID_OUT = """async (name) => {
    const table = document.querySelector(name);
    table.scrollIntoView({ block: "start" });
    await new Promise((done) => setTimeout(() => requestAnimationFrame(done)));
    table.scrollTop = 0;
    const box = (node) => node.getBoundingClientRect();
    const row = table.querySelector("tbody tr");
    const shown = [...row.cells].filter((cell) => box(cell).height);
    const cut = shown.filter((cell) => box(cell).bottom > box(row).bottom + 0.5);
    const names = (cells) => cells.map((cell) => cell.classList[0]);
    const wide = table.scrollWidth - table.clientWidth;
    const [head, first] = [box(table.tHead).bottom, box(row).top];
    return { head, first, wide, cut: names(cut), shown: names(shown) };
}"""


@pytest.mark.parametrize("width", [390, 600, 740, 800, 1000, 1210, 1280])
def test_rows_lie_below_their_head_and_hold_their_cells(visit, small, width):
    seen = visit(small).table_of()
    seen.page.set_viewport_size({"width": width, "height": 800})
    for name in (".units-table", ".layer:not(.inactive) .concepts-table"):
        found = seen.evaluate(LAID_OUT, name)
        assert found["first"] >= found["head"] - 0.5, name
        assert found["cut"] == []
        assert found["wide"] == 0
    assert {"c-label", "c-detectors", "c-iou", "c-unit"} <= set(found["shown"])


# A table of the blocks' kind, with a name in each row's head: does what stands behind it show?
LONG_NAMES = """(kind) => {
    const rows = ["very ".repeat(30), "a_b_c".repeat(40)].map((name) =>
        `<tr><th scope="row">${name}</th><td><span class="name">${name}</span></td>` +
        "<td>0.500</td>".repeat(3) + "</tr>");
    const box = document.createElement("div");
    box.className = "scroll";
    box.innerHTML = `<table class="plain ${kind}"><tbody>${rows.join("")}</tbody></table>`;
    document.querySelector("main").append(box);
    return box.scrollWidth - box.clientWidth;
}"""


def test_long_names_do_not_push_numbers_out_of_sight(visit, small):
    seen = visit(small)
    assert seen.evaluate(LONG_NAMES, "") == 0
    header = """(() => { const one = document.querySelector(".confusion th");
        return one.getBoundingClientRect().width; })()"""
    seen.evaluate(LONG_NAMES, "confusion")
    assert seen.evaluate(header) <= 300


# Texts of the lines in which an element's text is laid out.
LINES = """(selector) => {
    const range = document.createRange(), lines = new Map();
    const walk = document.createTreeWalker(document.querySelector(selector), NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode()); )
        for (let at = 0; at < node.length; at++) {
            range.setStart(node, at);
            range.setEnd(node, at + 1);
            const top = Math.round(range.getBoundingClientRect().top);
            lines.set(top, (lines.get(top) ?? "") + node.data[at]);
        }
    return [...lines.values()];
}"""


def test_a_title_is_broken_between_the_parts_of_a_name(visit, small, tmp_path):
    name = "my_squeezenet1_0_imagenet-tuned_on<b>birds.checkpoint.pt"
    root = tmp_path / "cnnlens-out"
    shutil.copytree(small.parent, root)
    document = json.loads((root / "workspace.json").read_text())
    document["model"]["spec"] = name
    (root / "workspace.json").write_text(json.dumps(document))
    seen = visit(write_report(root, sections()))
    seen.page.set_viewport_size({"width": 390, "height": 900})
    lines = seen.evaluate(LINES, "h1")
    assert "".join(lines) == name and len(lines) > 1
    assert all(line[-1] in "_-" or after[0] == "." for line, after in pairwise(lines)), lines
    parts = seen.evaluate("['a_b/c.d:e', 'net1_0.5x', ''].map((name) => byParts(name).length)")
    assert parts == [5, 1, 0]


# Lines that a name takes where a unit's facts and its table of names say it, and what sticks out.
SAID = """(name) => {
    const box = document.createElement("div");
    box.className = "inside";
    box.innerHTML = `<p class="sub"><span><b><span class="name">${name}</span></b>` +
        "<span>in 20 % of its highest peaks, 10 % of all images</span></span></p>" +
        `<div class="scroll"><table class="kinds"><tr><th class="name">${name}</th>` +
        "<td>class folders</td><td>correlation 0.94</td><td>0.06</td><td>0.001</td></tr></table>";
    document.querySelector("main").append(box);
    const lines = [...box.querySelectorAll(".name")].map((node) => {
        const range = document.createRange();
        range.selectNodeContents(node);
        return range.getClientRects().length;
    });
    return [lines, box.querySelector(".sub").scrollWidth - box.querySelector(".sub").clientWidth];
}"""


def test_a_short_name_is_whole_on_a_phone_and_a_long_one_is_broken(visit, small):
    seen = visit(small)
    seen.page.set_viewport_size({"width": 390, "height": 900})
    assert seen.evaluate(SAID, "automobile") == [[1, 1], 0]
    lines, beyond = seen.evaluate(SAID, "automobile" * 20)
    assert min(lines) > 2 and beyond <= 0
