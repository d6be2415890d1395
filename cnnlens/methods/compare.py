"""``cnnlens compare``: two or more models side by side."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cnnlens.data.given import shown_path
from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.methods.method import Inputs, Method, Results, page_part
from cnnlens.model.addresses import parse_filters
from cnnlens.progress import Step
from cnnlens.settings.measure import CompareSettings
from cnnlens.settings.option import data_input, option
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.model.layers import Layers
    from cnnlens.report.compare_files import ComparedLayer, Rows


@dataclass(frozen=True)
class CompareInputs(Inputs):
    """Which workspaces, layers and units."""

    others: tuple[Path, ...] = option(
        (), "The others, one or more.", metavar="WORKSPACE", argument=True
    )
    layer: tuple[str, ...] = option(
        (),
        "A layer that was measured in each, or one per workspace: conv5,conv6; repeatable.",
        short="l",
        metavar="LAYER",
        shown="all that they have in common",
        panel="What",
    )
    filters: tuple[str, ...] = option(
        (),
        "Units whose pictures stand side by side: conv5:12, conv5:0-15, conv5:3,7,9; repeatable.",
        name="filter",
        short="f",
        metavar="LAYER:UNITS",
        shown="the best of each",
        panel="What",
    )
    data: Path | None = data_input(
        "Class folders to measure every model's accuracy on. "
        "Default: what fine-tuning left in new.json."
    )
    out: Path = option(
        Path("cnnlens-compare"),
        "Folder for compare.html, compare.json, compare.csv.",
        metavar="DIR",
        panel="Output",
    )


class Compare(Method):
    """Compare models side by side.

    Accuracy, detectors, location instability, part interpretability, selectivity and dead units
    of two or more workspaces, each with chance and with an interval over units, and the same
    units' pictures beside each other. Dissect, or run stability, in each workspace first.
    """

    name, panel = "compare", "Results"
    asks, settings_types = CompareInputs, (CompareSettings,)
    sections = (("compare", page_part("side_by_side.side_by_side")),)
    opens_model = False
    forces = "compare what was measured on other data, too"
    examples = (
        "cnnlens compare ordinary icnn",
        "cnnlens compare ordinary icnn -l relu4 -d cub/val --out ordinary/compare",
    )

    def resolve(self) -> None:
        """Read what every workspace holds; compare what was measured there."""
        from cnnlens.measure.accuracy import classes_of
        from cnnlens.report.compare_files import match_layers, read_models
        from cnnlens.report.compared import compare_models

        first = self.study
        self.images = None if self.asked.data is None else first.images(self.asked.data)
        paths = [first.workspace.path, *map(Path, self.asked.others)]
        self.models = read_models(paths)
        self.layers = match_layers(self.models, self.asked.layer)
        shown = self._units()
        self.found = compare_models(self.models, self.layers, self.settings, first.force)
        self.found["shown"] = shown
        if self.images is not None:
            classes_of(self.images)
            run, voice = first.run, first.voice
            spaces = [Workspace(path) for path in paths[1:]]
            self.studies = [first, *(Study(one, run=run, voice=voice) for one in spaces)]
            for study in self.studies:
                _check_model(study)
        for line in (*self.found["unlike"], *self.found["remarks"]):
            first.voice.note(line)

    def work(self) -> Iterator[Step]:
        """Measure accuracies where images were named; write the comparison."""
        from cnnlens.report.side_by_side import write_comparison

        if self.images is not None:
            for who, study in zip(self.found["workspaces"], self.studies, strict=True):
                who["accuracy"] = yield from self._accuracy(study, who["name"])
        _leave_machine_out(self.found, self.asked.out)
        shown = self.found["shown"]
        self.html = write_comparison(self.asked.out, self.models, self.layers, self.found, shown)
        self.summaries = {"compare": self.found}

    def _accuracy(self, study: Study, name: str) -> Generator[Step, None, dict[str, Any]]:
        from cnnlens.measure.accuracy import accuracy_steps

        assert self.images is not None
        steps = accuracy_steps(study.model, self.images, self.settings.level, study.run)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                found = end.value
                break
            yield Step(step.done, step.total, f"accuracy of {name}")
        return {
            "value": found.value,
            "chance": found.chance,
            "interval": [found.low, found.high],
            "images": found.images,
            "source": shown_path(self.images.root),
        }

    def _units(self) -> dict[str, list[int]]:
        """Choose the units whose pictures are shown, by layer."""
        from cnnlens.report.side_by_side import units_to_show

        if not self.asked.filters:
            top = self.settings.top
            return {name: units_to_show(rows, top) for name, rows in self.layers.items()}
        chosen: dict[str, list[int]] = {}
        for text in self.asked.filters:
            bare, at, _ = text.partition("@")
            (one,) = parse_filters([bare], cast("Layers", _Compared(self.layers)))
            if at or one.units is None:
                wrong = "names a position" if at else "names no units"
                raise UsageError(f"'{text}' {wrong}", "write LAYER:UNITS, like conv5:3,7")
            key = next(k for k, rows in self.layers.items() if rows[0] is cast("Any", one.layer))
            chosen.setdefault(key, []).extend(one.units)
        return chosen

    def result(self) -> Any:
        """Return the comparison."""
        from cnnlens.report.compared import Comparison

        return Comparison(self.found)

    def show(self, results: Results) -> None:
        """Show every quantity, model by model."""
        from cnnlens.report.compared import QUANTITIES

        names = [who["name"] for who in self.found["workspaces"]]
        accuracies = [who["accuracy"] for who in self.found["workspaces"]]
        if any(accuracies):
            results.table(["", *names], [["Accuracy", *(_cell(a, 3) for a in accuracies)]])
        for name, of in self.found["layers"].items():
            rows = [
                [q.title.replace("’", "'"), *(_cell(v, q.digits) for v in of[q.key]["values"])]
                + [_cell(v, q.digits, signed=True) for v in of[q.key]["differences"]]
                for q in QUANTITIES
                if any(of[q.key]["values"])
            ]
            against = [f"{other} - {names[0]}" for other in names[1:]]
            results.table(["", *names, *against], rows, title=name)
        results.say(f"page: {self.html}")


class _Compared:
    """Looks like the layers of a model to whoever parses filters."""

    def __init__(self, layers: Mapping[str, Rows]) -> None:
        self._layers = layers

    def resolve(self, name: str, vectors: bool = False) -> ComparedLayer:
        for known, rows in self._layers.items():
            if name in (known, *(row.alias for row in rows), *(row.name for row in rows)):
                return rows[0]
        near = did_you_mean(name, self._layers)
        raise UsageError(
            f"no layer '{name}' is compared" + (f"; {near}" if near else ""),
            f"compared are {', '.join(self._layers)}",
        )


def _check_model(study: Study) -> None:
    if study.spec is None and study.workspace.model_options is None:
        raise CnnlensError(f"{study.workspace.path} knows no model to measure", "leave out --data")


def _leave_machine_out(document: dict[str, Any], out: Path) -> None:
    """Name workspaces as seen from the comparison's folder, and models by their files."""
    for who in document["workspaces"]:
        who["path"] = Path(os.path.relpath(who["path"], out.resolve())).as_posix()
        who["model"] = who["model"] and shown_path(Path(who["model"]))


# ---- the screen


def _cell(value: Mapping[str, Any] | None, digits: int, signed: bool = False) -> str:
    if value is None:
        return "-"
    number = _number(value["value"], digits, "+" if signed else "")
    if value["interval"] is not None:
        low, high = (_number(end, digits) for end in value["interval"])
        number += f" ({low} to {high})"
    if value["chance"] is not None:
        number += f" chance {_number(value['chance'], digits or 1)}"
    return number


def _number(value: float, digits: int, sign: str = "") -> str:
    rounded = round(value, digits)
    return f"{rounded:{sign if rounded else ''}.{digits}f}".replace("-0", "0", int(not rounded))
