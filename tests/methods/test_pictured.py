"""What methods of pictures share, on a method that writes numbers into files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cnnlens.files.ledger import Item
from cnnlens.methods import carry_out
from cnnlens.methods.pictured import Part, Pictured, counted
from cnnlens.progress import Step
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice


class Numbers(Pictured):
    """Draws numbers."""

    name, noun, columns = "numbers", "number", ("layer", "number")
    wanted: tuple[tuple[str, Sequence[int]], ...] = ()
    fails: int | None = None  # a number that is not drawn
    ink = "black"

    def resolve(self) -> None:
        for name, numbers in self.wanted:
            (layer,) = self.study.layers([name])
            items = [Item(f"{n}.png", {"number": n, "ink": self.ink}, subject=n) for n in numbers]
            self.add(self.study.ledger(self.name, layer), items, layer)

    def work(self) -> Iterator[Step]:
        for part in self.parts:
            for done, item in enumerate(part.todo):
                if item.subject == self.fails:
                    continue
                part.file(item).parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (2, 2), item.subject).save(part.file(item))
                entry = {"file": item.name, "layer": part.name, "number": item.subject}
                part.ledger.keep(item, entry)
                yield Step(done, len(part.todo))

    def summary(self, part: Part) -> dict[str, Any]:
        return {"layer": part.name}

    def rows(self, entry: dict[str, Any]) -> Iterator[Sequence[object]]:
        yield entry["layer"], entry["number"]


class Shown:
    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.lines: list[str] = []

    def table(self, columns: Any, rows: Sequence[Any], title: str = "") -> None:
        self.rows = list(rows)

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def drawn(tmp_path: Path):
    def draw(*wanted: tuple[str, Sequence[int]], **how: Any) -> Numbers:
        method = Numbers(Study(Workspace(tmp_path), "zoo:demo_net", voice=Voice(quiet=True)))
        vars(method).update(how, wanted=wanted)
        carry_out(method)
        return method

    return draw


def test_what_was_asked_for_is_shown_in_that_order_and_the_rest_is_listed(drawn):
    drawn(("conv1", [1, 2]))
    again = drawn(("conv1", [5, 2]))
    assert [entry["number"] for entry in again.parts[0].entries] == [5, 2]
    assert [entry["number"] for entry in again.document()["pictures"]] == [1, 2, 5]
    assert [item.subject for item in again.parts[0].todo] == [5]
    assert again.to_make() == "1 number of conv1"
    assert again.result()["5"].getpixel((0, 0)) == (5, 5, 5)


def test_an_earlier_picture_does_not_stand_in_for_one_that_could_not_be_made(drawn):
    drawn(("conv1", [1, 2]))
    again, screen = drawn(("conv1", [1, 2, 3]), ink="red", fails=2), Shown()
    again.show(screen)
    assert screen.rows == [("conv1", 1), ("conv1", 3)]
    assert [entry["number"] for entry in again.result().entries] == [1, 3]
    kept = {one["number"]: one["made_from"]["ink"] for one in again.document()["pictures"]}
    assert kept == {1: "red", 2: "black", 3: "red"}  # what it is made from says of what it is
    once_more = drawn(("conv1", [2]))
    assert [entry["number"] for entry in once_more.parts[0].entries] == [2]


def test_results_of_several_layers_come_by_layer(drawn):
    both = drawn(("conv1", [1]), ("conv2", [2, 3]))
    assert {name: len(found) for name, found in both.result().items()} == {"conv1": 1, "conv2": 2}
    assert list(both.document()["layers"]) == ["conv1", "conv2"]
    assert both.to_make() == "1 number of conv1, 2 numbers of conv2"


@pytest.mark.parametrize(("number", "more"), [(40, None), (41, "… and 1 more in numbers.json")])
def test_a_long_table_is_cut(drawn, tmp_path, number, more):
    method, screen = drawn(("conv1", range(number))), Shown()
    method.show(screen)
    assert screen.rows == [("conv1", n) for n in range(40)]
    folder = f"pictures: {tmp_path / 'numbers'}"
    assert screen.lines == ([more, folder] if more else [folder])


def test_things_are_counted_for_people():
    assert (counted(1, "photo"), counted(2, "photo")) == ("1 photo", "2 photos")
