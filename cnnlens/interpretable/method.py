"""What a network is trained for: the task, and what a method adds to its loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlens.interpretable.concept_groups import ConceptGroups
from cnnlens.interpretable.distributed import Reduce
from cnnlens.settings.finetune import FinetuneSettings


class Examples(Protocol):
    """Inputs and labels of one set of images, in memory or read when asked for."""

    labels: Tensor

    def inputs(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Return network inputs (B, …), those of `mirrored` (B,) bool flipped left to right."""
        ...


def split(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out a share of every class.

    Parameters
    ----------
    labels : torch.Tensor
        (N,) int64.
    share : float
        Held out; at least one image of every class, and at least one stays.
    seed : int
        Of the choice.

    Returns
    -------
    training, validation : torch.Tensor
        Indices, ascending.
    """
    generator = torch.Generator().manual_seed(seed)
    kept, held = [], []
    for label in labels.unique().tolist():
        of = (labels == label).nonzero()[:, 0]
        of = of[torch.randperm(len(of), generator=generator)]
        count = min(max(1, round(share * len(of))), len(of) - 1)
        held.append(of[:count])
        kept.append(of[count:])
    return torch.cat(kept).sort().values, torch.cat(held).sort().values


def task_losses(logits: Tensor, labels: Tensor, loss: str) -> Tensor:
    """Loss of each image, (N,); label -1 is no class, which only the logistic loss can say."""
    if loss == "softmax":
        return F.cross_entropy(logits, labels, reduction="none")
    truth = (labels[:, None] == torch.arange(logits.shape[1], device=labels.device)).float()
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=1)


def is_right(logits: Tensor, labels: Tensor, loss: str) -> Tensor:
    """Whether each image is classified rightly, (N,) bool; no class is when no logit is above 0."""
    predicted = logits.argmax(dim=1)
    if loss == "logistic" and (logits.shape[1] == 1 or bool((labels < 0).any())):
        predicted = torch.where(logits.amax(dim=1) > 0, predicted, -1)
    return predicted == labels


@torch.no_grad()
def evaluate(
    net: nn.Module, examples: Examples, indices: Tensor, settings: FinetuneSettings
) -> tuple[float, float]:
    """Return mean task loss and accuracy on some of the examples; the network's mode stays."""
    device = next(net.parameters()).device
    loss = right = 0.0
    with keeping_modes(net):
        net.eval()
        for part in indices.split(settings.batch_size):
            labels = examples.labels[part].to(device)
            logits = net(unmirrored(examples, part))
            loss += float(task_losses(logits.float(), labels, settings.loss).sum())
            right += float(is_right(logits, labels, settings.loss).sum())
    return loss / len(indices), right / len(indices)


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


class Grouped:
    """Concept groups as a method of the training loop."""

    name = "cgl"

    def __init__(self, groups: ConceptGroups, record: dict[str, Any] | None = None) -> None:
        self.groups, self._record = groups, record or {}

    def hooks(self, net: nn.Module) -> AbstractContextManager[None]:
        """Keep pre-activations."""
        return self.groups.hooks(net)

    def terms(self, net: nn.Module, labels: Tensor, reduce: Reduce) -> dict[str, Tensor]:
        """Return ``group_loss, spatial_loss, block_norm``."""
        return self.groups.terms(net, reduce)

    def weighted(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        """Weigh them as eq. 8."""
        return self.groups.weighted(terms)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return P1 and P2."""
        return self.groups.parameters()

    def undecayed(self, net: nn.Module) -> Iterable[nn.Parameter]:
        """Return the weights that the block norm holds small."""
        return self.groups.undecayed(net)

    def state_dict(self) -> dict[str, Any]:
        """Return P1, P2 and the state of the pairs' generator."""
        return {"own": self.groups.state_dict(), "generator": self.groups.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them in."""
        self.groups.load_state_dict(state["own"])
        self.groups.generator.set_state(state["generator"])

    def record(self) -> dict[str, Any]:
        """Return the groups' record."""
        return {**self.groups.record(), **self._record}
