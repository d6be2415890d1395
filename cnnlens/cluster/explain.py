"""Why an image belongs to its category: its path down the tree of the category's filters.

    found = explain(model, layer, store, groups, pixels)
    [split.filter for split in found.path.splits]

At every split stand the critical filter, its activation on the image against that on the images of
the category and of all data, and the images that excite it most.

Dai 2020, §3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cnnlens.activations.forward import Forward
from cnnlens.attribution.cam import ClassMaps
from cnnlens.cluster.decision_path import DecisionPath, descend
from cnnlens.cluster.explanation import Evidence, Explanation, Prediction
from cnnlens.cluster.filters import FilterTree, filter_trees, node_vectors
from cnnlens.cluster.vectors import Groups, MapSource, category_of, unit_peaks
from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model.classes import class_name
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model

TOP = 5  # images of the data per filter


def explain(
    model: Model,
    layer: Layer,
    source: MapSource,
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
    source : MapSource
        The layer's answers to the data: a store, or `Maps`, (N, C, H, W).
    groups : Groups
        The category of each image of the data.
    pixels : numpy.ndarray
        (C, H, W) uint8, of the network's input size.
    category : str, optional
        The category whose tree is used. Default: the one of the predicted class.
    rule : {"argmin", "largest-change"}
        Which filter is critical, see `filter_tree`.
    top : int
        Images of the data per filter.

    Raises
    ------
    UsageError
        When there is no such category, or none was named and the network gives no class scores.
    CnnlensError
        When no category is called after the predicted class, or the layer answers nothing.
    """
    found = explanations(
        model, layer, source, groups, [pixels], category=category, rule=rule, top=top
    )
    return next(found)


def explanations(
    model: Model,
    layer: Layer,
    source: MapSource,
    groups: Groups,
    images: Sequence[np.ndarray],
    *,
    category: str | None = None,
    rule: str = "argmin",
    top: int = TOP,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Iterator[Explanation]:
    """Explain images, in their order; the source is read twice, however many there are.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        (C, H, W) uint8 each.
    progress : callable
        Told what is done ("predictions", "trees"), how many, and of how many.

    See `explain` for the others, and for what is raised.
    """
    look = _class_maps(model)
    if category is not None and category not in groups.names:
        near = did_you_mean(category, groups.names)
        raise UsageError(
            f"no category '{category}' in the data",
            near or f"there are {', '.join(groups.names[:8])}",
        )
    if category is None and look is None:
        raise UsageError(
            "the network returns no class scores, so it predicts no category",
            "name the category with --class",
        )
    run = _Run(model, layer, source, groups, look, category, rule, top, progress)
    return run.explain(images)


def _class_maps(model: Model) -> ClassMaps | None:
    """Grad-CAM of the network; None where it gives no class scores."""
    try:
        return ClassMaps(model, "gradcam")
    except CnnlensError:
        return None


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
    """One call of `explanations`."""

    model: Model
    layer: Layer
    source: MapSource
    groups: Groups
    look: ClassMaps | None
    named: str | None
    rule: str
    top: int
    progress: Callable[[str, int, int], None]

    def explain(self, images: Sequence[np.ndarray]) -> Iterator[Explanation]:
        predictions = []
        for number, pixels in enumerate(images):
            self.progress("predictions", number, len(images))
            predictions.append(self._predict(pixels) if self.look else None)
        wanted = [self.named or (p.category if p else None) for p in predictions]
        walks = dict(self._walks(images, [name for name in wanted if name is not None]))
        splits = (split for walk in walks.values() for split in walk.path.splits)
        units = sorted({split.filter for split in splits if split.filter is not None})
        peaks = dict(zip(units, unit_peaks(self.source, units), strict=True))  # (N,) each
        for number, prediction in enumerate(predictions):
            yield self._explanation(prediction, walks[number], peaks)

    def _predict(self, pixels: np.ndarray) -> Prediction:
        assert self.look is not None
        model, names = self.model, self.groups.names
        rows = torch.from_numpy(pixels)[None].repeat(model.batch or 1, 1, 1, 1)
        found = self.look(model.preprocess.normalize(rows.to(model.device)), None, 1)
        number = int(found.classes[0, 0])
        category = category_of(number, model.classes, self.look.count, names)
        if category is None and self.named is None:
            raise CnnlensError(
                "no category of the data is called after the predicted class "
                + class_name(number, model.classes),
                f"name one with --class: {', '.join(names[:6])}"
                + (", …" if len(names) > 6 else ""),
            )
        return Prediction(
            number=number,
            name=class_name(number, model.classes or sorted(names) if category else None),
            probability=float(found.probabilities[0, 0]),
            category=category,
            heat=found.maps[0, 0].float().cpu().numpy(),
        )

    def _walks(
        self, images: Sequence[np.ndarray], wanted: Sequence[str]
    ) -> Iterator[tuple[int, _Walk]]:
        """Grow every wanted tree, and let its images go down while its maps are in memory."""
        names = sorted(set(wanted))
        trees = filter_trees(self.source, self.groups, names, self.rule)
        for done, (given, tree) in enumerate(trees):
            self.progress("trees", done, len(names))
            if not len(tree.leaves):
                raise CnnlensError(
                    f"{self.layer.name} answers nothing to any image of {given.name}",
                    "name another layer",
                )
            vectors = node_vectors(given.maps, tree)
            for number in (i for i, name in enumerate(wanted) if name == given.name):
                maps = self._maps(images[number])
                path = descend(vectors, tree, maps)
                yield number, _Walk(given.name, given.rows, tree, path, maps.max(axis=(1, 2)))

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
        self, prediction: Prediction | None, walk: _Walk, peaks: Mapping[int, np.ndarray]
    ) -> Explanation:
        filters = (split.filter for split in walk.path.splits)
        return Explanation(
            prediction=prediction,
            category=walk.category,
            tree=walk.tree,
            path=walk.path,
            evidence=tuple(
                None if f is None else self._evidence(float(walk.peaks[f]), peaks[f], walk.rows)
                for f in filters
            ),
            leaf=int(walk.rows[walk.tree.leaves[walk.path.leaf]]),
        )

    def _evidence(self, value: float, peaks: np.ndarray, rows: np.ndarray) -> Evidence:
        highest = np.argsort(-peaks, kind="stable")[: self.top]
        return Evidence(
            activation=value,
            peaks=peaks[rows],
            share_below_category=share_below(peaks[rows], value),
            share_below_data=share_below(peaks, value),
            top=tuple(int(row) for row in highest),
        )


def share_below(values: np.ndarray, value: float) -> float | None:
    """Share of values that are smaller, equal ones counted half; None where there are none."""
    if not len(values):
        return None
    return float(((values < value).sum() + 0.5 * (values == value).sum()) / len(values))
