"""How well inversion meets a layer's answer, against the figures it is held to.

Inverts the first and the fiftieth photo of a folder at five layers of SqueezeNet with the default
settings, and prints for each the relative error ‖Φ − Φ0‖/‖Φ0‖ with its limit, the pixel RMSE, and
the time per step. With ``--out``, the pictures of all layers on one sheet.

    python benchmarks/invert.py squeezenet1_0.pt PHOTOS
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

LIMITS = {
    "features.1": 0.06,
    "features.4": 0.06,
    "features.7": 0.12,
    "features.9": 0.10,
    "features.12": 0.30,
}


def main() -> None:
    arguments = parse()
    import torch

    from cnnlens.data.open import open_data
    from cnnlens.model.layers import find_layers
    from cnnlens.model.open import open_model

    torch.set_num_threads(arguments.threads)
    model = open_model(arguments.model)
    layers = find_layers(model)
    images = open_data(arguments.data)
    rows, within = [], True
    for number in arguments.photos:
        photo = read(model, images.root / images.paths[number - 1])
        print(f"photo {number}: {images.paths[number - 1]}", flush=True)
        row = [("photo", photo)]
        for name in arguments.layers or LIMITS:
            image, fits = measure(model, layers.resolve(name), photo, arguments.steps)
            row.append((name, image))
            within = within and fits
        rows.append(row)
    if arguments.out:
        save(arguments.out, rows)
    print("all within their limits" if within else "NOT all within their limits")
    sys.exit(not within)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="SqueezeNet 1.0 trained on ImageNet")
    parser.add_argument("data", type=Path, help="folder of photos")
    parser.add_argument("--photos", type=int, nargs="+", default=[1, 50], help="counted from 1")
    parser.add_argument("--layers", nargs="+", choices=list(LIMITS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, metavar="PNG", help="write the pictures")
    return parser.parse_args()


def read(model: Any, path: Path) -> Any:
    import torch

    from cnnlens.data.decode import load_image
    from cnnlens.synthesize.invert import input_plane

    pixels = model.preprocess.pixels(load_image(path), squash=False)  # (H, W, C)
    return input_plane(model, torch.from_numpy(pixels.copy()).permute(2, 0, 1))


def measure(model: Any, layer: Any, photo: Any, steps: int) -> tuple[Any, bool]:
    from cnnlens.settings import InvertSettings
    from cnnlens.synthesize.invert import compare, features, invert

    answer = features(model, layer, photo)
    begun = time.perf_counter()
    trace = list(invert(model, layer, answer, photo, InvertSettings(steps=steps)))
    seconds = (time.perf_counter() - begun) / len(trace)
    image = trace[-1].image()
    found = compare(model, layer, image, photo, answer, None)
    finite = bool(image.isfinite().all()) and math.isfinite(found.features)
    fits = finite and found.features <= LIMITS[layer.name]
    print(
        f"  {layer.name:12} error {found.features:.4f} (limit {LIMITS[layer.name]})  "
        f"pixel RMSE {found.pixels:.4f}  {'finite' if finite else 'NOT FINITE'}  "
        f"{len(trace)} steps, {sum(not step.taken for step in trace)} drawn back, "
        f"{1000 * seconds:.0f} ms a step  {'ok' if fits else 'MISSED'}",
        flush=True,
    )
    return image, fits


def save(path: Path, rows: list[list[tuple[str, Any]]]) -> None:
    from cnnlens.report.figures.visualize import as_picture
    from cnnlens.report.invert_files import Cell, draw_rows
    from cnnlens.report.sheet import save_png

    cells = [[Cell(as_picture(x.cpu().numpy()), name) for name, x in row] for row in rows]
    save_png(path, draw_rows(cells, "Inversions at the default settings"))


if __name__ == "__main__":
    main()
