"""How a layer organizes what it knows: all that `cnnlens.cluster` finds, in one call.

found = cluster(store, group(store.categories))
found.categories.names, found.filters["cat"].top_filters(), found.layer.flat
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cnnlens.activations.passes import Forward
from cnnlens.cluster.categories import CategoryTree, category_steps
from cnnlens.cluster.embed import Layout, embed_steps, pixel_vectors
from cnnlens.cluster.filters import FilterTree, filter_trees
from cnnlens.cluster.vectors import Groups, Joined, Maps, MapSource, RowSource
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.progress import Step, followed
from cnnlens.settings import ClusterSettings
from cnnlens.settings.cluster import PARTS

NOISE = "noise"  # the category of random images
_MOST = 200  # random images


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
    source: RowSource,
    groups: Groups | None,
    settings: ClusterSettings | None = None,
    only: Sequence[str] = tuple(PARTS),
    *,
    pixels: Iterable[np.ndarray] | None = None,
    noise: tuple[Model, Layer] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Clustering:
    """Find the trees of a layer, and lay its images out.

    Each part is a function of its own: `category_tree`, `filter_trees`, `lay_out`.

    Parameters
    ----------
    source : RowSource
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
    if settings.noise and noise is None and "categories" in only:
        raise ValueError("noise=(model, layer) is needed where the settings ask for noise")
    found: dict[str, Any] = dict.fromkeys(("categories", "filters", "layer", "pixels", "projected"))
    if groups is not None and "categories" in only:
        progress("tree of categories")
        found["categories"] = followed(tree_steps(source, groups, settings, noise), None)
    if groups is not None and "filters" in only:
        progress("trees of filters")
        trees = filter_trees(source, groups, rule=settings.rule)
        found["filters"] = {given.name: tree for given, tree in trees}
    if "embed" in only:
        read = None if pixels is None else lambda: (pixel_vectors(pixels), None)
        how = settings.neighbours, settings.seed, settings.exact
        steps = embed_steps(source, groups, read, *how)
        laid = followed(steps, lambda step: progress(str(step.note)))
        found |= {"layer": laid.layer, "pixels": laid.pixels, "projected": laid.projected}
    return Clustering(groups, **found)


def tree_steps(
    source: MapSource,
    groups: Groups,
    settings: ClusterSettings,
    noise: tuple[Model, Layer] | None,
    batch_size: int = 32,
) -> Generator[Step, None, CategoryTree]:
    """Grow the tree of categories as the settings want it: with random images, resampled."""
    if settings.noise and noise is not None:
        source, groups = add_noise(source, groups, *noise, settings.seed, batch_size)
    return (yield from category_steps(source, groups, settings.bootstrap, settings.seed))


def add_noise(
    source: MapSource, groups: Groups, model: Model, layer: Layer, seed: int, batch_size: int = 32
) -> tuple[MapSource, Groups]:
    """Add a category of random images, as many as the other categories have on average.

    Parameters
    ----------
    source, groups
        The images.
    model, layer : Model, Layer
        What answers the random images, uniform pixels of the network's input size.
    seed : int
        Of the images.
    batch_size : int
        Images in the network at once.

    Returns
    -------
    (MapSource, Groups)
        With the random images as the last rows; their category is called "noise", with as many
        underscores behind as make it unique.
    """
    count = int(np.clip(round(groups.sizes.mean()), 2, _MOST))
    generator = torch.Generator().manual_seed(seed)
    size = (count, model.preprocess.channels, *model.preprocess.size)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    (maps,), _ = Forward(model, [layer], logits=False, limit=batch_size)(pixels)
    name = NOISE
    while name in groups.names:
        name += "_"
    of_image = np.concatenate([groups.of_image, np.full(count, len(groups.names))])
    return Joined((source, Maps(maps))), Groups((*groups.names, name), of_image)
