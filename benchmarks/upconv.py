"""How well trained networks invert a CIFAR-10 network, and how long they take to learn it.

Trains one network per layer on the data's train split, measures it on the other split, and holds it
against the mean image and against regularized inversion of some of the images held out. Prints the
table, then what was promised: below the mean image everywhere, below regularized inversion at the
last two layers, worse the deeper the layer, and all layers trained within fifteen minutes on two
cores.

    python benchmarks/upconv.py cifar10_resnet18_w32.pt CIFAR10
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from pathlib import Path
from typing import Any

LAYERS = ("layer1", "layer2", "layer3", "layer4", "fc")
LIMIT = 15.0  # minutes for all of them


def main() -> None:
    arguments = parse()
    import torch

    from cnnlens.data.decoded import decoded_steps
    from cnnlens.data.open import held_out_beside, open_data
    from cnnlens.model.layers import find_layers
    from cnnlens.model.open import open_model
    from cnnlens.progress import followed

    torch.set_num_threads(arguments.threads)
    model = open_model(arguments.model)
    images = open_data(arguments.data, "train")
    held_out = held_out_beside(images)
    some = range(0, len(images.paths), max(1, len(images.paths) // arguments.images))
    assert held_out is not None, "no images are held out: name a folder with a val or test split"
    sets = [(images, list(some)[: arguments.images]), (held_out, None)]
    begun = time.perf_counter()
    found = followed(decoded_steps(sets, model.preprocess), None)
    reading = time.perf_counter() - begun
    found_layers = find_layers(model)
    print(f"{(found.sources == 0).sum()} images to learn from, {(found.sources == 1).sum()} held "
          f"out, read in {reading:.0f} s; {arguments.threads} threads", flush=True)  # fmt: skip
    rows, cells = [], []
    for name in sorted(arguments.layers, key=LAYERS.index):
        row, pictures = measure(model, found_layers.resolve(name, True), found, arguments)
        rows.append(row)
        cells.append((name, pictures))
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    good = judged(rows, reading / 60, arguments)
    if arguments.out:
        save(arguments.out, cells)
    sys.exit(not good)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="ResNet-18 trained on CIFAR-10")
    parser.add_argument("data", type=Path, help="folder with the splits train and test")
    parser.add_argument("--layers", nargs="+", default=LAYERS, choices=LAYERS)
    parser.add_argument("--images", type=int, default=10_000, help="to learn from")
    parser.add_argument("--epochs", type=int, help="default: the command's")
    parser.add_argument("--searched", type=int, default=8, help="images held out to search for")
    parser.add_argument("--steps", type=int, default=400, help="of each search")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, metavar="PNG", help="write the pictures")
    return parser.parse_args()


def measure(model: Any, layer: Any, found: Any, arguments: Any) -> tuple[dict[str, Any], list[Any]]:
    import torch

    from cnnlens.settings import UpconvSettings
    from cnnlens.synthesize.examples import Examples
    from cnnlens.synthesize.training import Training

    sources = torch.from_numpy(found.sources)
    training, held_out = ((sources == n).nonzero()[:, 0] for n in (0, 1))
    begun = time.perf_counter()
    examples = Examples(model, layer, found.pixels)
    for _ in examples.read(training):
        pass
    read = time.perf_counter() - begun
    run = Training(examples, training, held_out, UpconvSettings(epochs=arguments.epochs), model)
    for step in run.steps():
        if step.milestone:
            print(f"  {layer.name}: {step.note}", flush=True)
    minutes = (time.perf_counter() - begun) / 60
    chosen = held_out[:: max(1, len(held_out) // arguments.searched)][: arguments.searched]
    pictures = [compared(model, layer, run.net, examples.images(chosen[n : n + 1])[0], arguments)
                for n in range(len(chosen))]  # fmt: skip
    squares = [[error.pixels**2 for error in one[3:]] for one in pictures]
    few, searched = (math.sqrt(sum(column) / len(column)) for column in zip(*squares, strict=True))
    row = {
        "layer": layer.name,
        "mean": round(run.floor, 4),
        "upconv": round(run.best["held_out_rmse"], 4),
        "learned": round(run.best["training_rmse"], 4),
        f"upconv({len(chosen)})": round(few, 4),
        f"search({len(chosen)})": round(searched, 4),
        "epochs": run.epoch,
        "answers_s": round(read),
        "minutes": round(minutes, 2),
    }
    return row, pictures


def compared(model: Any, layer: Any, net: Any, photo: Any, arguments: Any) -> tuple[Any, ...]:
    """A photo, its picture by the network and by a search, and the errors of both."""
    from cnnlens.progress import followed
    from cnnlens.settings import InvertSettings
    from cnnlens.synthesize.reconstruct import generate, reconstruct

    photo = photo.to(model.device)
    made = generate(model, layer, photo, net, InvertSettings(method="upconv"))
    steps = reconstruct(model, layer, photo, InvertSettings(steps=arguments.steps))
    searched = followed(steps, None)
    return photo, made.image, searched.image, made.errors, searched.errors


def judged(rows: list[dict[str, Any]], reading: float, arguments: Any) -> bool:
    """Print what was promised and what came out."""
    searched = next(key for key in rows[0] if key.startswith("search"))
    few = next(key for key in rows[0] if key.startswith("upconv("))
    minutes = reading + sum(row["minutes"] for row in rows)
    pairs = [*itertools.pairwise(rows)]
    said = {
        "below the mean image everywhere": all(r["upconv"] < r["mean"] for r in rows),
        "below regularized inversion at layer4 and fc": all(
            r[few] < r[searched] for r in rows if r["layer"] in LAYERS[-2:]
        ),
        "growing with depth": all(a["upconv"] < b["upconv"] for a, b in pairs),
        f"{minutes:.1f} min of {LIMIT:g}, {minutes / LIMIT:.2f} of the limit": minutes <= LIMIT,
    }
    print("\n" + "  ".join(rows[0]))
    for row in rows:
        print("  ".join(str(value) for value in row.values()))
    for words, holds in said.items():
        print(f"{'ok' if holds else 'MISSED':6} {words}")
    return all(said.values())


def save(path: Path, layers: list[tuple[str, list[Any]]]) -> None:
    from cnnlens.report.figures.visualize import as_picture
    from cnnlens.report.invert_files import Cell, draw_rows
    from cnnlens.report.sheet import save_png

    rows = []
    for number, (photo, *_) in enumerate(layers[0][1]):
        for place, how in ((1, "network"), (2, "search")):
            row = [("photo", photo)]
            row += [(f"{name}, {how}", pictures[number][place]) for name, pictures in layers]
            rows.append([Cell(as_picture(x.cpu().numpy()), name) for name, x in row])
    save_png(path, draw_rows(rows, "Images held out, by trained networks and by search"))


if __name__ == "__main__":
    main()
