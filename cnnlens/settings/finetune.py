"""Settings of training a network further, with or without a method; imported without weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cnnlens.settings.base import Presets, Settings
from cnnlens.settings.option import Option, option, seed_option

METHODS = ("icnn", "cgl", "none")
LOSSES = ("softmax", "logistic")


def _training(default: Any, help: str, **more: Any) -> Any:
    return option(default, help, panel="Training", **more)


def _icnn(default: Any, help: str, **more: Any) -> Any:
    return option(default, help, panel="ICNN", **more)


def _cgl(default: Any, help: str, **more: Any) -> Any:
    return option(default, help, panel="CGL", **more)


def _weight(name: str) -> dict[str, Any]:
    return {"name": f"lambda-{name}", "least": 0, "hint": "0 leaves it out"}


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
        The rule of steps, the course of the rate, and the loss of the task.
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

    # "paper" trains as the papers of ICNN and CGL do, "shapes" as CGL's synthetic experiment
    presets: ClassVar[Presets] = {
        "paper": {
            "optimizer": "sgd", "lr": 0.01, "trunk": 1.0, "weight_decay": 5e-4, "start": "normal",
        },
        "shapes": {"optimizer": "sgd", "lr": 0.1, "trunk": 1.0, "weight_decay": 0.0},
    }  # fmt: skip

    epochs: int = _training(10, "Passes over the images.", least=1, hint="try 10")
    batch_size: int = _training(32, "Images per step, over all processes.", least=1, hint="try 32")
    lr: float = _training(1e-3, "Highest rate of new layers.", above=0, hint="0.001 is usual")
    trunk: float = _training(
        0.1, "Factor on it for other layers; 0 freezes them.", least=0, most=1, hint="0 freezes it"
    )
    optimizer: str = _training("adamw", "The rule of steps.", choices=("adamw", "sgd"))
    schedule: str = _training(
        "onecycle", "Course of the rate.", choices=("onecycle", "constant", "steps")
    )
    loss: str = "softmax"  # asked for with the images: it follows from them
    weight_decay: float = _training(5e-4, "Of weights.", least=0, hint="0 is none")
    validation: float = _training(
        0.25, "Share of the images held out.", above=0, below=1, hint="try 0.25"
    )
    mirror: bool = _training(True, "Show images mirrored half of the time.")
    patience: int = _training(
        0, "Stop after N epochs without progress; 0: never.", least=0, hint="0 is none"
    )
    amp: bool = _training(False, "Mixed precision.", off="-")
    start: str = _training(
        "scaled",
        "Weights of an inserted convolution: scaled to its maps, or the paper's N(0, 0.01).",
        choices=("scaled", "normal"),
    )
    seed: int = seed_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        Option("", choices=LOSSES).check("--loss", self.loss)


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

    # At the printed weight of the mutual information nothing measurable happens (the authors'
    # program scales it by the maps); it is here to be compared with.
    presets: ClassVar[Presets] = {
        "paper": {"filter_loss": "mi", "filter_weight": 5e-6, "ramp": 0.0}
    }

    position: str = _icnn("argmax", "Where a map's part is.", choices=("argmax", "centroid"))
    beta: float = _icnn(4.0, "Fall-off of masks.", above=0, hint="4 is usual")
    learn_beta: bool = _icnn(False, "Learn one per filter.", off="-")
    filter_weight: float = _icnn(
        0.25, "Weight of the filter loss, per 64 filters.",
        **{**_weight("filter"), "hint": "0 leaves the loss out"},
    )  # fmt: skip
    ramp: float = _icnn(
        0.3, "Share of the training over which that weight grows from 0.",
        least=0, most=1, hint="0.3 is usual",
    )  # fmt: skip
    filter_loss: str = _icnn("filter", "The loss; mi needs no labels.", choices=("filter", "mi"))
    mask: bool = _icnn(True, "Mask the maps; without, only the loss is left.")


@dataclass(frozen=True)
class CglSettings(Settings):
    """Concept group learning.

    Attributes
    ----------
    groups : int
        Groups per layer; filters that do not divide stay free.
    group_weight, spatial_weight, block_weight : float
        Weights of the group activation loss, the spatial loss and the block norm. At the paper's
        1e-3 groups hardly form on a small network; from 0.03 on, all units of a layer grow alike.
    sliding_weight : float
        Weight of the likeness of a group to the same group one layer up, within the group
        loss (the paper's λ₂).
    learn_field : bool
        Learn P1 and P2, else they stay 1 and 0.
    """

    presets: ClassVar[Presets] = {
        # the authors' program on ImageNet and Places; 1e-3 to 5e-3 for the block norm
        "paper": {"group_weight": 1e-3, "spatial_weight": 1e-2, "block_weight": 1e-3},
        # the paper's synthetic experiment
        "shapes": {"group_weight": 1e-3, "spatial_weight": 1e-2, "block_weight": 1e-2},
    }

    groups: int = _cgl(5, "Groups per layer.", least=1, hint="5 is usual")
    group_weight: float = _cgl(0.01, "Weight of the group loss.", **_weight("group"))
    spatial_weight: float = _cgl(1e-2, "Weight of the spatial loss.", **_weight("spatial"))
    block_weight: float = _cgl(1e-3, "Weight of the block norm.", **_weight("block"))
    sliding_weight: float = _cgl(
        0.0, "Weight of a group's likeness to itself one layer up.", **_weight("sliding")
    )
    learn_field: bool = _cgl(True, "Learn how a group's field falls off.", off="fixed-field")


@dataclass(frozen=True)
class TaskSettings(Settings):
    """What is trained for.

    Attributes
    ----------
    method : str
        What besides the task.
    insert : bool or None
        Another convolution above the layer; None: for icnn.
    loss : str or None
        Of the task; None: "logistic" for one category or with negatives, else "softmax".
    """

    method: str = option("icnn", "What to train for besides the task.", choices=METHODS)
    insert: bool | None = option(None, "Another convolution above the layer.", shown="for icnn")
    loss: str | None = option(
        None,
        "Of the task.",
        choices=LOSSES,
        shown="softmax; logistic for one category or with negatives",
        panel="Training",
    )
