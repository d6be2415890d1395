"""What images and categories cost: time, memory, disk, their growth, and what ImageNet-1k takes.

Runs the commands on synthetic pictures of 32 × 32, each in a process of its own, on one thread of
torch, at several numbers of images, and prints for each its processor time, its peak memory above
that of a start, and the bytes that it leaves, per image; exponents are slopes in the logarithm, a
start's share taken off. From these follow the figures for 1.28 M images, on layers of a ResNet-50.

    python benchmarks/scale.py                            # 1,000, 4,000 and 16,000 images
    python benchmarks/scale.py --sizes 250,1000 --only extract,units
    python benchmarks/scale.py --categories 10,100,1000   # as many images, in more categories
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cnnlens.activations.sources import Forward, passes
from cnnlens.cli.app import _run
from cnnlens.cluster.categories import count_readings
from cnnlens.data.open import open_data
from cnnlens.data.synthetic import make_shapes
from cnnlens.model.layers import find_layers
from cnnlens.model.open import open_model

NET, LAYER, SIDE = "zoo:resnet20", "last", 32
SHAPE = (64, 8, 8)  # of that layer
SIZES, CATEGORIES, START = (1000, 4000, 16_000), (10, 100, 1000), 60
IMAGENET, KINDS, LARGEST = 1_281_167, 1000, 1300
LAYERS = {"layer4": (2048, 7, 7), "layer3": (1024, 14, 14)}  # of a ResNet-50 at 224
QUANTILE, ROOM = 0.005, 1.25  # of the values that dissect keeps for its thresholds

MANY = 4000  # images up to which is measured what grows with their square

# what is run, in this order: a name, the data, and the words of the command line
COMMANDS = {
    "bare loop": ("kinds", []),
    "extract": ("kinds", ["extract", "--no-units", "--no-logits"]),
    "units": ("kinds", ["units"]),
    "units --no-store": ("kinds", ["units", "--no-store"]),
    "dissect --no-store": ("shapes", ["dissect", "--no-store"]),
    "categories": ("kinds", ["cluster", "--only", "categories", "--bootstrap", "0"]),
    "100 resamples": ("kinds", ["cluster", "--only", "categories"]),
    "categories --no-store": (
        "kinds",
        ["cluster", "--only", "categories", "--bootstrap", "0", "--no-store"],
    ),
    "filters": ("kinds", ["cluster", "--only", "filters"]),
    "embed": ("kinds", ["cluster", "--only", "embed"]),
}
SQUARE = ("filters", "embed")


@dataclass(frozen=True)
class Cost:
    """Of one command: processor seconds, and bytes at its peak and on disk."""

    seconds: float
    peak: float
    disk: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of images")
    parser.add_argument("--categories", nargs="?", const=",".join(map(str, CATEGORIES)))
    parser.add_argument(
        "--only", default=",".join(COMMANDS), help="commands, as the table has them"
    )
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        run_bare(given.bare)
        return
    names = [name for name in COMMANDS if name in given.only.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        if given.categories:
            grow_categories(Path(scratch), [int(n) for n in given.categories.split(",")])
        else:
            sizes = [int(n) for n in given.sizes.split(",")]
            imagenet(grow_images(Path(scratch), sizes, names), max(sizes))


# ---- measuring


def run_bare(data: Path) -> int:
    """Decode the images and run the network over them up to the layer, and nothing else."""
    model = open_model(NET, image_size=(SIDE, SIDE))
    forward = Forward(model, [find_layers(model).resolve(LAYER)], logits=False, limit=32)
    with model.in_use():
        for _ in passes(forward, open_data(data), batch_size=32, workers=2):
            pass
    return 0


def carry_out(name: str, data: Path, space: Path) -> int:
    """Carry a command out; return its exit status."""
    if name == "bare loop":
        return run_bare(data)
    words = [*COMMANDS[name][1], NET, "--image-size", str(SIDE), "-d", str(data), "-l", LAYER]
    words += ["-w", str(space), "-q", *([] if name == "extract" else ["--no-page"])]
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        return _run(words)


def measured(name: str, data: Path, space: Path) -> Cost:
    """Carry a command out in a process of its own, a copy of this one: all is imported already."""
    before = size_of(space)
    sys.stdout.flush()
    if not (child := os.fork()):
        os._exit(carry_out(name, data, space))
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{name} failed on {data}")
    unit = 1 if sys.platform == "darwin" else 1024
    disk = size_of(space) - before
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss * unit, disk)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_kinds(folder: Path, images: int, kinds: int) -> Path:
    """Class folders of noise, each class with a colour of its own."""
    rng = np.random.default_rng(0)
    for kind in range(kinds):
        below = folder / f"k{kind:04}"
        below.mkdir(parents=True)
        colour = rng.integers(0, 256, 3)
        for number in range(images // kinds):
            noise = colour + rng.normal(0, 60, (8, 8, 3))
            picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
            picture.resize((SIDE, SIDE)).save(below / f"{number:05}.png")
    return folder


def costs(
    scratch: Path,
    images: int,
    names: list[str],
    kinds: int = 10,
    measure: Callable[[str, Path, Path], Any] = measured,
) -> dict[str, Any]:
    """Measure commands on as many images."""
    place = scratch / f"{images}-{kinds}"
    data = {"kinds": write_kinds(place / "kinds", images, kinds)}
    if any(COMMANDS[name][0] == "shapes" for name in names):
        data["shapes"] = make_shapes(place / "shapes", images, SIDE)
    found = {}
    for name in names:
        which, words = COMMANDS[name]
        if name in SQUARE and images > MANY:
            continue
        # without a store: a workspace in which nothing was made before
        space = place / (name if "--no-store" in words else "space")
        found[name] = measure(name, data[which], space)
        print(f"  {images:,} images, {kinds} categories, {name}: {found[name]}", file=sys.stderr)
    return found


def start_of(scratch: Path, names: list[str]) -> dict[str, Cost]:
    """Import and compile everything, then measure what a start costs."""
    torch.set_num_threads(1)  # so that this process may be copied
    costs(scratch / "here", START, [one for one in names if one != "embed"], measure=carry_out)
    return costs(scratch / "start", START, names)


def grow_images(scratch: Path, sizes: list[int], names: list[str]) -> dict[str, Cost]:
    """Print what commands cost at several numbers of images; return it per image at the last."""
    start = start_of(scratch, names)
    found = [costs(scratch, size, names) for size in sizes]
    print(f"{NET}, {LAYER} {SHAPE}, float32; pictures {SIDE} × {SIDE}, ten categories\n")
    columns = "".join(f"{size:>10,}" for size in sizes)
    print(f"{'':24}{columns}   exponent      bytes/image, memory       disk")
    each = {}
    for name in names:
        rows = [one[name] for one in found if name in one]
        counts = sizes[: len(rows)]
        times = [one.seconds - start[name].seconds for one in rows]
        shown = "".join(f"{seconds:>9.1f}s" for seconds in times).ljust(10 * len(sizes))
        memory = (rows[-1].peak - start[name].peak) / counts[-1]
        disk = rows[-1].disk / counts[-1]
        print(f"{name:24}{shown}{slope(counts, times):>11.2f}{memory:>21,.0f}{disk:>15,.0f}")
        each[name] = Cost(times[-1] / counts[-1], memory, disk)
    return each


def slope(sizes: list[int], values: list[float]) -> float:
    """Exponent of the growth; NaN where something is too small to be measured."""
    if len(sizes) < 2 or min(values) <= 0:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def grow_categories(scratch: Path, numbers: list[int]) -> None:
    """Print what `cluster` costs on as many images in more categories."""
    names = ["extract", "categories", "100 resamples"]
    start = start_of(scratch, names)
    found = [costs(scratch, MANY, names, kinds) for kinds in numbers]
    print(f"{NET}, {LAYER} {SHAPE}; {MANY:,} images; seconds, and megabytes above a start\n")
    print(f"{'categories':28}" + "".join(f"{kinds:>18,}" for kinds in numbers) + "   exponent")
    for name in names[1:]:
        rows = [one[name] for one in found]
        times = [one.seconds - start[name].seconds for one in rows]
        peaks = [(one.peak - start[name].peak) / 1e6 for one in rows]
        shown = "".join(f"{t:>9.1f}s{p:>6.0f}MB" for t, p in zip(times, peaks, strict=True))
        print(f"{name:28}{shown}{slope(numbers, times):>11.2f}")


# ---- what follows for ImageNet-1k


def imagenet(each: dict[str, Cost], most: int) -> None:
    """Print what 1.28 M images and 1,000 categories take on larger layers."""
    here = math.prod(SHAPE)
    print(
        f"\nImageNet-1k: {IMAGENET:,} images, {KINDS:,} categories; a ResNet-50's layers at 224\n"
    )
    print(f"{'':52}" + "".join(f"{name + ' ' + str(shape):>26}" for name, shape in LAYERS.items()))
    for words, count in BYTES.items():
        row("  " + words, [f"{count(shape) / 1e9:,.1f} GB" for shape in LAYERS.values()])
    if "extract" in each:
        share = each["extract"].disk / (4 * here)
        kept = [f"{share * values(shape) * 4 / 1e9:,.0f} GB" for shape in LAYERS.values()]
        row(f"  its store, as compressible ({share:.2f}) as here", kept)
    for words, resamples in (("", 0), (" with 100 resamples", 100)):
        shapes = [(IMAGENET, *shape) for shape in LAYERS.values()]
        runs = [f"{count_readings(shape, KINDS, resamples)}" for shape in shapes]
        row(f"  cluster --no-store: runs for categories{words}", runs)
    print(f"\n{'processor time, on the small layer measured here':52}{'an image':>26}{'all':>26}")
    bare = each.get("bare loop")
    for name, cost in each.items():
        if name not in SQUARE:
            cells = [f"{1e3 * cost.seconds:.2f} ms", f"{cost.seconds * IMAGENET / 3600:.1f} h"]
            ratio = f", {cost.seconds / bare.seconds:.2f} × the bare loop" if bare else ""
            row(f"  {name}{ratio}", cells)
    print(f"\n(measured at up to {most:,} images)")


def row(words: str, cells: list[str]) -> None:
    """Print a row of the last table."""
    print(f"{words:52}" + "".join(f"{cell:>26}" for cell in cells))


def values(shape: tuple[int, int, int]) -> int:
    """Numbers in a layer's maps of all images."""
    return IMAGENET * math.prod(shape)


BYTES = {
    "maps, float32": lambda shape: 4 * values(shape),
    "maps, float16": lambda shape: 2 * values(shape),
    "units: peaks and their places, in a file": lambda shape: 6 * IMAGENET * shape[0],
    "dissect: values above the thresholds, in memory": lambda shape: (
        4 * ROOM * QUANTILE * values(shape)
    ),
    "cluster, categories: means, 1 GiB at most at once": lambda shape: 8 * KINDS * math.prod(shape),
    "cluster, filters: one category, single and double": lambda shape: (
        12 * LARGEST * math.prod(shape)
    ),
    "cluster, embed: vectors of 1,024 directions": lambda shape: 4 * 1024 * IMAGENET,
}


if __name__ == "__main__":
    main()
