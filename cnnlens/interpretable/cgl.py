r"""Concept group learning: the filters of a group look at the same place, and at one place.

The soft receptive field of a unit is :math:`\psi = \sigma(P_1 a/S + P_2)`: its pre-activation a,
standardized over the minibatch. Members of a group should overlap (soft Jaccard distance), a
unit's mass should lie close to its centre, and few groups should carry a layer (the sum of the
groups' Frobenius norms, in place of weight decay). The forward pass stays as it is.

Varshneya et al., "Learning Interpretable Concept Groups in CNNs", IJCAI 2021, §3, eqs. (1) to (8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnnlens.errors import UsageError
from cnnlens.interpretable.reductions import Reduce, identity
from cnnlens.model.streams import sent

PAIRS_PER_MEMBER = 3  # the paper's r = 3·N_g
_EPS = 1e-12
_GAMMA = 1e-3  # the batch-norm scale is kept this far off 0
_AT_ONCE = 1 << 20  # values that are compared at a time: more than a cache holds is slow


@dataclass(frozen=True)
class Groups:
    """The concept groups of one layer."""

    units: int  #: filters of the layer
    number: int  #: groups

    @property
    def size(self) -> int:
        """Filters per group."""
        return self.units // self.number

    @property
    def grouped(self) -> int:
        """Filters in groups: the first ones; those from here on are free."""
        return self.size * self.number

    @property
    def free(self) -> int:
        """Filters that belong to no group."""
        return self.units - self.grouped

    def members(self, group: int) -> slice:
        """Return the units of a group."""
        return slice(group * self.size, (group + 1) * self.size)

    def of_units(self) -> list[int]:
        """Return each unit's group, -1 for free ones."""
        return [u // self.size if u < self.grouped else -1 for u in range(self.units)]


def split(units: int, number: int, layer: str = "") -> Groups:
    """Split a layer's filters into equal groups; what does not divide stays free.

    Raises
    ------
    UsageError
        When there are more groups than filters, or fewer than one.
    """
    if number < 1:
        raise UsageError(f"--groups {number} is not at least 1", "5 is usual")
    if number > units:
        where = f"layer '{layer}'" if layer else "the layer"
        raise UsageError(
            f"--groups {number} is more than the {units} filters of {where}",
            f"choose at most {max(units // 2, 1)}, or leave that layer out with -l",
        )
    return Groups(units, number)


def draw_pairs(groups: Groups, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pairs of different members, equally many in every group.

    A group of n has 3·n pairs, or all n(n − 1)/2 where those are fewer; none is drawn twice.

    Parameters
    ----------
    groups : Groups
        Of one layer.
    generator : torch.Generator
        On the CPU, so that every device and process draws alike.

    Returns
    -------
    first, second : torch.Tensor
        (G, r) int64 each, units of the layer, first < second.
    """
    size = groups.size
    below, above = torch.triu_indices(size, size, offset=1)  # (n(n - 1)/2,) each
    pairs = min(PAIRS_PER_MEMBER * size, len(below))
    drawn = torch.stack(
        [torch.randperm(len(below), generator=generator)[:pairs] for _ in range(groups.number)]
    )  # (G, r)
    start = torch.arange(groups.number)[:, None] * size
    return below[drawn] + start, above[drawn] + start


def soft_field(a: Tensor, p1: Tensor, p2: Tensor, reduce: Reduce = identity) -> Tensor:
    """Soft receptive fields from pre-activations (eq. 1).

    Parameters
    ----------
    a : torch.Tensor
        (N, C, H, W) what the convolution gives, before any rectifier.
    p1, p2 : torch.Tensor
        Scale and offset, shared by the network.
    reduce : callable
        Adds up over processes, with gradient; S is the deviation over the whole minibatch.

    Returns
    -------
    torch.Tensor
        (N, C, H, W) in (0, 1).
    """
    count = reduce(a.new_full((), float(a.numel() // a.shape[1])))
    mean = reduce(a.sum(dim=(0, 2, 3))) / count  # (C,)
    square = reduce((a - mean[:, None, None]).square().sum(dim=(0, 2, 3))) / count
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
    scale = torch.where(gamma < 0, gamma.clamp(max=-_GAMMA), gamma.clamp(min=_GAMMA))
    return torch.sigmoid(y * (p1 / scale)[:, None, None] + p2)


def soft_jaccard(psi: Tensor, first: Tensor, second: Tensor, reduce: Reduce = identity) -> Tensor:
    """Soft Jaccard distance of pairs of units over a minibatch (eq. 2).

    Parameters
    ----------
    psi : torch.Tensor
        (N, C, H, W) soft receptive fields.
    first, second : torch.Tensor
        (P,) int64 units.
    reduce : callable
        Adds up over processes, with gradient.

    Returns
    -------
    torch.Tensor
        (P,) 0 for equal fields, 1 for disjoint ones.
    """
    area = reduce(psi.sum(dim=(0, 2, 3)))  # (C,)
    distance = reduce(l1_distance(psi, first, second))  # (P,)
    return 2 * distance / (area[first] + area[second] + distance + _EPS)


def l1_distance(psi: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """L1 distance of pairs of fields (N, C, H, W) over a minibatch, (P,)."""
    found: Tensor = _L1Distance.apply(psi.flatten(2), first, second)
    return found


def group_loss(psi: Tensor, first: Tensor, second: Tensor, reduce: Reduce = identity) -> Tensor:
    """Mean distance of the drawn pairs, summed over the groups of a layer (eq. 5, first term).

    Parameters
    ----------
    psi : torch.Tensor
        (N, C, H, W) soft receptive fields.
    first, second : torch.Tensor
        (G, r) units, see `draw_pairs`.
    reduce : callable
        Adds up over processes, with gradient.
    """
    if first.numel() == 0:  # groups of one have no pairs
        return psi.new_zeros(())
    distances = soft_jaccard(psi, first.flatten(), second.flatten(), reduce)
    return distances.view(first.shape).mean(dim=1).sum()


def sliding_loss(
    lower: Tensor, upper: Tensor, of_lower: Groups, of_upper: Groups, reduce: Reduce = identity
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
    reduce : callable
        Adds up over processes, with gradient.
    """
    size = (min(lower.shape[2], upper.shape[2]), min(lower.shape[3], upper.shape[3]))
    lower, upper = (torch.nn.functional.adaptive_avg_pool2d(p, size) for p in (lower, upper))
    members = torch.arange(min(of_lower.size, of_upper.size))
    start = torch.arange(min(of_lower.number, of_upper.number))[:, None]
    below = sent(start * of_lower.size + members, lower.device)  # (G, n)
    above = sent(start * of_upper.size + members, lower.device) + lower.shape[1]
    return group_loss(torch.cat([lower, upper], dim=1), below, above, reduce)


def spatial_loss(psi: Tensor, reduce: Reduce = identity) -> Tensor:
    """Mean distance of a field's mass from its centre, in positions; mean over images and units.

    Parameters
    ----------
    psi : torch.Tensor
        (N, C, H, W) soft receptive fields.
    reduce : callable
        Adds up over processes, with gradient.
    """
    rows = torch.arange(psi.shape[2], dtype=psi.dtype, device=psi.device)[:, None]  # (H, 1)
    columns = torch.arange(psi.shape[3], dtype=psi.dtype, device=psi.device)  # (W,)
    mass = psi.sum(dim=(2, 3)) + _EPS  # (N, C)
    y = ((psi.sum(dim=3) * rows[:, 0]).sum(dim=2) / mass)[..., None, None]  # (N, C, 1, 1)
    x = ((psi.sum(dim=2) * columns).sum(dim=2) / mass)[..., None, None]
    distance = ((rows - y).square() + (columns - x).square() + _EPS).sqrt()  # (N, C, H, W)
    spread = (psi * distance).sum(dim=(2, 3)) / mass  # (N, C)
    return reduce(spread.sum()) / reduce(psi.new_full((), float(spread.numel())))


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


class _L1Distance(torch.autograd.Function):
    """L1 distance of pairs of fields, without keeping their differences: pairs outnumber units."""

    @staticmethod
    def forward(ctx: Any, psi: Tensor, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(psi, first, second)
        distance = psi.new_zeros(len(first))
        for part in _parts(psi, len(first)):
            distance += _difference(part, first, second).abs_().sum(dim=(0, 2))
        return distance

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
