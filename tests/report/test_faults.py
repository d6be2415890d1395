"""Sections that fail cost themselves alone, and are named with whose fault it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

from cnnlens.methods import sections
from cnnlens.report.blocks import Figure, Gallery, Layer, Note, Section, Shot, Table, Text
from cnnlens.report.faults import package_of
from cnnlens.report.page import write_report

PICTURE = Path("x.png")
SHOTS = [Shot(PICTURE, "unit 1", unit=1)]


def parts_of(parts) -> Callable[[Path], Section]:
    return lambda root: Section("sharp", "Sharpness", "What it says.", parts)


def raising(error: Exception) -> Callable[[Path], Section]:
    def gather(root: Path) -> Section:
        raise error

    return gather


NOTHING = SimpleNamespace(kind="table")
FAULTS = {
    "an error": (raising(KeyError("colour")), "KeyError: 'colour'"),
    "any error": (raising(ZeroDivisionError("by 0")), "ZeroDivisionError: by 0"),
    "of files": (raising(PermissionError("no")), "PermissionError: no"),
    "of templates": (raising(jinja2.UndefinedError("x")), "UndefinedError: x"),
    "a list": (lambda root: [Text("x")], "its section is a list, no Section"),
    "a list in a layer": (
        lambda root: Section("sharp", "S", "", [Layer("conv5", [Gallery(SHOTS)])]),
        "Layer('conv5', …) takes blocks one by one, such as Gallery(shots), not a list",
    ),
    "no list": (
        lambda root: Section("sharp", "S", "", Gallery(SHOTS)),
        "Section('sharp', …) takes a list of blocks, not a Gallery",
    ),
    "no picture": (lambda root: Shot("x.png"), "Shot('x.png', …) takes a pathlib.Path, or Markup"),
    "no number": (lambda root: Section("s", "S", sources=[3]), "TypeError"),
    # what only shows when it is shown
    "no shots": (parts_of([Gallery([PICTURE])]), "PosixPath object' has no attribute"),
    "no block": (parts_of([NOTHING]), "'types.SimpleNamespace object' has no attribute"),
    "no cell": (parts_of([Table(["a", "b"], [["a", 3]])]), "not iterable"),
    "no rows": (parts_of([Table(["a"], 3)]), "not iterable"),
    "no figure": (parts_of([Figure("x.png")]), "KeyError: 'x.png'"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_section_of_another_package_costs_itself_alone(read_only_workspace, tmp_path, kind):
    from shutil import copytree

    root = Path(copytree(read_only_workspace, tmp_path / "ws"))
    gather, said = FAULTS[kind]
    told: list[str] = []
    page = write_report(root, [("sharp", gather), *sections()], lambda e: told.append(e.message))
    (line,) = told
    assert line.startswith("the code of tests, which makes the section 'sharp', failed: ")
    assert said in line
    text = page.read_text(encoding="utf-8")
    assert "Left out: the code of tests" in text and 'id="dissect"' in text
    assert "damaged" not in text


def test_one_of_ours_that_cannot_be_shown_is_damaged_and_costs_itself_alone(workspace):
    gather = parts_of([Note("dissect")])
    gather.__module__ = "cnnlens.report.units"
    told: list[str] = []
    page = write_report(workspace, [("x", gather), *sections()], lambda e: told.append(e.message))
    assert [line.partition(": ")[0] for line in told] == ["the results of sharp are damaged"]
    assert 'id="dissect"' in page.read_text(encoding="utf-8")


def test_whose_code_gathers_is_known_through_partials():
    assert [package_of(gather) for _, gather in sections()] == [""] * len(sections())
    assert package_of(parts_of([])) == package_of(partial(parts_of, [])) == "tests"
