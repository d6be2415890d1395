"""How much units costs beside reading the store, which it cannot avoid.

Prints the time of reading a synthetic store from end to end, of `units` on it, and their ratio with
its limit; the best of some repeats. Values are those behind a rectifier: a good half of them are 0.

    python benchmarks/units.py                                 # 2,048 units, 10,000 images, 7 × 7
    python benchmarks/units.py --units 512 --images 2000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnlens.activations.sources import StoreSource
from cnnlens.activations.store import SCHEMA, Store, create_activations, create_column, create_file
from cnnlens.data.dataset import ImageSet
from cnnlens.measure.units import units

LIMIT = 1.3
CLASSES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "layer.h5"
        make_store(path, given.images, (given.units, given.side, given.side))
        names = tuple(f"{number % CLASSES}/{number}.png" for number in range(given.images))
        kinds = tuple(name.split("/")[0] for name in names)
        data = ImageSet(Path(scratch), names, "classes", kinds)
        with Store(path) as store:
            units(StoreSource([store]), data)  # compiled, and the file in memory
            reading = best(lambda: [None for _ in store.batches()], given.repeats)
            working = best(lambda: units(StoreSource([store]), data), given.repeats)
        size = path.stat().st_size / 1e9
    print(f"{given.units} units × {given.images} images × {given.side}×{given.side}, {size:.2f} GB")
    print(f"reading {reading:.2f} s   units {working:.2f} s   ratio {working / reading:.2f}")
    print(f"limit {LIMIT}: {'kept' if working <= LIMIT * reading else 'NOT KEPT'}")


def make_store(path: Path, images: int, shape: tuple[int, int, int]) -> None:
    """Write a store of activations as they are behind a rectifier."""
    noise = np.random.default_rng(0)
    names = np.array([f"{number}.png".encode() for number in range(images)])
    with create_file(path) as file:
        activations = create_activations(file, images, shape, "float32")
        for start in range(0, images, 32):
            rows = min(32, images - start)
            values = noise.standard_normal((rows, *shape), np.float32) - 0.3
            activations[start : start + rows] = np.maximum(values, 0)
        create_column(file, "positions", np.arange(images))
        create_column(file, "images", names)
        file.attrs.update(
            model="", preprocess="", data="", place="", dtype="float32", schema=SCHEMA, skipped="[]"
        )


def best(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the quickest of some calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
