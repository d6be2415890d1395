"""A network's classes: their names, their scores in its output, and whether these are right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model.architectures import layer_outputs
from cnnlens.model.matching import plain
from cnnlens.model.model import Model
from cnnlens.model.outputs import Features, main_output
from cnnlens.model.refused import explained
from cnnlens.model.trace import as_input


def find_class(text: str, names: Sequence[str] | None, count: int) -> int:
    """Find a class of a network.

    Parameters
    ----------
    text : str
        Its number, counted from 0, or its name, in any case; also one of several names that are
        joined by commas.
    names : sequence of str or None
        The network's class names, where they are known.
    count : int
        How many classes it has.

    Returns
    -------
    int
        The class's number.

    Raises
    ------
    UsageError
        When there is none, or several of that name; the nearest names are offered.
    """
    wanted = text.strip()
    names = list(names or [])
    found = _matching(wanted, names)
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise UsageError(f"{len(found)} classes are named '{wanted}'", f"give a number: {numbers}")
    if found:
        return found[0]
    if wanted.isdecimal():
        if int(wanted) < count:
            return int(wanted)
        raise UsageError(f"no class {wanted} in the network", f"its classes are 0 to {count - 1}")
    if not names:
        raise UsageError(
            f"no class '{wanted}': the names of the network's classes are not known",
            f"give a number, 0 to {count - 1}",
        )
    raise UsageError(f"no class '{wanted}' in the network", _near(wanted, names))


def class_name(number: int, names: Sequence[str] | None) -> str:
    """Return what to call a class: its name, else its number."""
    return names[number] if names and number < len(names) else str(number)


def _matching(wanted: str, names: list[str]) -> list[int]:
    """Classes of exactly that name; else as names are compared; else with it as one of theirs."""
    compared = plain(wanted)
    for fits in (
        lambda name: name == wanted,
        lambda name: plain(name) == compared,
        lambda name: compared in map(plain, name.split(",")),
    ):
        if found := [number for number, name in enumerate(names) if fits(name)]:
            return found
    return []


def _near(wanted: str, names: list[str]) -> str:
    folded = {name.casefold(): name for name in names}
    inside = [name for low, name in folded.items() if wanted.casefold() in low][:3]
    if inside:
        return f"did you mean {' or '.join(inside)}?"
    near = did_you_mean(wanted.casefold(), folded)
    for low, name in folded.items():
        near = near.replace(low, name) if low in near else near
    return near or "a number works too, counted from 0"


def class_scores(output: Any, count: int, head: str | None = None) -> Tensor:
    """Find the class scores (N, K) in a network's output: its `logits`, or what is first.

    Parameters
    ----------
    output : object
        A tensor, or a tuple, mapping or dataclass that holds some.
    count : int
        N.
    head : str, optional
        Which of several (see `outputs.choose`).

    Raises
    ------
    CnnlensError
        When it has not one row of numbers per image.
    """
    if isinstance(output, Features):
        raise CnnlensError(
            "the network has no classes: its outputs are features, without a classifier",
            "its layers can be read all the same; for classes name a checkpoint with its head",
        )
    found = main_output(output, count, head)
    if found is None or found.shape[:1] != (count,) or math.prod(found.shape[2:]) != 1:
        raise CnnlensError(_no_scores(output, found), _READABLE)
    return found.reshape(count, -1).float()


_READABLE = "its layers can be read all the same; only its outputs cannot be used"


def _no_scores(output: Any, found: Tensor | None) -> str:
    if found is None:
        return f"the network returns no class scores but a {type(output).__name__}"
    shape = "×".join(map(str, found.shape[1:]))
    return f"the network returns no class scores but {shape} numbers per image"


def gives_scores(model: Model) -> bool:
    """Whether the network answers with class scores (N, K): it is run once, on a black image."""
    return count_scores(model) > 0


def count_scores(model: Model) -> int:
    """How many class scores the network answers with, 0 for none; it is run once, on black.

    Raises
    ------
    CnnlensError
        When it does not run.
    """
    if model.headless:
        return 0
    output, count = _answer(model)
    try:
        return class_scores(output, count, model.head).shape[1]
    except UsageError:
        raise
    except CnnlensError:
        return 0


def scores_on_black(model: Model) -> Tensor:
    """Class scores (N, K) of black images; see `class_scores` for what is raised."""
    output, count = _answer(model)
    return class_scores(output, count, model.head).detach()


def _answer(model: Model, explains: bool = True) -> tuple[Any, int]:
    """What the network returns for black images, and how many these were.

    Why it does not run takes passes on other sizes: not for who does not ask.
    """
    black = torch.zeros(model.batch or 1, model.preprocess.channels, *model.preprocess.size)
    with torch.no_grad(), model.in_use(), model.autocast():
        x = as_input(model.net, black.to(model.device))
        with explained(model.net, x) if explains else nullcontext():
            return model.net(x), len(x)


def misfit(model: Model, names: int) -> int | None:
    """Return how many classes a network answers for, where these are not as many as the names.

    It is run once, on black: its scores are counted, or the maps of its classes. Of one that does
    not run as it is fed, and of one without classes, the layers are looked at instead.
    """
    real = None if model.headless else _count_answers(model)
    if real is None:
        counts = layer_outputs(model.net)
        real = names if names in counts else next(reversed(counts), names)
    return None if real == names else real


def _count_answers(model: Model) -> int | None:
    try:
        output, count = _answer(model, explains=False)
    except Exception:  # whatever its layers raise: whoever runs it says so
        return None
    found = main_output(output, count, model.head)
    if found is None or found.shape[:1] != (count,):
        return None
    return found.shape[1] if found.ndim > 1 else 1


def class_bias(model: Model, classes: int) -> Tensor | None:
    """Bias of the last layer, (K,): of the last linear layer or 1×1 convolution to K outputs.

    None where there is none, or it has no bias.
    """
    for module in reversed(list(model.net.modules())):
        linear = isinstance(module, nn.Linear) and module.out_features == classes
        pointwise = (
            isinstance(module, nn.Conv2d)
            and module.out_channels == classes
            and module.kernel_size == (1, 1)
        )
        if linear or pointwise:
            bias = module.bias
            return bias.detach().float().cpu() if isinstance(bias, Tensor) else None
    return None


def is_correct(logits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Say which images are classified rightly, (N,) bool.

    Parameters
    ----------
    logits : numpy.ndarray
        (N, K); of one output, what is above 0 is class 1.
    wanted : numpy.ndarray
        (N,) int64 outputs.
    """
    said = logits.argmax(axis=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(np.int64)
    return said == wanted


# ---- what is assumed of them


def probe_scores(model: Model, *_: object) -> list[str]:
    """See that a network gives class scores.

    Raises
    ------
    CnnlensError
        When it does not.
    """
    if not count_scores(model):
        raise CnnlensError("the network returns no class scores", "its layers can be read")
    return []


def probe_names(model: Model, *_: object) -> list[str]:
    """Say where the names of a network's classes are assumed, or missing."""
    if model.has_assumed_classes:
        return [f"names of classes are {model.classes_source}"]
    return [] if model.classes else ["classes have no names, only numbers (--classes FILE)"]


_NEAR = 5e-3  # of a sum of probabilities in half precision


def before_softmax(scores: np.ndarray) -> np.ndarray:
    """Give scores whose softmax are a network's probabilities.

    Parameters
    ----------
    scores : numpy.ndarray
        (N, K) as the network returns them.

    Returns
    -------
    numpy.ndarray
        Their logarithms where all rows are probabilities: it ends in a softmax itself, and another
        one would make all classes nearly as likely. Else as they are.
    """
    ends = scores.shape[1] > 1 and bool((scores >= 0).all())
    if not ends or np.abs(scores.sum(axis=1, dtype=np.float64) - 1).max(initial=0) > _NEAR:
        return scores
    with np.errstate(divide="ignore"):  # what is impossible stays so
        logs: np.ndarray = np.log(scores, dtype=np.float64)
    return logs
