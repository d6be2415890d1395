"""How often a network is right, beside chance and with an interval over the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlens.activations.passes import Forward, passes
from cnnlens.activations.sources import Observer
from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.measure.comparison import share
from cnnlens.model.class_order import check_border, check_order
from cnnlens.model.classes import is_correct
from cnnlens.model.ending import SIGMOID, before_sigmoid
from cnnlens.model.layer import Layer
from cnnlens.model.matching import readings, target_outputs
from cnnlens.model.model import Model
from cnnlens.progress import Step, followed
from cnnlens.settings import RunSettings

_NAME_THEM = (
    "say it with --classes FILE (one name per output, in order), or --classes natural or "
    "alphabetical; of one workspace alone with `cnnlens layers -w WORKSPACE --classes FILE`"
)


def classes_of(images: ImageSet) -> tuple[str, ...]:
    """Return the class of every image; raise UsageError where the data has none."""
    if images.image_categories is None:
        raise UsageError(
            f"{images.root} has no classes (found: {images.kind})",
            "accuracy needs one subfolder per class",
        )
    return images.image_categories


@dataclass(frozen=True)
class Accuracy:
    """Of a network on labelled images.

    Attributes
    ----------
    value : float
        Share of the images that are classified rightly.
    chance : float
        That of who always says the most frequent class of these images.
    low, high : float
        Wilson's interval of `value`.
    images : int
        Those that could be read.
    constant_outputs : int
        Classes of the data whose score is the same for every image.
    """

    value: float
    chance: float
    low: float
    high: float
    images: int
    constant_outputs: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON has it: ``value, chance, interval, images``, dead outputs."""
        known = {"value": self.value, "chance": self.chance}
        ends = {"interval": [self.low, self.high], "images": self.images}
        return {**known, **ends, "constant_outputs": self.constant_outputs}


def accuracy(
    model: Model,
    images: ImageSet,
    level: float = 0.95,
    run: RunSettings | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Accuracy:
    """Measure a network's accuracy, in one pass over the images.

    Parameters
    ----------
    model : Model
        Its classes are matched with the data's by name, else in order (see
        `model.matching.target_outputs`).
    images : ImageSet
        With classes.
    level : float
        Of the interval.
    run : RunSettings, optional
        Batch size and workers.
    progress : callable, optional
        Called after every batch with a Step.

    Raises
    ------
    UsageError
        When the data has no classes, or only their order says which output is which and the images
        do not bear it out (see `model.class_order.check_order`).
    CnnlensError
        When they do not fit the network's, it gives no class scores, or too many images are
        damaged.
    """
    return followed(accuracy_steps(model, images, level, run or RunSettings()), progress)


def accuracy_steps(
    model: Model, images: ImageSet, level: float, run: RunSettings
) -> Generator[Step, None, Accuracy]:
    """Do what `accuracy` does, step by step, for callers that want to stop or draw in between."""
    found = yield from scores_steps(model, images, run)
    categories, scores = classes_of(images), found.scores
    known = np.unique(found.wanted)
    known = known[known < scores.shape[1]]  # a single output stands for two classes
    constant = (scores[:, known] == scores[:1, known]).all(axis=0)  # (known,)
    right = is_correct(scores, found.wanted)
    low, high = share(int(right.sum()), len(right), level)
    chance = Counter(categories[row] for row in found.rows).most_common(1)[0][1] / len(right)
    dead = int(constant.sum()) if len(scores) > 1 else 0
    return Accuracy(float(right.mean()), chance, low, high, len(right), dead)


@dataclass(frozen=True)
class Scores:
    """What a network says of labelled images.

    Attributes
    ----------
    scores : numpy.ndarray
        (N, K), before a sigmoid that it ends with.
    wanted : numpy.ndarray
        (N,) the output that stands for each image's category.
    rows : list of int
        The N images' positions in the data: those that could be read.
    skipped : list of (str, str)
        The others, with the reason.
    link : str
        What it ends with (see `model.ending`).
    """

    scores: np.ndarray
    wanted: np.ndarray
    rows: list[int]
    skipped: list[tuple[str, str]]
    link: str = ""


def scores_steps(
    model: Model,
    images: ImageSet,
    run: RunSettings,
    observed: Mapping[Layer, Observer] | None = None,
) -> Generator[Step, None, Scores]:
    """Run a network over labelled images, and see that its outputs fit their classes.

    Layers that are `observed` are shown on the way. See `accuracy` for what is raised.
    """
    categories, observed = classes_of(images), observed or {}
    place = before_sigmoid(model)
    forward = Forward(model, [*observed], logits=True, limit=run.batch_size, scores_at=place)
    parts: list[np.ndarray] = []
    rows: list[int] = []
    skipped: list[tuple[str, str]] = []
    for one in passes(forward, images, batch_size=run.batch_size, workers=run.workers):
        assert one.logits is not None  # (B, K)
        if not parts:
            wanted = target_outputs(categories, model.classes, one.logits.shape[1])
        parts.append(one.logits)
        rows += [int(index) for index in one.batch.indices]
        skipped += one.batch.skipped
        for observe, maps in zip(observed.values(), one.maps, strict=True):
            observe(one.batch.indices, maps)
        yield Step(one.batch.next, len(images.paths), limit=forward.limit)
    if not parts:
        raise CnnlensError(f"no image of {images.root} could be read")
    scores = np.concatenate(parts)  # (N, K)
    if not model.has_random_weights:
        if place is None:
            check_border(scores, wanted[rows], images.name)
        ways = readings(categories, model.classes, scores.shape[1])
        check_order(ways, scores, [categories[row] for row in rows], images.name, _NAME_THEM)
    return Scores(scores, wanted[rows], rows, skipped, SIGMOID if place else "")


def trained_accuracy(training: Mapping[str, Any], level: float) -> dict[str, Any] | None:
    """Look up the accuracy after fine-tuning, where ``new.json`` has it.

    Where it says on how many images, an interval over images joins it; where it says how many of
    them are of the most frequent class, chance: as `Accuracy.chance` is.
    """
    found = training.get("accuracy")
    value = found.get("after") if isinstance(found, Mapping) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    images = training.get("images")
    chance = found.get("chance") if isinstance(found, Mapping) else None
    count = images.get("validation") if isinstance(images, Mapping) else None
    known = isinstance(count, int) and count > 0 and 0 <= value <= 1
    right = round(value * count) if known and count else 0
    return {
        "value": float(value),
        "chance": chance if isinstance(chance, float) else None,  # earlier versions lack it
        "interval": list(share(right, count, level)) if known and count else None,
        "images": count if known else None,
        "source": "new.json",
    }


def held_out_images(training: Mapping[str, Any]) -> tuple[str, list[int]] | None:
    """Look up which images a fine-tuning held out, where its ``new.json`` has them.

    Returns
    -------
    (str, list of int) or None
        The fingerprint of the data, and positions in it. None where it does not say so, or not
        as it is written.
    """
    found = training.get("held_out")
    if not isinstance(found, Mapping) or not isinstance(found.get("data"), str):
        return None
    images = found.get("images")
    is_list = isinstance(images, list) and all(isinstance(row, int) for row in images)
    return (found["data"], images) if is_list and images is not None else None
