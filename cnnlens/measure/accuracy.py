"""How often a classifier is right on a folder of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnlens.errors import CnnlensError


def targets(categories: Sequence[str], classes: Sequence[str] | None, outputs: int) -> np.ndarray:
    """Find the output that stands for each image's category.

    Parameters
    ----------
    categories : sequence of str
        One per image.
    classes : sequence of str or None
        Names of the model's outputs, where they are known.
    outputs : int
        Number of the model's outputs.

    Returns
    -------
    numpy.ndarray
        (N,) int64. By name where all categories are
        classes; else in alphabetical order, where there are as many of both. Of a single output,
        1 for the category that it is named after (else the second one), 0 for the other.

    Raises
    ------
    CnnlensError
        When they do not fit.
    """
    names = sorted(set(categories))
    if outputs == 1 and len(names) == 2:
        positive = next((name for name in names if name in (classes or ())), names[1])
        return np.array([int(name == positive) for name in categories])
    if classes is not None and set(names) <= set(classes):
        index = {name: list(classes).index(name) for name in names}
    elif len(names) == outputs:
        index = {name: number for number, name in enumerate(names)}
    else:
        foreign = [name for name in names if name not in (classes or ())]
        raise CnnlensError(
            f"the data's {len(names)} classes ({', '.join(foreign[:3])}, …) do not fit the "
            f"model's {outputs} outputs",
            "name class folders like the model's classes, or have as many of them",
        )
    return np.array([index[name] for name in categories])


def right(logits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
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
