"""How busy `cnnlens` keeps a device, beside the bare loops that it cannot do without.

    python benchmarks/device.py MODEL PHOTOS [--data BRODEN] [--layer features.12]
                                [--device auto] [--precision float32] [--units 64]

Prints, in one run on one device and the same photos:

- extract and dissect over the bare loop: decode, preprocess, forward pass cut at the layer, the
  result let go (limit 1.15 on a GPU);
- the bare truncated forward and backward pass over a step of `visualize`, all units at once
  (at least 0.9 on a GPU);
- the share of each loop's time that the device was computing: the time of its kernels, by torch's
  profiler, over the time of the loop. On the CPU it is not measured.

Opening the network and starting Python are on neither side of a ratio; each loop runs once before
it is timed.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cnnlens.activations.extract import even_batch, extract
from cnnlens.activations.sources import ModelSource
from cnnlens.data.batches import batches
from cnnlens.data.broden import Broden
from cnnlens.data.dataset import ImageSet
from cnnlens.data.open import open_data
from cnnlens.measure.dissect import dissect_steps
from cnnlens.model.hooks import read_and_run
from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.model.streams import overlaps
from cnnlens.settings import DissectSettings, RunSettings, VisualizeSettings
from cnnlens.settings.run import WORKERS
from cnnlens.synthesize.objective import response
from cnnlens.synthesize.visualize import visualize

STEPS = 16  # of visualize that are timed


@dataclass(frozen=True)
class Timed:
    """Seconds of a loop, and of the device's kernels in it (None: not measured)."""

    seconds: float
    kernels: float | None

    @property
    def busy(self) -> str:
        """Share of the time that the device was computing, for people."""
        return "not measured" if self.kernels is None else f"{self.kernels / self.seconds:.0%}"


@dataclass(frozen=True)
class Bench:
    """What everything is timed on."""

    model: Model
    layer: Layer
    run: RunSettings

    def timed(self, loop: Callable[[], object]) -> Timed:
        """Run a loop twice, and time the second."""
        loop()
        self.wait()
        start = time.perf_counter()
        loop()
        self.wait()
        return Timed(time.perf_counter() - start, self._kernels(loop))

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)

    def _kernels(self, loop: Callable[[], object]) -> float | None:
        """Seconds of kernels in a third run: profiling slows the host, not the device."""
        if self.model.device.type != "cuda":
            return None
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            loop()
            self.wait()
        return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6

    def bare(self, images: ImageSet) -> None:
        """Decode, preprocess, forward pass cut at the layer."""
        model, run = self.model, self.run
        for batch in batches(
            images, model.preprocess, batch_size=even_batch(run.batch_size), workers=run.workers,
            apart=overlaps(model.device),
        ):  # fmt: skip
            pixels = batch.pixels.to(model.device, non_blocking=True)
            with torch.no_grad(), model.autocast():
                x = model.preprocess.normalize(pixels)
                read_and_run(model.net, x, [self.layer.place], stop=True)
        self.wait()

    def extract(self, images: ImageSet, scratch: Path) -> None:
        """Fill a store."""
        shutil.rmtree(scratch, ignore_errors=True)
        for _ in extract(self.model, images, [self.layer], scratch, run=self.run):
            pass

    def dissect(self, images: Broden) -> None:
        """Dissect without a store."""
        source = ModelSource(self.model, images, [self.layer], self.run)
        settings = DissectSettings(chance=0)
        for _ in dissect_steps(source, images, settings, self.run.workers):
            pass

    def bare_steps(self, units: int) -> None:
        """Forward and backward passes cut at the layer, as often as `visualize` steps."""
        size = (units, self.model.preprocess.channels, *self.model.preprocess.size)
        pixels = torch.rand(size, generator=torch.Generator().manual_seed(0))
        pixels = pixels.to(self.model.device)
        for _ in range(STEPS):
            x = self.model.preprocess.normalize(pixels.requires_grad_())
            place = [self.layer.place]
            ((maps,), _) = read_and_run(self.model.net, x, place, stop=True, gradient=True)
            torch.autograd.grad(maps.sum(), pixels)
        self.wait()

    def steps(self, units: int) -> None:
        """Steps of `visualize`, all units at once, without what comes before and after them."""
        goals = [response(self.layer, unit) for unit in range(units)]
        settings = VisualizeSettings(steps=STEPS + 2)
        run = RunSettings(batch_size=units)
        for _ in itertools.islice(visualize(self.model, goals, settings, run), STEPS):
            pass


def main() -> None:
    """Print a line per loop."""
    given = parse()
    run = RunSettings(
        device=given.device, batch_size=given.batch_size, workers=given.workers,
        precision=given.precision,
    )  # fmt: skip
    model = open_model(given.model, device=run.device).computing(run.precision)
    bench = Bench(model, find_layers(model).resolve(given.layer), run)
    where = model.device.type
    name = torch.cuda.get_device_name(model.device) if where == "cuda" else where
    print(f"{model.arch} {bench.layer.name}, {run.precision}, on {name}, {run.workers} workers")
    with tempfile.TemporaryDirectory() as scratch:
        report_loops(bench, given, Path(scratch) / "stores")
    bare = bench.timed(lambda: bench.bare_steps(given.units))
    ours = bench.timed(lambda: bench.steps(given.units))
    show(f"bare forward + backward, {given.units} at once", bare, "")
    ratio = bare.seconds / ours.seconds
    show(f"visualize, {given.units} units at once", ours, f"bare / ours {ratio:.2f} (at least 0.9)")


def report_loops(bench: Bench, given: argparse.Namespace, stores: Path) -> None:
    """Hold extract, and dissect where there are labels, against the bare loop."""
    photos = open_data(given.photos)
    bare = bench.timed(lambda: bench.bare(photos))
    show(f"bare loop, {len(photos.paths)} photos", bare, "")
    ours = bench.timed(lambda: bench.extract(photos, stores))
    show("extract", ours, f"ours / bare {ours.seconds / bare.seconds:.2f} (at most 1.15)")
    if given.data is None:
        return
    labelled = open_data(given.data)
    assert isinstance(labelled, Broden), "--data takes a folder in Broden's layout"
    bare = bench.timed(lambda: bench.bare(labelled))
    show(f"bare loop, {len(labelled.paths)} labelled photos", bare, "")
    ours = bench.timed(lambda: bench.dissect(labelled))
    show("dissect", ours, f"ours / bare {ours.seconds / bare.seconds:.2f} (at most 1.15)")


def show(what: str, timed: Timed, ratio: str) -> None:
    """Print a loop's time, ratio and busy share."""
    print(f"{what:38} {timed.seconds:8.2f} s   device busy {timed.busy:12}   {ratio}", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("photos", type=Path, help="a folder of JPEG photos")
    parser.add_argument("--data", type=Path, help="a data set with label maps, for dissect")
    parser.add_argument("--layer", default="last")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--units", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
