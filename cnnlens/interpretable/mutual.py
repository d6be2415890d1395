r"""Mutual information of a filter's maps and the part templates, by log-sum-exp.

:math:`MI(X; T) = \sum_T p(T) \sum_x p(x|T) \log p(x|T)/p(x)` over the maps of a minibatch, where
:math:`p(x|T) = e^{⟨x, T⟩}/Z_T`, :math:`Z_T = \sum_x e^{⟨x, T⟩}`, and T is one of n² templates with
their peak at one position, or the negative one. It asks for no labels, and it grows by scaling
activations.

Zhang, Wu, Zhu, "Interpretable Convolutional Neural Networks", CVPR 2018, eqs. (1) to (3). Where
they print an analytic gradient, autograd has one more term (-KL of each template), which is right.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnnlens.interpretable.cgl import Sum, alone
from cnnlens.interpretable.processes import highest
from cnnlens.model.mask import template


def templates(size: tuple[int, int], tau: float, beta: float, like: Tensor) -> Tensor:
    """All templates of a map, (H·W + 1, H·W): one per position, then the negative one."""
    height, width = size
    place = torch.arange(height * width, device=like.device)
    rows, columns = (place // width).to(like.dtype), (place % width).to(like.dtype)
    slope = like.new_full((height * width,), beta)
    positive = template(rows[None], columns[None], size, slope, floor=-1.0)[0].flatten(1)
    return tau * torch.cat([positive, -torch.ones_like(positive[:1])])


def mutual_information(
    x: Tensor, tau: float, beta: float = 4.0, prior: float | None = None, total: Sum = alone
) -> Tensor:
    """Mutual information of each filter's maps and the templates.

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W), none below 0.
    tau, beta : float
        Height and fall-off of the templates.
    prior : float, optional
        Probability α of all positive templates together; default n²/(n² + 1).
    total : callable
        Adds up over processes, with gradient.

    Returns
    -------
    torch.Tensor
        (C,) in nats.
    """
    cells = x.shape[2] * x.shape[3]
    shapes = templates((x.shape[2], x.shape[3]), tau, beta, x)  # (T, HW)
    alpha = cells / (cells + 1) if prior is None else prior
    logs = x.new_full((cells + 1,), math.log(alpha / cells))
    logs[-1] = math.log(1 - alpha)
    score = x.flatten(2) @ shapes.T  # (N, C, T)
    top = highest(score.amax(dim=0))  # (C, T)
    log_z = top + total((score - top).exp().sum(dim=0)).log()
    given = score - log_z  # log p(x|T)
    marginal = torch.logsumexp(given + logs, dim=2, keepdim=True)  # log p(x)
    return total(((given + logs).exp() * (given - marginal)).sum(dim=(0, 2)))
