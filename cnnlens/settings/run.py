"""What to open and how to run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cnnlens.errors import UsageError
from cnnlens.settings.base import Settings
from cnnlens.settings.option import (
    option,
    plain,
    seed_option,
)
from cnnlens.settings.place import portable

PRECISIONS = ("float32", "bfloat16", "float16")
ORDERS = ("alphabetical", "natural")  # of class folders
_LEAST, _MOST = 4, 16  # workers, whatever the cores


def cores() -> int:
    """Count the processor's cores that this process may use; torchrun's share a machine's."""
    usable = getattr(os, "sched_getaffinity", None)  # Windows and macOS have none
    found = len(usable(0)) if usable else os.cpu_count() or 1
    given = os.environ.get("LOCAL_WORLD_SIZE", "1")
    sharing = int(given) if given.isdecimal() else 1
    return max(1, found // max(1, sharing))


WORKERS = max(_LEAST, min(_MOST, cores()))


@dataclass(frozen=True)
class ModelSettings(Settings):
    """How a model is opened.

    Attributes
    ----------
    arch : str or None
        The architecture of a bare state dict, or what stands for a checkpoint's own code.
    weights : str or None
        The entry of a file that holds the weights.
    allow_pickle : bool
        Whether the file may be unpickled.
    image_size, mean, std : str or None
        ``224`` or ``224x320``; numbers per channel, joined by commas.
    classes : str or None
        A file of the outputs' names, ``imagenet``, or one of `ORDERS`.
    head : str or None
        The output that is the classes', by name or number.
    """

    arch: str | None = option(
        None,
        "Architecture of a bare state dict, where it cannot be inferred; or the code of a "
        "checkpoint that was trained from file.py:factory, where that lies elsewhere now.",
        metavar="SPEC",
        panel="Model",
    )
    weights: str | None = option(
        None,
        "Which entry of a file holds the weights: teacher, state_dict_ema, model.ema.",
        metavar="KEY",
        panel="Model",
    )
    allow_pickle: bool = option(
        False,
        "Unpickle the file. That can run any code: only for files you trust.",
        panel="Model",
        off="-",
    )
    image_size: str | None = option(
        None, "Input size in pixels, instead of the model's.", metavar="H[xW]", panel="Model"
    )
    mean: str | None = option(
        None, "Mean of the pixels, scaled to [0, 1].", metavar="R,G,B", panel="Model"
    )
    std: str | None = option(
        None, "Standard deviation of the pixels.", metavar="R,G,B", panel="Model"
    )
    classes: str | None = option(
        None,
        "Names of the outputs, in order: a file (one per line, a JSON list or index map), "
        "imagenet; or natural, alphabetical: the class folders of the data in that order.",
        metavar="FILE|NAME",
        shown="the checkpoint's; else the data's class folders; ImageNet's for a thousand outputs",
        panel="Model",
        words=True,
    )
    head: str | None = option(
        None,
        "Which of several outputs is the classes', by name or number.",
        metavar="NAME",
        shown="the one called logits or out, else the first of a row of numbers per image",
        panel="Model",
    )

    def __post_init__(self) -> None:
        """Take sizes and numbers that are some, alone."""
        super().__post_init__()
        _ = _size(self.image_size), _numbers("--mean", self.mean), _numbers("--std", self.std)

    @classmethod
    def of_values(cls, **given: Any) -> Self:
        """Take values as Python has them: ``(0.5, 0.5, 0.5)`` for ``0.5,0.5,0.5``, a path."""
        return cls(**{name: _as_typed(name, value) for name, value in given.items()})

    def as_arguments(self, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return `open_model`'s arguments, without spec and device.

        What is not given is taken from those that are `known`, as a JSON has them.
        """
        given = {
            "arch": portable(self.arch) if self.arch else None,
            "weights": self.weights,
            "allow_pickle": self.allow_pickle,
            "image_size": _size(self.image_size),
            "mean": _numbers("--mean", self.mean),
            "std": _numbers("--std", self.std),
            "classes": self._classes(),
            "head": self.head,
        }
        before = {k: tuple(v) if isinstance(v, list) else v for k, v in (known or {}).items()}
        return {k: v or before.get(k) for k, v in given.items()} if known else given

    def _classes(self) -> str | tuple[str, ...] | None:
        """What `open_model` can read; an order of folders is for who knows the data."""
        if self.classes in ORDERS or not isinstance(self.classes, str):
            return None if self.classes in ORDERS else self.classes
        return portable(self.classes)


def _as_typed(name: str, value: Any) -> Any:
    """Write numbers as the command line does: ``0.5,0.5,0.5``, ``224x320``."""
    value = value.tolist() if hasattr(value, "tolist") else value  # of NumPy, of PyTorch
    if isinstance(value, (list, tuple)):
        return ("x" if name == "image_size" else ",").join(str(plain(one)) for one in value)
    written = isinstance(value, (int, float, Path)) and not isinstance(value, bool)
    return str(value) if written else value


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(p.isdigit() and 0 < int(p) <= 8192 for p in parts):
        raise UsageError(f"--image-size {text} is not a size in pixels", "write 224 or 224x320")
    return int(parts[0]), int(parts[-1])


def _numbers(flag: str, text: str | None, example: str = "0.5,0.5,0.5") -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{flag} {text} is not a list of numbers", f"write {flag} {example}")
    if flag == "--std" and min(numbers) <= 0:
        raise UsageError(f"--std {text} is not above 0", "pixels are divided by it")
    return numbers


@dataclass(frozen=True)
class DataSettings(Settings):
    """How images are read, by every command that reads some.

    Attributes
    ----------
    split : str or None
        The only part of the data that is wanted.
    range : str or None
        The values that become 0 and 1, of files deeper than 8 bits, joined by a comma.
    """

    split: str | None = option(
        None,
        "Of Broden's split column, or of a folder whose only subfolders are splits (train, val, "
        "test): the one to read.",
        metavar="NAME",
        panel="What",
    )
    range: str | None = option(
        None,
        "Values that become black and white, of files deeper than 8 bits. Default: those that "
        "the data set's files reach.",
        metavar="LOW,HIGH",
        panel="What",
    )

    def __post_init__(self) -> None:
        """Take numbers that make a range, alone."""
        super().__post_init__()
        _ = self.bounds

    @classmethod
    def of_values(cls, **given: Any) -> Self:
        """Take values as Python has them: ``(0, 4095)`` for ``0,4095``."""
        return cls(**{name: _as_typed(name, value) for name, value in given.items()})

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range as numbers; None: the data set's own.

        Raises
        ------
        UsageError
            When it is none.
        """
        numbers = _numbers("--range", self.range, "0,4095")
        if numbers is not None and (len(numbers) != 2 or numbers[0] >= numbers[1]):
            raise UsageError(f"--range {self.range} is no range", "write --range 0,4095")
        return None if numbers is None else (numbers[0], numbers[1])


@dataclass(frozen=True)
class RunSettings(Settings):
    """How to run, not what to compute: results do not depend on these, beyond rounding, which
    `precision` decides; what was measured is redone where that changes. From rounding an ascent of
    many steps may come to another picture.

    Attributes
    ----------
    device : str
        Where the network runs.
    batch_size : int
        Images that go through it at once.
    workers : int
        Threads that decode images; processes beside a GPU.
    precision : str
        Of passes that only read activations and class scores: all but those that follow a gradient.
    seed : int
        Of everything random.
    shard : str or None
        Which share of the work is this process's: ``I/N``.
    """

    device: str = option("auto", "Where to run.", metavar="auto|cpu|cuda[:N]|mps", panel="Run")
    batch_size: int = option(
        32,
        "Images at once, rounded down to 1, 2, 4 … 32, 64, 96 …; halves itself when memory runs "
        "out.",
        least=1,
        panel="Run",
    )
    workers: int = option(
        WORKERS,
        "Who reads images ahead: threads; beside a GPU, processes for those in a folder.",
        least=0,
        panel="Run",
        shown=f"as many as cores, {_LEAST} to {_MOST}",
    )
    precision: str = option(
        "float32",
        "Of forward passes that measure; float16 on a GPU alone. Steps that follow a gradient stay "
        "in float32.",
        choices=PRECISIONS,
        panel="Run",
    )
    seed: int = seed_option()
    shard: str | None = option(
        None, "Compute this share of the activations and stop: 1/4 … 4/4 in any order, for batch "
        "systems without torchrun (Slurm: --array=1-4, --shard $SLURM_ARRAY_TASK_ID/4); `cnnlens "
        "join` makes stores of them.", metavar="I/N", panel="Run")  # fmt: skip
