"""Which filters of a layer belong together: equal consecutive groups, and free filters after them.

Varshneya et al., "Learning Interpretable Concept Groups in CNNs", IJCAI 2021, §3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnlens.errors import UsageError

PAIRS_PER_MEMBER = 3  # the paper's r = 3·N_g


@dataclass(frozen=True)
class Groups:
    """The concept groups of one layer.

    Attributes
    ----------
    units : int
        Filters of the layer.
    number : int
        Groups.
    """

    units: int
    number: int

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
