"""What a network makes of the images that its training holds out, and what that says is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnlens.interpretable.method import is_right, keeping_modes, unmirrored
from cnnlens.interpretable.trainer import Trainer
from cnnlens.model.ending import without_link
from cnnlens.model.hooks import read_and_run
from cnnlens.model.streams import sent
from cnnlens.model.trace import Place


@dataclass(frozen=True)
class Answers:
    """A network's answers, and which of its new units they excite."""

    images: int
    accuracy: float
    chance: float  #: share that is right for who says the most frequent class
    classes: int  #: classes that the images are of
    constant: int  #: of these, those whose scores are the same for every image
    silent: dict[str, tuple[int, int]]  #: units that none excites, and all, of each new layer

    def warnings(self) -> list[str]:
        """Say which layers are dead, and where answers tell nothing."""
        said = [
            f"{dead} of {units} filters of {name} went silent: start from a trained "
            "network, or try a smaller --lr or --lambda-filter"
            for name, (dead, units) in self.silent.items()
            if 2 * dead > units
        ]
        if self.constant:
            said.append(
                f"the scores of {self.constant} of {self.classes} classes are the same for every "
                "image held out: try a smaller --lr, or more --epochs"
            )
        spread = (self.chance * (1 - self.chance) / self.images) ** 0.5  # of so many guesses
        if self.accuracy <= self.chance + spread:
            said.append(
                f"the accuracy of {self.accuracy:.3f} is what chance gives ({self.chance:.3f}): "
                "try more --epochs, another --lr, or a --trunk above 0"
            )
        return said


def inputs(trainer: Trainer) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield numbers of images that a training holds out (B,), and their inputs (B, C, H, W)."""
    for part in trainer.validation.split(trainer.settings.batch_size):
        yield part, unmirrored(trainer.examples, part)


@torch.no_grad()
def ask(trainer: Trainer, layers: Sequence[str]) -> Answers:
    """Show a training's network, as it stands, the images held out, once.

    Parameters
    ----------
    trainer : Trainer
        Its network keeps its modes.
    layers : sequence of str
        Modules whose maps (B, C, H, W) are looked at.
    """
    net, places = trainer.net, [Place(path=name) for name in layers]
    peaks: list[Tensor] = []
    right: list[Tensor] = []
    alike: list[Tensor] = []  # to the first image's scores
    first: Tensor | None = None
    with keeping_modes(net):
        net.eval()
        for part, x in inputs(trainer):
            maps, output = read_and_run(net, x, places, stop=False)
            logits = without_link(output.float(), trainer.link)
            found = [m.amax(dim=(0, 2, 3)) for m in maps]  # (C,) each
            peaks = [torch.maximum(a, b) for a, b in zip(peaks or found, found, strict=True)]
            labels = sent(trainer.examples.labels[part], logits.device)
            loss, none = trainer.settings.loss, trainer.may_be_none
            right.append(is_right(logits, labels, loss, none))
            first = logits[0] if first is None else first
            alike.append((logits == first).all(dim=0))  # (K,)
    labels = trainer.examples.labels[trainer.validation]
    named, count = labels.unique(return_counts=True)
    named = named[named >= 0]
    return Answers(
        images=len(labels),
        accuracy=int(torch.cat(right).sum()) / len(labels),
        chance=float(count.max()) / len(labels),
        classes=len(named),
        constant=int(torch.stack(alike).all(dim=0).cpu()[named].sum()),
        silent={
            name: (int((peak <= 0).sum()), len(peak))
            for name, peak in zip(layers, peaks, strict=True)
        },
    )
