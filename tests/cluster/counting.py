"""A source that counts how often it is read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnlens.cluster.vectors import Maps


class Counting(Maps):
    """Maps in memory; `passes` counts how often they were read from the start."""

    passes = 0

    def batches(self, units: slice = slice(None)) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        object.__setattr__(self, "passes", self.passes + 1)
        yield from super().batches(units)
