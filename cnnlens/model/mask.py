r"""A layer that keeps of each map only what lies around its one position: :math:`\max(x∘m, 0)`.

The mask of a unit is :math:`m_{ij} = \max(1 - β‖[i,j] - μ‖_1/n, -1)` with its peak, 1, at the
position μ of the unit's own map. It is applied to every image, at training and at test, and is
constant to the gradient, which passes through its positive part. Where maps are not square, rows
are divided by H and columns by W.

Zhang, Wu, Zhu, "Interpretable Convolutional Neural Networks", CVPR 2018, §3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def positions(x: Tensor, by: str = "argmax") -> tuple[Tensor, Tensor]:
    """Find where each map's part is.

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W), none below 0.
    by : {"argmax", "centroid"}
        The highest value (the first of several), or the rounded centre of all of them; a map of
        zeros has its centroid at 0, 0.

    Returns
    -------
    rows, columns : torch.Tensor
        (N, C) each, whole numbers of the type of `x`.
    """
    width = x.shape[3]
    if by == "argmax":
        place = x.flatten(2).argmax(dim=2)  # (N, C)
        return (place // width).to(x.dtype), (place % width).to(x.dtype)
    rows = torch.arange(x.shape[2], dtype=x.dtype, device=x.device)
    columns = torch.arange(width, dtype=x.dtype, device=x.device)
    total = x.sum(dim=(2, 3)).clamp_min(1e-12)
    y = (x * rows[:, None]).sum(dim=(2, 3)) / total
    return y.round(), ((x * columns).sum(dim=(2, 3)) / total).round()


def template(
    rows: Tensor, columns: Tensor, size: tuple[int, int], beta: Tensor, floor: float
) -> Tensor:
    """Mask around positions.

    Parameters
    ----------
    rows, columns : torch.Tensor
        (N, C).
    size : (int, int)
        H and W of the maps.
    beta : torch.Tensor
        (C,).
    floor : float
        Lowest value: -1 for the whole template, 0 for its positive part.

    Returns
    -------
    torch.Tensor
        (N, C, H, W).
    """
    height, width = size
    y = torch.arange(height, dtype=rows.dtype, device=rows.device)
    x = torch.arange(width, dtype=rows.dtype, device=rows.device)
    slope = beta[:, None]  # (C, 1)
    down = (y - rows[..., None]).abs() * (slope / height)  # (N, C, H)
    across = (x - columns[..., None]).abs() * (slope / width)  # (N, C, W)
    return (1 - down[..., :, None] - across[..., None, :]).clamp_min(floor)


class Mask(nn.Module):
    """Masks rectified maps (N, C, H, W), each around its own position.

    Parameters
    ----------
    units : int
        C.
    position : {"argmax", "centroid"}
        See `positions`.
    beta : float
        How fast the mask falls off.
    learned : bool
        Whether beta is learned, one per unit.
    """

    beta: Tensor

    def __init__(
        self, units: int, position: str = "argmax", beta: float = 4.0, learned: bool = False
    ) -> None:
        super().__init__()
        self.position = position
        values = torch.full((units,), float(beta))
        if learned:
            self.beta = nn.Parameter(values)
        else:
            self.register_buffer("beta", values)

    def forward(self, x: Tensor) -> Tensor:
        """Keep what lies around the position."""
        rows, columns = positions(x.detach(), self.position)
        beta = self.beta.to(x.dtype).clamp_min(0.1)
        mask = template(rows, columns, (x.shape[2], x.shape[3]), beta, floor=0.0)
        return x * mask  # none is below 0

    def extra_repr(self) -> str:
        """Say how the position is found."""
        return f"position={self.position}"
