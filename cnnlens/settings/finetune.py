"""Settings of training a network further, with or without a method; imported without weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.errors import UsageError
from cnnlens.settings.run import Settings

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("onecycle", "constant", "steps")
LOSSES = ("softmax", "logistic")
STARTS = ("scaled", "normal")
POSITIONS = ("argmax", "centroid")
FILTER_LOSSES = ("filter", "mi")


@dataclass(frozen=True)
class FinetuneSettings(Settings):
    """The training that all methods share.

    Attributes
    ----------
    epochs, batch_size : int
        Passes over the training images, and images per step (over all processes).
    lr : float
        Highest rate of new layers.
    trunk : float
        Factor on the rate of layers that were there before; 0 freezes them.
    optimizer, schedule, loss : str
        One of `OPTIMIZERS`, `SCHEDULES`, `LOSSES`.
    weight_decay : float
        Of weights, not of biases and norms.
    validation : float
        Share of the images held out, equally from every class.
    mirror : bool
        Show each image mirrored half of the time.
    patience : int
        Stop when the validation loss has not fallen for this many epochs; 0 never does.
    amp : bool
        Mixed precision (bfloat16).
    start : str
        Weights of an inserted convolution: "scaled" to the maps below it, or "normal", the paper's
        N(0, 0.01) at the full rate.
    seed : int
        Of the split, the order, mirroring, new weights and dropout.
    """

    epochs: int = 10
    batch_size: int = 32
    lr: float = 1e-3
    trunk: float = 0.1
    optimizer: str = "adamw"
    schedule: str = "onecycle"
    loss: str = "softmax"
    weight_decay: float = 5e-4
    validation: float = 0.25
    mirror: bool = True
    patience: int = 0
    amp: bool = False
    start: str = "scaled"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} {getattr(self, name)} is not at least 1", "try 10")
        if not 0 < self.lr < float("inf"):
            raise UsageError(f"--lr {self.lr} is not above 0", "0.001 is usual")
        if not 0 < self.validation < 1:
            raise UsageError(f"--validation {self.validation} is not between 0 and 1", "try 0.25")
        if not 0 <= self.trunk <= 1:
            raise UsageError(f"--trunk {self.trunk} is not between 0 and 1", "0 freezes it")
        if self.weight_decay < 0 or self.patience < 0:
            raise UsageError("--weight-decay and --patience cannot be negative", "0 is none")
        _among("optimizer", self.optimizer, OPTIMIZERS)
        _among("schedule", self.schedule, SCHEDULES)
        _among("loss", self.loss, LOSSES)
        _among("start", self.start, STARTS)


@dataclass(frozen=True)
class IcnnSettings(Settings):
    """The interpretable CNN.

    Attributes
    ----------
    position : str
        Where a map's part is: its arg-max, or the centroid of its activations.
    beta : float
        How fast the mask falls off.
    learn_beta : bool
        Learn one per filter, from `beta` on.
    filter_weight : float
        Weight of the filter loss, per 64 filters of a layer.
    ramp : float
        Share of the training over which that weight grows from 0.
    filter_loss : str
        "filter", or "mi" for the exact mutual information.
    mask : bool
        Whether maps are masked; without, only the loss is left.
    """

    position: str = "argmax"
    beta: float = 4.0
    learn_beta: bool = False
    filter_weight: float = 0.25
    ramp: float = 0.3
    filter_loss: str = "filter"
    mask: bool = True

    def __post_init__(self) -> None:
        _among("position", self.position, POSITIONS)
        _among("filter-loss", self.filter_loss, FILTER_LOSSES)
        if not 0 < self.beta < float("inf"):
            raise UsageError(f"--beta {self.beta} is not above 0", "4 is usual")
        if not 0 <= self.filter_weight < float("inf"):
            raise UsageError(
                f"--lambda-filter {self.filter_weight} is not a number from 0 up",
                "0 leaves the loss out",
            )
        if not 0 <= self.ramp <= 1:
            raise UsageError(f"--ramp {self.ramp} is not between 0 and 1", "0.3 is usual")


def _among(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"--{option} {value} is not known", f"choose {' or '.join(choices)}")


# The papers' trainings. At ICNN's printed weight of the mutual information nothing measurable
# happens (the authors' program scales it by the maps); it is here to be compared with.
TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "optimizer": "sgd", "lr": 0.01, "trunk": 1.0, "weight_decay": 5e-4, "start": "normal",
    },
    "shapes": {"optimizer": "sgd", "lr": 0.1, "trunk": 1.0, "weight_decay": 0.0},
}
ICNN_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"filter_loss": "mi", "filter_weight": 5e-6, "ramp": 0.0},
}
