"""What `visualize` claims, as numbers, each with the photos' beside it, and the loop's cost.

    python benchmarks/visualize.py quality MODEL IMAGES [--layer NAME:MEAN[:HIGHEST] …] [--units 16]
    python benchmarks/visualize.py quality MODEL IMAGES --layer NAME --random 64 --steps 128
    python benchmarks/visualize.py lucent WEIGHTS IMAGES --out sheet.png
    python benchmarks/visualize.py logits MODEL --by OTHER [--classes 20] [--method maco]
    python benchmarks/visualize.py speed

Quality is measured on live units (those that some image of the folder excites), evenly spaced or
drawn at random, all on the picture as it is written, in 8 bits, at the input's size: its mean
activation over the map and its highest one, each over the best image's; the share of its values
below .02 or above .98; the share of its power above 0.25 cycles per pixel, at 128 px (at its own
size where that is smaller); and the share of the activation that is kept when it is shifted by a
twentieth of its side. `lucent` puts pictures of torchvision's SqueezeNet beside those of
torch-lucent (installed with kornia 0.4.1), equal steps. `logits` asks another network what the
pictures of classes show. Speed is the time of a step over the bare forward and backward pass of the
network, cut at the layer, on the same batch.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlens.data.open import open_data
from cnnlens.model.classes import count_scores
from cnnlens.model.hooks import read
from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.report.figures.visualize import SheetCell, as_picture, sheet
from cnnlens.report.sheet import save_png
from cnnlens.settings import RunSettings, VisualizeSettings
from cnnlens.synthesize.goals import TARGETS
from cnnlens.synthesize.maco import spectrum_of
from cnnlens.synthesize.objective import Objective, logit
from cnnlens.synthesize.optimize import generators, optimize
from cnnlens.synthesize.transform import resized
from cnnlens.synthesize.usual import bounds, completed, image_of, recipe
from cnnlens.synthesize.visualize import visualize

RIVALS = VisualizeSettings().rivalry
LIMITS = ["features.4:8:2.2", "features.7:8", "features.9:11:4", "features.12:15"]


@dataclass(frozen=True)
class Photos:
    """A folder's images as the network sees them, and what of each unit is highest on any."""

    pixels: Tensor  # (N, C, H, W) in [0, 1], at most 256 of them
    mean: Tensor  # (U,), over the map
    highest: Tensor  # (U,)


def activations(model: Model, layer: Layer, images: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the maps and highest activations, (N, U) each, on pixels (N, C, H, W)."""
    with torch.no_grad():
        x = model.preprocess.normalize(images.to(model.device))
        (maps,) = read(model.net, x, [layer.place])
    return maps.mean((2, 3)).cpu(), maps.amax((2, 3)).cpu()


def photos_of(model: Model, layer: Layer, folder: Path) -> Photos:
    data, kept, found = open_data(folder), [], []
    apart = -(-len(data.paths) // 256)  # from the whole set, that may be sorted by class
    for start in range(0, len(data.paths), 32):
        rows = range(start, min(start + 32, len(data.paths)))
        pixels = np.stack([data.pixels(row, model.preprocess) for row in rows])
        images = torch.from_numpy(pixels).float() / 255
        kept += [one for row, one in zip(rows, images, strict=True) if row % apart == 0]
        found.append(activations(model, layer, images))
    means, highest = (torch.cat(column).amax(0) for column in zip(*found, strict=True))
    return Photos(torch.stack(kept), means, highest)


def clipped(images: Tensor) -> Tensor:
    """(N,): share of values below .02 or above .98."""
    return ((images < 0.02) | (images > 0.98)).float().mean((1, 2, 3))


def chroma(images: Tensor) -> Tensor:
    """(N,): mean over pixels of the largest less the smallest channel."""
    return (images.amax(1) - images.amin(1)).mean((1, 2))


def high_share(images: Tensor) -> Tensor:
    """(N,): share of power above 0.25 cycles per pixel, at 128 px at most, without the mean."""
    if min(images.shape[2:]) > 128:
        images = F.interpolate(images, (128, 128), mode="bilinear", antialias=True)
    height, width = images.shape[2:]
    power = torch.fft.fft2(images - images.mean((2, 3), keepdim=True)).abs().square()
    rows, columns = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    high = (rows[:, None].square() + columns.square()).sqrt() > 0.25
    return (power * high).sum((1, 2, 3)) / power.sum((1, 2, 3))


def shifted(images: Tensor) -> Iterator[Tensor]:
    """Eight shifts by a twentieth of the side; what comes in repeats the border."""
    height, width = images.shape[2:]
    by = round(min(height, width) * 12 / 224)
    padded = F.pad(images, (by,) * 4, mode="replicate")
    for down, right in itertools.product((-by, 0, by), repeat=2):
        if down or right:
            yield padded[..., by - down : by - down + height, by - right : by - right + width]


def pictures_of(
    model: Model, objectives: Sequence[Objective], settings: VisualizeSettings, **more
) -> Tensor:
    """(N, C, H, W) in [0, 1], as they are written."""
    steps = visualize(model, objectives, settings, RunSettings(batch_size=8), **more)
    return torch.from_numpy(np.stack([p.image for step in steps for p in step.pictures]))


def measures(model: Model, layer: Layer, units: Sequence[int], images: Tensor, photos: Photos):
    """Name what was measured: (N,) each."""
    rows, chosen = torch.arange(len(units)), torch.tensor(units)
    mean, highest = (one[rows, chosen] for one in activations(model, layer, images))
    moved = [activations(model, layer, one)[1][rows, chosen] for one in shifted(images)]
    return {
        "mean × best": mean / photos.mean[chosen],
        "highest × best": highest / photos.highest[chosen],
        "clipped": clipped(images),
        "chroma": chroma(images),
        "high": high_share(images),
        "kept": torch.stack(moved).mean(0) / highest,
    }


def chosen_units(photos: Photos, count: int, drawn: int) -> list[int]:
    live = np.flatnonzero(photos.highest.numpy() > 0)
    if drawn:
        rng = np.random.default_rng(0)
        return sorted(rng.choice(live, min(drawn, len(live)), replace=False).tolist())
    return live[np.linspace(0, len(live) - 1, min(count, len(live))).astype(int)].tolist()


def report_quality(arguments: argparse.Namespace) -> None:
    model = open_model(
        arguments.model, arch=arguments.arch, device=arguments.device,
        image_size=(arguments.size,) * 2 if arguments.size else None,
    )  # fmt: skip
    settings = VisualizeSettings(steps=arguments.steps)
    for text in arguments.layer:
        name, *least = text.split(":")
        layer, begin = find_layers(model).resolve(name), time.perf_counter()
        photos = photos_of(model, layer, arguments.images)
        units = chosen_units(photos, arguments.units, arguments.random)
        images = pictures_of(model, [TARGETS[settings.target](layer, u) for u in units], settings)
        found = measures(model, layer, units, images, photos)
        fine = float(high_share(photos.pixels).quantile(0.95))
        limits = dict(
            zip(("mean × best", "highest × best"), (f">= {one}" for one in least), strict=False)
        )
        limits |= {"clipped": "<= 0.05", "kept": ">= 0.9"}
        limits["high"] = "<= 0.10" if images.shape[2] > 64 else f"<= {fine:.2f}"
        beside = {"clipped": clipped, "chroma": chroma, "high": high_share}
        print(
            f"{name}: {len(units)} units, {settings.steps} steps: median, extremes, photos' median"
        )
        for what, values in found.items():
            photo = f"{beside[what](photos.pixels).median():7.3f}" if what in beside else ""
            print(
                f"  {what:15} {values.median():7.3f}  {values.min():7.3f} {values.max():7.3f}"
                f"  {photo:7}  {limits.get(what, '')}"
            )
        above = int((found["highest × best"] > 1).sum())
        print(
            f"  {above} of {len(units)} above their best photo, {time.perf_counter() - begin:.0f} s"
        )
        if arguments.out:
            cells = [
                SheetCell(as_picture(image), f"unit {unit}", f"{times:.1f} × best")
                for image, unit, times in zip(
                    images.numpy(), units, found["highest × best"], strict=True
                )
            ]
            arguments.out.mkdir(parents=True, exist_ok=True)
            save_png(arguments.out / f"{name}.png", sheet(cells, name))


def lucents(weights: str, address: str, steps: int, size: int) -> Tensor:
    """One picture of torch-lucent's at its defaults, (3, H, W)."""
    import torchvision
    from lucent.optvis import param, render

    net = torchvision.models.squeezenet1_0()
    net.load_state_dict(torch.load(weights, weights_only=True))
    torch.manual_seed(0)
    (found,) = render.render_vis(
        net.eval(), address, lambda: param.image(size), thresholds=(steps,),
        show_image=False, progress=False,
    )  # fmt: skip
    return torch.from_numpy(np.asarray(found)[0]).permute(2, 0, 1).float().clamp(0, 1)


def report_lucent(arguments: argparse.Namespace) -> None:
    """Three layers and six classes, twelve units each … in pairs: lucent's first, then ours."""
    model = open_model(arguments.model, device=arguments.device)
    settings, cells = VisualizeSettings(steps=arguments.steps), []
    for name in ("features.4", "features.9", "features.12", ""):
        if name:
            layer = find_layers(model).resolve(name)
            photos = photos_of(model, layer, arguments.images)
            units = chosen_units(photos, 4, 0)
            objectives = [TARGETS[settings.target](layer, unit) for unit in units]
            place = name.replace(".", "_")
        else:
            units = np.linspace(5, count_scores(model) - 6, 6).astype(int).tolist()
            objectives, place = [logit(unit, str(unit), RIVALS) for unit in units], "classifier_3"
        ours = pictures_of(model, objectives, settings)
        side = model.preprocess.size[0]
        for unit, mine in zip(units, ours, strict=True):
            theirs = lucents(arguments.model, f"{place}:{unit}", arguments.steps, side)
            for image, whose in ((theirs, "lucent"), (mine, "cnnlens")):
                cells.append(
                    SheetCell(as_picture(image.numpy()), f"{name or 'class'} {unit}", whose)
                )
        print(f"{name or 'classes'}: {len(units)}", flush=True)
    save_png(arguments.out, sheet(cells))


def report_logits(arguments: argparse.Namespace) -> None:
    model, other = (
        open_model(one, device=arguments.device) for one in (arguments.model, arguments.by)
    )
    settings = VisualizeSettings(
        method=arguments.method, steps=arguments.steps, views=arguments.views or None
    )
    spectrum = None
    if arguments.method == "maco" and arguments.images:
        data = open_data(arguments.images)
        rows = range(min(128, len(data.paths)))
        pixels = np.stack([data.pixels(row, model.preprocess) for row in rows])
        spectrum = spectrum_of(pixels, (model.preprocess.channels, *model.preprocess.size))
    count = count_scores(model)
    classes = np.linspace(0, count - 1, arguments.classes).astype(int).tolist()
    goals = [logit(number, str(number), RIVALS) for number in classes]
    images = pictures_of(model, goals, settings, prior=spectrum)
    with torch.no_grad():
        x = resized(images.to(other.device), other.preprocess.size)
        seen = other.net(other.preprocess.normalize(x)).cpu()  # (N, K)
    rank = (seen > seen[torch.arange(len(classes)), classes][:, None]).sum(1)
    for name, most in (("first", 1), ("among five", 5)):
        print(f"{int((rank < most).sum())} of {len(classes)} recognized, {name}, by {other.arch}")


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
    settings = completed(model, settings, objectives[0])
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

    image: Any = image_of(model, settings)
    image = replace(image, bounds=bounds(model, objectives, None))
    randomness = generators(0, objectives)
    start = image.noise(randomness, settings.noise)
    steps = optimize(
        model, objectives, image, start, randomness, recipe(settings), batch_size=len(x)
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
    one.add_argument("--arch")
    one.add_argument("--size", type=int, help="of the input, where the file does not say")
    one.add_argument("--layer", nargs="+", default=LIMITS)
    one.add_argument("--units", type=int, default=16)
    one.add_argument("--random", type=int, default=0, help="units drawn at random instead")
    one.add_argument("--out", type=Path, help="folder for the sheets")
    one.set_defaults(report=report_quality)
    two = commands.add_parser("lucent")
    two.add_argument("model", help="state dict of torchvision's squeezenet1_0")
    two.add_argument("images", type=Path)
    two.add_argument("--out", type=Path, required=True, help="the sheet")
    two.set_defaults(report=report_lucent)
    three = commands.add_parser("logits")
    three.add_argument("model")
    three.add_argument("--by", required=True, help="another network of the same classes")
    three.add_argument("--classes", type=int, default=20)
    three.add_argument("--method", default="pixels")
    three.add_argument("--views", type=int, default=0)
    three.add_argument("--images", type=Path, help="photos whose spectrum maco takes")
    three.set_defaults(report=report_logits)
    four = commands.add_parser("speed")
    four.add_argument("--units", type=int, default=8)
    four.add_argument("--rounds", type=int, default=15)
    four.set_defaults(report=report_speed)
    for command in (one, two, three):
        command.add_argument("--steps", type=int, default=VisualizeSettings.steps)
    arguments = parser.parse_args()
    arguments.report(arguments)


if __name__ == "__main__":
    main()
