"""Which output of a network is to learn which label, and whether its own head serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cnnlens.data.labelled import Labelled
from cnnlens.errors import counted
from cnnlens.interpretable.method import unmirrored
from cnnlens.model.class_order import check_order, chosen
from cnnlens.model.ending import before_link, link_of
from cnnlens.model.matching import Reading, readings
from cnnlens.model.model import Model

_AT_ONCE = 64  # images that are asked


def fitting(
    model: Model, labelled: Labelled, outputs: int
) -> tuple[list[str], Mapping[str, int] | None]:
    """Names of the outputs after training, and each label's among them.

    None where the network's own head does not serve; the labels are then the outputs.
    """
    names, known = labelled.classes, model.classes
    if known is None and len(names) == outputs == 1:
        return names, {names[0]: 0}
    if outputs > 1 and _is_alone(labelled):
        return names, None
    ways = readings(names, known, outputs)
    if ways and ways[0].certain and known is not None and len(known) == outputs:
        return list(known), ways[0].outputs
    if not ways or len(names) != outputs or not (known is None or model.has_assumed_classes):
        return names, None
    if not model.has_random_weights:
        _check_order(model, labelled, ways)
    numbers = ways[0].outputs
    return sorted(names, key=lambda name: numbers[name]), numbers


def said_of_new_head(labelled: Labelled, outputs: int) -> str:
    """Say why a network's own head does not serve, for people."""
    if outputs > 1 and _is_alone(labelled):
        return f"{labelled.classes[0]} is told from all else: a new head of one output"
    are = "is" if outputs == 1 else "are"
    return f"the model's {counted(outputs, 'output')} {are} not the data's classes: a new head"


def _is_alone(labelled: Labelled) -> bool:
    """Whether images of other categories are negatives: outputs of theirs would learn to deny them.

    A folder of negatives shows none of the categories.
    """
    if labelled.positions is None:
        return False
    return bool((labelled.labels[torch.from_numpy(labelled.positions >= 0)] < 0).any())


@torch.no_grad()
def _check_order(model: Model, labelled: Labelled, ways: Sequence[Reading]) -> None:
    """Ask some of the images which of two orders it is, or whether it is none."""
    shown = [labelled.classes[label] if label >= 0 else "" for label in labelled.labels.tolist()]
    rows = [row for row in chosen(shown) if shown[row]]
    examples = replace(labelled, device=model.device)
    parts = torch.tensor(rows).split(_AT_ONCE)
    logits = torch.cat([model.net(unmirrored(examples, part)).float().cpu() for part in parts])
    scores = before_link(logits.numpy(), link_of(model, logits.numpy()))
    check_order(ways, scores, [shown[row] for row in rows], "the data")


def renumbered(labelled: Labelled, numbers: Mapping[str, int]) -> Tensor:
    """Labels as numbers of outputs; -1 stays."""
    return torch.tensor([*(numbers[name] for name in labelled.classes), -1])[labelled.labels]
