from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnlens.cluster.embed import (
    flat_vectors,
    lay_out,
    layout_steps,
    pixel_vectors,
    read_pixels,
    recalled,
)
from cnnlens.cluster.neighbours import Neighbours
from cnnlens.cluster.vectors import Maps, group
from cnnlens.errors import CnnlensError
from cnnlens.progress import followed

from .test_separation import blobs


@pytest.mark.filterwarnings("ignore")
def test_one_seed_gives_one_layout_which_keeps_the_groups_apart() -> None:
    vectors, names = blobs(8)
    first, again = (lay_out(vectors, group(names), 5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.flat, again.flat)
    assert first.flat.shape == (45, 2)
    assert first.deep.shape == (45, 3)
    assert first.separation["2d"].neighbours == 1
    assert lay_out(vectors[:5], None, 15).separation["2d"].silhouette is None


def test_too_few_images_are_no_layout() -> None:
    with pytest.raises(CnnlensError, match="too few"):
        lay_out(np.ones((4, 3), np.float32), None)


def test_long_vectors_are_projected_and_keep_their_distances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps = np.random.default_rng(0).random((30, 64, 8, 8)).astype(np.float32)
    whole, projected = flat_vectors(Maps(maps))
    assert projected is None
    np.testing.assert_array_equal(whole, maps.reshape(30, -1))
    monkeypatch.setattr("cnnlens.cluster.embed._LARGE", 1)
    short, projected = flat_vectors(Maps(maps))
    assert short.shape == (30, projected)
    before = np.linalg.norm(whole[:, None] - whole[None], axis=2)
    after = np.linalg.norm(short[:, None] - short[None], axis=2)
    ratio = after[before > 0] / before[before > 0]
    assert 0.85 < ratio.min() < ratio.max() < 1.15


def test_pixels_are_read_a_batch_at_a_time_and_projected_where_they_are_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 24, 3)).astype(np.uint8)
    monkeypatch.setattr("cnnlens.cluster.embed._BATCH", 6)
    rows = [3, *range(19, -1, -1)]
    whole, projected = read_pixels(images.__getitem__, rows, workers=2)
    assert projected is None
    np.testing.assert_array_equal(whole, pixel_vectors(images[rows]))
    monkeypatch.setattr("cnnlens.cluster.embed._LARGE", 1)
    short, projected = read_pixels(images.__getitem__, rows, workers=2)
    assert short.shape == (21, projected)
    before, after = (np.linalg.norm(one[1:] - one[0], axis=1) for one in (whole, short))
    there = before > 0
    assert there.sum() == 19
    assert (after[there] / before[there]).min() > 0.85
    assert (after[there] / before[there]).max() < 1.15


def test_how_many_neighbours_of_many_images_were_found_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, names = blobs(0.7)
    given = []

    def umap(vectors: np.ndarray, near: Neighbours, dimensions: int, seed: int) -> np.ndarray:
        given.append(near)
        return vectors[:, :dimensions]

    monkeypatch.setattr("cnnlens.cluster.embed.umap_layout", umap)
    monkeypatch.setattr("cnnlens.cluster.neighbours._CELL", 5)
    monkeypatch.setattr("cnnlens.cluster.neighbours._AMONG", 1)  # the row's own cell, or two
    exact = lay_out(vectors, group(names), 5, seed=3, exact=45)
    assert "recall" not in exact.as_dict()
    found = lay_out(vectors, group(names), 5, seed=3, exact=44)
    assert found.as_dict()["recall"] == found.recall == given[-1].recall < 1
    assert given[0].recall is None
    sides = {"layer": {"recall": 0.991}, "pixels": None}
    assert recalled(sides) == "99.1% of a sample's nearest neighbours were found"
    assert "(98.0% among raw pixels)" in recalled({**sides, "pixels": {"recall": 0.98}})
    assert recalled({"layer": exact.as_dict(), "pixels": None}) == ""


@pytest.mark.filterwarnings("ignore")
def test_a_layout_leaves_torch_its_threads() -> None:
    vectors, names = blobs(8)
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            lay_out(vectors, group(names), 5)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_copies_of_one_image_alone_are_no_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlens.cluster.embed.umap_layout", lambda v, near, d, seed: v[:, :d])
    for names, once in (("aaaaaa", [0]), ("aaabbb", [0, 3])):
        steps = layout_steps(np.ones((6, 4), np.float32), group(names), 5, once=np.array(once))
        assert followed(steps, None).separation["vectors"].neighbours is None
