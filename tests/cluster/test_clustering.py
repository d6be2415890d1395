from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import cnnlens
import cnnlens.cluster.tree
from cnnlens.cluster.categories import category_tree
from cnnlens.cluster.clustering import cluster
from cnnlens.cluster.filters import filter_tree
from cnnlens.cluster.vectors import Groups, group
from cnnlens.settings import ClusterSettings
from tests import bare
from tests.cluster.counting import Counting
from tests.cluster.nets import classifier, last_layer


def world() -> tuple[Counting, Groups]:
    rng = np.random.default_rng(0)
    means = np.maximum(rng.standard_normal((4, 8, 3, 3)), 0)
    maps = np.tile(means, (10, 1, 1, 1)) + 0.3 * rng.random((40, 8, 3, 3))
    return Counting(maps.astype(np.float32)), group([f"c{i % 4}" for i in range(40)])


@pytest.mark.filterwarnings("ignore")
def test_finds_all_that_its_parts_find() -> None:
    source, groups = world()
    photos = np.random.default_rng(1).integers(0, 256, (40, 80, 100, 3), dtype=np.uint8)
    settings = ClusterSettings(bootstrap=5, neighbours=4)
    found = cluster(source, groups, settings, pixels=photos)
    wanted = category_tree(source, groups, resamples=5)
    assert found.categories is not None
    assert found.categories.as_dict() == wanted.as_dict()
    assert found.filters is not None
    for name in groups.names:
        tree = filter_tree(source.values[groups.rows(name)])
        np.testing.assert_array_equal(found.filters[name].critical, tree.critical)
    assert found.layer is not None
    assert found.pixels is not None
    assert found.layer.flat.shape == found.pixels.flat.shape == (40, 2)
    assert found.layer.as_dict()["vectors"]["neighbours"] == 1


def test_only_what_is_asked_for_is_made() -> None:
    source, groups = world()
    found = cluster(source, groups, only=["filters"])
    assert source.passes == 1  # however many categories
    assert found.categories is found.layer is None
    with pytest.raises(ValueError, match="there are categories, filters, embed"):
        cluster(source, groups, only=["filter"])
    with pytest.raises(ValueError, match="categories of the images"):
        cluster(source, None)


def test_noise_is_one_more_category() -> None:
    model = classifier()
    layer = last_layer(model)
    rng = np.random.default_rng(0)
    source = Counting(rng.random((12, *layer.shape)).astype(np.float32))
    groups = group(list("aabbcc") * 2)
    settings = ClusterSettings(bootstrap=0, noise=True)
    found = cluster(source, groups, settings, ["categories"], noise=(model, layer))
    assert found.categories is not None
    assert found.categories.names == ("a", "b", "c", "noise")
    with pytest.raises(ValueError, match="noise"):
        cluster(source, groups, settings, ["categories"])


def test_the_package_is_the_function_too() -> None:
    source, groups = world()
    found = cnnlens.cluster(source, groups, only=["filters"])
    assert found.filters is not None
    assert set(found.filters) == set(groups.names)
    assert cnnlens.cluster.tree.roots(np.empty((0, 2)), 1) == [0]
    assert "cluster" in dir(cnnlens)


APART = """
import os, sys
ways = ("import cnnlens.cluster.tree", "from cnnlens.cluster import tree", "import cnnlens")
def apart(do):
    for words in ways:
        if not os.fork():
            do(words)
            os._exit(0)
        assert os.wait()[1] == 0
"""
LIGHT = """
def light(words):
    exec(words)
    assert "torch" not in sys.modules and "scipy" not in sys.modules
    print("light", flush=True)

apart(light)
"""
CALLED = """
def called(words):
    exec(words)
    import cnnlens
    assert callable(cnnlens.cluster) and cnnlens.cluster.__doc__
    try:
        cnnlens.cluster(None, None)
    except ValueError as error:
        print(error, flush=True)

import scipy.cluster.hierarchy, sklearn.linear_model  # once for all that call
apart(called)
"""


def test_it_can_be_called_in_whatever_order_things_are_imported() -> None:
    run = [sys.executable, "-c", APART + LIGHT]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.stdout == "light\n" * 3, done.stderr
    done = bare.run(APART + CALLED)
    assert done.stdout.count("trees need the categories") == 3, done.stderr
