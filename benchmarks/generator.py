"""What classes look like by every method, as numbers: pixels, Fourier, MaCo, and generators.

    python benchmarks/generator.py MODEL IMAGES --by OTHER --generator FILE… [--split train]

Of every class, a picture each. "sure": the network's own probability of the class; "judge": how
many a network that took no part in it names so first, too; "× best": the class's score over its
best photo's; clipped, chroma, high and kept as in `visualize.py quality` (high: also how many
pictures lie within the photos' 95th percentile); "nearest": distance by pixels to the nearest photo
over the median distance of photos to theirs (a copy: near 0). Of each column the median. Generators
are files that ``visualize --method generator`` keeps: a further one for each loss left out
(--image-loss 0, --feature-loss 0, --adversarial-loss 0) makes the ablation.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from visualize import chroma, clipped, high_share, pictures_of, shifted

from cnnlens.data.open import open_data
from cnnlens.model.classes import count_scores
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.report.figures.visualize import SheetCell, as_picture, sheet
from cnnlens.report.sheet import save_png
from cnnlens.settings import VisualizeSettings
from cnnlens.study.generators import Learned, read_learned
from cnnlens.synthesize.generator import codes_of
from cnnlens.synthesize.maco import spectrum_of
from cnnlens.synthesize.objective import logit
from cnnlens.synthesize.transform import resized

COLUMNS = (
    "sure (least)", "judge", "× best", "clipped", "chroma", "high (within)", "kept", "nearest",
)  # fmt: skip


def answers(model: Model, images: Tensor) -> Tensor:
    """Scores (N, K) of images (N, C, h, w) in [0, 1]."""
    with torch.no_grad():
        seen = resized(images.to(model.device), model.preprocess.size)
        return torch.cat([model.net(model.preprocess.normalize(x)).cpu() for x in seen.split(64)])


def median(values: Tensor) -> str:
    return f"{statistics.median(values.tolist()):.2f}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--by", required=True, help="another network of the same classes")
    parser.add_argument("--generator", nargs="+", type=Path, default=[])
    parser.add_argument("--split")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of where the pictures begin")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="the sheet, a row of classes per method")
    return parser.parse_args()


def drawn(model: Model, prior: Any, settings: VisualizeSettings) -> tuple[Tensor, str]:
    """Draw every class; give the pictures, and how near they come to photos of a generator's."""
    goals = [logit(n, str(n), settings.rivalry) for n in range(count_scores(model))]
    if not isinstance(prior, Learned):
        return pictures_of(model, goals, settings, prior=prior), "–"
    layer = find_layers(model).resolve(prior.layer, vectors=True)
    images = pictures_of(model, goals, settings, prior=prior.generator(model, layer))
    with torch.no_grad():
        found = prior.photos.nearest(images, codes_of(model, layer, images).cpu())
    pairs = [one["pixels"] for one in found]
    return images, f"{np.median([p['distance'] / p['photos_distance'] for p in pairs]):.2f}"


def main() -> None:
    arguments = parse()
    model, judge = (open_model(m, device=arguments.device) for m in (arguments.model, arguments.by))
    photos = open_data(arguments.images, arguments.split).sample(1000, model.preprocess)
    pixels = torch.from_numpy(photos).float() / 255
    best = answers(model, pixels).amax(0)
    fine = float(high_share(pixels).quantile(0.95))
    spectrum = spectrum_of(photos[:128], (model.preprocess.channels, *model.preprocess.size))
    rows: list[tuple[str, dict[str, Any], Any]] = [
        ("pixels", {"basis": "pixels"}, None), ("fourier", {}, None),
        ("maco", {"method": "maco"}, spectrum),
        *((str(f), {"method": "generator"}, read_learned(f)) for f in arguments.generator),
    ]  # fmt: skip
    classes = torch.arange(count_scores(model))
    print(f"photos: high {fine:.3f} (95th percentile), chroma {median(chroma(pixels))}")
    print("  ".join(["", *COLUMNS]))
    cells = []
    for name, asked, prior in rows:
        settings = VisualizeSettings(steps=arguments.steps, seed=arguments.seed, **asked)
        images, near = drawn(model, prior, settings)
        own = answers(model, images)
        sure, named = own.softmax(1)[classes, classes], answers(judge, images).argmax(1)
        high, score = high_share(images), own[classes, classes]
        moved = torch.stack([answers(model, one)[classes, classes] for one in shifted(images)])
        columns = (
            f"{median(sure)} ({float(sure.min()):.3f})",
            f"{int((named == classes).sum())} of {len(classes)}",
            median(score / best),
            median(clipped(images)),
            median(chroma(images)),
            f"{median(high)} ({int((high <= fine).sum())})",
            median(moved.mean(0) / score),
            near,
        )
        print("  ".join([name, *columns]), flush=True)
        names = model.classes or classes.tolist()
        words = [f"{Path(name).stem}, sure {value:.3f}" for value in sure.tolist()]
        cells += [
            SheetCell(as_picture(image), str(names[n]), words[n])
            for n, image in enumerate(images.numpy())
        ]
    if arguments.out:
        save_png(arguments.out, sheet(cells, cell=96))


if __name__ == "__main__":
    main()
