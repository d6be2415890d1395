"""What training with concept groups leaves in ``new.json``: each group's relevance and likeness."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.interpretable.concept_groups import ConceptGroups
from cnnlens.interpretable.group_report import Likeness


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
    handles = [
        net.get_submodule(layer.read_at).register_forward_hook(
            _listen(alike[layer.path], layer.norm)
        )
        for layer in groups.layers
    ]
    try:
        for batch in batches:
            net(batch)
    finally:
        for handle in handles:
            handle.remove()
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


def _listen(found: Likeness, norm: str) -> Any:
    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        if not norm:
            found.update(output.float())
            return
        gamma: Any = module.weight  # None where the norm does not scale
        ones = output.new_ones(output.shape[1]).float()
        found.update_norm(output.float(), ones if gamma is None else gamma.float())

    return hook
