"""What a step of ICNN costs over a plain step of the same network, as a ratio.

    python benchmarks/finetune.py                        # AlexNet, 224 px
    python benchmarks/finetune.py --model torchvision:vgg16 --batch 8

Both networks have the inserted convolution. Steps of the two alternate, so that whatever else the
machine does meets both alike; the ratio is that of the medians. The aim is at most 1.10.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import cnnlens
from cnnlens.data.labelled import Labelled
from cnnlens.interpretable.finetune import finetune
from cnnlens.interpretable.trainer import Step
from cnnlens.settings.finetune import FinetuneSettings


def steps(method: str, args: argparse.Namespace):
    """Train without end; yield after every step."""
    model = cnnlens.open_model(args.model, device=args.device)
    number = 4 * args.batch
    shape = (number, model.preprocess.channels, *model.preprocess.size)
    pixels = torch.randint(256, shape, dtype=torch.uint8)
    classes = [f"class {k}" for k in range(args.classes)]
    labels = torch.arange(number) % args.classes
    data = Labelled(pixels, labels, classes, [], model.preprocess, model.device)
    settings = FinetuneSettings(epochs=10_000, batch_size=args.batch, trunk=1.0, lr=1e-5)
    layers = (args.layer,) if args.layer else ()
    for event in finetune(model, data, method, layers, insert=True, settings=settings):
        if isinstance(event, Step):  # every term was read: the device has finished
            yield event


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="torchvision:alexnet")
    parser.add_argument("--layer", default="")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="measured of each, after two")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runs = {method: steps(method, args) for method in ("none", "icnn")}
    times: dict[str, list[float]] = {method: [] for method in runs}
    for number in range(args.steps + 2):
        for method, run in runs.items():
            event = next(run)
            while event.step == event.steps:  # what follows it is validated first
                event = next(run)
            start = time.process_time() if args.device == "cpu" else time.perf_counter()
            event = next(run)
            end = time.process_time() if args.device == "cpu" else time.perf_counter()
            if number >= 2:
                times[method].append(end - start)
    plain, icnn = (statistics.median(times[m]) for m in ("none", "icnn"))
    print(f"{args.model}, {args.batch} images: plain {plain:.3f} s, icnn {icnn:.3f} s a step")
    print(f"ratio {icnn / plain:.3f}")


if __name__ == "__main__":
    main()
