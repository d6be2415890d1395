"""Net2Vec: concepts as combinations of units, beside the best single one.

Every concept gets a weight for each unit of a layer. What is labelled pixel by pixel is found by
the weighted sum of the units' binary maps (see `combine`), what is told of whole images by a
logistic probe on their means (see `probe`). Weights are learned from the images of one split that
show the concept and judged, like the unit that does best on those, on the images of the other.

Fong and Vedaldi, "Net2Vec", CVPR 2018; seed 002 §6.2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cnnlens.activations.sources import Source
from cnnlens.data.broden import Broden
from cnnlens.data.splits import two_splits
from cnnlens.errors import CnnlensError, counted
from cnnlens.measure.combine import Learner, maps
from cnnlens.measure.concept_bits import Collector
from cnnlens.measure.concept_fit import Fit, Task, alone, fit_steps, largest
from cnnlens.measure.embeddings import Embeddings
from cnnlens.measure.label_cache import LabelCache
from cnnlens.measure.masks import TopValues
from cnnlens.measure.top import TopImages
from cnnlens.progress import Step, followed
from cnnlens.settings import Net2VecSettings


@dataclass(frozen=True, kw_only=True)
class LearningStep(Step):
    """How far learning is; after an epoch `state` is what the same request goes on from."""

    state: Mapping[str, np.ndarray] | None = None


def net2vec(
    source: Source,
    data: Broden,
    settings: Net2VecSettings | None = None,
    workers: int = 4,
    progress: Callable[[Step], None] | None = None,
) -> list[Embeddings]:
    """Learn every concept of a data set as a combination of units, in each layer of a source.

    Parameters
    ----------
    source : Source
        Activations of the layers over the images of `data`, which are looked at twice; of images
        that are there once (see `distinct`).
    data : Broden
        The images' labels.
    settings : Net2VecSettings, optional
        Loss, epochs, sizes of the curve.
    workers : int
        Threads that learn.
    progress : callable, optional
        Called often with a Step.

    Returns
    -------
    list of Embeddings
        One per layer.

    Raises
    ------
    CnnlensError
        When there are fewer than two images, or no concept can be learned.
    """
    steps = net2vec_steps(source, data, settings or Net2VecSettings(), workers)
    return followed(steps, progress)


def net2vec_steps(
    source: Source,
    data: Broden,
    settings: Net2VecSettings,
    workers: int,
    folder: Path | None = None,
    states: Sequence[Mapping[str, np.ndarray] | None] = (),
) -> Generator[Step, None, list[Embeddings]]:
    """Do what `net2vec` does, step by step; bits are kept in `folder` meanwhile, and learning goes
    on from each layer's state, where it has one.
    """
    split_of, words = two_splits(data, settings.seed)
    thresholds = [
        TopValues(settings.kept_share, shape[0], limit * shape[1] * shape[2])
        for shape, limit in zip(source.shapes, source.limits, strict=True)
    ]
    for step in source.sweep([partial(_update, values) for values in thresholds]):
        yield Step(step.done, step.total, "thresholds")
    if not thresholds[0].count:
        raise CnnlensError("no image of the data could be read", "cnnlens data check DIR says why")
    found = []
    with TemporaryDirectory(prefix=".bits-", dir=folder) as scratch:
        book = LabelCache(data.concept_space(), len(data.paths), keep=False, by_concept=False)
        collectors = []
        for number, (values, shape) in enumerate(zip(thresholds, source.shapes, strict=True)):
            place = Path(scratch) / str(number)
            place.mkdir()
            collectors.append(Collector(values.thresholds(), shape, book, split_of, place))
        for step in source.sweep(collectors):
            yield Step(step.done, step.total, "units and concepts")
        for number, collector in enumerate(collectors):
            task = Task.of(collector, book, split_of)
            state = states[number] if number < len(states) else None
            found.append((yield from _solve(task, settings, words, max(1, workers), state)))
    return found


def _update(values: TopValues, positions: np.ndarray, maps: np.ndarray) -> None:
    values.update(maps)


State = Mapping[str, np.ndarray]  # of fits that are done, and of the one that is under way


def _solve(
    task: Task, settings: Net2VecSettings, words: str, workers: int, state: State | None
) -> Generator[Step, None, Embeddings]:
    """Learn all that is asked for: of all units, of the largest weights, of shuffled labels."""
    sizes = [size for size in settings.sizes if size < task.shape[1]]
    runs = [("all units", 0, -1), *((counted(size, "unit"), size, -1) for size in sizes[::-1])]
    runs += [("shuffled labels", 0, number) for number in range(settings.chance)]
    fits = _read_fits(state)
    total = len(runs) * settings.epochs
    with ThreadPoolExecutor(workers) as pool:
        for run, (name, size, shuffle) in list(enumerate(runs))[len(fits) :]:
            kept = largest(fits[0].weights, size) if size else np.ones(task.shape, bool)
            pairs = task.pairs if shuffle < 0 else task.shuffled(settings.seed, shuffle)
            begun = state if state is not None and int(state["run"]) == run else None
            learning = fit_steps(task, pairs, kept, settings, pool, workers, begun)
            while True:
                try:
                    epoch, learner = next(learning)
                except StopIteration as end:
                    fits.append(end.value)
                    break
                done, now = run * settings.epochs + epoch, _state(fits, epoch, learner)
                yield LearningStep(done, total, name, unit="epochs", state=now)
    return _found(task, settings, words, fits, sizes)


_ARRAYS = [field.name for field in fields(Fit)]


def _state(fits: Sequence[Fit], epoch: int, learner: Learner) -> dict[str, np.ndarray]:
    """Note where learning is: copies, since the learner goes on."""
    done = {f"{n}/{name}": getattr(fit, name) for n, fit in enumerate(fits) for name in _ARRAYS}
    now = {"weights": learner.weights.copy(), "speed": learner.speed.copy()}
    return {**done, **now, "run": np.array(len(fits)), "epoch": np.array(epoch)}


def _read_fits(state: State | None) -> list[Fit]:
    """Take the fits that an earlier run has finished."""
    if state is None:
        return []
    return [Fit(*(state[f"{n}/{name}"] for name in _ARRAYS)) for n in range(int(state["run"]))]


def _found(
    task: Task, settings: Net2VecSettings, words: str, fits: list[Fit], sizes: list[int]
) -> Embeddings:
    """Put together what was learned of the concepts that could be."""
    kept, (first, *others) = np.flatnonzero(task.learned), fits
    top = _top(task, first, kept, settings.top) if settings.top else None
    unit, ious = alone(task)
    learned_on, validated_on = (overlap.images[kept] for overlap in task.overlaps)
    return Embeddings(
        settings=settings,
        split=words,
        images=(int((task.split == 0).sum()), int((task.split == 1).sum())),
        concepts=[task.space.concepts[k] for k in kept],
        of_pixels=task.of_pixels[kept],
        learned_on=learned_on,
        validated_on=validated_on,
        best_unit=unit[kept],
        best_unit_iou=ious[kept],
        **{name: getattr(first, name)[kept] for name in _ARRAYS},
        filters=[*sizes, task.shape[1]],
        curve=np.array([fit.iou[kept] for fit in (*others[: len(sizes)][::-1], first)]),
        chance=np.array([f.iou[kept] for f in others[len(sizes) :]]).reshape(-1, len(kept)),
        thresholds=task.thresholds,
        top=top,
        top_shows=None if top is None else _shows(task, top, kept),
        left_out=task.left_out,
        skipped=task.skipped,
    )


def _top(task: Task, fit: Fit, kept: np.ndarray, top: int) -> TopImages:
    """Find the images of the validation split on which each combination is highest, with its map.

    What is told of whole images has one value all over it.
    """
    found = TopImages((len(kept), *task.bits.extent), top)
    whole = ~task.of_pixels[kept]
    for row in np.flatnonzero(task.split == 1).tolist():
        here = maps(task.bits, row, fit.weights[kept])  # (K, H, W)
        logits = fit.direction[kept] @ task.bits.means[row] + fit.bias[kept]
        here[whole] = logits[whole, None, None]
        found.update(task.bits.positions[row : row + 1], here[None])
    return found


def _shows(task: Task, top: TopImages, kept: np.ndarray) -> np.ndarray:
    """(K, top) bool: whether each top image shows the concept."""
    row_of = dict(zip(task.bits.positions.tolist(), range(len(task.split)), strict=True))
    rows = np.array([[row_of.get(p, -1) for p in of.tolist()] for of in top.positions])
    truth = task.truth(task.pairs)[:, kept]  # (N, K)
    return truth[rows, np.arange(len(kept))[:, None]] & (rows >= 0)
