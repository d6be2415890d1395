"""An interpretable SqueezeNet on CUB-200-2011, against the same training without the method.

    python examples/icnn_cub.py CUB_200_2011 squeezenet1_0_imagenet.pt --out icnn_cub

A convolution is inserted above `features.12` and trained with a new classifier, three seeds each
of `none` and `icnn`. All layers below are frozen, in both, and run once per image and its mirror
image (about 2 minutes on one core for 282 birds, then 1 to 2 minutes per run); the papers train
all layers. Every run leaves a checkpoint that every command opens.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from icnn_criteria import measure, report
from PIL import Image
from torch import Tensor, nn

import cnnlens
from cnnlens.interpretable.icnn import Icnn
from cnnlens.interpretable.method import Method, Plain
from cnnlens.interpretable.train import Epoch, Trainer, split
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.model import Model
from cnnlens.model.surgery import Plan, operate
from cnnlens.settings.finetune import FinetuneSettings, IcnnSettings

AT, HEAD = "features.12", "classifier.1"


class Birds:
    """Crops of CUB: pixels (N, 3, H, W), species (N,), part positions (N, 15, 2) in the crop."""

    def __init__(self, root: Path, model: Model) -> None:
        names = [row[1] for row in _rows(root / "images.txt")]
        kinds = [int(row[1]) for row in _rows(root / "image_class_labels.txt")]
        boxes = np.array([[float(v) for v in r[1:]] for r in _rows(root / "bounding_boxes.txt")])
        number = {row[0]: place for place, row in enumerate(_rows(root / "images.txt"))}
        self.species = sorted(set(kinds))
        self.classes = [r[1] for r in _rows(root / "classes.txt")][: len(self.species)]
        self.labels = torch.tensor([self.species.index(kind) for kind in kinds])
        self.parts = np.full((len(names), 15, 2), np.nan)
        for image, part, x, y, seen in _rows(root / "parts" / "part_locs.txt"):
            left, top, width, height = boxes[number[image]]
            if seen == "1":
                place = (float(y) - top) / height, (float(x) - left) / width
                self.parts[number[image], int(part) - 1] = place
        self.pixels = torch.stack(
            [_crop(root / "images" / n, b, model) for n, b in zip(names, boxes, strict=True)]
        )


def _rows(path: Path) -> Iterator[list[str]]:
    return (line.split() for line in path.read_text().splitlines())


def _crop(path: Path, box: np.ndarray, model: Model) -> Tensor:
    left, top, width, height = box
    image = Image.open(path).convert("RGB").crop((left, top, left + width, top + height))
    pixels = model.preprocess.pixels(image, squash=True)  # (H, W, C)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


class Cached:
    """What the frozen layers give, for each image and its mirror image: (2, N, C, H, W)."""

    def __init__(self, maps: Tensor, labels: Tensor) -> None:
        self.maps, self.labels = maps, labels

    def inputs(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        return self.maps[mirrored.long(), indices].float()


@torch.no_grad()
def run_trunk(model: Model, birds: Birds) -> Tensor:
    """Run the layers up to `AT` once."""
    trunk = model.net.features
    found = []
    for pixels in (birds.pixels, birds.pixels.flip(3)):
        batches = [model.preprocess.normalize(p.to(model.device)) for p in pixels.split(16)]
        found.append(torch.cat([trunk(x).half().cpu() for x in batches]))
    return torch.stack(found)


class Tail(nn.Module):
    """The network above the frozen layers; its modules are those of the whole network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        above = list(net.features[12].named_children())[1:]  # all but the frozen block
        self.at = nn.Sequential()
        for name, module in above:
            self.at.add_module(name, module)
        self.classifier = net.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.at(x)).flatten(1)


def one_run(name: str, seed: int, birds: Birds, maps: Tensor, args: argparse.Namespace) -> dict:
    model = cnnlens.open_model(str(args.weights), device=args.device)
    plan = Plan(
        AT, 512, insert=True, mask=name == "icnn", position=args.position,
        head=HEAD, classes=len(birds.classes),
    )  # fmt: skip
    operate(model.net, plan, seed)
    net = Tail(model.net).to(model.device)
    settings = FinetuneSettings(epochs=args.epochs, lr=args.lr, seed=seed)
    training, validation = split(birds.labels, settings.validation, 0)
    share = torch.bincount(birds.labels[training]).float() / len(training)
    # the frozen layer's own maps are masked, too, but no loss could change them
    method: Method = Plain({"layers": plan.maps})
    if name == "icnn":
        icnn = IcnnSettings(filter_weight=args.lambda_filter, position=args.position)
        method = Icnn(["at.conv_mask"], [512], share, icnn, {"layers": plan.maps})
    cached = Cached(maps.to(model.device), birds.labels)
    trainer = Trainer(net, cached, training, validation, method, settings)
    for event in trainer.run():
        if isinstance(event, Epoch):
            said = ", ".join(f"{k} {v:.3f}" for k, v in event.terms.items())
            print(f"  {name} seed {seed} epoch {event.epoch}: {said}", flush=True)
    model.net.eval()
    if args.out:
        save_checkpoint(
            args.out / f"{name}_seed{seed}.pt", model.net, model.arch, model.preprocess,
            birds.classes, interpretable=method.record(), surgery=[plan.as_dict()],
        )  # fmt: skip
    with torch.no_grad():
        parts = [net.at(m.float()).cpu() for m in cached.maps[0].split(32)]
    found = torch.cat(parts).numpy()
    accuracy = trainer.evaluate(validation)[1]
    of = measure(found, centres(model), birds.labels.numpy(), birds.parts)
    return {"method": name, "seed": seed, **of, "accuracy": accuracy}


def centres(model: Model) -> np.ndarray:
    """Centres of the receptive fields of a layer's positions (H, W, 2), as shares of the image."""
    layer = cnnlens.find_layers(model).resolve(AT)
    size = model.preprocess.size
    grids = [
        np.array([field.centre(i) for i in range(layer.shape[1 + axis])]) / size[axis]
        for axis, field in enumerate(layer.fields)
    ]
    return np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder CUB_200_2011")
    parser.add_argument("weights", type=Path, help="weights of torchvision's squeezenet1_0")
    parser.add_argument("--out", type=Path, default=Path("icnn_cub"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--lambda-filter", type=float, default=IcnnSettings.filter_weight)
    parser.add_argument("--position", default="argmax", choices=["argmax", "centroid"])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = cnnlens.open_model(str(args.weights), device=args.device)
    birds = Birds(args.data, model)
    cache = args.out / "trunk.pt"
    if not cache.exists():
        torch.save(run_trunk(model, birds), cache)
    maps = torch.load(cache, weights_only=True)
    runs = [one_run(n, s, birds, maps, args) for s in args.seeds for n in ("none", "icnn")]
    print(report(runs, args.out / "icnn_cub.json"))


if __name__ == "__main__":
    main()
