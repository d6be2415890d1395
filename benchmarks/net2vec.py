"""What learning all concepts costs beside dissecting the same layer, both from the store.

Prints the time of one `dissect` (chance level included), of `net2vec` alone (all units, without a
curve and without shuffles), and of `net2vec` with its curve and a shuffle, as wall and processor
time and as ratios, the first with its limit; and how large the process grew.

    python benchmarks/net2vec.py                        # pictures drawn on the spot
    python benchmarks/net2vec.py --data DIR --model squeezenet.pt --layer features.12

Opening the network, filling the store, drawing and starting Python are on neither side of a ratio.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LIMIT = 3.0  # net2vec alone over dissect


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="a folder in Broden's layout; else one is drawn")
    parser.add_argument("--images", type=int, default=500, help="to draw")
    parser.add_argument("--model", default="torchvision:squeezenet1_0")
    parser.add_argument("--layer", default="features.12")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(asked, Path(scratch))


def compare(asked: argparse.Namespace, scratch: Path) -> None:
    from cnnlens.activations.extract import extract, store_path
    from cnnlens.activations.sources import StoreSource
    from cnnlens.activations.store import Store
    from cnnlens.data.broden import open_broden
    from cnnlens.data.synthetic import make_shapes
    from cnnlens.measure.dissect import dissect
    from cnnlens.measure.net2vec import net2vec
    from cnnlens.model.layers import find_layers
    from cnnlens.model.open import open_model
    from cnnlens.settings import DissectSettings, Net2VecSettings

    data = asked.data or make_shapes(scratch / "data", asked.images, size=224)
    images, model = open_broden(data), open_model(asked.model)
    layer = find_layers(model).resolve(asked.layer)
    for _ in extract(model, images, [layer], scratch):
        pass
    alone = Net2VecSettings(filters="", chance=0, top=0)
    with Store(store_path(scratch, layer)) as store:
        source = StoreSource([store])
        ways: dict[str, Callable[[], object]] = {
            "dissect": lambda: dissect(source, images, DissectSettings(top=0), asked.workers),
            "alone": lambda: net2vec(source, images, alone, asked.workers),
            "all": lambda: net2vec(source, images, Net2VecSettings(top=0), asked.workers),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        ways["alone"](), ways["dissect"]()  # compiles, fills the disk cache
        for _ in range(asked.repeats):
            for name, way in ways.items():
                wall, processor = time.perf_counter(), time.process_time()
                way()
                spent = time.perf_counter() - wall, time.process_time() - processor
                times[name].append(spent)
    concepts = len(images.concept_space().concepts)
    print(f"{concepts} concepts, {layer.units} units, {len(images.paths)} images, 30 epochs")
    for name, all_spent in times.items():
        wall, processor = (statistics.median(column) for column in zip(*all_spent, strict=True))
        print(f"  {name:8} wall {wall:6.2f} s, cpu {processor:6.2f} s")
    for name, limit in (("alone", f" (limit {LIMIT})"), ("all", "")):
        wall, processor = (
            statistics.median(
                a[i] / b[i] for a, b in zip(times[name], times["dissect"], strict=True)
            )
            for i in (0, 1)
        )
        print(f"  {name} / dissect: wall {wall:.2f}, cpu {processor:.2f}{limit}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  the process grew to {peak:.0f} MiB")


if __name__ == "__main__":
    main()
