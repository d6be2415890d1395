"""Why an image belongs to its category: its path down the tree of the category's filters.

    found = explain(model, layer, store, groups, pixels)
    [split.filter for split in found.path.splits]

At every split stand the critical filter, its activation on the image against that on the images of
the category and of all data, and the images that excite it most.

Dai 2020, §3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from cnnlens.activations.passes import Forward
from cnnlens.cluster.decision_path import DecisionPath, descend
from cnnlens.cluster.explanation import Explanation, Prediction, evidence
from cnnlens.cluster.filters import FilterTree, filter_trees, node_vectors
from cnnlens.cluster.predicted import Predictor, predictor
from cnnlens.cluster.vectors import CategoryMaps, Groups, RowSource, unit_peaks
from cnnlens.errors import CnnlensError
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.progress import Step, followed

TOP = 5  # images of the data per filter


def explain(
    model: Model,
    layer: Layer,
    source: RowSource,
    groups: Groups,
    pixels: np.ndarray,
    *,
    category: str | None = None,
    rule: str = "argmin",
    top: int = TOP,
) -> Explanation:
    """Explain one image by the filters of its category.

    Parameters
    ----------
    model, layer : Model, Layer
        What answers the image.
    source : RowSource
        The layer's answers to the data: a store, or `Maps`, (N, C, H, W).
    groups : Groups
        The category of each image of the data.
    pixels : numpy.ndarray
        (C, H, W) uint8, of the network's input size.
    category : str, optional
        The category whose tree is used. Default: the one of the predicted class, which of a network
        without names may be found by the categories' order; with a named one no order is assumed.
    rule : {"argmin", "largest-change"}
        Which filter is critical, see `filter_tree`.
    top : int
        Images of the data per filter.

    Raises
    ------
    UsageError
        When there is no such category, or none was named and the network gives no class scores. A
        single output is read as two classes.
    CnnlensError
        When no category is called after the predicted class, or the layer answers nothing.
    """
    with model.in_use():
        found = explanations(
            model, layer, source, groups, [pixels], category=category, rule=rule, top=top
        )
        return next(found)


def explanations(
    model: Model,
    layer: Layer,
    source: RowSource,
    groups: Groups,
    images: Sequence[np.ndarray],
    *,
    category: str | None = None,
    rule: str = "argmin",
    top: int = TOP,
    progress: Callable[[Step], None] | None = None,
) -> Iterator[Explanation]:
    """Explain images, in their order; the source is read twice, however many there are.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        (C, H, W) uint8 each.
    progress : callable
        Told what is done before the first is explained: predictions, trees.

    See `explain` for the others, and for what is raised.
    """
    steps = explain_steps(
        model, layer, source, groups, images, category=category, rule=rule, top=top
    )

    def every() -> Iterator[Explanation]:
        for _, found in followed(steps, progress):
            yield found

    return every()


def explain_steps(
    model: Model,
    layer: Layer,
    source: RowSource,
    groups: Groups,
    images: Sequence[np.ndarray],
    *,
    category: str | None = None,
    rule: str = "argmin",
    top: int = TOP,
    skip: Callable[[int, CnnlensError], None] | None = None,
) -> Generator[Step, None, Iterator[tuple[int, Explanation]]]:
    """Do what `explanations` does: steps first, then each image's number and its explanation.

    Parameters
    ----------
    skip : callable, optional
        Given an image that cannot be explained, by its number, and why; the others are explained
        all the same. Left out: that is raised.
    """
    look = predictor(model, groups.names, category)
    predict = None if look is None else Predictor(model, look, groups.names, category)
    run = _Run(model, layer, source, groups, predict, category, rule, top, skip)
    return run.steps(images)


@dataclass(frozen=True)
class _Walk:
    """An image at the leaf of a tree, before its filters are held against the data."""

    category: str
    rows: np.ndarray  # (n,)
    tree: FilterTree
    path: DecisionPath
    peaks: np.ndarray  # (C,)


@dataclass(frozen=True)
class _Run:
    """One call of `explain_steps`."""

    model: Model
    layer: Layer
    source: RowSource
    groups: Groups
    predict: Predictor | None
    named: str | None
    rule: str
    top: int
    skip: Callable[[int, CnnlensError], None] | None

    def steps(
        self, images: Sequence[np.ndarray]
    ) -> Generator[Step, None, Iterator[tuple[int, Explanation]]]:
        predictions: dict[int, Prediction | None] = {}
        for number, pixels in enumerate(images):
            yield Step(number, len(images), "predictions")
            with self._spared(number):
                predictions[number] = self.predict(pixels) if self.predict else None
        yield Step(len(images), len(images), "predictions")
        wanted = {n: self.named or (p.category if p else None) for n, p in predictions.items()}
        walks = yield from self._walks(images, {n: name for n, name in wanted.items() if name})
        splits = (split for walk in walks.values() for split in walk.path.splits)
        units = sorted({split.filter for split in splits if split.filter is not None})
        every = unit_peaks(self.source, units) if units else np.empty((0, 0), np.float32)
        peaks = dict(zip(units, every, strict=True))  # (N,) each
        return (
            (number, self._explanation(predictions[number], walks[number], peaks, images[number]))
            for number in sorted(walks)
        )

    @contextmanager
    def _spared(self, number: int) -> Iterator[None]:
        """Let an image that cannot be explained cost only itself, where that is wanted."""
        try:
            yield
        except CnnlensError as error:
            if self.skip is None:
                raise
            self.skip(number, error)

    def _walks(
        self, images: Sequence[np.ndarray], wanted: Mapping[int, str]
    ) -> Generator[Step, None, dict[int, _Walk]]:
        """Grow every wanted tree, and let its images go down while its maps are in memory."""
        names = sorted(set(wanted.values()))
        yield Step(0, len(names), "trees", unit="categories")
        walks = {}
        trees = filter_trees(self.source, self.groups, names, self.rule)
        for done, (given, tree) in enumerate(trees, 1):
            vectors = node_vectors(given.maps, tree)
            for number in (n for n, name in wanted.items() if name == given.name):
                with self._spared(number):
                    walks[number] = self._walk(given, tree, vectors, images[number])
            yield Step(done, len(names), "trees", note=given.name, unit="categories")
        return walks

    def _walk(
        self, given: CategoryMaps, tree: FilterTree, vectors: np.ndarray, pixels: np.ndarray
    ) -> _Walk:
        if not len(tree.leaves):
            raise CnnlensError(
                f"{self.layer.name} answers nothing to any image of {given.name}",
                "name another layer",
            )
        maps = self._maps(pixels)
        path = descend(vectors, tree, maps)
        return _Walk(given.name, given.rows, tree, path, maps.max(axis=(1, 2)))

    def _maps(self, pixels: np.ndarray) -> np.ndarray:
        """The layer's answer, (C, H, W)."""
        forward = Forward(self.model, [self.layer], logits=False, limit=1)
        (maps,), _ = forward(torch.from_numpy(pixels)[None])
        if not maps.any():
            raise CnnlensError(
                f"{self.layer.name} answers nothing to the image", "name another layer with -l"
            )
        return np.asarray(maps[0])

    def _explanation(
        self,
        prediction: Prediction | None,
        walk: _Walk,
        peaks: Mapping[int, np.ndarray],
        pixels: np.ndarray,
    ) -> Explanation:
        filters = [split.filter for split in walk.path.splits]
        main = [filters[number] for number in walk.path.main_splits(walk.tree)]
        units = list(dict.fromkeys(unit for unit in main if unit is not None))
        return Explanation(
            prediction=prediction,
            category=walk.category,
            tree=walk.tree,
            path=walk.path,
            evidence=tuple(
                None if f is None else evidence(float(walk.peaks[f]), peaks[f], walk.rows, self.top)
                for f in filters
            ),
            leaf=int(walk.rows[walk.tree.leaves[walk.path.leaf]]),
            without=self.predict.without(prediction, self.layer, pixels, units)
            if self.predict and prediction
            else {},
            outputs=self.predict.outputs if self.predict else {},
        )
