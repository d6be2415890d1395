"""What `visualize` claims, as numbers: three measures of quality together, and the loop's cost.

    python benchmarks/visualize.py quality MODEL IMAGES [--layer features.4:2.5 …] [--units 16]
    python benchmarks/visualize.py speed

Quality is measured on evenly spaced live units (those that some image of the folder excites), all
on the picture as it is written, in 8 bits: its highest activation over the best image's; the share
of its power above 0.25 cycles per pixel at 128 px; and the share of the activation that is kept
when it is shifted by 12 px. Speed is the time of a step over the bare forward and backward pass of
the network, cut at the layer, on the same batch.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlens.data.decode import load_image
from cnnlens.data.open import open_data
from cnnlens.model.hooks import read
from cnnlens.model.layers import Layer, find_layers
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.report.figures.visualize import SheetCell, as_picture, sheet
from cnnlens.settings import RunSettings, VisualizeSettings
from cnnlens.synthesize.goals import TARGETS
from cnnlens.synthesize.optimize import generators, optimize
from cnnlens.synthesize.visualize import image_of, recipe, visualize

SHIFT = 12  # pixels
_NEAR = [s for s in itertools.product((-SHIFT, 0, SHIFT), repeat=2) if s != (0, 0)]


def peaks(model: Model, layer: Layer, images: Tensor) -> Tensor:
    """(N, C): each unit's highest activation on pixels (N, 3, H, W)."""
    with torch.no_grad():
        (maps,) = read(model.net, model.preprocess.normalize(images), [layer.place])
    return maps.amax((2, 3))


def best_of(model: Model, layer: Layer, folder: Path) -> np.ndarray:
    """(C,): each unit's highest activation on any photo of a folder."""
    data, best = open_data(folder), None
    for name in data.paths:
        pixels = model.preprocess.pixels(load_image(data.root / name), data.aligned)
        found = peaks(model, layer, torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0]
        best = found if best is None else torch.maximum(best, found)
    assert best is not None
    return best.numpy()


def high_share(images: Tensor) -> Tensor:
    """(N,): share of power above 0.25 cycles per pixel, at 128 px, the mean colour left out."""
    small = F.interpolate(images, (128, 128), mode="bilinear", antialias=True)
    power = torch.fft.fft2(small - small.mean((2, 3), keepdim=True)).abs().square()
    axis = torch.fft.fftfreq(128)
    high = (axis[:, None].square() + axis.square()).sqrt() > 0.25
    return (power * high).sum((1, 2, 3)) / power.sum((1, 2, 3))


def shifted(images: Tensor) -> Iterator[Tensor]:
    """Eight shifts by 12 px; what comes in repeats the border."""
    height, width = images.shape[2:]
    padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
    for down, right in _NEAR:
        top, left = SHIFT - down, SHIFT - right
        yield padded[..., top : top + height, left : left + width]


def quality(model: Model, layer: Layer, folder: Path, count: int, settings: VisualizeSettings):
    best = best_of(model, layer, folder)
    live = np.flatnonzero(best > 0)
    units = live[np.linspace(0, len(live) - 1, min(count, len(live))).astype(int)].tolist()
    objectives = [TARGETS[settings.target](layer, unit) for unit in units]
    pictures = [
        picture
        for step in visualize(model, objectives, settings, RunSettings(batch_size=8))
        for picture in step.pictures
    ]
    images = torch.from_numpy(np.stack([picture.image for picture in pictures]))
    rows = torch.arange(len(units))
    highest = peaks(model, layer, images)[rows, units]
    kept = torch.stack([peaks(model, layer, s)[rows, units] for s in shifted(images)]).mean(0)
    return (
        units,
        images,
        highest / torch.from_numpy(best[units]),
        high_share(images),
        kept / highest,
    )


def report_quality(arguments: argparse.Namespace) -> None:
    model = open_model(arguments.model, device=arguments.device)
    settings = VisualizeSettings(steps=arguments.steps)
    for text in arguments.layer:
        name, _, limit = text.partition(":")
        layer = find_layers(model).resolve(name)
        begin = time.perf_counter()
        units, images, times, high, kept = quality(
            model, layer, arguments.images, arguments.units, settings
        )
        print(f"{name}: {len(units)} units, {settings.steps} steps, medians (limit), then extremes")
        print(
            f"  times the best image  {times.median():6.2f} (>= {limit})  {times.min():.2f} lowest"
        )
        print(f"  power above 0.25/px   {high.median():6.3f} (<= 0.15) {high.max():.3f} highest")
        print(f"  kept under ±{SHIFT} px    {kept.median():6.3f} (>= 0.9)  {kept.min():.2f} lowest")
        print(f"  {time.perf_counter() - begin:.0f} s", flush=True)
        if arguments.out:
            cells = [
                SheetCell(as_picture(image), f"unit {u}", f"{t:.1f}× best, {h:.3f} high, {k:.2f}")
                for image, u, t, h, k in zip(images.numpy(), units, times, high, kept, strict=True)
            ]
            arguments.out.mkdir(parents=True, exist_ok=True)
            sheet(cells, name).save(arguments.out / f"{name}.png")


def seconds(step, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return times


def report_speed(arguments: argparse.Namespace) -> None:
    model = open_model("torchvision:resnet18", device=arguments.device)
    layer = find_layers(model).resolve("layer2")
    settings = VisualizeSettings(steps=10_000)
    objectives = [TARGETS[settings.target](layer, unit) for unit in range(arguments.units)]
    net = torch.nn.Sequential(
        *(
            model.net.get_submodule(n)
            for n in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2")
        )
    )
    x = torch.rand(len(objectives), 3, *model.preprocess.size, device=model.device)
    x = model.preprocess.normalize(x).requires_grad_()

    def bare() -> None:
        (gradient,) = torch.autograd.grad(net(x)[:, 0].mean(), x)
        gradient.sum().item()  # waits for the device

    image, randomness = image_of(model, settings), generators(0, objectives)
    start = image.noise(randomness, settings.noise)
    steps = optimize(
        model, objectives, image, start, randomness, recipe(model, settings), batch_size=len(x)
    )

    def whole() -> None:
        next(steps).values.sum().item()

    for warm in (bare, whole):
        seconds(warm, 2)
    rounds = [(seconds(bare, 1)[0], seconds(whole, 1)[0]) for _ in range(arguments.rounds)]
    plain, mine = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"ResNet-18 layer2, {len(objectives)} units, 224 px, {model.device}")
    print(f"  forward + backward {1e3 * plain:.1f} ms, step {1e3 * mine:.1f} ms")
    print(f"  ratio {statistics.median(b / a for a, b in rounds):.2f} (<= 1.25)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("quality")
    one.add_argument("model")
    one.add_argument("images", type=Path)
    one.add_argument("--layer", nargs="+", default=["features.4:2.5", "features.9:4"])
    one.add_argument("--units", type=int, default=16)
    one.add_argument("--steps", type=int, default=VisualizeSettings.steps)
    one.add_argument("--out", type=Path, help="folder for the sheets")
    one.set_defaults(report=report_quality)
    two = commands.add_parser("speed")
    two.add_argument("--units", type=int, default=8)
    two.add_argument("--rounds", type=int, default=15)
    two.set_defaults(report=report_speed)
    arguments = parser.parse_args()
    arguments.report(arguments)


if __name__ == "__main__":
    main()
