"""What a network is trained for: the task, and what a method adds to its loss; and how fast its
weights learn: new layers at the full rate, old ones at a share of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlens.interpretable.reductions import Reduce
from cnnlens.model.ending import run_before_link
from cnnlens.model.rectified import within
from cnnlens.model.streams import exact, sent
from cnnlens.settings.finetune import FinetuneSettings


class Examples(Protocol):
    """Inputs and labels of one set of images, in memory or read when asked for."""

    labels: Tensor

    def inputs(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Return network inputs (B, …), those of `mirrored` (B,) bool flipped left to right."""
        ...


def split(
    labels: Tensor, share: float, seed: int, same: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Hold out a share of every class.

    Parameters
    ----------
    labels : torch.Tensor
        (N,) int64.
    share : float
        Held out; at least one image of every class, and at least one stays.
    seed : int
        Of the choice.
    same : torch.Tensor, optional
        (N,) int64, the first image that each equals. Equal ones are one image to the choice, and
        stand on one side: what was learned by heart would be asked again.

    Returns
    -------
    training, validation : torch.Tensor
        Indices, ascending.
    """
    every = torch.arange(len(labels))
    same = every if same is None else same
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    firsts = same == every
    for label in labels[firsts].unique().tolist():
        of = ((labels == label) & firsts).nonzero()[:, 0]
        of = of[torch.randperm(len(of), generator=generator)]
        held[of[: min(max(1, round(share * len(of))), len(of) - 1)]] = True
    held = held[same]
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def task_losses(logits: Tensor, labels: Tensor, loss: str) -> Tensor:
    """Loss of each image, (N,); label -1 is no class, which only the logistic loss can say."""
    if loss == "softmax":
        return F.cross_entropy(logits, labels, reduction="none")
    truth = (labels[:, None] == torch.arange(logits.shape[1], device=labels.device)).float()
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=1)


def some_of_none(examples: Examples) -> bool:
    """Whether some of all images are of no class, which is then an answer to every one of them."""
    return bool((examples.labels < 0).any())


def is_right(logits: Tensor, labels: Tensor, loss: str, may_be_none: bool) -> Tensor:
    """Whether each image is classified rightly.

    Parameters
    ----------
    logits : torch.Tensor
        (N, K).
    labels : torch.Tensor
        (N,) int64, -1 for no class.
    loss : str
        "softmax" or "logistic".
    may_be_none : bool
        Whether no class is an answer, as it is when no logit is above 0: see `some_of_none`, of
        whole trainings, as one batch does not tell. Where there is one class it always is.

    Returns
    -------
    torch.Tensor
        (N,) bool.
    """
    predicted = logits.argmax(dim=1)
    if loss == "logistic" and (may_be_none or logits.shape[1] == 1):
        predicted = torch.where(logits.amax(dim=1) > 0, predicted, -1)
    return predicted == labels


@torch.no_grad()
def evaluate(
    net: nn.Module, examples: Examples, indices: Tensor, settings: FinetuneSettings, link: str = ""
) -> tuple[float, float]:
    """Return mean task loss and accuracy on some of the examples; the network's mode stays.

    They are those of the scores before a `link` that the network ends with (see `model.ending`).
    """
    device = next(net.parameters()).device
    loss = right = torch.zeros((), dtype=exact(device), device=device)
    none = some_of_none(examples)
    with keeping_modes(net):
        net.eval()
        for part in indices.split(settings.batch_size):
            labels = sent(examples.labels[part], device)
            logits = run_before_link(net, unmirrored(examples, part), link).float()
            loss = loss + task_losses(logits, labels, settings.loss).sum()
            right = right + is_right(logits, labels, settings.loss, none).sum()
    return float(loss) / len(indices), float(right) / len(indices)


def unmirrored(examples: Examples, indices: Tensor) -> Tensor:
    """Return some of the inputs as they are."""
    return examples.inputs(indices, torch.zeros(len(indices), dtype=torch.bool))


@contextmanager
def keeping_modes(net: nn.Module) -> Iterator[None]:
    """Give every module of a network its mode (training or evaluation) back in the end."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class Method(Protocol):
    """An auxiliary loss; one per file, plugged into `trainer.Trainer`."""

    name: str

    def hooks(self, net: nn.Module) -> AbstractContextManager[None]:
        """Keep what the losses need during forward passes of `net`."""
        ...

    def terms(self, net: nn.Module, labels: Tensor, reduce: Reduce) -> dict[str, Tensor]:
        """Return the terms of the last forward pass, before weights.

        Parameters
        ----------
        net : torch.nn.Module
            That has just run.
        labels : torch.Tensor
            (N,) int64 categories, -1 for images of none.
        reduce : callable
            Adds up over processes, with gradient; the terms are the whole minibatch's.
        """
        ...

    def weighted(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        """Return what is added to the task's loss, `progress` of the training done (0 to 1)."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return parameters of its own, outside the network."""
        ...

    def undecayed(self, net: nn.Module) -> Iterable[nn.Parameter]:
        """Return parameters that the optimizer must not decay."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: numbers and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it in again."""
        ...

    def record(self) -> dict[str, Any]:
        """Return what ``new.pt`` says about the method under ``interpretable``."""
        ...


class Plain:
    """The same training without any method: the fair baseline."""

    name = "none"

    def __init__(self, record: dict[str, Any] | None = None) -> None:
        self._record = record or {}

    def hooks(self, net: nn.Module) -> AbstractContextManager[None]:
        """Hook nothing."""
        return nullcontext()

    def terms(self, net: nn.Module, labels: Tensor, reduce: Reduce) -> dict[str, Tensor]:
        """Return no terms."""
        return {}

    def weighted(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        """Never called: there are no terms."""
        raise ValueError("the plain training has no terms")

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return none."""
        return ()

    def undecayed(self, net: nn.Module) -> Iterable[nn.Parameter]:
        """Return none."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing in."""

    def record(self) -> dict[str, Any]:
        """Return what was inserted, as that is part of the architecture."""
        return {"method": "none", "layers": [], **self._record}


# -- which weights learn, and how fast ------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """How fast the modules of a network learn."""

    #: modules that learn at the full rate, all others at the trunk's share of it; None: all do
    new: Sequence[str] | None = None
    #: factors on the rate of single modules, where their inputs are not of the usual scale
    factors: Mapping[str, float] = field(default_factory=dict)

    def is_new(self, name: str) -> bool:
        """Whether a module or parameter of that name is new, or lies in a new one."""
        return self.new is None or any(within(name, module) for module in self.new)

    def of(self, name: str, trunk: float) -> float:
        """Return the factor on the highest rate of the parameter `name`."""
        own = (factor for module, factor in self.factors.items() if within(name, module))
        return next(own, 1.0) * (1.0 if self.is_new(name) else trunk)


def learning_rate(schedule: str, progress: float) -> float:
    """Return the factor on the highest rate when `progress` (0 to 1) of the training is done."""
    if schedule == "onecycle":  # a fifth up, then a cosine down
        if progress < 0.2:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / 0.2)) / 2
        return (1 + math.cos(math.pi * (progress - 0.2) / 0.8)) / 2
    if schedule == "steps":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.8 else 0.01
    return 1.0


def freeze(net: nn.Module, rates: Rates, trunk: float) -> list[nn.Module]:
    """Let new parameters learn, and old ones where they may; return the norms that stay as is."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(rates.is_new(name) or trunk > 0)
    if rates.new is None or trunk > 0:
        return []
    return [
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not rates.is_new(name)
    ]


def build_optimizer(
    net: nn.Module, method: Method, s: FinetuneSettings, rates: Rates
) -> torch.optim.Optimizer:
    """Build the rule of steps; each of its groups has a ``highest`` rate.

    Weights decay, biases and norms do not, nor what the method holds small in its own way.
    """
    spared = {id(p) for p in method.undecayed(net)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and id(parameter) not in spared
            groups.setdefault((rates.of(name, s.trunk), decays), []).append(parameter)
    own = [p for p in method.parameters() if p.requires_grad]
    if own:
        groups.setdefault((1.0, False), []).extend(own)
    parts = [
        {
            "params": parameters,
            "highest": s.lr * factor,
            "weight_decay": s.weight_decay if decays else 0.0,
        }
        for (factor, decays), parameters in groups.items()
    ]
    if s.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=s.lr, momentum=0.9)
    return torch.optim.AdamW(parts, lr=s.lr)
