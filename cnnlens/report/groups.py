"""The section about concept groups: what each group detects, how much it matters, how alike it is.

Varshneya et al., "Learning Interpretable Concept Groups in CNNs", IJCAI 2021, Figure 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cnnlens.errors import CnnlensError
from cnnlens.interpretable.cgl import Groups
from cnnlens.interpretable.group_report import GroupConcept, group_concepts
from cnnlens.report.blocks import Gallery, Layer, Note, Section, Shot, Text, number, percent
from cnnlens.report.contents import read_workspace
from cnnlens.report.dissect_files import read_dissections
from cnnlens.report.dissect_result import DissectResult
from cnnlens.report.figures import colours, new_figure, save_figure, short
from cnnlens.report.trained import training_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerGroups:
    """The concept groups of one dissected layer."""

    layer: DissectResult
    concepts: list[GroupConcept]  #: of each group
    relevance: list[float]  #: of each group: its weight in the layer
    within: list[float | None]  #: of each: mean soft IoU of its members, None where it has one only
    across: float | None  #: mean soft IoU of members of different groups
    free: int  #: filters without a group

    @property
    def shares(self) -> list[float]:
        """Each group's relevance, in shares of the highest."""
        most = max(self.relevance, default=0.0) or 1.0
        return [value / most for value in self.relevance]


def concept_groups(workspace: Path) -> Section | None:
    """Gather the section; None where the model has no groups, or none of them was dissected."""
    found = read_groups(workspace)
    if not found:
        return None
    met = [name for one in read_dissections(workspace) for name in one.categories]
    number_of = {name: number for number, name in enumerate(dict.fromkeys(met))}
    parts = [*(_block(one, number_of) for one in found), Note("alike")]
    return Section("groups", "What its groups of filters stand for", Note("groups"), parts)


def _block(found: LayerGroups, number_of: Mapping[str, int]) -> Layer:
    few = "filter is" if found.free == 1 else "filters are"
    under = f"{found.free} {few} in no group. " if found.free else ""
    ratio = found.layer.summary.get("ratio_unique_detectors")
    if ratio is not None:
        under += f"Unique detectors per unit: {percent(ratio)}."
    shots = [_shot(found, group, number_of) for group in range(len(found.concepts))]
    return Layer(found.layer.name, Gallery(shots), Text(under, "small"))


def _shot(found: LayerGroups, group: int, number_of: Mapping[str, int]) -> Shot:
    """Show a group as a circle, with its concept."""
    concept, within = found.concepts[group], found.within[group]
    colour = f"var(--cat-{number_of[concept.category]})" if concept.aligned else "var(--muted)"
    circle = Markup('<div class="circle{}"><i style="--size: {}; --c: {}"></i></div>').format(
        "" if concept.aligned else " none", math.sqrt(found.shares[group]), colour
    )
    what = "it" if concept.aligned else concept.label
    detect = f"{concept.detectors} of {concept.members} detect {what}"
    relevance = number(found.relevance[group], 2)
    said = [
        f"group {group} · relevance {relevance}",
        detect if concept.detectors else "no detector",
    ]
    if within is not None:
        across = "" if found.across is None else f" (across groups {number(found.across, 2)})"
        said.append(f"alike {number(within, 2)}{across}")
    title = concept.label if concept.aligned else "no concept"
    return Shot(circle, title, Markup("<br>").join(said))


def read_groups(workspace: Path) -> list[LayerGroups]:
    """Bring together what training left in ``new.json`` and what dissect found.

    Raises
    ------
    CnnlensError
        When a file is damaged, or the groups do not fit the dissected layer.
    """
    document = read_workspace(workspace)
    model = document.get("model")
    try:
        training = training_of(model) if isinstance(model, dict) else {}
    except CnnlensError:  # a file of that name beside any model.pt need not be of cnnlens
        return []
    if training.get("method") != "cgl":
        return []
    known = {
        entry["name"]: {entry.get("alias"), str(entry.get("place")).partition("#")[0]}
        for entry in document.get("layers") or []
        if isinstance(entry, dict) and "name" in entry
    }
    found = []
    for layer in read_dissections(workspace):
        names = {layer.name, *known.get(layer.name, ())}
        for entry in training.get("groups") or []:
            if isinstance(entry, Mapping) and names & {entry.get("layer"), entry.get("path")}:
                found.append(_groups_of(layer, entry))
                break
    return found


def _groups_of(layer: DissectResult, entry: Mapping[str, Any]) -> LayerGroups:
    try:
        groups = Groups(len(layer.units), int(entry["number"]))
        relevance = [float(v) for v in entry["relevance"]]
        within = [None if v is None else float(v) for v in entry["within"]]
        across = None if entry.get("across") is None else float(entry["across"])
        if not len(relevance) == len(within) == groups.number:
            raise ValueError("as many groups as relevances")
    except (KeyError, TypeError, ValueError) as error:
        raise CnnlensError(
            f"the groups of {layer.name} in the model's .json are damaged: {error!r}",
            "fine-tune anew, or remove that file",
        ) from error
    labels = [(u.label, u.category) if u.is_detector else None for u in layer.units]
    concepts = group_concepts(labels, [u.iou for u in layer.units], groups)
    return LayerGroups(layer, concepts, relevance, within, across, groups.free)


def write_groups(workspace: Path) -> Path | None:
    """Write ``dissect/concept_groups.png``, the paper's Figure 4; None without groups."""
    layers = read_groups(workspace)
    if not layers:
        return None
    path = workspace / "dissect" / "concept_groups.png"
    save_figure(_circles(layers), path)
    return path


def _circles(layers: Sequence[LayerGroups]) -> Figure:
    """Draw a circle per group: by area its relevance in its layer, by colour its category.

    Grey ones stand for no concept; a row is a layer, the last one on top.
    """
    from matplotlib.patches import Circle

    widest = max(len(one.concepts) for one in layers)
    figure = new_figure(1.6 + 1.25 * widest, 0.6 + 1.45 * len(layers), dpi=144)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1.1, widest - 0.3), ylim=(-0.55, len(layers) - 0.45), aspect="equal")
    axes.axis("off")
    names = list(dict.fromkeys(c.category for one in layers for c in one.concepts if c.category))
    paint = {name: colour.light for name, colour in colours(names).items()}
    for row, one in enumerate(layers):
        axes.text(-1.05, row, _two_lines(one.layer.name), va="center", fontsize=10, weight="bold")
        for column, (concept, share) in enumerate(zip(one.concepts, one.shares, strict=True)):
            colour = paint[concept.category] if concept.aligned else "#c9c9c4"
            style = {"facecolor": colour, "alpha": 0.45, "edgecolor": colour, "linewidth": 1.5}
            axes.add_patch(Circle((column, row), 0.46 * math.sqrt(share), **style))
            said = _two_lines(concept.label) if concept.aligned else "–"
            axes.text(column, row, said, ha="center", va="center", fontsize=8.5)
    return figure


def _two_lines(text: str) -> str:
    return short(text, 16).replace(" ", "\n", 1)
