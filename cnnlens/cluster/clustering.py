"""How a layer organizes what it knows: all that `cnnlens.cluster` finds, in one call.

found = cluster(store, group(store.categories))
found.categories.names, found.filters["cat"].top_filters(), found.layer.flat
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnlens.cluster.categories import CategoryTree, category_tree
from cnnlens.cluster.embed import Layout, flat_vectors, lay_out, pixel_vectors
from cnnlens.cluster.filters import FilterTree, filter_trees
from cnnlens.cluster.noise import add_noise
from cnnlens.cluster.vectors import Groups, MapSource
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model
from cnnlens.settings import ClusterSettings

PARTS = ("categories", "filters", "embed")


@dataclass(frozen=True)
class Clustering:
    """What `cluster` finds; what it was not asked for is None.

    Attributes
    ----------
    groups : Groups or None
        The category of each image.
    categories : CategoryTree or None
        The tree of categories.
    filters : mapping of str to FilterTree, or None
        A tree of filters per category; its leaves count the images of the category, whose rows are
        ``groups.rows(name)``.
    layer, pixels : Layout or None
        Where the images lie, by the layer's vectors and by their raw pixels.
    projected : int or None
        Length of the layer's vectors where they were projected, see `flat_vectors`.
    """

    groups: Groups | None = field(repr=False)
    categories: CategoryTree | None
    filters: Mapping[str, FilterTree] | None
    layer: Layout | None
    pixels: Layout | None
    projected: int | None


def cluster(
    source: MapSource,
    groups: Groups | None,
    settings: ClusterSettings | None = None,
    only: Sequence[str] = PARTS,
    *,
    pixels: Iterable[np.ndarray] | None = None,
    noise: tuple[Model, Layer] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Clustering:
    """Find the trees of a layer, and lay its images out.

    Each part is a function of its own: `category_tree`, `filter_trees`, `lay_out`.

    Parameters
    ----------
    source : MapSource
        The layer's answers: a store, or `Maps`, (N, C, H, W).
    groups : Groups or None
        The category of each image; without, there is only the embedding.
    settings : ClusterSettings, optional
        Bootstrap, rule, neighbours, seed.
    only : sequence of str
        Which of `PARTS`.
    pixels : iterable of numpy.ndarray, optional
        The images themselves, (H, W, C) uint8 each, to lay out their raw pixels too.
    noise : (Model, Layer), optional
        What answers the random images of one more category, where the settings ask for it.
    progress : callable
        Told what begins.

    Raises
    ------
    ValueError
        When a part is not known, trees lack categories, or noise lacks a model.
    CnnlensError
        When fewer than two categories have a direction, or there are too few images to lay out.
    """
    settings = settings or ClusterSettings()
    if unknown := set(only) - set(PARTS):
        raise ValueError(f"parts {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if groups is None and set(only) != {"embed"}:
        raise ValueError("trees need the categories of the images; only=['embed'] works without")
    found: dict[str, Any] = dict.fromkeys(("categories", "filters", "layer", "pixels", "projected"))
    if groups is not None and "categories" in only:
        progress("tree of categories")
        found["categories"] = _categories(source, groups, settings, noise)
    if groups is not None and "filters" in only:
        progress("trees of filters")
        trees = filter_trees(source, groups, rule=settings.rule)
        found["filters"] = {given.name: tree for given, tree in trees}
    if "embed" in only:
        vectors, found["projected"] = flat_vectors(source, settings.seed)
        k, seed = settings.neighbours, settings.seed
        found["layer"] = lay_out(vectors, groups, k, seed, lambda step: progress(step.note))
        if pixels is not None:
            found["pixels"] = lay_out(
                pixel_vectors(pixels), groups, k, seed, lambda step: progress(step.note)
            )
    return Clustering(groups, **found)


def _categories(
    source: MapSource,
    groups: Groups,
    settings: ClusterSettings,
    noise: tuple[Model, Layer] | None,
) -> CategoryTree:
    if settings.noise:
        if noise is None:
            raise ValueError("noise=(model, layer) is needed where the settings ask for noise")
        source, groups = add_noise(source, groups, *noise, settings.seed)
    return category_tree(source, groups, resamples=settings.bootstrap, seed=settings.seed)
