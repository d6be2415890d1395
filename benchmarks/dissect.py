"""How much dissect costs beside the forward passes it cannot avoid.

Prints, for each network, the time of a bare loop (decode, preprocess, forward pass stopped at the
layer), of `dissect` on the same images without activations (cold) and with them (warm), and of
dissect with the chance level and the page; each as wall and processor time, and as ratios with
their limits. With ``--memory``, also the peak memory at 500 and 5,000 images.

    python benchmarks/dissect.py                       # pictures drawn on the spot
    python benchmarks/dissect.py --data DIR --images 1000   # a folder in Broden's layout, repeated

Opening the network and starting Python are on neither side of a ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

LIMITS = {
    ("torchvision:alexnet", "features.10"): {"cold": 1.25, "all": 2.0},
    ("torchvision:resnet18", "layer4"): {"cold": 1.10, "all": 2.0},
}
WARM = 5.0  # cold over warm, at least
MEMORY_GROWTH, MEMORY_BEYOND = 1.10, 1.5e9


def main() -> None:
    arguments = parse()
    if arguments.measure_memory:
        print(*peak_memory(arguments.measure_memory))
        return
    with tempfile.TemporaryDirectory() as scratch:
        data = make_data(Path(scratch) / "data", arguments.data, arguments.images)
        for (model, layer), limits in LIMITS.items():
            if arguments.model in (None, model):
                compare(model, layer, limits, data, Path(scratch), arguments.repeats)
        if arguments.memory:
            compare_memory(arguments.data)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder in Broden's layout; default: drawn")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", choices=[model for model, _ in LIMITS])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_data(folder: Path, source: Path | None, images: int) -> Path:
    """Repeat the rows of a data set until there are `images`, or draw that many."""
    if source is None:
        from cnnlens.data.synthetic import make_shapes

        return make_shapes(folder, images, size=224)
    folder.mkdir()
    for entry in source.iterdir():
        if entry.name not in ("index.csv", "images"):
            shutil.copy(entry, folder)
    (folder / "images").mkdir()
    with (source / "index.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    for entry in (source / "images").iterdir():
        (folder / "images" / entry.name).symlink_to(entry.resolve())
    repeated = []
    for number in range(images):
        image = Path(rows[number % len(rows)][0])
        copy = f"copies/{number:06d}{image.suffix}"
        (folder / "images" / copy).parent.mkdir(exist_ok=True)
        (folder / "images" / copy).symlink_to((source / "images" / image).resolve())
        repeated.append([copy, *rows[number % len(rows)][1:]])
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *repeated])
    return folder


class Case:
    """One network, opened once, and the ways to run it over the data."""

    def __init__(self, spec: str, layer: str, data: Path) -> None:
        from cnnlens.data.broden import open_broden
        from cnnlens.model.layers import find_layers
        from cnnlens.model.open import open_model

        self.model = open_model(spec)
        self.layer = find_layers(self.model).resolve(layer)
        self.images = open_broden(data)

    def bare(self) -> None:
        """Decode, preprocess, forward pass stopped at the layer; nothing kept."""
        import torch

        from cnnlens.data.batches import batches
        from cnnlens.model.hooks import read
        from cnnlens.settings import RunSettings

        run, p = RunSettings(), self.model.preprocess
        for batch in batches(self.images, p, batch_size=run.batch_size, workers=run.workers):
            with torch.inference_mode():
                read(self.model.net, p.normalize(batch.pixels), [self.layer.place])

    def dissect(
        self, folder: Path, chance: int = 0, page: bool = False, formula: int = 0, beam: int = 5
    ) -> None:
        """Extract what is missing, dissect, write the tables; draw the pictures with `page`."""
        from cnnlens.activations.extract import extract, store_path
        from cnnlens.activations.sources import StoreSource
        from cnnlens.activations.store import Store
        from cnnlens.measure.dissect import dissect
        from cnnlens.report.dissect_files import write_tables
        from cnnlens.report.figures.dissect import write_strips
        from cnnlens.settings import DissectSettings

        for _ in extract(self.model, self.images, [self.layer], folder):
            pass
        top = 8 if page else 0
        settings = DissectSettings(chance=chance, top=top, formula=formula, beam=beam)
        with Store(store_path(folder, self.layer)) as store:
            result = dissect(StoreSource([store]), self.images, settings)[0]
        results = folder / "results"
        results.mkdir(exist_ok=True)
        write_tables(results, result, self.images.paths)
        if page:
            assert result.top is not None
            limit, p = result.thresholds, self.model.preprocess
            for _ in write_strips(results / "pictures", self.images, result.top, limit, p):
                pass


@contextlib.contextmanager
def clock(spent: list[tuple[float, float]]) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    spent.append((time.perf_counter() - wall, time.process_time() - processor))


def compare(
    spec: str, layer: str, limits: dict[str, float], data: Path, scratch: Path, repeats: int
) -> None:
    case = Case(spec, layer, data)
    case.dissect(scratch / "warm-up", chance=1, page=True)  # compiles, fills the disk cache
    times: dict[str, list[tuple[float, float]]] = {}

    def timed(name: str, work: Callable[[], None]) -> None:
        with clock(times.setdefault(name, [])):
            work()

    for number in range(repeats):
        cold, complete = scratch / f"cold{number}", scratch / f"all{number}"
        timed("bare", case.bare)
        timed("cold", partial(case.dissect, cold))
        timed("warm", partial(case.dissect, cold))
        timed("all", partial(case.dissect, complete, chance=10, page=True))
        shutil.rmtree(cold)
        shutil.rmtree(complete)
    shutil.rmtree(scratch / "warm-up")
    show(spec, layer, len(case.images.paths), times, limits)


def show(
    spec: str, layer: str, images: int, times: dict[str, list[tuple[float, float]]], limits: dict
) -> None:
    print(f"{spec} {layer}, {images} images, median of {len(times['bare'])}")
    for name, spent in times.items():
        wall, processor = (statistics.median(column) for column in zip(*spent, strict=True))
        wall, processor = 1000 * wall / images, 1000 * processor / images
        print(f"  {name:5} wall {wall:6.2f} ms/image, cpu {processor:6.2f}")
    for name, limit in limits.items():
        ratio_line(f"{name} / bare", times[name], times["bare"], f"limit {limit}")
    ratio_line("cold / warm", times["cold"], times["warm"], f"at least {WARM}")


def ratio_line(
    name: str, above: list[tuple[float, float]], below: list[tuple[float, float]], limit: str
) -> None:
    wall, processor = (
        statistics.median(a[i] / b[i] for a, b in zip(above, below, strict=True)) for i in (0, 1)
    )
    print(f"  {name:12} wall {wall:5.2f}   cpu {processor:5.2f}   ({limit})", flush=True)


def compare_memory(source: Path | None) -> None:
    """Measure in processes of their own, whose peak is theirs alone."""
    peaks = {}
    for images in (500, 5000):
        with tempfile.TemporaryDirectory() as scratch:
            data = make_data(Path(scratch) / "data", source, images)
            command = [sys.executable, __file__, "--measure-memory", str(data)]
            before, peak = map(int, subprocess.check_output(command, text=True).split())
        beyond = (peak - before) / 1e6
        peaks[images] = peak
        print(f"{images} images: peak {peak / 1e6:.0f} MB,", end=" ")
        print(f"{beyond:.0f} beyond torch and the network (limit {MEMORY_BEYOND / 1e6:.0f})")
    print(f"growth {peaks[5000] / peaks[500]:.2f} (limit {MEMORY_GROWTH})")


def peak_memory(data: Path) -> tuple[int, int]:
    """Peak of this process, in bytes: after one forward pass, and after a cold dissect."""
    import torch

    from cnnlens.model.hooks import read

    case = Case("torchvision:alexnet", "features.10", data)
    with torch.inference_mode():
        read(case.model.net, torch.rand(32, 3, 224, 224), [case.layer.place])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        case.dissect(Path(folder))
    return before * 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
