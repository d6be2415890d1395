"""Training an up-convolutional network: Adam on the squared error of images.

    examples = Examples(model, layer, pixels)
    for step in examples.read(training): ...
    run = Training(examples, training, held_out, UpconvSettings(), model)
    for step in run.steps(): ...       # a milestone after each epoch: keep `run.state_dict()`
    run.net                            # the weights that did best on the images held out

The rate climbs at first, then falls along a cosine. Everything random
follows from the seed and the epoch's number: a run that goes on from an epoch's state ends as an
unbroken one. A training that diverges goes back to the last epoch and halves its rate.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.device import in_batches
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.streams import sent
from cnnlens.progress import Step
from cnnlens.settings.invert import UpconvSettings
from cnnlens.synthesize.examples import Examples
from cnnlens.synthesize.upconv import UpconvNet

BATCH = 32  # images per step, and fewer where there are so few that an epoch has not ten steps
PATIENCE = 10  # epochs without progress that end a training
_CLIMB = 100  # steps over which the rate climbs, at most a third of the training
_BACK_OFFS = 4  # halvings of the rate before a training is given up
_TIMED = 8  # images that say how long one takes


class Training:
    """A network that learns to give images from a layer's answers.

    Parameters
    ----------
    examples : Examples
        After `read`.
    training, held_out : torch.Tensor
        Which of them to learn from, and which to measure on.
    settings : UpconvSettings
        The training.
    model : Model
        Whose layer it is; the network is trained where it runs.

    Attributes
    ----------
    net : UpconvNet
        In training; at the end with its best weights.
    epoch, epochs : int
        Done, and asked.
    history : list of dict
        ``epoch, training_rmse, held_out_rmse`` of each epoch: pixels in [0, 1].
    floor : float
        RMSE of the mean image on the images held out.
    done : bool
        Whether it has ended.
    """

    def __init__(
        self,
        examples: Examples,
        training: Tensor,
        held_out: Tensor,
        settings: UpconvSettings,
        model: Model,
    ) -> None:
        self.examples, self.training, self.held_out = examples, training, held_out
        self.settings, self._model = settings, model
        self.net = UpconvNet(examples.layer.shape, examples.shape, settings.width, settings.seed)
        self.net.standardize(examples.mean, examples.deviation, examples.floor)
        self.net.to(model.device).to(memory_format=torch.channels_last)  # quicker on a CPU
        self.epoch, self.epochs = 0, settings.passes(len(training))
        self.history: list[dict[str, float]] = []
        self.done = False
        self._factor, self._limit = 1.0, BATCH
        self._adam = torch.optim.Adam(self.net.parameters(), lr=settings.rate)
        self._scaler = torch.amp.GradScaler(enabled=self._half() is torch.float16)
        floor = examples.floor
        self.floor = _rmse((examples.images(rows) - floor).square() for rows in held_out.split(256))
        self._best = (0, self.floor, self._weights())  # the mean image, before anything is learned

    # ---- the course of it

    def steps(self) -> Iterator[Step]:
        """Train from where it stands to the end.

        Raises
        ------
        CnnlensError
            When it diverges however small the rate is, or memory does not suffice.
        """
        per_epoch = -(-len(self.training) // max(4, min(BATCH, len(self.training) // 10)))
        steps, total = self.epochs * per_epoch, self.epochs * len(self.training)
        while self.epoch < self.epochs and not self._is_stuck():
            before = copy.deepcopy(self.state_dict())
            begun = self.epoch * len(self.training)
            errors: list[Tensor] = []  # read when the epoch is over: no step waits for the device
            seen = 0
            for number, rows in enumerate(self._order().tensor_split(per_epoch)):
                errors.extend(self._step(rows, _rate(self.epoch * per_epoch + number, steps)))
                seen += len(rows)
                yield Step(begun + seen, total, note=self._words(self.epoch + 1))
            if not self._is_finite(errors):
                self._go_back(before)
                continue
            self._finish()
            yield Step(begun + seen, total, note=self._words(self.epoch), milestone=True)
        self.done = True
        self.net.load_state_dict(self._best[2])

    def _order(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.settings.seed * 100_003 + self.epoch)
        return self.training[torch.randperm(len(self.training), generator=generator)]

    def _step(self, rows: Tensor, rate: float) -> list[Tensor]:
        """Learn from some images, as many at once as memory allows; give their squared errors."""
        for group in self._adam.param_groups:
            group["lr"] = self.settings.rate * self._factor * rate
        weights = list(self.net.parameters())
        sums = [torch.zeros_like(weight) for weight in weights]

        def learn(part: slice) -> Tensor:
            some = rows[part]
            loss = self._errors(some).sum() / len(rows)
            found = torch.autograd.grad(self._scaler.scale(loss), weights)
            torch._foreach_add_(sums, found)  # only here: a part that failed leaves nothing
            return loss.detach()

        parts, self._limit = in_batches(len(rows), self._limit, learn, self._model)
        for weight, gradient in zip(weights, sums, strict=True):
            weight.grad = gradient
        self._scaler.step(self._adam)
        self._scaler.update()
        return parts

    def _errors(self, rows: Tensor) -> Tensor:
        """Mean squared error of each image, (B,)."""
        device = self._model.device
        features, images = self.examples.features(rows), self.examples.images(rows)
        with self._precision():
            made = self.net(sent(features, device)).float()
        return (made - sent(images, device)).square().mean(dim=(1, 2, 3))

    def _half(self) -> torch.dtype | None:
        """The type of mixed precision; None: none."""
        if self._model.device.type != "cuda" or not self.settings.amp:
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16

    def _precision(self) -> AbstractContextManager[Any]:
        half = self._half()
        return torch.autocast(self._model.device.type, half, enabled=half is not None)

    # ---- after an epoch

    def _finish(self) -> None:
        self.epoch += 1
        now = {
            "epoch": self.epoch,
            "training_rmse": self.rmse(self._sample),
            "held_out_rmse": self.rmse(self.held_out),
        }
        self.history.append(now)
        if now["held_out_rmse"] < self._best[1]:
            self._best = (self.epoch, now["held_out_rmse"], self._weights())

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().cpu().clone() for k, v in self.net.state_dict().items()}

    @property
    def best(self) -> dict[str, float]:
        """The history's entry of the epoch that did best; of none, as it began."""
        epoch, held_out, _ = self._best
        if epoch:
            return self.history[epoch - 1]
        return {"epoch": 0, "training_rmse": self.rmse(self._sample), "held_out_rmse": held_out}

    @property
    def _sample(self) -> Tensor:
        """About a thousand of the images it learns from, evenly spaced."""
        return self.training[:: -(-len(self.training) // 1000)]

    def _words(self, epoch: int) -> str:
        """How far it is, for people."""
        where = f"epoch {epoch} of {self.epochs}"
        if not self.history:
            return where
        held_out = self.history[-1]["held_out_rmse"]
        return f"{where}, held out: pixel RMSE {held_out:.3f} (mean image {self.floor:.3f})"

    @torch.no_grad()
    def rmse(self, rows: Tensor) -> float:
        """Root mean square error of the pixels of some images, in [0, 1]."""
        device = self._model.device

        def squares(part: slice) -> Tensor:
            made = self.net(self.examples.features(rows[part]).to(device)).clamp(0, 1)
            return (made.cpu() - self.examples.images(rows[part])).square()

        found, _ = in_batches(
            len(rows), 4 * self._limit, lambda part: squares(part).double().sum(), self._model
        )
        return float((sum(found) / (len(rows) * math.prod(self.examples.shape))) ** 0.5)

    def _is_stuck(self) -> bool:
        return self.epoch - self._best[0] >= PATIENCE

    def _is_finite(self, errors: list[Tensor]) -> bool:
        finite = [part.isfinite().all() for part in (*errors, *self.net.parameters())]
        return bool(torch.stack(finite).all())

    def _go_back(self, before: dict[str, Any]) -> None:
        factor = self._factor / 2
        if factor < 0.5**_BACK_OFFS:
            raise CnnlensError(
                f"training on {self.examples.layer.name} diverged in epoch {self.epoch + 1}, "
                f"with a rate of {self.settings.rate * self._factor:g} too",
                "try a smaller --lr",
            )
        self.load_state_dict(before)
        self._factor = factor

    # ---- going on later

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to go on from here: numbers and tensors."""
        return {
            "epoch": self.epoch,
            "done": self.done,
            "factor": self._factor,
            "history": self.history,
            "best": self._best,
            "net": self.net.state_dict(),
            "adam": self._adam.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        state = copy.deepcopy(state)
        self.epoch, self.done, self._factor = state["epoch"], state["done"], state["factor"]
        self.history, self._best = state["history"], state["best"]
        self.net.load_state_dict(state["net"])
        self._adam.load_state_dict(state["adam"])
        self._scaler.load_state_dict(state["scaler"])


def _rate(done: int, steps: int) -> float:
    """Factor on the highest rate when so many steps are done."""
    climbed = (done + 1) / max(1, min(_CLIMB, steps // 3))
    return min(1.0, climbed) * (1 + math.cos(math.pi * done / steps)) / 2


def _rmse(squares: Iterator[Tensor]) -> float:
    """Root of the mean of squares that come in parts."""
    found = [(float(part.double().sum()), part.numel()) for part in squares]
    return math.sqrt(sum(total for total, _ in found) / sum(number for _, number in found))


def seconds_per_image(model: Model, layer: Layer, settings: UpconvSettings) -> float:
    """About how long an image takes to be learned from, once; measured."""
    shape = (model.preprocess.channels, *model.preprocess.size)
    net = UpconvNet(layer.shape, shape, settings.width)
    net.to(model.device).to(memory_format=torch.channels_last)
    answers = torch.ones(_TIMED, *layer.shape, device=model.device)
    for _ in range(2):  # the first does more than it will
        begun = time.perf_counter()
        net(answers).square().mean().backward()
    return (time.perf_counter() - begun) / _TIMED
