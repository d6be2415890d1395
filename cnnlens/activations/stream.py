"""What passes between those who have activations and those who look at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Observer = Callable[[np.ndarray, np.ndarray], None]  # positions (B,), maps (B, C, H, W)


@dataclass(frozen=True)
class Step:
    """How far a long loop is.

    Attributes
    ----------
    done, total : int
        Images, damaged ones included.
    limit : int
        The largest batch that went through the network at once; 0 where none runs.
    """

    done: int
    total: int
    limit: int = 0


class Source(Protocol):
    """Activations of some layers, to be looked at as often as needed.

    Attributes
    ----------
    shapes : sequence of (int, int, int)
        (C, H, W) of each layer.
    limits : sequence of int
        The most images each layer can have.
    """

    shapes: Sequence[tuple[int, int, int]]
    limits: Sequence[int]

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show each layer's observer all batches, in the data's order."""
        ...
