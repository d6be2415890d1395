"""What half precision does to dissection: IoU, labels and detectors beside those of float32.

    python benchmarks/precision.py            # a network trained on the spot
    python benchmarks/precision.py MODEL --data BRODEN --layer features.12 [--device cuda]

Each row is one dissection, held against that of the same network in float32. The first of them is
float32 in batches of another size, and says how much comes of the order of additions alone; the
second rounds the stored activations; then forward passes in half precision, float16 on a GPU only.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cnnlens
from cnnlens.data.synthetic import make_shapes
from cnnlens.interpretable.demo_net import save_trained
from cnnlens.model.device import resolve_device
from cnnlens.report.dissect_result import DissectResult

HEAD = ("run", "mean |change|", "largest", "correlation", "other labels", "detectors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--data", help="with label maps; left out: drawn, as is the network")
    parser.add_argument("--layer", default="last")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=32)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model, data = asked.model, asked.data
        if model is None or data is None:
            model, data = drawn(Path(scratch))
        found = runs(model, data, asked, Path(scratch))
        _, first = next(found)
        assert first.scores is not None
        print(
            f"{len(first.iou)} units, {first.scores.shape[1]} concepts, {first.summary['images']}"
            f" images, mean IoU {first.iou.mean():.4f}, {first.is_detector.sum()} detectors"
        )
        print(*HEAD, sep=" | ")
        for name, other in found:
            print(name, *compared(first, other), sep=" | ", flush=True)


def drawn(folder: Path) -> tuple[str, str]:
    """Draw pictures with label maps, and train the demo's network on such."""
    for _ in save_trained(folder / "net.pt", 4, 0):
        pass
    return str(folder / "net.pt"), str(make_shapes(folder / "shapes", 400, size=64))


def runs(
    model: str, data: str, asked: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, DissectResult]]:
    """Dissect in float32, then in each of the other ways."""
    ways: dict[str, dict[str, Any]] = {
        "float32": {},
        "float32, half the batch": {"batch_size": asked.batch_size // 2},
        "float32, stored as float16": {"dtype": "float16"},
        "bfloat16": {"precision": "bfloat16"},
    }
    if resolve_device(asked.device).type == "cuda":
        ways["float16"] = {"precision": "float16"}
    for number, (name, way) in enumerate(ways.items()):
        size = way.pop("batch_size", asked.batch_size)
        lens = cnnlens.Investigation(
            model, folder / str(number), device=asked.device, batch_size=size, quiet=True
        )
        yield name, lens.dissect(data=data, layer=asked.layer, chance=0, **way)


def compared(first: DissectResult, other: DissectResult) -> Iterator[str]:
    """Say how a dissection differs from the first."""
    assert first.scores is not None and other.scores is not None
    change = np.abs(other.iou - first.iou)
    scores = np.corrcoef(first.scores.ravel(), other.scores.ravel())[0, 1]
    labels = sum(a != b for a, b in zip(first.labels, other.labels, strict=True))
    lost = int((first.is_detector & ~other.is_detector).sum())
    won = int((other.is_detector & ~first.is_detector).sum())
    yield from (f"{change.mean():.5f}", f"{change.max():.5f}", f"{scores:.6f}")
    yield f"{labels} of {len(change)}"
    yield f"{other.is_detector.sum()} (-{lost}, +{won})"


if __name__ == "__main__":
    main()
