"""An interpretable SqueezeNet on CUB-200-2011, against the same training without the method.

    python examples/icnn_cub.py CUB_200_2011 squeezenet1_0_imagenet.pt --out icnn_cub

A convolution is inserted above `features.12` and trained with a new classifier, three seeds each
of `none` and `icnn`. All layers below are frozen, in both, and run once per image and its mirror
image (about 2 minutes on one core for 282 birds, then 1 to 2 minutes per run); the papers train
all layers. Every run leaves a checkpoint that every command opens.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from icnn_criteria import measure, report
from torch import Tensor, nn

import cnnlens
from cnnlens.data.labelled import Labelled, read_labelled
from cnnlens.data.parts import PartSet
from cnnlens.interpretable.icnn import Icnn
from cnnlens.interpretable.method import Method, Plain, Rates, split, unmirrored
from cnnlens.interpretable.trainer import Epoch, Trainer
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.model import Model
from cnnlens.model.surgery import Plan, operate, start_inserted
from cnnlens.settings.finetune import FinetuneSettings, IcnnSettings

AT, HEAD = "features.12", "classifier.1"


class Cached:
    """What the frozen layers give, for each image and its mirror image: (2, N, C, H, W)."""

    def __init__(self, maps: Tensor, labels: Tensor) -> None:
        self.maps, self.labels = maps, labels

    def inputs(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        return self.maps[mirrored.long(), indices].float()


@torch.no_grad()
def run_trunk(model: Model, birds: Labelled) -> Tensor:
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


def one_run(
    name: str, seed: int, birds: PartSet, labelled: Labelled, maps: Tensor, args: argparse.Namespace
) -> dict:
    model = cnnlens.open_model(str(args.weights), device=args.device)
    plan = Plan(
        AT, 512, insert=True, mask=name == "icnn", position=args.position,
        head=HEAD, classes=len(labelled.classes),
    )  # fmt: skip
    operate(model.net, plan, seed)
    net = Tail(model.net).to(model.device)
    settings = FinetuneSettings(epochs=args.epochs, lr=args.lr, seed=seed)
    training, validation = split(labelled.labels, settings.validation, 0)
    frequency = torch.bincount(labelled.labels[training]).float() / len(training)
    # the frozen layer's own maps are masked, too, but no loss could change them
    method: Method = Plain({"layers": plan.maps})
    if name == "icnn":
        icnn = IcnnSettings(filter_weight=args.lambda_filter, position=args.position)
        method = Icnn(["at.conv_mask"], [512], frequency, icnn, {"layers": plan.maps})
    cached = Cached(maps.to(model.device), labelled.labels)
    sample = unmirrored(cached, training[:: -(-len(training) // 64)])
    factor = start_inserted(net.eval(), "at.conv", HEAD, sample, seed)
    rates = Rates(factors={"at.conv": factor})
    trainer = Trainer(net, cached, training, validation, method, settings, rates)
    for event in trainer.run():
        if isinstance(event, Epoch):
            terms = ", ".join(f"{k} {v:.3f}" for k, v in event.terms.items())
            print(f"  {name} seed {seed} epoch {event.epoch}: {terms}", flush=True)
    model.net.eval()
    if args.out:
        save_checkpoint(
            args.out / f"{name}_seed{seed}.pt", model.net, model.arch, model.preprocess,
            labelled.classes, interpretable=method.record(), surgery=[plan.as_dict()],
        )  # fmt: skip
    accuracy = trainer.evaluate(validation)[1]
    found = measure(model, plan.maps[-1], birds)
    return {"method": name, "seed": seed, **found, "accuracy": accuracy}


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
    birds = cnnlens.open_data(args.data)
    labelled = read_labelled(birds, model.preprocess)
    cache = args.out / "trunk.pt"
    if not cache.exists():
        torch.save(run_trunk(model, labelled), cache)
    maps = torch.load(cache, weights_only=True)
    runs = [
        one_run(n, s, birds, labelled, maps, args) for s in args.seeds for n in ("none", "icnn")
    ]
    print(report(runs, args.out / "icnn_cub.json"))


if __name__ == "__main__":
    main()
