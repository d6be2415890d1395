"""What decoding photos by processes gains beside a thread that is always in Python.

    python benchmarks/decode.py PHOTOS

Beside a GPU, the thread that reads photos launches kernels, one after the other, which is Python
nearly all the time. Here it counts for each photo instead, on a core of its own, about as long as
one takes to be decoded; one worker decodes on another core. Printed are photos a second, beside
those of a decoder with nobody else, the most there can be. A process should get at least 1.2 times
as many as a thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path

from cnnlens.data.ahead import read_ahead
from cnnlens.data.batches import Decoded
from cnnlens.data.open import open_data
from cnnlens.data.processes import decoded_apart
from cnnlens.model.preprocess import Preprocess

LIMIT = 1.2
AHEAD = 64


def main() -> None:
    """Print photos a second of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=600)
    given = parser.parse_args()
    images, preprocess = open_data(given.photos), Preprocess(size=(224, 224))
    order = list(islice(cycle(range(len(images.paths))), given.images))
    shape, dtype = images.shape(preprocess), images.pixel_type(preprocess)

    def decode(index: int) -> Decoded:
        return images.pixels(index, preprocess)

    most = rate(map(decode, order), 0)
    print(f"a decoder with nobody else  {most:6.0f} photos a second")
    counts, reached = round(additions() / most), []
    for name, found in (
        ("thread", read_ahead(decode, order, 1, AHEAD)),
        ("process", decoded_apart(decode, order, 1, AHEAD, shape, dtype)),
    ):
        reached.append(rate(found, counts))
        print(f"a {name:8} beside a counter {reached[-1]:6.0f} photos a second")
    ratio = reached[1] / reached[0]
    print(f"ratio {ratio:.2f}, at least {LIMIT}: {'kept' if ratio >= LIMIT else 'NOT KEPT'}")


def rate(found: Iterable[Decoded], counts: int) -> float:
    """Photos a second, where as much is counted for each."""
    start, photos = time.perf_counter(), 0
    for _ in found:
        count(counts)
        photos += 1
    return photos / (time.perf_counter() - start)


def count(counts: int) -> None:
    """Do nothing but hold the interpreter's lock."""
    total = 0
    for number in range(counts):
        total += number


def additions() -> float:
    """Additions a second, with nobody else."""
    start = time.perf_counter()
    count(5_000_000)
    return 5_000_000 / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
