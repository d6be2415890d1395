"""An interpretable network on synthetic animals, against the same training without the method.

    python examples/icnn_animals.py --out icnn_animals

Three kinds of animals (a long neck, a trunk, a beak) of every pose, size, place and colour on
cluttered backgrounds. A small network learns to tell them apart; from it, three seeds each of
`none` (another convolution is inserted) and `icnn` (the same, masked, with the filter loss).
About 8 minutes on one core. Every run leaves a checkpoint that every command opens.
"""

from __future__ import annotations

import argparse
import colorsys
import math
from pathlib import Path

import numpy as np
import torch
from icnn_criteria import measure, report
from PIL import Image, ImageDraw
from torch import Tensor, nn

import cnnlens
from cnnlens.data.labelled import Labelled
from cnnlens.interpretable.method import Plain
from cnnlens.interpretable.train import Epoch, Trainer, split
from cnnlens.interpretable.training import Request, prepare
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.model import Model
from cnnlens.model.trace import read
from cnnlens.settings.finetune import FinetuneSettings, IcnnSettings

KINDS = ("long_neck", "trunk", "beak")
PARTS = ("head", "body", "front_leg", "back_leg", "tail", "mark")
SIZE = 64
OVER = 4  # drawn larger, then averaged


def animal_net(num_classes: int = 3) -> nn.Module:
    """Build a small network: four convolutions, the last on maps of 16×16."""
    layers = []
    for inside, outside, kernel, stride in (
        (3, 32, 5, 2),
        (32, 48, 3, 1),
        (48, 64, 3, 2),
        (64, 64, 3, 1),
    ):
        conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
        layers += [conv, nn.BatchNorm2d(outside), nn.ReLU()]
    layers += [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, num_classes)]
    return nn.Sequential(*layers)


def colour(random: np.random.Generator, lightest: float, palest: float) -> tuple[int, int, int]:
    """Any hue, its value and saturation from a range of 0.4 below the given ones."""
    hue = random.uniform(0, 1)
    value, depth = random.uniform(lightest - 0.4, lightest), random.uniform(palest - 0.4, palest)
    r, g, b = (round(255 * v) for v in colorsys.hsv_to_rgb(hue, max(depth, 0), value))
    return r, g, b


def near(random: np.random.Generator, *rgb: int) -> tuple[int, int, int]:
    r, g, b = (int(np.clip(v + random.integers(-25, 26), 0, 255)) for v in rgb)
    return r, g, b


def background(random: np.random.Generator, pen: ImageDraw.ImageDraw, side: int) -> None:
    for _ in range(int(random.integers(6, 13))):
        x, y = random.uniform(0, side, 2)
        w, h = random.uniform(side * 0.04, side * 0.22, 2)
        box = (x - w, y - h, x + w, y + h)
        shape = random.integers(3)
        if shape == 0:
            pen.ellipse(box, fill=colour(random, 1.0, 0.6))
        elif shape == 1:
            pen.rectangle(box, fill=colour(random, 1.0, 0.6))
        else:
            pen.line(
                (x - w, y - h, x + w, y + h), fill=colour(random, 1.0, 0.6), width=int(side * 0.03)
            )


def draw(kind: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One picture (SIZE, SIZE, 3) uint8 and the parts' centres (P, 2), y before x, in [0, 1]."""
    side = SIZE * OVER
    image = Image.new("RGB", (side, side), colour(random, 1.0, 0.4))
    pen = ImageDraw.Draw(image)
    background(random, pen, side)
    scale = random.uniform(0.8, 1.25) * side
    turn, face = random.uniform(-0.35, 0.35), random.choice([-1, 1])
    origin = np.array([0.5, 0.5]) * side + random.uniform(-0.12, 0.12, 2) * side

    def at(x: float, y: float) -> np.ndarray:
        """From the animal's own plane to pixels."""
        x = face * x
        c, s = math.cos(turn), math.sin(turn)
        return origin + scale * np.array([c * x - s * y, s * x + c * y])

    def dot(x: float, y: float, r: float, fill: tuple[int, int, int]) -> np.ndarray:
        p = at(x, y)
        pen.ellipse((*(p - r * scale), *(p + r * scale)), fill=fill)
        return p

    def limb(points: list[tuple[float, float]], width: float, fill: tuple[int, int, int]) -> None:
        pen.line([tuple(at(*p)) for p in points], fill=fill, width=max(1, int(width * scale)),
                 joint="curve")  # fmt: skip

    coat, dark = colour(random, 0.75, 1.0), colour(random, 0.6, 1.0)
    swing = random.uniform(-0.06, 0.06, 4)
    for x, s in ((0.11, swing[0]), (0.07, swing[1]), (-0.11, swing[2]), (-0.07, swing[3])):
        limb([(x, 0.06), (x + s, 0.23)], 0.03, dark)
    wag = random.uniform(-0.08, 0.08)
    limb([(-0.16, -0.03), (-0.25, -0.10 + wag)], 0.025, dark)
    dot(-0.25, -0.10 + wag, 0.025, coat)
    for step in np.linspace(-0.1, 0.1, 7):
        dot(step, 0.0, 0.085, coat)
    head = (
        0.2 + random.uniform(-0.03, 0.03),
        (-0.1, -0.1, -0.1)[kind] + random.uniform(-0.04, 0.04),
    )
    if kind == 0:
        head = (head[0], head[1] - 0.12)
    limb([(0.12, -0.03), head], 0.055, coat)
    dot(*head, 0.06, coat)
    dot(head[0] + 0.02, head[1] - 0.015, 0.016, (250, 250, 250))
    dot(head[0] + 0.022, head[1] - 0.015, 0.008, (5, 5, 5))
    mark = head
    if kind == 0:  # two horns
        brown = near(random, 60, 40, 30)
        for dx in (-0.02, 0.02):
            limb([(head[0] + dx, head[1] - 0.04), (head[0] + dx * 1.6, head[1] - 0.1)], 0.02, brown)
        mark = (head[0], head[1] - 0.08)
    elif kind == 1:
        limb([head, (head[0] + 0.08, head[1] + 0.05), (head[0] + 0.07, head[1] + 0.16)], 0.04, coat)
        white = near(random, 230, 230, 220)
        limb([(head[0] + 0.03, head[1] + 0.04), (head[0] + 0.13, head[1] + 0.07)], 0.022, white)
        mark = (head[0] + 0.075, head[1] + 0.1)
    else:
        tip = [(head[0] + 0.03, head[1] - 0.035), (head[0] + 0.15, head[1] + 0.01),
               (head[0] + 0.03, head[1] + 0.035)]  # fmt: skip
        pen.polygon([tuple(at(*p)) for p in tip], fill=near(random, 225, 130, 30))
        mark = (head[0] + 0.09, head[1])
    own = [head, (0.0, 0.0), (0.09, 0.17), (-0.09, 0.17), (-0.25, -0.1 + wag), mark]
    centres = np.array([at(*p)[::-1] for p in own]) / side
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32)
    noisy = pixels + random.normal(0, 6, pixels.shape)
    centres[((centres < 0) | (centres > 1)).any(axis=1)] = np.nan
    return noisy.clip(0, 255).astype(np.uint8), centres


def animals(number: int, seed: int, model: Model) -> tuple[Labelled, np.ndarray]:
    """Draw pictures of all kinds in turn, with their parts' centres."""
    random = np.random.default_rng(seed)
    drawn = [draw(i % len(KINDS), random) for i in range(number)]
    pixels = torch.from_numpy(np.stack([p for p, _ in drawn])).permute(0, 3, 1, 2).contiguous()
    labels = torch.arange(number) % len(KINDS)
    found = Labelled(pixels, labels, list(KINDS), [], model.preprocess, model.device)
    return found, np.stack([c for _, c in drawn])


def pretrain(args: argparse.Namespace) -> Path:
    """Train the network that both fine-tunings start from."""
    path = args.out / "base.pt"
    if path.exists():
        return path
    torch.manual_seed(0)
    model = cnnlens.open_model(
        f"{Path(__file__).resolve()}:animal_net", image_size=(SIZE, SIZE), device=args.device
    )
    data, _ = animals(args.images, 7, model)
    settings = FinetuneSettings(epochs=args.base_epochs, lr=3e-3, trunk=1.0)
    training, validation = split(data.labels, 0.2, 0)
    trainer = Trainer(model.net, data, training, validation, Plain(), settings)
    for event in trainer.run():
        if isinstance(event, Epoch):
            print("  base", event.epoch, _said(event), flush=True)
    save_checkpoint(path, model.net, model.arch, model.preprocess, KINDS)
    return path


def _said(event: Epoch) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in event.terms.items())


@torch.no_grad()
def maps_of(model: Model, data: Labelled, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Maps of a layer on all images, and the centres of its positions."""
    layer = cnnlens.find_layers(model).resolve(name)
    every = torch.arange(len(data.labels)).split(100)
    found: list[Tensor] = [
        read(model.net, data.inputs(i, torch.zeros(len(i), dtype=torch.bool)), [layer.place])[0]
        for i in every
    ]
    grids = [
        np.array([field.centre(i) for i in range(layer.shape[1 + axis])]) / SIZE
        for axis, field in enumerate(layer.fields)
    ]
    return torch.cat(found).cpu().numpy(), np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1)


def one_run(name: str, seed: int, base: Path, args: argparse.Namespace) -> dict:
    model = cnnlens.open_model(str(base), device=args.device)
    data, _ = animals(args.images, 100 + seed, model)
    settings = FinetuneSettings(epochs=args.epochs, lr=args.lr, trunk=args.trunk, seed=seed)
    icnn = IcnnSettings(filter_weight=args.lambda_filter, position=args.position, ramp=args.ramp)
    training = prepare(model, data, Request(name, ("conv4",), True, settings, icnn))
    for event in training.trainer.run():
        if isinstance(event, Epoch):
            print(f"  {name} seed {seed} epoch {event.epoch}: {_said(event)}", flush=True)
    method = training.trainer.method
    save_checkpoint(
        args.out / f"{name}_seed{seed}.pt", model.net, model.arch, model.preprocess, KINDS,
        interpretable=method.record(), surgery=training.surgery,
    )  # fmt: skip
    fresh, parts = animals(args.measured, 999, model)  # the same for all, seen by none
    every = torch.arange(len(fresh.labels))
    training.trainer.examples = fresh
    accuracy = training.trainer.evaluate(every)[1]
    maps, centres = maps_of(model, fresh, method.record()["layers"][-1])
    return {"method": name, "seed": seed, **measure(maps, centres, fresh.labels.numpy(), parts),
            "accuracy": accuracy}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("icnn_animals"))
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--measured", type=int, default=450)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--base-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--trunk", type=float, default=FinetuneSettings.trunk)
    parser.add_argument("--ramp", type=float, default=IcnnSettings.ramp)
    parser.add_argument("--lambda-filter", type=float, default=IcnnSettings.filter_weight)
    parser.add_argument("--position", default="argmax", choices=["argmax", "centroid"])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    base = pretrain(args)
    runs = [one_run(name, seed, base, args) for seed in args.seeds for name in ("none", "icnn")]
    print(report(runs, args.out / "icnn_animals.json"))


if __name__ == "__main__":
    main()
