"""What other methods say of units: labels, pictures, groups, places in trees of filters."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.cluster.tree import walk
from cnnlens.errors import CnnlensError
from cnnlens.interpretable.cgl import Groups
from cnnlens.measure.dissected_units import Best
from cnnlens.report.ablate_files import loss, read_all_ablations
from cnnlens.report.blocks import Section, at_units
from cnnlens.report.cluster_files import read_all_clusters
from cnnlens.report.dissect_result import DissectResult
from cnnlens.report.evolve_files import evolution
from cnnlens.report.groups import read_groups
from cnnlens.report.nested_trees import read_tree
from cnnlens.report.sections import parts, projections, visualizations

TREES = 40  # categories of a layer whose trees of filters are read, as many as the page carries

Facts = dict[str, dict[int, list[tuple[str, str]]]]  # by layer, by unit


@dataclass(frozen=True)
class Label:
    """What a unit is said to detect, and how sure that is."""

    text: str
    category: str
    score: float
    measure: str  #: what the score is: "IoU"
    is_sure: bool  #: whether the score reaches the limit that was set
    runner_up: str = ""  #: the second best
    runner_up_score: float | None = None
    chance: float | None = None  #: the same score, of units whose images were shuffled
    p_value: float | None = None
    #: the best label within each category of labels
    by_category: tuple[Best, ...] = ()


@dataclass(frozen=True)
class Attached:
    """A picture that another method made of the unit."""

    method: str  #: the command: "visualize", "deconv", "stability"
    heading: str
    words: str
    picture: Path
    #: that beside other images where there is such a picture: an optimized one beside real ones
    large: Path


def healthy(read: Any, workspace: Path) -> Iterable[Any]:
    """Read what a workspace holds; nothing of what is damaged, whose own section names it."""
    with suppress(CnnlensError):
        return list(read(workspace))
    return []


def label_of(layer: DissectResult, row: int) -> Label | None:
    """Say what the unit in a row of a dissection detects; None where nothing overlaps with it."""
    unit = layer.units[row]
    if not unit.label:
        return None
    second, score = "", None
    if layer.scores is not None and layer.scores.shape[1] > 1:
        scores = layer.scores[row].copy()
        own = [(c.label, c.category) == (unit.label, unit.category) for c in layer.concepts]
        scores[own] = -1
        best = int(np.argmax(scores))
        if scores[best] > 0:
            second, score = layer.concepts[best].label, float(scores[best])
    chance = (layer.summary.get("chance") or {}).get("mean_iou")
    best_within = tuple(one for one in unit.by_category if one.label)
    return Label(
        unit.label, unit.category, unit.iou, "IoU", unit.is_detector, second, score, chance,
        unit.p_value, best_within,
    )  # fmt: skip


def attached_of(workspace: Path) -> dict[str, dict[int, list[Attached]]]:
    """Gather the pictures that other methods made of units, by layer and unit."""
    found: dict[str, dict[int, list[Attached]]] = defaultdict(lambda: defaultdict(list))
    for gather in (visualizations, projections, parts, evolution):
        for section in healthy(lambda path, gather=gather: filter(None, [gather(path)]), workspace):
            for layer, unit, one in _at_units(section):
                found[layer][unit].append(one)
    return found


def _at_units(section: Section) -> Iterator[tuple[str, int, Attached]]:
    """Yield what a section's pictures say of units: layer, unit, picture."""
    for layer, shot in at_units(section):
        if isinstance(shot.picture, Path) and shot.unit is not None:
            words, heading = shot.words or shot.caption, shot.heading or section.title
            large = shot.large or shot.picture
            yield layer, shot.unit, Attached(section.key, heading, words, shot.picture, large)


# -- groups and trees ------------------------------------------------------------------------------


def facts_of(workspace: Path) -> Facts:
    """Gather what ablation, groups of filters and trees of filters say of units."""
    found: Facts = defaultdict(lambda: defaultdict(list))
    for ablated in healthy(read_all_ablations, workspace):
        for unit in ablated.units:
            if unit.unit is not None:
                found[ablated.name][unit.unit].append(("without it", loss(unit.worst)))
    for layer in healthy(read_groups, workspace):
        groups = Groups(len(layer.layer), len(layer.concepts))
        for unit, group in enumerate(groups.of_units()):
            if group >= 0:
                concept, members = layer.concepts[group], groups.members(group)
                named = f", which stands for {concept.label}" if concept.aligned else ""
                said = f"{group} of {groups.number}, units {members.start} to {members.stop - 1}"
                found[layer.layer.name][unit].append(("group", said + named))
    for name, unit, said in healthy(lambda path: list(_decisions(path)), workspace):
        found[name][unit].append(("decides in the trees of", said))
    return found


def _decisions(workspace: Path) -> Iterator[tuple[str, int, str]]:
    """Yield where units decide in trees of filters: layer, unit, categories."""
    for one in read_all_clusters(workspace, "filters"):
        nodes: dict[int, Counter[str]] = defaultdict(Counter)
        whole = [entry for entry in one.summary["filters"]["categories"] if entry["leaves"]]
        for entry in whole[:TREES]:
            file = one.folder / "filters" / f"{entry['file']}.json"
            for node in walk(read_tree(file)):
                if (unit := node.get("critical_filter")) is not None:
                    nodes[unit][str(entry["category"])] += 1
        for unit, counts in nodes.items():
            said = (f"{name} ({count})" if count > 1 else name for name, count in counts.items())
            yield one.name, unit, ", ".join(said)
