"""How much a unit's removal costs beside the bare pass from its layer to the end.

The pass behind a layer is written down once and gone on with for every unit. Prints, for layers of
a ResNet-18, the time of the modules behind the layer, called by hand on as many images; that of
asking the network without each unit; and their ratio per unit with its limit.

    python benchmarks/ablate.py                          # 32 images of 64 × 64, layers 1 to 4
    python benchmarks/ablate.py --images 64 --side 32 --layer layer3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
import torchvision
from torch import Tensor

from cnnlens.measure.without import Asker, Removed
from cnnlens.model.hooks import read
from cnnlens.model.layers import find_layers
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module

LIMIT = 1.3
LAYERS = ("layer1", "layer2", "layer3", "layer4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--layer", choices=LAYERS, action="append")
    given = parser.parse_args()
    net = torchvision.models.resnet18().eval()
    half, side = (0.5, 0.5, 0.5), given.side
    model = wrap_module(net, Preprocess((side, side), half, half))
    pixels = torch.randint(0, 256, (given.images, 3, side, side)).byte()
    print("layer    bare pass   per unit   ratio")
    for name in given.layer or LAYERS:
        layer = find_layers(model)[name]
        (maps,) = read(net, model.preprocess.normalize(pixels), [layer.place])
        asker, to = Asker(model, layer, given.images), maps.mean(0)
        changes = [Removed((unit,), to) for unit in range(min(given.units, layer.units))]
        bare, each = compare(partial(tail, net, name, maps), asker.ask(pixels, changes))
        kept = "" if each <= LIMIT * bare else "   NOT KEPT"
        print(f"{name:8} {1e3 * bare:6.2f} ms  {1e3 * each:6.2f} ms   {each / bare:5.2f}{kept}")
    print(f"limit {LIMIT}; the pass up to the layer, once for all units, is left out on both sides")


@torch.no_grad()
def tail(net: torchvision.models.ResNet, layer: str, maps: Tensor) -> Tensor:
    """Run what lies behind a layer, as the network itself does."""
    for name in LAYERS[LAYERS.index(layer) + 1 :]:
        maps = getattr(net, name)(maps)
    scores: Tensor = net.fc(torch.flatten(net.avgpool(maps), 1))
    return scores


def compare(bare: Callable[[], object], asked: Iterator[object]) -> tuple[float, float]:
    """Median seconds of the bare pass and of one unit more, by turns: both meet the same."""
    next(asked)  # the pass up to the layer is over
    times: list[tuple[float, float]] = []
    while True:
        begun = time.perf_counter()
        bare()
        between = time.perf_counter()
        if next(asked, None) is None:
            break
        times.append((between - begun, time.perf_counter() - between))
    return median(one for one, _ in times), median(other for _, other in times)


if __name__ == "__main__":
    main()
