"""``cnnlens compare``: two or more models side by side."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.given import shown_path
from cnnlens.errors import CnnlensError
from cnnlens.methods.method import Inputs, Method, Results, page_part
from cnnlens.progress import Step, relayed
from cnnlens.settings.measure import CompareSettings
from cnnlens.settings.option import data_input, option
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet


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
        from cnnlens.report import compare_files as files
        from cnnlens.report.side_by_side import units_to_show

        first, asked, top = self.study, self.asked, self.settings.top
        self.images = None if asked.data is None else first.images(asked.data)
        paths = [first.workspace.path, *map(Path, asked.others)]
        self.models = files.read_models(paths)
        self.layers = files.match_layers(self.models, asked.layer)
        chosen = files.units_named(asked.filters, self.layers)
        best = {name: units_to_show(rows, top) for name, rows in self.layers.items()}
        self.found = files.compare_models(self.models, self.layers, self.settings, first.force)
        self.found["shown"] = chosen if asked.filters else best
        if self.images is not None:
            self._open(self.images, paths[1:])
        for line in (*self.found["unlike"], *self.found["remarks"]):
            first.voice.note(line)

    def _open(self, images: ImageSet, others: list[Path]) -> None:
        """Open every workspace, of which each must know its model."""
        from cnnlens.measure.accuracy import classes_of

        classes_of(images)
        run, voice = self.study.run, self.study.voice
        spaces = [Workspace(path) for path in others]
        self.studies = [self.study, *(Study(one, run=run, voice=voice) for one in spaces)]
        for study in self.studies:
            space = study.workspace
            if study.spec is None and space.model_options is None:
                raise CnnlensError(f"{space.path} knows no model to measure", "leave out --data")

    def work(self) -> Iterator[Step]:
        """Measure accuracies where images were named; write the comparison."""
        from cnnlens.report.side_by_side import write_comparison

        if self.images is not None:
            for who, study in zip(self.found["workspaces"], self.studies, strict=True):
                who["accuracy"] = yield from self._accuracy(study, self.images, who["name"])
        shown, out = self.found["shown"], self.asked.out
        self.html = write_comparison(out, self.models, self.layers, self.found, shown)
        self.summaries = {"compare": self.found}

    def _accuracy(
        self, study: Study, images: ImageSet, name: str
    ) -> Generator[Step, None, dict[str, Any]]:
        from cnnlens.measure.accuracy import accuracy_steps

        steps = accuracy_steps(study.model, images, self.settings.level, study.run)
        stage = f"accuracy of {name}"
        found = yield from relayed(steps, lambda step: Step(step.done, step.total, stage))
        return {
            "value": found.value,
            "chance": found.chance,
            "interval": [found.low, found.high],
            "images": found.images,
            "source": shown_path(images.root),
        }

    def result(self) -> Any:
        """Return the comparison."""
        from cnnlens.report.side_by_side import Comparison

        return Comparison(self.found)

    def show(self, results: Results) -> None:
        """Show every quantity, model by model."""
        from cnnlens.measure.comparison import QUANTITIES

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
