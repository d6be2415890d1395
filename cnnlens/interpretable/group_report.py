"""What came of concept groups: the concept of each, and how alike its members' maps are.

Varshneya et al., "Learning Interpretable Concept Groups in CNNs", IJCAI 2021, §4.1 and Figure 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.interpretable import cgl
from cnnlens.interpretable.cgl import Groups, draw_pairs
from cnnlens.interpretable.concept_groups import ConceptGroups
from cnnlens.model.trace import hooked

ALIGNED = 0.02  # as where half of a group's members detect one concept at IoU 0.04

Label = tuple[str, str] | None  # (label, category) of a detector, None for other units


@dataclass(frozen=True)
class GroupConcept:
    """What a group detects."""

    #: label, category: the concept of the highest score; empty where no member is a detector
    label: str
    category: str
    score: float  #: sum of the IoU of the members that detect it, divided by the number of members
    detectors: int  #: members that detect it
    members: int  #: filters of the group
    aligned: bool  #: whether the score exceeds the threshold


def group_concepts(
    labels: Sequence[Label], iou: Sequence[float], groups: Groups, threshold: float = ALIGNED
) -> list[GroupConcept]:
    """Find each group's concept: the share of members that detect it, weighted by their IoU.

    Parameters
    ----------
    labels : sequence of (str, str) or None
        (C,) best concept of each detector.
    iou : sequence of float
        (C,) best IoU.
    groups : Groups
        Of the layer.
    threshold : float
        Score from which a group stands for its concept.
    """
    if len(labels) != groups.units or len(iou) != groups.units:
        raise ValueError(f"{len(labels)} labels and {len(iou)} IoU for {groups.units} units")
    found = []
    for group in range(groups.number):
        members = range(groups.units)[groups.members(group)]
        scores: dict[tuple[str, str], list[float]] = {}
        for unit in members:
            if (label := labels[unit]) is not None:
                scores.setdefault(label, []).append(iou[unit])
        if not scores:
            found.append(GroupConcept("", "", 0.0, 0, groups.size, False))
            continue
        best = max(scores, key=lambda name: (sum(scores[name]), name))
        score = sum(scores[best]) / groups.size
        count = len(scores[best])
        found.append(GroupConcept(*best, score, count, groups.size, score > threshold))
    return found


class Likeness:
    """How alike soft receptive fields are, within groups and across them, over a data set.

    Parameters
    ----------
    groups : Groups
        Of one layer.
    seed : int
        Of the pairs: those of `draw_pairs` within groups, as many across.
    """

    def __init__(self, groups: Groups, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.groups = groups
        first, second = draw_pairs(groups, generator)
        self._within = first.shape  # (G, r)
        across = _across(groups, max(first.numel(), groups.number), generator)
        self._first = torch.cat([first.flatten(), across[0]])
        self._second = torch.cat([second.flatten(), across[1]])
        self._area = torch.zeros(groups.units, dtype=torch.float64)
        self._distance = torch.zeros(len(self._first), dtype=torch.float64)

    def update(self, a: Tensor) -> None:
        """Take in pre-activations (N, C, H, W); a minibatch is standardized as in training."""
        one, zero = a.new_ones(()), a.new_zeros(())
        self.add(cgl.soft_field(a, one, zero))

    def update_norm(self, y: Tensor, gamma: Tensor) -> None:
        """Take in what a batch norm gives (N, C, H, W), with its weight (C,)."""
        self.add(cgl.soft_field_of_norm(y, gamma, y.new_ones(()), y.new_zeros(())))

    def add(self, psi: Tensor) -> None:
        """Take in soft receptive fields (N, C, H, W)."""
        first, second = self._first.to(psi.device), self._second.to(psi.device)
        self._area += psi.sum(dim=(0, 2, 3)).double().cpu()
        self._distance += cgl.l1_distance(psi, first, second).double().cpu()

    @property
    def _iou(self) -> Tensor:
        total = self._area[self._first] + self._area[self._second] + self._distance
        return 1 - 2 * self._distance / total.clamp(min=1e-12)

    @property
    def within(self) -> list[float | None]:
        """Mean soft IoU of each group's pairs; None for groups of one."""
        count = self._within.numel()
        if count == 0:
            return [None] * self.groups.number
        return self._iou[:count].view(self._within).mean(dim=1).tolist()

    @property
    def across(self) -> float | None:
        """Mean soft IoU of pairs from different groups; None where there is one group."""
        rest = self._iou[self._within.numel() :]
        return float(rest.mean()) if rest.numel() else None


def _across(groups: Groups, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pairs of members of different groups."""
    if groups.number < 2:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    first = torch.randint(groups.grouped, (pairs,), generator=generator)
    step = torch.randint(1, groups.number, (pairs,), generator=generator) * groups.size
    inside = torch.randint(groups.size, (pairs,), generator=generator)
    second = (first // groups.size * groups.size + step + inside) % groups.grouped
    return first, second


@torch.no_grad()
def record_groups(
    groups: ConceptGroups, net: nn.Module, batches: Iterable[Tensor]
) -> list[dict[str, Any]]:
    """Describe the groups of a trained network.

    Parameters
    ----------
    groups : ConceptGroups
        As trained.
    net : torch.nn.Module
        In evaluation mode.
    batches : iterable of torch.Tensor
        (N, C, H, W) inputs, normalized: the validation images.

    Returns
    -------
    list of dict
        Per layer ``layer, path, number, size, free``, the groups' ``relevance``, the mean soft
        IoU of each group's members ``within``, and of members of different groups ``across``
        (P1 = 1 and P2 = 0, so that networks compare).
    """
    alike = {layer.path: Likeness(layer.groups) for layer in groups.layers}
    hooks = [
        (net.get_submodule(layer.read_at), _likeness_hook(alike[layer.path], layer.norm))
        for layer in groups.layers
    ]
    with hooked(hooks):
        for batch in batches:
            net(batch)
    relevance = groups.relevance(net)
    return [
        {
            "layer": layer.name,
            "path": layer.path,
            "number": layer.groups.number,
            "size": layer.groups.size,
            "free": layer.groups.free,
            "relevance": relevance[layer.name],
            "within": alike[layer.path].within,
            "across": alike[layer.path].across,
        }
        for layer in groups.layers
    ]


def _likeness_hook(found: Likeness, norm: str) -> Any:
    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        if not norm:
            found.update(output.float())
            return
        gamma: Any = module.weight  # None where the norm does not scale
        ones = output.new_ones(output.shape[1]).float()
        found.update_norm(output.float(), ones if gamma is None else gamma.float())

    return hook
