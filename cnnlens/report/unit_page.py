"""Everything a workspace knows of a unit, whatever command came first; pages are made of it.

for layer in unit_layers(workspace):
    for page in layer.pages:
        page.title, page.label, page.top, page.pictures, page.as_dict()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnlens.measure.changed_classes import Effect
from cnnlens.measure.compared import data_name
from cnnlens.measure.dissected_units import Histogram
from cnnlens.model.layer import file_name
from cnnlens.report.contents import layer_names, read_workspace
from cnnlens.report.dissect_files import read_dissections
from cnnlens.report.dissect_result import DissectResult
from cnnlens.report.seen import Seen, View
from cnnlens.report.unit_facts import Attached, Label, attached_of, facts_of, healthy, label_of
from cnnlens.report.unit_files import read_all_units
from cnnlens.report.unit_names import Name, effects_of, names_of
from cnnlens.report.unit_result import Bin, UnitsResult, share_said


@dataclass(frozen=True)
class Classes:
    """Which of the data's categories excite a unit."""

    most: str  #: the most frequent one among its highest peaks
    share: float | None  #: of those
    entropy: float | None  #: of the categories there, in bits
    selectivity: float | None
    #: how many of its highest peaks are on images of each, the most first
    makeup: Sequence[tuple[str, int]] = ()
    chance: float | None = None  #: the most frequent one's share of all images
    stands_out: bool = True  #: whether it is more frequent there than by chance

    @property
    def telling(self) -> str:
        """The most frequent one, where it says something of the unit, else ""."""
        return self.most if self.stands_out else ""


@dataclass(frozen=True)
class Neighbour:
    """A unit that responds alike."""

    layer: str
    unit: int
    correlation: float


@dataclass(frozen=True, eq=False)
class UnitPage:
    """Everything the workspace knows of one unit; what is not known is None or empty.

    Attributes
    ----------
    layer, unit : str, int
        As typed; counted from 0.
    dead : bool
        Never above 0, or one value everywhere.
    data, images : str, int or None
        The data it was measured on, and how many images.
    peak, density, mean : float or None
        Its highest value, the share of values above 0, the mean of all.
    top, bottom : sequence of Seen
        Images of its highest and lowest peaks, best first.
    bins : sequence of Bin
        Over the range of its peaks: how many images, and examples.
    strip : pathlib.Path or None
        Top images side by side, masked: of units that were dissected and nothing else.
    histogram, threshold : Histogram, float, or None
        Of all its values; above the threshold is its mask for the label.
    label : Label or None
        What it detects.
    names : sequence of Name
        What it is called, by method, with scores and exams.
    worst : Effect or None
        What it hurts most to lose the unit.
    classes : Classes or None
        Which categories of the data excite it.
    neighbours : sequence of Neighbour
        Nearest first.
    pictures : sequence of Attached
        Optimized images, projections, peaks on objects, …
    facts : sequence of (str, str)
        Further findings: its group, its place in trees of filters.
    """

    layer: str
    unit: int
    dead: bool = False
    data: str = ""
    images: int | None = None
    peak: float | None = None
    density: float | None = None
    mean: float | None = None
    top: Sequence[Seen] = ()
    bottom: Sequence[Seen] = ()
    bins: Sequence[Bin] = ()
    strip: Path | None = None
    histogram: Histogram | None = None
    threshold: float | None = None
    label: Label | None = None
    names: Sequence[Name] = ()
    worst: Effect | None = None
    classes: Classes | None = None
    neighbours: Sequence[Neighbour] = ()
    pictures: Sequence[Attached] = ()
    facts: Sequence[tuple[str, str]] = ()

    @property
    def measured(self) -> bool:
        """Whether `cnnlens units` has seen it."""
        return self.peak is not None

    @property
    def has_names(self) -> bool:
        """Whether there is more to its names than the label that it detects."""
        return any(one.method != "dissect" or one.verdict for one in self.names)

    @property
    def address(self) -> str:
        """As the command line names it: ``conv5:12``."""
        return f"{self.layer}:{self.unit}"

    @property
    def words(self) -> str:
        """What it responds to, for people."""
        said = []
        if self.label and self.label.is_sure:
            said.append(f"{self.label.text}, {self.label.measure} {self.label.score:.2f}")
        if self.dead:
            said.append("dead, never above 0")
        elif self.peak is not None:
            peak = f"{self.peak:,.0f}" if self.peak >= 1000 else f"{self.peak:.3g}"
            said.append(f"peak {peak}, {self.density or 0:.1%} above 0")
        if self.classes and self.classes.most and self.classes.share:
            said.append(share_said(self.classes.most, self.classes.share, self.classes.chance))
        return "; ".join(said)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values for JSON; pictures are left out."""
        label = self.label and {k: v for k, v in asdict(self.label).items() if v not in ((), None)}
        return {
            "layer": self.layer,
            "unit": self.unit,
            "dead": self.dead,
            "data": self.data or None,
            "images": self.images,
            "peak": self.peak,
            "density": self.density,
            "mean": self.mean,
            "threshold": self.threshold,
            "label": label,
            "names": [asdict(one) for one in self.names],
            "worst": self.worst and {"class": self.worst.cls, **{
                name: getattr(self.worst, name) for name in ("logit_change", "accuracy_change")
            }},
            "classes": self.classes and {
                **asdict(self.classes), "makeup": dict(self.classes.makeup)
            },
            "top": [_plain(one) for one in self.top],
            "bottom": [_plain(one) for one in self.bottom],
            "bins": [
                {"from": b.low, "to": b.high, "images": b.images,
                 "examples": [_plain(one) for one in b.examples]}
                for b in self.bins
            ],
            "neighbours": [asdict(one) for one in self.neighbours],
            "histogram": self.histogram and self.histogram.merged(64),
            "facts": dict(self.facts),
        }  # fmt: skip


def _plain(seen: Seen) -> dict[str, Any]:
    found: dict[str, Any] = {"image": seen.image, "place": list(seen.place)}
    return found if seen.peak is None else {**found, "peak": seen.peak}


# -- gathering -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnitLayer:
    """The units of a layer."""

    name: str  #: as it was typed
    folder: str  #: as files are named for it
    responses: UnitsResult | None = None
    dissected: DissectResult | None = None
    attached: Mapping[int, Sequence[Attached]] = field(default_factory=dict)
    facts: Mapping[int, Sequence[tuple[str, str]]] = field(default_factory=dict)
    names: Mapping[int, Sequence[Name]] = field(default_factory=dict)
    worst: Mapping[int, Effect] = field(default_factory=dict)

    @property
    def view(self) -> View | None:
        """What its units see."""
        return View.of(self.responses.summary) if self.responses else None

    def strongest(self, image: str) -> list[tuple[int, float, tuple[int, int]]]:
        """List the units that fire most on an image, with peak and place (`UnitsResult`)."""
        return self.responses.strongest(image) if self.responses else []

    @cached_property
    def pages(self) -> list[UnitPage]:
        """Everything known of each unit, by number."""
        responses = {unit.unit: unit for unit in self.responses.units} if self.responses else {}
        labelled = {unit.unit: row for row, unit in enumerate(_units(self.dissected))}
        known = {*responses, *labelled, *self.attached, *self.names, *self.worst}
        return [self._page(unit, responses.get(unit), labelled.get(unit)) for unit in sorted(known)]

    @cached_property
    def _by_number(self) -> dict[int, UnitPage]:
        return {page.unit: page for page in self.pages}

    def page(self, unit: int) -> UnitPage | None:
        """Look up a unit."""
        return self._by_number.get(unit)

    def _page(self, unit: int, response: Any, row: int | None) -> UnitPage:
        found: dict[str, Any] = {}
        if response is not None:
            found = _responding(response, self.responses)
        if row is not None:
            found = {**_labelled(self.dissected, row, found), **found}
        pictures, facts = self.attached.get(unit, ()), self.facts.get(unit, ())
        found |= {"names": self.names.get(unit, ()), "worst": self.worst.get(unit)}
        return UnitPage(self.name, unit, **found, pictures=pictures, facts=facts)


def _units(found: Any) -> Sequence[Any]:
    return found.units if found else ()


def _responding(unit: Any, layer: Any) -> dict[str, Any]:
    classes = None
    if unit.category and not unit.dead:
        numbers = unit.category_share, unit.category_entropy, unit.class_selectivity
        classes = Classes(unit.category, *numbers, unit.makeup, unit.chance, unit.stands_out)
    return {
        "dead": unit.dead,
        "data": Path(data_name(layer.summary)).name,
        "images": len(layer.images),
        "peak": unit.peak_max,
        "density": unit.density,
        "mean": unit.mean,
        "top": () if unit.dead else unit.top,
        "bottom": () if unit.dead else unit.bottom,
        "bins": () if unit.dead else unit.bins,
        "histogram": unit.histogram,
        "classes": classes,
        "neighbours": [Neighbour(*one) for one in unit.neighbours],
    }


def _labelled(layer: Any, row: int, known: Mapping[str, Any]) -> dict[str, Any]:
    """Say what dissection knows, the strip and top images where `known` has no better ones."""
    unit = layer.units[row]
    found: dict[str, Any] = {"label": label_of(layer, row), "threshold": unit.threshold}
    if known.get("top") or known.get("dead"):
        return found
    top = unit.seen or [Seen(t.image, t.peak, (t.y or 0, t.x or 0)) for t in unit.top]
    histogram, images = unit.histogram, layer.summary.get("images")
    return found | {
        "dead": unit.deadness == "dead", "strip": unit.picture, "top": top,
        "histogram": histogram, "images": images, "data": Path(data_name(layer.summary)).name,
    }  # fmt: skip


def unit_layers(workspace: Path) -> list[UnitLayer]:
    """Gather every layer whose units anything is known of, in the workspace's order.

    Pages of a layer's units are made when they are asked for. What is damaged is left out: its own
    section of the page names it.
    """
    with_units = {one.name: one for one in healthy(read_all_units, workspace)}
    dissected = {one.name: one for one in healthy(read_dissections, workspace)}
    attached, facts = attached_of(workspace), facts_of(workspace)
    called, worst = names_of(workspace), effects_of(workspace)
    known = dict.fromkeys([*with_units, *dissected, *attached, *called, *worst])
    order = {name: place for place, name in enumerate(layer_names(read_workspace(workspace)))}
    names = sorted(known, key=lambda name: order.get(name, len(order)))
    return [
        UnitLayer(
            name,
            file_name(name),
            with_units.get(name),
            dissected.get(name),
            attached.get(name, {}),
            facts.get(name, {}),
            called.get(name, {}),
            worst.get(name, {}),
        )
        for name in names
    ]
