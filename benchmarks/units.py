"""How much units costs beside reading the store, which it cannot avoid, and how that grows.

Prints the time of reading a synthetic store from end to end, of `units` on it, and their ratio with
its limit; the best of some repeats, by the clock and of processor time, which says what it costs
where others work on the machine, too. Values are those behind a rectifier: a good half are 0.

    python benchmarks/units.py                                 # 2,048 units, 10,000 images, 7 × 7
    python benchmarks/units.py --units 512 --images 2000
    python benchmarks/units.py --scale                         # 1,000, 4,000 and 16,000 images
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from cnnlens.activations.sources import StoreSource
from cnnlens.activations.store import SCHEMA, Store, create_activations, create_column, create_file
from cnnlens.data.dataset import ImageSet
from cnnlens.measure.units import units, units_steps
from cnnlens.progress import followed
from cnnlens.settings import UnitsSettings

LIMIT = 1.3
CLASSES = 100
SCALE = (1000, 4000, 16_000)  # images
SMALL = (256, 4)  # units and side of their maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--units", type=int)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", action="store_true", help="how cost grows with images")
    given = parser.parse_args()
    default = SMALL if given.scale else (2048, 7)
    channels, side = given.units or default[0], given.side or default[1]
    with tempfile.TemporaryDirectory() as scratch:
        if given.scale:
            grow(Path(scratch), (channels, side, side))
        else:
            compare(Path(scratch), given.images, (channels, side, side), given.repeats)


def compare(scratch: Path, images: int, shape: tuple[int, int, int], repeats: int) -> None:
    """Hold units against reading the store."""
    path = scratch / "layer.h5"
    make_store(path, images, shape)
    data = dataset(scratch, images)
    with Store(path) as store:
        units(StoreSource([store]), data)  # compiled, and the file in memory
        reading = best(lambda: [None for _ in store.batches()], repeats)
        working = best(lambda: units(StoreSource([store]), data), repeats)
    size = path.stat().st_size / 1e9
    print(f"{shape[0]} units × {images} images × {shape[1]}×{shape[2]}, {size:.2f} GB")
    for name, read, work in zip(("clock", "processor"), reading, working, strict=True):
        print(f"{name:9}  reading {read:.2f} s   units {work:.2f} s   ratio {work / read:.2f}")
    kept = working[0] <= LIMIT * reading[0]
    print(f"limit {LIMIT} by the clock: {'kept' if kept else 'NOT KEPT'}")


def grow(scratch: Path, shape: tuple[int, int, int]) -> None:
    """Print what an image costs in stores of more and more, each in a process of its own."""
    print(f"{shape[0]} units × {shape[1]}×{shape[2]}")
    print("images   ms of the processor per image   largest memory, MB")
    for images in SCALE:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            seconds, memory = process.submit(measure, scratch, images, shape).result()
        print(f"{images:6}   {1e3 * seconds / images:29.3f}   {memory / 1e6:19.0f}", flush=True)


def measure(scratch: Path, images: int, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Processor seconds of units on a new store, and the most bytes that this process has held."""
    path = scratch / f"{images}.h5"
    make_store(path, images, shape)
    data, settings = dataset(scratch, images), UnitsSettings()

    def work() -> object:
        steps = units_steps(StoreSource([store]), data, settings, folder=scratch)
        return followed(steps, None)

    with Store(path) as store:
        work()  # compiled
        seconds = best(work, 2)[1]
    path.unlink()
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def dataset(folder: Path, images: int) -> ImageSet:
    names = tuple(f"{number % CLASSES}/{number}.png" for number in range(images))
    return ImageSet(folder, names, "classes", tuple(name.split("/")[0] for name in names))


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


def best(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor, each of the quickest of some calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return min(wall for wall, _ in times), min(busy for _, busy in times)


if __name__ == "__main__":
    main()
