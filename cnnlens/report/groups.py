"""The section about concept groups: what each group detects, how much it matters, how alike it is.

Varshneya et al., "Learning Interpretable Concept Groups in CNNs", IJCAI 2021, Figure 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Circle as Disk

from cnnlens.errors import CnnlensError
from cnnlens.interpretable.cgl import Groups
from cnnlens.interpretable.group_report import GroupConcept, group_concepts
from cnnlens.report.blocks import Circle, Gallery, Section, Shot, Text
from cnnlens.report.blocks import Layer as Block
from cnnlens.report.compare_files import training_of
from cnnlens.report.contents import number, percent, read_workspace
from cnnlens.report.dissect_files import DissectResult, read_dissections
from cnnlens.report.figures import new_figure, save_figure, short
from cnnlens.report.palette import colours


@dataclass(frozen=True)
class LayerGroups:
    """The concept groups of one dissected layer.

    Attributes
    ----------
    name : str
        The layer.
    concepts : list of GroupConcept
        One per group.
    relevance : list of float
        One per group.
    within : list of float or None
        Mean soft IoU of each group's members.
    across : float or None
        Mean soft IoU of members of different groups.
    free : int
        Filters without a group.
    unique_ratio : float or None
        Unique detectors per unit.
    """

    name: str
    concepts: list[GroupConcept]
    relevance: list[float]
    within: list[float | None]
    across: float | None
    free: int
    unique_ratio: float | None


def concept_groups(workspace: Path) -> Section | None:
    """Gather the section; None where the model has no groups, or none of them was dissected."""
    found = read_groups(workspace)
    if not found:
        return None
    met = [name for layer in read_dissections(workspace) for name in layer.categories]
    number_of = {name: number for number, name in enumerate(dict.fromkeys(met))}
    parts = [_layer_block(layer, number_of) for layer in found]
    alike = Text(
        "“Alike” is the mean soft IoU of two members’ maps over the validation images: 1 where "
        "they are equal."
    )
    title = "What its groups of filters stand for"
    return Section("groups", title, _NOTE, [*parts, alike])


_NOTE = (
    "The filters of each layer were trained in groups whose members look at the same places. A "
    "circle’s area is the group’s relevance (the norm of its weights), its colour the category of "
    "its concept: the one that most members detect, weighted by their IoU. Grey groups stand for "
    "no concept."
)


def _layer_block(layer: LayerGroups, number_of: Mapping[str, int]) -> Block:
    most = max(layer.relevance, default=0.0) or 1.0
    across = "" if layer.across is None else f" (across groups {number(layer.across, 2)})"
    shots = []
    for group, concept in enumerate(layer.concepts):
        relevance, within = layer.relevance[group], layer.within[group]
        what = "it" if concept.aligned else concept.label
        said = [
            f"group {group} · relevance {number(relevance, 2)}",
            f"{concept.detectors} of {concept.members} detect {what}"
            if concept.detectors
            else "no detector",
        ]
        said += [] if within is None else [f"alike {number(within, 2)}{across}"]
        colour = number_of[concept.category] if concept.aligned else None
        circle = Circle(math.sqrt(relevance / most), colour)
        title = concept.label if concept.aligned else "no concept"
        shots.append(Shot(circle, title, Markup("<br>").join(said)))
    few = "filter is" if layer.free == 1 else "filters are"
    under = f"{layer.free} {few} in no group. " if layer.free else ""
    if layer.unique_ratio is not None:
        under += f"Unique detectors per unit: {percent(layer.unique_ratio)}."
    return Block(layer.name, Gallery(shots), Text(under, "small"))


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
                found.append(_layer(layer, entry))
                break
    return found


def _layer(layer: DissectResult, entry: Mapping[str, Any]) -> LayerGroups:
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
    ratio = layer.summary.get("ratio_unique_detectors")
    return LayerGroups(layer.name, concepts, relevance, within, across, groups.free, ratio)


def write_groups(workspace: Path) -> Path | None:
    """Write ``dissect/concept_groups.png``, the paper's Figure 4; None without groups."""
    layers = read_groups(workspace)
    if not layers:
        return None
    path = workspace / "dissect" / "concept_groups.png"
    save_figure(group_circles(layers), path)
    return path


def group_circles(layers: Sequence[LayerGroups]) -> Figure:
    """Draw a circle per group, as the paper does.

    Its area is the group's relevance in its layer, its colour the category of its concept; grey
    where it stands for none.

    Parameters
    ----------
    layers : sequence of LayerGroups
        One row each, the last one on top.

    Returns
    -------
    matplotlib.figure.Figure
        With its own Agg canvas.
    """
    widest = max(len(layer.concepts) for layer in layers)
    figure = new_figure(1.6 + 1.25 * widest, 0.6 + 1.45 * len(layers), dpi=144)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1.1, widest - 0.3), ylim=(-0.55, len(layers) - 0.45), aspect="equal")
    axes.axis("off")
    names = list(dict.fromkeys(c.category for layer in layers for c in layer.concepts))
    paint = {name: colour.light for name, colour in colours([n for n in names if n]).items()}
    for row, layer in enumerate(layers):
        axes.text(-1.05, row, _two_lines(layer.name), va="center", fontsize=10, weight="bold")
        most = max(layer.relevance) or 1.0
        for column, (concept, weight) in enumerate(
            zip(layer.concepts, layer.relevance, strict=True)
        ):
            colour = paint[concept.category] if concept.aligned else "#c9c9c4"
            radius, style = 0.46 * math.sqrt(weight / most), {"facecolor": colour, "alpha": 0.45}
            style |= {"edgecolor": colour, "linewidth": 1.5}
            axes.add_patch(Disk((column, row), radius, **style))
            said = _two_lines(concept.label) if concept.aligned else "–"
            axes.text(column, row, said, ha="center", va="center", fontsize=8.5)
    return figure


def _two_lines(text: str) -> str:
    return short(text, 16).replace(" ", "\n", 1)
