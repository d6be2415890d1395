"""What images and categories cost: time, memory, disk, their growth, and what ImageNet-1k takes.

Runs the commands on synthetic pictures of 32 × 32, each in a process of its own, on one thread of
torch, at several numbers of images, and prints for each its processor time, its peak memory above
that of a start, and the bytes that it leaves, per image; exponents are slopes in the logarithm, a
start's share taken off. From these follow the figures for 1.28 M images, on layers of a ResNet-50.

    python benchmarks/scale.py                            # 1,000, 4,000 and 16,000 images
    python benchmarks/scale.py --sizes 250,1000 --only extract,units
    python benchmarks/scale.py --categories 10,100,1000   # as many images, in more categories
    python benchmarks/scale.py --neighbours 20000,40000   # of the embedding, found in both ways

With `--out FILE` what was measured is kept there: a later call measures what is lacking of what
it is asked for, and prints the table of all. So a long run is made in pieces.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cnnlens.activations.passes import Forward, passes
from cnnlens.cli.app import _run
from cnnlens.cluster.categories import count_readings
from cnnlens.cluster.neighbours import nearest
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

MANY = 4000  # images in more categories

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
STORED = ("units", "categories", "100 resamples", "filters", "embed")  # read what extract made


@dataclass(frozen=True)
class Cost:
    """Of one command: processor seconds, and bytes at its peak and on disk."""

    seconds: float
    peak: float
    disk: float


class Kept:
    """What was measured, by images and categories and by command, kept in a file if any."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        known = json.loads(path.read_text()) if path and path.is_file() else {}
        self._found = {w: {n: Cost(**c) for n, c in f.items()} for w, f in known.items()}

    def of(self, where: str) -> dict[str, Cost]:
        """What was measured there."""
        return self._found.get(where, {})

    def sizes(self, kinds: int = 10) -> list[int]:
        """Numbers of images measured in so many categories."""
        pairs = (where.split("-") for where in self._found if "-" in where)
        return sorted(int(images) for images, of in pairs if int(of) == kinds)

    def keep(self, where: str, name: str, cost: Cost) -> None:
        """Keep what was measured."""
        self._found.setdefault(where, {})[name] = cost
        if self._path:
            plain = {w: {n: asdict(c) for n, c in f.items()} for w, f in self._found.items()}
            self._path.write_text(json.dumps(plain, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of images")
    parser.add_argument("--categories", nargs="?", const=",".join(map(str, CATEGORIES)))
    parser.add_argument("--neighbours", nargs="?", const="20000,40000,80000")
    parser.add_argument("--only", default=",".join(COMMANDS), help="as the table has them")
    parser.add_argument("--out", type=Path, help="where what was measured is kept")
    given = parser.parse_args()
    asked = given.only.split(",")
    if unknown := {*asked} - {*COMMANDS}:
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(COMMANDS)}")
    names, kept = [name for name in COMMANDS if name in asked], Kept(given.out)
    torch.set_num_threads(1)  # so that this process may be copied
    with tempfile.TemporaryDirectory() as scratch:
        if given.neighbours:
            find_neighbours([int(n) for n in given.neighbours.split(",")])
        elif given.categories:
            grow_categories(Path(scratch), [int(n) for n in given.categories.split(",")], kept)
        else:
            for size in map(int, given.sizes.split(",")):
                measure(Path(scratch), size, names, kept)
            sizes = kept.sizes()
            imagenet(show_images(sizes, kept), max(sizes))


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


def measure(scratch: Path, images: int, names: list[str], kept: Kept, kinds: int = 10) -> None:
    """Measure what is lacking of some commands, on as many images and for a start."""
    for count, of, where in ((START, 10, "start"), (images, kinds, f"{images}-{kinds}")):
        lacking = [name for name in names if name not in kept.of(where)]
        if not lacking:
            continue
        data = make_data(scratch / where, count, of, lacking)
        warm(scratch / "here", lacking)
        if {*lacking} & {*STORED} and "extract" not in lacking:
            carry_out("extract", data["kinds"], scratch / where / "space")
        for name in lacking:
            which, words = COMMANDS[name]
            # without a store: a workspace in which nothing was made before
            space = scratch / where / (name if "--no-store" in words else "space")
            kept.keep(where, name, found := measured(name, data[which], space))
            print(f"  {count:,} images, {of} categories, {name}: {found}", file=sys.stderr)


def warm(here: Path, names: list[str]) -> None:
    """Import and compile everything but the layouts, whose threads no copy has."""
    if here.exists():
        return
    data = make_data(here, START, 10, names)
    for name in names:
        if name != "embed":
            which, words = COMMANDS[name]
            carry_out(name, data[which], here / (name if "--no-store" in words else "space"))


def make_data(place: Path, images: int, kinds: int, names: list[str]) -> dict[str, Path]:
    """Make the pictures that commands are carried out on, where there are none yet."""
    which = {COMMANDS[name][0] for name in names}
    data = {"kinds": place / "kinds", "shapes": place / "shapes"}
    if not data["kinds"].exists():
        write_kinds(data["kinds"], images, kinds)
    if "shapes" in which and not data["shapes"].exists():
        make_shapes(data["shapes"], images, SIDE)
    return data


def show_images(sizes: list[int], kept: Kept) -> dict[str, Cost]:
    """Print what commands cost at several numbers of images; return it per image at the last."""
    print(f"{NET}, {LAYER} {SHAPE}, float32; pictures {SIDE} × {SIDE}, ten categories\n")
    columns = "".join(f"{size:>10,}" for size in sizes)
    print(f"{'':24}{columns}   exponent      bytes/image, memory       disk")
    start, each = kept.of("start"), {}
    for name in COMMANDS:
        found = ((size, kept.of(f"{size}-10").get(name)) for size in sizes)
        rows = {size: cost for size, cost in found if cost}
        if not rows:
            continue
        times = {size: cost.seconds - start[name].seconds for size, cost in rows.items()}
        shown = "".join(f"{times[n]:>9.1f}s" if n in times else " " * 10 for n in sizes)
        first, last = min(rows), max(rows)
        fewest = (first, rows[first]) if first < last else (START, start[name])
        memory = (rows[last].peak - fewest[1].peak) / (last - fewest[0])
        disk = rows[last].disk / last
        exponent = slope(list(times), list(times.values()))
        print(f"{name:24}{shown}{exponent:>11.2f}{memory:>21,.0f}{disk:>15,.0f}")
        each[name] = Cost(times[last] / last, memory, disk)
    return each


def slope(sizes: list[int], values: list[float]) -> float:
    """Exponent of the growth; NaN where something is too small to be measured."""
    if len(sizes) < 2 or min(values) <= 0:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def grow_categories(scratch: Path, numbers: list[int], kept: Kept) -> None:
    """Print what `cluster` costs on as many images in more categories."""
    names = ["categories", "100 resamples"]
    for kinds in numbers:
        measure(scratch, MANY, names, kept, kinds)
    print(f"{NET}, {LAYER} {SHAPE}; {MANY:,} images; seconds, and megabytes above a start\n")
    print(f"{'categories':28}" + "".join(f"{kinds:>18,}" for kinds in numbers) + "   exponent")
    start = kept.of("start")
    for name in names:
        rows = [kept.of(f"{MANY}-{kinds}")[name] for kinds in numbers]
        times = [one.seconds - start[name].seconds for one in rows]
        peaks = [(one.peak - start[name].peak) / 1e6 for one in rows]
        shown = "".join(f"{t:>9.1f}s{p:>6.0f}MB" for t, p in zip(times, peaks, strict=True))
        print(f"{name:28}{shown}{slope(numbers, times):>11.2f}")


def find_neighbours(sizes: list[int], length: int = 256) -> None:
    """Print what 15 neighbours cost, by comparing all with all and by looking for them."""
    print(f"15 neighbours among vectors of {length}; processor seconds\n")
    print(f"{'vectors':>10}{'all with all':>15}{'with those near':>18}{'of them found':>16}")
    times: dict[str, list[float]] = {"all": [], "near": []}
    for size in sizes:
        rng = np.random.default_rng(0)
        inner = rng.standard_normal((size, 16))
        inner += 2 * rng.standard_normal((20, 16))[rng.integers(0, 20, size)]
        vectors = (inner @ rng.standard_normal((16, length))).astype(np.float32)
        for way, exact in (("all", size), ("near", 0)):
            begun = time.process_time()
            found = nearest(vectors, 15, exact)
            times[way].append(time.process_time() - begun)
        said = "".join(f"{times[way][-1]:>{wide}.1f}" for way, wide in (("all", 15), ("near", 18)))
        print(f"{size:>10,}{said}{found.recall:>16.3f}", flush=True)
    both = "".join(f"{slope(sizes, times[w]):>{n}.2f}" for w, n in (("all", 15), ("near", 18)))
    print(f"{'exponent':>10}{both}")


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
