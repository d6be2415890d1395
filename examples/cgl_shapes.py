"""Concept group learning on the synthetic shapes: the paper's Table 1 (Varshneya et al., §4.1).

    python examples/cgl_shapes.py --out cgl_shapes            # 45 combinations × 640 pictures
    python examples/cgl_shapes.py --images 64 --measure 4     # a quick look

A network of two convolutions (128 and 256 filters of 3×3) learns whether a square is present. The
same start is left untrained, trained with weight decay, with the block norm in its place, with all
three terms at the paper's weights, and with ten times the paper's weight on the groups. Then both
convolutions are dissected before their rectifiers into 15 concepts: 3 colours, 3 shapes, 9 of both.
Mixed precision on a GPU; rate 0.1 in one cycle, since at 0.01 nothing is learned in one epoch.

Every run leaves a checkpoint and what was measured beside it; a stopped series goes on where it
stood. The checkpoints open in every command:

    cnnlens dissect cgl_shapes/seed0_all.pt -d cgl_shapes/pictures -l module:conv2 -w all
    cnnlens dissect cgl_shapes/seed0_decay.pt -d cgl_shapes/pictures -l module:conv2 -w decay
    cnnlens compare decay all
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cnnlens
from cnnlens.data.shapes import PAIRS, paint, scenes, shows_square
from cnnlens.files import write_json
from cnnlens.interpretable.concept_groups import ConceptGroups, grouped_layers
from cnnlens.interpretable.group_report import record_groups
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.model import Model
from cnnlens.settings.finetune import CglSettings

PAPER = {"decay": (7, 10), "block": (9, 12), "all": (11, 14)}  # unique detectors, conv1 and conv2
LAYERS = ("conv1", "conv2")
CATEGORIES = ("color", "shape", "color-shape")
DECAY = 5e-4


@dataclass(frozen=True)
class Variant:
    """A way to train, or none; `settings` are the method's weights."""

    settings: CglSettings | None = None
    trained: bool = True


VARIANTS = {
    "untrained": Variant(trained=False),
    "decay": Variant(),
    "block": Variant(CglSettings.of("shapes", group_weight=0.0, spatial_weight=0.0)),
    "all": Variant(CglSettings.of("shapes")),
    "groups": Variant(CglSettings.of("shapes", group_weight=0.01)),  # at which groups form
}


@dataclass(frozen=True)
class Pictures:
    """Pictures (N, 3, 64, 64) uint8 and whether each shows a square (N,)."""

    x: Tensor
    y: Tensor

    @classmethod
    def draw(cls, number: int, seed: int) -> Pictures:
        drawn = list(scenes(number, 64, seed))
        pixels = np.stack([paint(scene, 64) for scene in drawn])
        labels = torch.tensor([int(shows_square(scene)) for scene in drawn])
        return cls(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels)


def optimizer(net: nn.Module, groups: ConceptGroups | None, lr: float) -> torch.optim.Optimizer:
    """Decay every weight but those that the block norm holds small."""
    spared = {id(p) for p in groups.undecayed(net)} if groups else set()
    own = list(groups.parameters()) if groups else []
    free = [p for p in net.parameters() if id(p) in spared] + own
    decayed = [p for p in net.parameters() if id(p) not in spared]
    parts = [{"params": decayed, "weight_decay": DECAY}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.SGD([p for p in parts if p["params"]], lr=lr, momentum=0.9)


def train(
    model: Model, pictures: Pictures, groups: ConceptGroups | None, args: argparse.Namespace
) -> Iterator[dict[str, float]]:
    """Train in place; yield the terms of every step."""
    net = model.net.train().requires_grad_(True)
    steps = args.epochs * (len(pictures.x) // args.batch)
    optimize = optimizer(net, groups, args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimize, args.lr, steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(args.seed)
    mixed = model.device.type != "cpu"  # most processors only take longer
    with groups.hooks(net) if groups else nullcontext():
        for _ in range(args.epochs):
            order = torch.randperm(len(pictures.x), generator=generator)
            for batch in order.split(args.batch)[: steps // args.epochs]:
                x = model.preprocess.normalize(pictures.x[batch].to(model.device))
                with torch.autocast(model.device.type, torch.bfloat16, mixed):
                    logits = net(x)
                task = F.cross_entropy(logits.float(), pictures.y[batch].to(model.device))
                terms = groups.terms(net) if groups else {}
                loss = task + groups.weighted(terms) if groups else task
                optimize.zero_grad()
                loss.backward()
                optimize.step()
                schedule.step()
                yield {k: float(v.detach()) for k, v in {"task_loss": task, **terms}.items()}
    net.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: Model, pictures: Pictures) -> float:
    right = 0
    for x, y in zip(pictures.x.split(256), pictures.y.split(256), strict=True):
        logits = model.net(model.preprocess.normalize(x.to(model.device)))
        right += int((logits.argmax(1).cpu() == y).sum())
    return right / len(pictures.y)


def dissect(model: Model, folder: Path) -> dict[str, dict[str, object]]:
    """Unique detectors of both convolutions among the 15 concepts, and their mean best IoU."""
    data = cnnlens.open_data(folder)
    layers = [cnnlens.find_layers(model).resolve(f"module:{name}") for name in LAYERS]
    source = cnnlens.ModelSource(model, data, layers, cnnlens.RunSettings(batch_size=50))
    found = cnnlens.dissect(source, data, cnnlens.DissectSettings(chance=0, top=0), workers=1)
    return {n: summarize(one) for n, one in zip(LAYERS, found, strict=True)}


def summarize(found: cnnlens.measure.dissection.Dissection) -> dict[str, object]:
    names = found.concepts.names
    among = [k for k, name in enumerate(names) if name.category in CATEGORIES]
    scores = found.iou[:, among]  # (C, 15)
    best, iou = scores.argmax(axis=1), scores.max(axis=1)
    unique = {limit: np.unique(best[iou >= limit]) for limit in (0.04, 0.15)}
    category = [names[among[k]].category for k in unique[0.04]]
    return {
        "unique": len(unique[0.04]),
        "by_category": {c: category.count(c) for c in CATEGORIES},
        "detectors": int((iou >= 0.04).sum()),
        "unique_15": len(unique[0.15]),
        "detectors_15": int((iou >= 0.15).sum()),
        "mean_iou": float(iou.mean()),
        "best": [[names[among[k]].label, float(v)] for k, v in zip(best, iou, strict=True)],
    }


def build(seed: int) -> Model:
    """Build the network from a seed: all variants start alike."""
    model = cnnlens.open_model("zoo:shapes_net")
    torch.manual_seed(seed)
    for module in model.net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.reset_parameters()
    return model


def one_run(name: str, args: argparse.Namespace, folder: Path) -> dict[str, object]:
    variant, model = VARIANTS[name], build(args.seed)
    fresh = Pictures.draw(len(PAIRS) * args.images // 5, 1000 + args.seed)
    before, history = accuracy(model, fresh), []
    settings = variant.settings
    groups = ConceptGroups(grouped_layers(model, LAYERS, 5), settings) if settings else None
    if variant.trained:
        pictures = Pictures.draw(len(PAIRS) * args.images * 4 // 5, args.seed)
        for terms in train(model, pictures, groups, args):
            history.append(terms)
            if len(history) % 50 == 0:
                shown = ", ".join(f"{k} {v:.3f}" for k, v in terms.items())
                print(f"  seed {args.seed} {name}, step {len(history)}: {shown}", flush=True)
    found: dict[str, object] = {"seed": args.seed, "variant": name, "method": "none"}
    if groups:
        x = model.preprocess.normalize(fresh.x[:256].to(model.device)).split(32)
        found |= {**groups.record(), "groups": record_groups(groups, model.net, x)}
    save_checkpoint(
        args.out / f"seed{args.seed}_{name}.pt", model.net, model.arch, model.preprocess,
        interpretable=groups.record() if groups else None,
    )  # fmt: skip
    return found | {
        "accuracy": {"before": before, "after": accuracy(model, fresh)},
        "dissection": dissect(model, folder),
        "history": history,
    }


def table(out: Path) -> str:
    """All runs that there are, as means over seeds (and the single values)."""
    lines = [
        "| | layer | unique detectors | published | above IoU 0.15 | mean best IoU | accuracy |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for name in VARIANTS:
        runs = [json.loads(p.read_text()) for p in sorted(out.glob(f"seed*_{name}.json"))]
        for place, layer in enumerate(LAYERS if runs else ()):
            of = [run["dissection"][layer] for run in runs]
            published = PAPER[name][place] if name in PAPER else "–"
            cells = [_each(o["unique"] for o in of), str(published)]
            cells.append(_each(o["unique_15"] for o in of))
            cells.append(_each((o["mean_iou"] for o in of), 3))
            cells.append(_each((run["accuracy"]["after"] for run in runs), 3))
            lines.append(f"| {name} | {layer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _each(values: Iterator[float], digits: int = 0) -> str:
    found = list(values)
    single = ", ".join(f"{v:.{digits}f}" for v in found)
    return f"{np.mean(found):.{digits or 1}f} ({single})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("cgl_shapes"))
    parser.add_argument("--images", type=int, default=640, help="pictures per combination")
    parser.add_argument("--measure", type=int, default=20, help="dissected per combination")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    folder = args.out / "pictures"
    if not folder.exists():
        cnnlens.make_shapes(folder, len(PAIRS) * args.measure, seed=999)
    for seed, name in itertools.product(args.seeds, args.variants):
        file = args.out / f"seed{seed}_{name}.json"
        if not file.exists():
            args.seed = seed
            write_json(file, one_run(name, args, folder))
    print(table(args.out))


if __name__ == "__main__":
    main()
