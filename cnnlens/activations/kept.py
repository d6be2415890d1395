"""Maps of some units, kept as a network is run, to be looked at again without running it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnlens.activations.sources import Observer
from cnnlens.progress import Step


class KeptUnits:
    """Keeps some units' maps of one sweep in a temporary file; then it is their `Source`.

    Parameters
    ----------
    units : sequence of int
        Whose.
    shape : (int, int, int)
        (C, H, W) of their layer.
    folder : path, optional
        Where the file is, as long as this object lives; it takes 4 · N · units · H · W bytes.
    """

    def __init__(
        self, units: Sequence[int], shape: tuple[int, int, int], folder: Path | None = None
    ) -> None:
        self._units = list(units)
        self.shapes: Sequence[tuple[int, int, int]] = [(len(units), shape[1], shape[2])]
        self.limits: Sequence[int] = [0]
        self.skipped: Sequence[tuple[str, str]] = ()
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (it goes with this object)
        self._positions: list[np.ndarray] = []

    def __call__(self, positions: np.ndarray, maps: np.ndarray) -> None:
        """Take in maps (B, C, H, W) float32."""
        self._file.write(np.ascontiguousarray(maps[:, self._units], np.float32).data)
        self._positions.append(positions)
        self.limits = [self.limits[0] + len(positions)]

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show the observer everything that was kept, in its order."""
        (observe,), (shape,), (total,) = observers, self.shapes, self.limits
        self._file.seek(0)
        done = 0
        for positions in self._positions:
            wanted = (len(positions), *shape)
            raw = self._file.read(4 * int(np.prod(wanted)))
            observe(positions, np.frombuffer(raw, np.float32).reshape(wanted))
            done += len(positions)
            yield Step(done, total)
