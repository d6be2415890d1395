"""Dot products of the mean vectors of categories, which may be long and many, without all means."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from cnnlens.cluster.vectors import Groups, MapSource, numbered
from cnnlens.progress import Step, followed

_HELD = 2**30  # bytes of sums held at once


def unit_blocks(shape: tuple[int, int, int, int], sums: int) -> list[slice]:
    """Cut the units of maps (N, C, H, W) into blocks of which `sums` float64 vectors are held."""
    _, units, height, width = shape
    step = max(1, _HELD // max(1, sums * height * width * 8))
    return [slice(start, min(start + step, units)) for start in range(0, units, step)]


def gram(source: MapSource, groups: Groups, weights: np.ndarray) -> np.ndarray:
    """Dot products of the categories' weighted mean vectors, for several weightings at once.

    The source is read once for every block of units whose means fit into 1 GiB.

    Parameters
    ----------
    source : MapSource
        (N, C, H, W).
    groups : Groups
        K categories; images of none are passed over.
    weights : numpy.ndarray
        (R, N): weight of each image in its category's mean, in each of R weightings.

    Returns
    -------
    numpy.ndarray
        (R, K, K) float64.
    """
    return followed(gram_steps(source, groups, weights), None)


def gram_steps(
    source: MapSource, groups: Groups, weights: np.ndarray
) -> Generator[Step, None, np.ndarray]:
    """Do what `gram` does, a step for every block that is read."""
    count, images = len(groups.names), source.shape[0]
    if weights.shape[1:] != (images,) or len(groups.of_image) != images:
        raise ValueError(f"weights {weights.shape}, {len(groups.of_image)} labels: {source.shape}")
    totals = np.stack([_per_group(groups, row) for row in weights])[..., None]  # (R, K, 1)
    products = np.zeros((len(weights), count, count))
    blocks = unit_blocks(source.shape, len(weights) * count)
    for looks, block in enumerate(blocks):
        means = np.zeros((len(weights), count, _length(source.shape, block)))  # sums, at first
        for rows, maps in numbered(source, block):
            _add(means, maps, groups.of_image[rows], weights[:, rows])
            done = (looks * images + int(rows[-1]) + 1) // len(blocks)
            yield Step(done, images, "means of categories")
        np.divide(means, totals, out=means, where=totals > 0)  # a sum of nothing is 0
        for number, one in enumerate(means):  # (K, D) each: all at once would be held twice
            products[number] += one @ one.T
    return products


def _length(shape: tuple[int, int, int, int], units: slice) -> int:
    return (units.stop - units.start) * shape[2] * shape[3]


def _per_group(groups: Groups, weights: np.ndarray) -> np.ndarray:
    there = groups.of_image >= 0
    return np.bincount(
        groups.of_image[there], weights=weights[there], minlength=len(groups.names)
    ).astype(np.float64)


def _add(sums: np.ndarray, maps: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
    """Add weighted vectors of images to the sums (R, K, D) of their categories.

    Parameters
    ----------
    sums : numpy.ndarray
        (R, K, D), changed.
    maps : numpy.ndarray
        (B, C, H, W) with C·H·W = D.
    labels : numpy.ndarray
        (B,) each image's category, -1 for none.
    weights : numpy.ndarray
        (R, B).
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)  # (B, D)
    for category in np.unique(labels[labels >= 0]):
        here = labels == category
        sums[:, category] += weights[:, here] @ flat[here]
