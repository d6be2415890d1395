"""One training loop for all methods: a generator of steps and epochs; who iterates draws and saves.

Everything random follows from the seed and the epoch's number, so that a run that goes on from an
epoch's state ends as an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.method import Method
from cnnlens.interpretable.processes import summed
from cnnlens.settings.finetune import FinetuneSettings


class Examples(Protocol):
    """Inputs and labels of one set of images, in memory or read when asked for."""

    labels: Tensor

    def inputs(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Return network inputs (B, …), those of `mirrored` (B,) bool flipped left to right."""
        ...


@dataclass(frozen=True)
class Step:
    """One update.

    Attributes
    ----------
    epoch, step, steps : int
        Epoch from 1, step in it from 1, steps per epoch.
    terms : dict of str to float
        ``task_loss``, the method's terms, and ``accuracy`` on the minibatch.
    """

    epoch: int
    step: int
    steps: int
    terms: dict[str, float]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Attributes
    ----------
    epoch : int
        From 1.
    terms : dict of str to float
        Means of the steps' terms, with ``validation_loss`` and ``validation_accuracy``.
    stopped : bool
        Whether training ends here by early stopping.
    """

    epoch: int
    terms: dict[str, float]
    stopped: bool = False


def learning_rate(schedule: str, progress: float) -> float:
    """Return the factor on the highest rate when `progress` (0 to 1) of the training is done."""
    if schedule == "onecycle":  # a fifth up, then a cosine down
        if progress < 0.2:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / 0.2)) / 2
        return (1 + math.cos(math.pi * (progress - 0.2) / 0.8)) / 2
    if schedule == "steps":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.8 else 0.01
    return 1.0


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
    said = logits.argmax(dim=1)
    if loss == "logistic" and (logits.shape[1] == 1 or bool((labels < 0).any())):
        said = torch.where(logits.amax(dim=1) > 0, said, -1)
    return said == labels


class Trainer:
    """Trains a network in place.

    Parameters
    ----------
    net : torch.nn.Module
        Gives logits (N, K).
    examples : Examples
        Training and validation images.
    training, validation : torch.Tensor
        Their indices.
    method : Method
        What is trained for besides the task.
    settings : FinetuneSettings
        The training.
    fresh : sequence of str
        Modules that are new: they learn at the full rate, all others at `settings.trunk` of it.

    Attributes
    ----------
    epoch : int
        Epochs done.
    """

    def __init__(
        self,
        net: nn.Module,
        examples: Examples,
        training: Tensor,
        validation: Tensor,
        method: Method,
        settings: FinetuneSettings,
        fresh: Sequence[str] | None = None,
    ) -> None:
        self.net, self.examples, self.method, self.settings = net, examples, method, settings
        self.training, self.validation = training, validation
        self.epoch = 0
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self._rank, self._world = _process()
        if len(training) // self.steps < self._world:
            raise UsageError(
                f"batches of {settings.batch_size} do not reach {self._world} processes",
                "choose a larger --batch-size, or fewer processes",
            )
        self._frozen = _freeze(net, fresh, settings.trunk)
        self._optimizer = _optimizer(net, method, settings, fresh)

    @property
    def steps(self) -> int:
        """Steps per epoch: as many as it takes, of nearly equal size."""
        return -(-len(self.training) // self.settings.batch_size)

    def run(self) -> Iterator[Step | Epoch]:
        """Train from where it stands to the last epoch.

        Raises
        ------
        CnnlensError
            When a loss or a weight is no longer finite; the network is then of no use.
        """
        with self.method.listening(self.net):
            while self.epoch < self.settings.epochs:
                sums: dict[str, float] = {}
                for step in self._pass():
                    for name, value in step.terms.items():
                        sums[name] = sums.get(name, 0.0) + value / step.steps
                    yield step
                done = self._finish(sums)
                yield done
                if done.stopped:
                    break
        self._restore_best()

    def _pass(self) -> Iterator[Step]:
        s, epoch = self.settings, self.epoch
        generator = torch.Generator().manual_seed(s.seed * 100_003 + epoch)
        torch.manual_seed(s.seed * 100_003 + epoch + 7_919 * self._rank)  # dropout's
        order = self.training[torch.randperm(len(self.training), generator=generator)]
        mirrored = torch.rand(len(order), generator=generator) < (0.5 if s.mirror else 0.0)
        self._train_mode()
        parts = (order.tensor_split(self.steps), mirrored.tensor_split(self.steps))
        for number, (indices, flips) in enumerate(zip(*parts, strict=True)):
            mine = slice(self._rank, None, self._world)
            terms = self._step(indices[mine], flips[mine], number)
            yield Step(epoch + 1, number + 1, self.steps, terms)

    def _step(self, indices: Tensor, flips: Tensor, number: int) -> dict[str, float]:
        s = self.settings
        progress = (self.epoch * self.steps + number) / (s.epochs * self.steps)
        factor = learning_rate(s.schedule, progress)
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest"] * factor
        device = next(self.net.parameters()).device
        labels = self.examples.labels[indices].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=s.amp):
            logits = self.net(self.examples.inputs(indices, flips))
        losses = task_losses(logits.float(), labels, s.loss)
        count = summed(losses.new_tensor(float(len(indices))))
        loss = task = summed(losses.sum()) / count
        terms = self.method.terms(self.net, labels, summed)
        if terms:
            loss = task + self.method.weighted(terms, progress)
        self._check({"task_loss": task, **terms}, number)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        self._optimizer.step()
        right = summed(is_right(logits.detach(), labels, s.loss).float().sum()) / count
        found = {"task_loss": task, **terms, "accuracy": right}
        return {name: float(value.detach()) for name, value in found.items()}

    def _check(self, terms: dict[str, Tensor], number: int) -> None:
        bad = [name for name, value in terms.items() if not bool(value.detach().isfinite())]
        if bad:
            raise _diverged(f"{bad[0]} is no longer finite", self.epoch, number)

    def _average_gradients(self) -> None:
        if self._world == 1:
            return
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:  # all must take part
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
                parameter.grad /= self._world

    def _finish(self, terms: dict[str, float]) -> Epoch:
        if not all(bool(p.isfinite().all()) for p in self.net.parameters()):
            raise _diverged("a weight is no longer finite", self.epoch, self.steps)
        loss, accuracy = self.evaluate(self.validation)
        self.epoch += 1
        stopped = False
        if self.settings.patience:
            if self.best is None or loss < self.best[0]:
                state = {k: v.detach().cpu().clone() for k, v in self.net.state_dict().items()}
                self.best = (loss, self.epoch, state)
            stopped = self.epoch - self.best[1] >= self.settings.patience
        found = {**terms, "validation_loss": loss, "validation_accuracy": accuracy}
        return Epoch(self.epoch, found, stopped)

    @torch.no_grad()
    def evaluate(self, indices: Tensor) -> tuple[float, float]:
        """Return mean task loss and accuracy on some of the examples."""
        self.net.eval()
        device = next(self.net.parameters()).device
        loss = right = 0.0
        for part in indices.split(self.settings.batch_size):
            labels = self.examples.labels[part].to(device)
            logits = self.net(self.examples.inputs(part, torch.zeros(len(part), dtype=torch.bool)))
            loss += float(task_losses(logits.float(), labels, self.settings.loss).sum())
            right += float(is_right(logits, labels, self.settings.loss).sum())
        return loss / len(indices), right / len(indices)

    def _train_mode(self) -> None:
        self.net.train()
        for module in self._frozen:  # their norms keep their statistics
            module.eval()

    def _restore_best(self) -> None:
        if self.best is not None:
            self.net.load_state_dict(self.best[2])
        self.net.eval()

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to go on from here, beside the network's own state."""
        return {
            "epoch": self.epoch,
            "optimizer": self._optimizer.state_dict(),
            "method": self.method.state_dict(),
            "best": None if self.best is None else list(self.best),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; the network's own state must have been loaded."""
        self.epoch = int(state["epoch"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.method.load_state_dict(state["method"])
        best = state["best"]
        self.best = None if best is None else (float(best[0]), int(best[1]), best[2])


def _process() -> tuple[int, int]:
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def _diverged(what: str, epoch: int, step: int) -> CnnlensError:
    return CnnlensError(
        f"training diverged in epoch {epoch + 1}, step {step + 1}: {what}",
        "try a smaller --lr, or smaller weights of the method's losses",
    )


def _is_fresh(name: str, fresh: Sequence[str] | None) -> bool:
    return fresh is None or any(name == one or name.startswith(f"{one}.") for one in fresh)


def _freeze(net: nn.Module, fresh: Sequence[str] | None, trunk: float) -> list[nn.Module]:
    """Let new parameters learn, and old ones where they may; return the modules that stay as is."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(_is_fresh(name, fresh) or trunk > 0)
    if fresh is None or trunk > 0:
        return []
    return [
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not _is_fresh(name, fresh)
    ]


def _optimizer(
    net: nn.Module, method: Method, s: FinetuneSettings, fresh: Sequence[str] | None
) -> torch.optim.Optimizer:
    spared = {id(p) for p in method.undecayed(net)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and id(parameter) not in spared
            groups.setdefault((_is_fresh(name, fresh), decays), []).append(parameter)
    own = [p for p in method.parameters() if p.requires_grad]
    if own:
        groups.setdefault((True, False), []).extend(own)
    parts = [
        {
            "params": parameters,
            "highest": s.lr * (1.0 if new else s.trunk),
            "weight_decay": s.weight_decay if decays else 0.0,
        }
        for (new, decays), parameters in groups.items()
    ]
    if s.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=s.lr, momentum=0.9)
    return torch.optim.AdamW(parts, lr=s.lr)
