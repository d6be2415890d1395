"""An interpretable network on synthetic animals, against the same training without the method.

    python examples/icnn_animals.py --out icnn_animals

Three kinds of animals (a long neck, a trunk, a beak) of every pose, size, place and colour on
cluttered backgrounds. A small network learns to tell them apart; from it, three seeds each of
`none` (another convolution is inserted) and `icnn` (the same, masked, with the filter loss).
About 8 minutes on one core. Every run leaves a checkpoint that every command opens.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from icnn_criteria import measure, report

import cnnlens
from cnnlens.data.labelled import Labelled, read_labelled
from cnnlens.data.parts import PartSet
from cnnlens.interpretable.finetune import finetune
from cnnlens.interpretable.method import Plain, evaluate, split
from cnnlens.interpretable.trainer import Epoch, Trainer
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.model import Model
from cnnlens.settings.finetune import FinetuneSettings, IcnnSettings

SIZE = 64


def animals(
    number: int, seed: int, model: Model, args: argparse.Namespace
) -> tuple[PartSet, Labelled]:
    """Make a set of animals, where it is not there yet, and decode it."""
    folder = args.out / f"animals_{number}_{seed}"
    if not folder.exists():
        cnnlens.make_animals(folder, number, SIZE, seed)
    data = cnnlens.open_data(folder)
    labelled = read_labelled(data, model.preprocess)
    labelled.device = model.device
    return data, labelled


def pretrain(args: argparse.Namespace) -> Path:
    """Train the network that both fine-tunings start from."""
    path = args.out / "base.pt"
    if path.exists():
        return path
    torch.manual_seed(0)
    model = cnnlens.open_model("zoo:animal_net", device=args.device)
    _, data = animals(args.images, 7, model, args)
    settings = FinetuneSettings(epochs=args.base_epochs, lr=3e-3, trunk=1.0)
    training, validation = split(data.labels, 0.2, 0)
    trainer = Trainer(model.net, data, training, validation, Plain(), settings)
    for event in trainer.run():
        if isinstance(event, Epoch):
            print("  base", event.epoch, _terms(event), flush=True)
    save_checkpoint(path, model.net, model.arch, model.preprocess, data.classes)
    return path


def _terms(event: Epoch) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in event.terms.items())


def one_run(name: str, seed: int, base: Path, args: argparse.Namespace) -> dict:
    model = cnnlens.open_model(str(base), device=args.device)
    _, data = animals(args.images, 100 + seed, model, args)
    settings = FinetuneSettings(epochs=args.epochs, lr=args.lr, trunk=args.trunk, seed=seed)
    icnn = IcnnSettings(filter_weight=args.lambda_filter, position=args.position, ramp=args.ramp)
    run = finetune(model, data, name, ("conv4",), insert=True, settings=settings, icnn=icnn)
    for event in run:
        if isinstance(event, Epoch):
            print(f"  {name} seed {seed} epoch {event.epoch}: {_terms(event)}", flush=True)
    save_checkpoint(args.out / f"{name}_seed{seed}.pt", **run.checkpoint())
    fresh, labelled = animals(args.measured, 999, model, args)  # the same for all, seen by none
    accuracy = evaluate(run.net, labelled, torch.arange(args.measured), settings)[1]
    layer = run.document()["layers"][-1]
    found = measure(run.trained, layer, fresh)
    return {"method": name, "seed": seed, **found, "accuracy": accuracy}


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
