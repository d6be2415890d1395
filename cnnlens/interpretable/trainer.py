"""One training loop for all methods: a generator of steps and epochs; who iterates draws and saves.

Everything random follows from the seed and the epoch's number, so that a run that goes on from an
epoch's state ends as an unbroken one. It has a random state of its own: torch's global generators
are the caller's, between steps and afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.distributed import rank_and_size
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.method import (
    Examples,
    Method,
    Rates,
    build_optimizer,
    evaluate,
    freeze,
    is_right,
    keeping_modes,
    learning_rate,
    some_of_none,
    task_losses,
)
from cnnlens.interpretable.random_state import RandomState
from cnnlens.interpretable.reductions import (
    average,
    from_first,
    reduce_max,
    reduce_sum,
    running_statistics,
)
from cnnlens.model.ending import run_before_link
from cnnlens.model.in_training import Returned
from cnnlens.model.streams import exact, look_every, sent
from cnnlens.progress import Step as Progress
from cnnlens.progress import Words
from cnnlens.settings.finetune import FinetuneSettings


@dataclass(frozen=True)
class Step:
    """One update."""

    #: epoch, step, steps: epoch from 1, step in it from 1, steps per epoch
    epoch: int
    step: int
    steps: int
    found: dict[str, Tensor] = field(repr=False)  #: the terms, where they were computed

    @cached_property
    def terms(self) -> dict[str, float]:
        """``task_loss``, the method's terms, and ``accuracy`` on the minibatch; waits for the
        device.
        """
        values = torch.stack([value.to(exact(value.device)) for value in self.found.values()])
        return dict(zip(self.found, values.tolist(), strict=True))


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images."""

    epoch: int  #: from 1
    #: means of the steps' terms, with ``validation_loss`` and ``validation_accuracy``
    terms: dict[str, float]
    stopped: bool = False  #: whether training ends here by early stopping


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
    rates : Rates
        Which modules are new, and how fast they learn.
    link : str
        What the network ends with (see `model.ending`): losses are of the scores before it.
    returned : Returned, optional
        Where the scores are in training mode; None: as in evaluation mode.

    Attributes
    ----------
    epoch : int
        Epochs done.
    may_be_none : bool
        Whether no class is an answer that an image may get (see `is_right`).
    best : tuple of (float, int, dict) or None
        Lowest validation loss, its epoch, and the network's state then, where there is patience.
    """

    def __init__(
        self,
        net: nn.Module,
        examples: Examples,
        training: Tensor,
        validation: Tensor,
        method: Method,
        settings: FinetuneSettings,
        rates: Rates | None = None,
        link: str = "",
        returned: Returned | None = None,
    ) -> None:
        self.link, self.returned = link, returned or Returned(link=link)
        self.net, self.examples, self.method, self.settings = net, examples, method, settings
        self.training, self.validation = training, validation
        self.may_be_none = some_of_none(examples)
        self.epoch = 0
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self._rank, self._processes = rank_and_size()
        if len(training) // self.steps < self._processes:
            raise UsageError(
                f"batches of {settings.batch_size} do not reach {self._processes} processes",
                "choose a larger --batch-size, or fewer processes",
            )
        rates = rates or Rates()
        self._frozen = freeze(net, rates, settings.trunk)
        self._optimizer = build_optimizer(net, method, settings, rates)
        self._random = RandomState(next(net.parameters()).device)

    @property
    def steps(self) -> int:
        """Steps per epoch: as many as it takes, of nearly equal size."""
        return -(-len(self.training) // self.settings.batch_size)

    def run(self) -> Iterator[Step | Epoch]:
        """Train from where it stands to the last epoch.

        A run that is left early leaves the network in the mode that it came in; one that ends
        leaves it in evaluation mode, with its best weights where there is patience.

        Raises
        ------
        CnnlensError
            When a loss or a weight is no longer finite; the network is then of no use.
        """
        with keeping_modes(self.net), self.method.hooks(self.net):
            while self.epoch < self.settings.epochs and not self._is_stuck():
                sums: dict[str, Tensor] = {}
                for step in self._pass():
                    for name, value in step.found.items():
                        share = value.to(exact(value.device)) / step.steps
                        sums[name] = sums[name] + share if name in sums else share
                    yield step
                yield self._finish({name: float(value) for name, value in sums.items()})
        self._restore_best()

    def _is_stuck(self) -> bool:
        patience, best = self.settings.patience, self.best
        return bool(patience) and best is not None and self.epoch - best[1] >= patience

    def _pass(self) -> Iterator[Step]:
        s, epoch = self.settings, self.epoch
        generator = torch.Generator().manual_seed(s.seed * 100_003 + epoch)
        self._random.seed(s.seed * 100_003 + epoch + 7_919 * self._rank)  # dropout's
        order = self.training[torch.randperm(len(self.training), generator=generator)]
        mirrored = torch.rand(len(order), generator=generator) < (0.5 if s.mirror else 0.0)
        self._train_mode()
        self._wrong: dict[str, Tensor] = {}
        parts = (order.tensor_split(self.steps), mirrored.tensor_split(self.steps))
        for number, (indices, flips) in enumerate(zip(*parts, strict=True)):
            mine = slice(self._rank, None, self._processes)
            with self._random.in_use():
                terms = self._step(indices[mine], flips[mine], number)
            yield Step(epoch + 1, number + 1, self.steps, terms)

    def _step(self, indices: Tensor, flips: Tensor, number: int) -> dict[str, Tensor]:
        s = self.settings
        progress = (self.epoch * self.steps + number) / (s.epochs * self.steps)
        factor = learning_rate(s.schedule, progress)
        for group in self._optimizer.param_groups:
            group["lr"] = group["highest"] * factor
        device = next(self.net.parameters()).device
        labels = sent(self.examples.labels[indices], device)
        with torch.autocast(device.type, torch.bfloat16, enabled=s.amp):
            logits = self._logits(indices, flips)
        losses = task_losses(logits.float(), labels, s.loss)
        count = reduce_sum(losses.new_full((), float(len(indices))))
        loss = task = reduce_sum(losses.sum()) / count
        terms = self.method.terms(self.net, labels, reduce_sum)
        if terms:
            loss = task + self.method.weighted(terms, progress)
        self._check({"task_loss": task, **terms}, number)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        self._optimizer.step()
        right = is_right(logits.detach(), labels, s.loss, self.may_be_none)
        right = reduce_sum(right.float().sum()) / count
        found = {"task_loss": task, **terms, "accuracy": right}
        return {name: value.detach() for name, value in found.items()}

    def _logits(self, indices: Tensor, flips: Tensor) -> Tensor:
        x, of = self.examples.inputs(indices, flips), self.returned
        try:
            return run_before_link(self.net, x, of.link, of.name)
        except ValueError as error:
            if len(indices) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise self._of_one() from error

    def _of_one(self) -> UsageError:
        """Say that a norm over the batch has but one image; which size leaves none alone."""
        images = len(self.training)
        sizes = range(self.settings.batch_size + 1, images + 1)
        enough = (n for n in sizes if images // -(-images // n) >= 2 * self._processes)
        size = next(enough, None)
        return UsageError(
            f"a BatchNorm of the network cannot learn from a batch of one image ({images} are "
            f"trained on, at most {self.settings.batch_size} at a time)",
            "give more images" if size is None else f"use --batch-size {size}",
        )

    def _check(self, terms: dict[str, Tensor], number: int) -> None:
        """Note the first step that a term was not finite in, counted from 1; look now and then."""
        for name, value in terms.items():
            known = self._wrong.get(name, value.new_zeros((), dtype=torch.int64))
            bad = (known == 0) & ~value.detach().isfinite()
            self._wrong[name] = torch.where(bad, number + 1, known)
        every = look_every(next(self.net.parameters()).device)
        if (number + 1) % every and number + 1 < self.steps:
            return
        steps = torch.stack(list(self._wrong.values())).tolist()
        found = [(step, name) for name, step in zip(self._wrong, steps, strict=True) if step]
        if found:
            step, name = min(found, key=lambda one: one[0])
            raise _diverged(f"{name} is no longer finite", self.epoch, step - 1)

    def _average_gradients(self) -> None:
        learning = [p for group in self._optimizer.param_groups for p in group["params"]]
        if self._processes > 1:
            device = next(self.net.parameters()).device
            learned = torch.tensor([p.grad is not None for p in learning], device=device).int()
            for parameter, has in zip(learning, reduce_max(learned).tolist(), strict=True):
                if has and parameter.grad is None:  # all must take part
                    parameter.grad = torch.zeros_like(parameter)
        average(p.grad for p in learning if p.grad is not None)

    def _finish(self, terms: dict[str, float]) -> Epoch:
        if not torch.stack([p.isfinite().all() for p in self.net.parameters()]).all():
            raise _diverged("a weight is no longer finite", self.epoch, self.steps - 1)
        average(running_statistics(self.net))
        device = next(self.net.parameters()).device
        loss, accuracy = from_first(self.evaluate(self.validation), device)
        if not math.isfinite(loss):
            raise _diverged("validation_loss is no longer finite", self.epoch, self.steps - 1)
        self.epoch += 1
        if self.settings.patience and (self.best is None or loss < self.best[0]):
            state = {k: v.detach().cpu().clone() for k, v in self.net.state_dict().items()}
            self.best = (loss, self.epoch, state)
        found = {**terms, "validation_loss": loss, "validation_accuracy": accuracy}
        return Epoch(self.epoch, found, self._is_stuck())

    def progress(self, event: Step | Epoch) -> Progress:
        """Say how far the training is after a step or an epoch, with every number of it."""
        total, ended = self.settings.epochs * self.steps, isinstance(event, Epoch)
        done = (event.epoch - 1) * self.steps
        done += self.steps if isinstance(event, Epoch) else event.step
        note = Words(lambda: _worded(event))
        return Progress(done, total, "training", note=note, unit="steps", milestone=ended)

    def evaluate(self, indices: Tensor) -> tuple[float, float]:
        """Return mean task loss and accuracy on some of the examples."""
        return evaluate(self.net, self.examples, indices, self.settings, self.link)

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


def _worded(event: Step | Epoch) -> str:
    terms = (f"{name.replace('_', ' ')} {value:.3g}" for name, value in event.terms.items())
    return f"epoch {event.epoch}, {', '.join(terms)}"


def _diverged(what: str, epoch: int, step: int) -> CnnlensError:
    return CnnlensError(
        f"training diverged in epoch {epoch + 1}, step {step + 1}: {what}",
        "try a smaller --lr, or smaller weights of the method's losses",
    )
