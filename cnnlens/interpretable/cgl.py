r"""Concept group learning: the filters of a group look at the same place, and at one place.

The soft receptive field of a unit is :math:`\psi = \sigma(P_1 a/S + P_2)`: its pre-activation a,
standardized over the minibatch. Members of a group should overlap (soft Jaccard distance), a
unit's mass should lie close to its centre, and few groups should carry a layer (the sum of the
groups' Frobenius norms, in place of weight decay). The forward pass stays as it is.

Varshneya et al., "Learning Interpretable Concept Groups in CNNs", IJCAI 2021, §3, eqs. (1) to (8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cnnlens.interpretable.groups import Groups

Sum = Callable[[Tensor], Tensor]  # adds up a tensor over the processes that share the minibatch

_EPS = 1e-12
_GAMMA = 1e-3  # the batch-norm scale is kept this far off 0
_AT_ONCE = 1 << 20  # values that are compared at a time: more than a cache holds is slow


def alone(value: Tensor) -> Tensor:
    """Return the sum over one process: the value."""
    return value


def soft_field(a: Tensor, p1: Tensor, p2: Tensor, total: Sum = alone) -> Tensor:
    """Soft receptive fields from pre-activations (eq. 1).

    Parameters
    ----------
    a : torch.Tensor
        (N, C, H, W) what the convolution gives, before any rectifier.
    p1, p2 : torch.Tensor
        Scale and offset, shared by the network.
    total : callable
        Adds up over processes, with gradient; S is the deviation over the whole minibatch.

    Returns
    -------
    torch.Tensor
        (N, C, H, W) in (0, 1).
    """
    count = total(a.new_tensor(float(a.numel() // a.shape[1])))
    mean = total(a.sum(dim=(0, 2, 3))) / count  # (C,)
    square = total((a - mean[:, None, None]).square().sum(dim=(0, 2, 3))) / count
    scale = p1 / (square + _EPS).sqrt()  # (C,)
    return torch.sigmoid(a * scale[:, None, None] + p2)


def soft_field_of_norm(y: Tensor, gamma: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
    """Soft receptive fields from what a batch norm gives (eq. 4).

    The norm gives y = γâ + β, so that τ = â + β/γ = y/γ.

    Parameters
    ----------
    y : torch.Tensor
        (N, C, H, W).
    gamma : torch.Tensor
        (C,) the norm's weight.
    p1, p2 : torch.Tensor
        Scale and offset, shared by the network.

    Returns
    -------
    torch.Tensor
        (N, C, H, W) in (0, 1).
    """
    away = torch.where(gamma < 0, gamma.clamp(max=-_GAMMA), gamma.clamp(min=_GAMMA))
    return torch.sigmoid(y * (p1 / away)[:, None, None] + p2)


def soft_jaccard(psi: Tensor, first: Tensor, second: Tensor, total: Sum = alone) -> Tensor:
    """Soft Jaccard distance of pairs of units over a minibatch (eq. 2).

    Parameters
    ----------
    psi : torch.Tensor
        (N, C, H, W) soft receptive fields.
    first, second : torch.Tensor
        (P,) int64 units.
    total : callable
        Adds up over processes, with gradient.

    Returns
    -------
    torch.Tensor
        (P,) 0 for equal fields, 1 for disjoint ones.
    """
    area = total(psi.sum(dim=(0, 2, 3)))  # (C,)
    distance = total(apart(psi, first, second))  # (P,)
    return 2 * distance / (area[first] + area[second] + distance + _EPS)


def apart(psi: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """L1 distance of pairs of fields (N, C, H, W) over a minibatch, (P,)."""
    found: Tensor = _Apart.apply(psi.flatten(2), first, second)
    return found


def group_loss(psi: Tensor, first: Tensor, second: Tensor, total: Sum = alone) -> Tensor:
    """Mean distance of the drawn pairs, summed over the groups of a layer (eq. 5, first term).

    Parameters
    ----------
    psi : torch.Tensor
        (N, C, H, W) soft receptive fields.
    first, second : torch.Tensor
        (G, r) units, see `draw_pairs`.
    total : callable
        Adds up over processes, with gradient.
    """
    if first.numel() == 0:  # groups of one have no pairs
        return psi.new_zeros(())
    distances = soft_jaccard(psi, first.flatten(), second.flatten(), total)
    return distances.view(first.shape).mean(dim=1).sum()


def sliding_loss(
    lower: Tensor, upper: Tensor, of_lower: Groups, of_upper: Groups, total: Sum = alone
) -> Tensor:
    """Distance of a group to the same group one layer up, summed over groups (eq. 5, second term).

    The i-th member meets the i-th, as far as both layers have one; the finer map is averaged to
    the size of the coarser.

    Parameters
    ----------
    lower, upper : torch.Tensor
        (N, C, H, W) soft receptive fields of two layers that follow each other.
    of_lower, of_upper : Groups
        Theirs.
    total : callable
        Adds up over processes, with gradient.
    """
    size = (min(lower.shape[2], upper.shape[2]), min(lower.shape[3], upper.shape[3]))
    lower, upper = (torch.nn.functional.adaptive_avg_pool2d(p, size) for p in (lower, upper))
    members = torch.arange(min(of_lower.size, of_upper.size))
    start = torch.arange(min(of_lower.number, of_upper.number))[:, None]
    below = (start * of_lower.size + members).to(lower.device)  # (G, n)
    above = (start * of_upper.size + members).to(lower.device) + lower.shape[1]
    return group_loss(torch.cat([lower, upper], dim=1), below, above, total)


def spatial_loss(psi: Tensor, total: Sum = alone) -> Tensor:
    """Mean distance of a field's mass from its centre, in positions; mean over images and units.

    Parameters
    ----------
    psi : torch.Tensor
        (N, C, H, W) soft receptive fields.
    total : callable
        Adds up over processes, with gradient.
    """
    rows = torch.arange(psi.shape[2], dtype=psi.dtype, device=psi.device)[:, None]  # (H, 1)
    columns = torch.arange(psi.shape[3], dtype=psi.dtype, device=psi.device)  # (W,)
    mass = psi.sum(dim=(2, 3)) + _EPS  # (N, C)
    y = ((psi.sum(dim=3) * rows[:, 0]).sum(dim=2) / mass)[..., None, None]  # (N, C, 1, 1)
    x = ((psi.sum(dim=2) * columns).sum(dim=2) / mass)[..., None, None]
    distance = ((rows - y).square() + (columns - x).square() + _EPS).sqrt()  # (N, C, H, W)
    spread = (psi * distance).sum(dim=(2, 3)) / mass  # (N, C)
    return total(spread.sum()) / total(psi.new_tensor(float(spread.numel())))


def relevance(weight: Tensor, groups: Groups) -> Tensor:
    """Relevance of each group: the Frobenius norm of its filters' weights (eq. 7).

    Parameters
    ----------
    weight : torch.Tensor
        (C, …) a convolution's weight.
    groups : Groups
        Of its filters.

    Returns
    -------
    torch.Tensor
        (G,).
    """
    blocks = weight[: groups.grouped].reshape(groups.number, -1)
    return torch.linalg.vector_norm(blocks, dim=1)


def block_norm(weight: Tensor, groups: Groups) -> Tensor:
    """Sum of the groups' relevances: the regularizer of one layer (eq. 6)."""
    return relevance(weight, groups).sum()


class _Apart(torch.autograd.Function):
    """L1 distance of pairs of fields, without keeping their differences: pairs outnumber units."""

    @staticmethod
    def forward(ctx: Any, psi: Tensor, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(psi, first, second)
        apart = psi.new_zeros(len(first))
        for part in _parts(psi, len(first)):
            apart += _difference(part, first, second).abs_().sum(dim=(0, 2))
        return apart

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        psi, first, second = ctx.saved_tensors
        result = torch.zeros_like(psi)
        weight = gradients[0][:, None]
        for part, out in zip(_parts(psi, len(first)), _parts(result, len(first)), strict=True):
            push = _difference(part, first, second).sign_().mul_(weight)  # (n, P, m)
            out.index_add_(1, first, push).index_add_(1, second, push, alpha=-1)
        return result, None, None


def _difference(psi: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return psi.index_select(1, first).sub_(psi.index_select(1, second))


def _parts(psi: Tensor, pairs: int) -> list[Tensor]:
    """Views of (N, C, M) fields, so small that comparing `pairs` of them stays in the cache."""
    images = max(1, _AT_ONCE // (pairs * psi.shape[2]))
    return list(psi.split(images))
