"""What becomes of a layer's answer before it is inverted: which part of it carries the picture?

References
----------
Dosovitskiy and Brox: Inverting Visual Representations with Convolutional Networks, CVPR 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor


def binarize(answer: Tensor) -> Tensor:
    """Keep signs alone: v ↦ sign(v)·‖Φ‖/√m, m the number of values that are not 0.

    Parameters
    ----------
    answer : torch.Tensor
        Of any shape.

    Returns
    -------
    torch.Tensor
        Same shape, same Euclidean norm; 0 stays 0.
    """
    signs = answer.sign()
    return signs * (answer.norm() / signs.norm().clamp_min(1))


def dropout(answer: Tensor, generator: torch.Generator, share: float = 0.5) -> Tensor:
    """Set ⌊`share`·n⌋ of the n values to 0, then scale the rest so that the norm is as before.

    Raises
    ------
    ValueError
        When nothing would be left.
    """
    kept = torch.ones(answer.numel())
    kept[torch.randperm(answer.numel(), generator=generator)[: int(share * answer.numel())]] = 0
    rest = answer * kept.reshape(answer.shape).to(answer)
    if answer.any() and not rest.any():
        raise ValueError(f"nothing is left of {int(answer.count_nonzero())} values")
    return rest * (answer.norm() / rest.norm().clamp_min(torch.finfo(rest.dtype).tiny))


def effects(answer: Tensor, reconstructed: Tensor) -> Tensor:
    """How much the squared error of a reconstruction grows when a map of the target is set to 0.

    Parameters
    ----------
    answer, reconstructed : torch.Tensor
        (C, H, W), Φ0 and Φ(x*) of its clean inversion x*.

    Returns
    -------
    torch.Tensor
        (C,): Σ Φ_k(x*)² − Σ (Φ_k(x*) − Φ0_k)², over the positions of map k.
    """
    return (reconstructed.square() - (reconstructed - answer).square()).flatten(1).sum(1)


def drop_least(answer: Tensor, effect: Tensor, share: float = 0.5) -> Tensor:
    """Set the ⌊`share`·C⌋ maps of (C, H, W) with the smallest effect (C,) to 0; ties: lowest first.

    The other maps stay as they are.
    """
    if len(effect) != len(answer):
        raise ValueError(f"{len(effect)} effects for {len(answer)} maps")
    dropped = effect.argsort(stable=True)[: int(share * len(answer))]
    rest = answer.clone()
    rest[dropped] = 0
    return rest
