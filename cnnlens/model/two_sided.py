"""A single output read as two classes: above 0 is the second, which it is named after."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnnlens.model.matching import named_alone

SAID = "its one output is read as two classes: above 0, and not"


def both_sides(scores: Tensor) -> Tensor:
    """Give scores whose softmax is the sigmoid of a single output and what it leaves.

    Parameters
    ----------
    scores : torch.Tensor
        (N, K), before any link.

    Returns
    -------
    torch.Tensor
        (N, 2) where K is 1, else as they are.
    """
    if scores.shape[1] != 1:
        return scores
    return torch.cat([-scores, scores], dim=1) / 2  # (N, 2)


def side_names(
    classes: Sequence[str] | None, categories: Sequence[str] = ()
) -> Sequence[str] | None:
    """Name both sides of an output that has a name; others' names are as they are.

    The other side is the only other category of two, where the data has these.
    """
    if classes is None or len(classes) != 1:
        return classes
    positive = named_alone(categories, classes) if len(categories) == 2 else None
    others = [name for name in categories if positive not in (None, name)]
    return [others[0] if others else f"not {classes[0]}", classes[0]]
