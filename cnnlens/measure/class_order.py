"""What a network's outputs are called, by the class folders of a data set that bear it out.

An order of folders is an assumption. So some of their images go through the network, and what it
says of them is held against the order.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch

from cnnlens.activations.sources import Forward
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.errors import UsageError
from cnnlens.model.classes import count_scores
from cnnlens.model.matching import NAMES, Reading, check_order, chosen, in_order, judge, readings
from cnnlens.model.model import Model


def named_after(
    model: Model,
    images: ImageSet,
    order: str | None,
    must: bool,
    batch_size: int,
    tell: Callable[[str], None],
) -> Model | None:
    """Name a network's outputs after the folders of one data set.

    Parameters
    ----------
    model : Model
        The network.
    images : ImageSet
        With categories; a few are looked at.
    order : str or None
        One of `settings.run.ORDERS` that was said; it is then not asked of the images.
    must : bool
        Whether a command holds just this data against the classes: it is then enough that its
        images do not speak against their usual order, which is raised.
    batch_size : int
        Images in the network at once.
    tell : callable
        Hears what the outputs are called, or why they are not.

    Returns
    -------
    Model or None
        None where that cannot be.

    Raises
    ------
    UsageError
        When `must`, and the images speak against their usual order.
    """
    categories = images.image_categories or ()
    names = sorted(set(categories))
    if len(names) < 2 or not (count := count_scores(model)):
        return None
    if order is not None:
        if len(names) != count:
            return None
        source = f"--classes {order}: {images.name}'s folders"
        return _called(model, in_order(names, order), source, tell)
    ways = readings(names, model.classes, count)
    if not ways or ways[0].by == NAMES or (len(names) != count and not must):
        return None
    if not (must and model.has_random_weights) and not _borne_out(
        model, images, ways, must, batch_size, tell
    ):
        return None
    if len(names) != count:  # folders that are called by numbers, of some of the classes
        return model
    numbers, words = ways[0].outputs, ways[0].words
    if model.classes:
        tell(f"ImageNet's names are not {images.name}'s: they are left out")
    source = f"the folders of {images.name} {words}"
    return _called(model, sorted(names, key=lambda name: numbers[name]), source, tell)


def _called(model: Model, names: list[str], source: str, tell: Callable[[str], None]) -> Model:
    tell(f"classes: {source} ({', '.join(names[:3])}, …)")
    return model.called(names, source)


def _borne_out(
    model: Model,
    images: ImageSet,
    ways: list[Reading],
    must: bool,
    batch_size: int,
    tell: Callable[[str], None],
) -> bool:
    """Whether some of the images bear the usual order out."""
    logits, shown = _answers(model, images, batch_size)
    if not len(shown):
        return False
    try:
        judged = check_order(ways, logits, shown, images.name)
    except UsageError:
        if must:
            raise
        judged = judge(ways, logits, shown)
    if must or (judged and not judged.doubt and judged.is_above_chance):
        return True
    words = judged.words if judged else ""
    tell(f"classes without names (--classes says them): as {images.name}'s, {words}")
    return False


def _answers(model: Model, images: ImageSet, batch_size: int) -> tuple[np.ndarray, list[str]]:
    """What the network says of some images, (n, K), and their categories."""
    known, pixels, shown = images.image_categories or (), [], []
    for row in chosen(known):
        with suppress(DamagedImage):
            pixels.append(images.pixels(row, model.preprocess))
            shown.append(known[row])
    if not pixels:
        return np.empty((0, 0)), []
    forward = Forward(model, [], logits=True, limit=batch_size)
    _, logits = forward(torch.from_numpy(np.stack(pixels)))
    assert logits is not None
    return logits, shown
