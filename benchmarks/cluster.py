"""What the tree of filters costs as images grow, and against the pseudocode taken literally.

Prints the processor time for 250 to 2,000 images, the exponent that fits them, and the ratio to the
literal version (tests/reference/cluster.py) on a number of images that it can bear.

    python benchmarks/cluster.py
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from cnnlens.cluster.filters import filter_tree
from tests.reference.cluster import filter_merges

IMAGES = (250, 500, 1000, 2000)
LIMIT = 2.3  # of the exponent: quadratic, with what caches and the machine add
SMALL = 60


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    times = []
    for images in IMAGES:
        maps = drawn(images, arguments.units)
        times.append(fastest(partial(filter_tree, maps), arguments.repeats))
        print(f"{images:6} images  {times[-1]:8.2f} s processor time")
    exponent = np.polyfit(np.log(IMAGES), np.log(times), 1)[0]
    print(f"exponent {exponent:.2f}   (limit {LIMIT})")
    maps = drawn(SMALL, arguments.units)
    literal = fastest(lambda: filter_merges(maps), 1)
    own = fastest(lambda: filter_tree(maps), arguments.repeats)
    print(f"literal / own at {SMALL} images: {literal / own:.0f}")


def drawn(images: int, units: int) -> np.ndarray:
    """Draw rectified maps (images, units, 4, 4) float32 that come in clusters, as a category's."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((12, units, 4, 4))
    maps = kinds[rng.integers(0, 12, images)] + rng.standard_normal((images, units, 4, 4))
    return np.maximum(maps, 0).astype(np.float32)


def fastest(run: Callable[[], object], repeats: int) -> float:
    """Processor seconds of the fastest of some runs."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


if __name__ == "__main__":
    main()
