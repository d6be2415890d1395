from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, linkage, to_tree
from scipy.spatial.distance import squareform
from scipy.stats import binomtest, pearsonr

from cnnlens.errors import CnnlensError
from cnnlens.measure.compared import compare_models, match_layers
from cnnlens.report.compare_files import read_models
from cnnlens.report.side_by_side import csv_rows, write_comparison
from cnnlens.settings import CompareSettings

from .fake_workspace import make_workspace

FEW = CompareSettings(resamples=200)
NAMES = ["ant", "bee", "cat", "dog", "elk"]


def nested(node: Any) -> dict[str, Any]:
    if node.is_leaf():
        return {"name": NAMES[node.id], "images": 8}
    below = [nested(node.left), nested(node.right)]
    return {"distance": node.dist, "support": 0.5, "children": below}


def add_clusters(root: Path, seed: int, neighbours: float, data: str = "d") -> np.ndarray:
    """Leave what cluster would, of random distances between five classes; return these."""
    make_workspace(root, {})
    matrix = np.random.default_rng(seed).random((5, 5))
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 0)
    folder = root / "cluster" / "conv5"
    folder.mkdir(parents=True)
    tree = nested(to_tree(linkage(squareform(matrix), "weighted")))
    (folder / "categories.json").write_text(json.dumps(tree))
    rows = [",".join([name, *map(str, row)]) for name, row in zip(NAMES, matrix, strict=True)]
    (folder / "distances.csv").write_text("\n".join([",".join(["category", *NAMES]), *rows]) + "\n")
    made_from = {"data": data, "labels": "l", "settings": {"bootstrap": seed}}
    vectors = {"silhouette": 0.25, "neighbours": neighbours, "chance": 0.2}
    if seed == 1:  # earlier results lack it
        vectors["silhouette_chance"] = -0.07
    pixels = {"silhouette": -0.1, "neighbours": 0.3, "chance": 0.2}
    embed = {"images": 40, "layer": {"vectors": vectors}, "pixels": {"vectors": pixels}}
    parts = {"categories": {"images": 40, "cophenetic": 0.8}, "embed": embed}
    about = {"made_from": made_from, "data": {"name": data}}
    summary = {"layer": "conv5", **{name: {**part, **about} for name, part in parts.items()}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return matrix


@pytest.fixture
def pair(tmp_path: Path) -> tuple[list[Path], list[np.ndarray]]:
    paths = [tmp_path / "trained", tmp_path / "twin"]
    return paths, [
        add_clusters(p, seed, v) for p, seed, v in zip(paths, (1, 2), (0.9, 0.2), strict=True)
    ]


def compared(paths: list[Path]) -> tuple[Any, Any, Any]:
    models = read_models(paths)
    layers = match_layers(models)
    return models, layers, compare_models(models, layers, FEW)


def test_clusterings_are_compared_without_any_dissection(pair):
    paths, matrices = pair
    of = compared(paths)[2]["layers"]["conv5"]
    value, _ = of["neighbour_accuracy"]["values"]
    truth = binomtest(36, 40).proportion_ci(0.95, method="wilson")
    assert value["interval"] == pytest.approx([truth.low, truth.high])
    assert (value["chance"], value["beside"]) == (0.2, {"raw pixels": 0.3})
    assert of["neighbour_accuracy"]["differences"][0]["interval"][1] < 0
    assert of["silhouette"]["values"][0] == {
        "value": 0.25, "chance": -0.07, "interval": None, "units": 40,
        "beside": {"raw pixels": -0.1},
    }  # fmt: skip
    assert of["silhouette"]["values"][1]["chance"] is None
    trees = [cophenet(linkage(squareform(m), "weighted")) for m in matrices]
    assert of["trees"][0]["trees"]["value"] == pytest.approx(pearsonr(*trees).statistic)
    assert of["trees"][0]["support"] == [0.5, 0.5]


def test_the_sentence_the_page_and_the_csv_show_them(pair, tmp_path):
    models, layers, found = compared(pair[0])
    assert (
        "twin is worse than trained at neighbour accuracy (0.200 against 0.900)"
        in (found["verdict"][0])
    )
    assert "without an interval, so not decided: silhouette" in found["verdict"][0]
    page = write_comparison(tmp_path / "out", models, layers, found).read_text()
    assert found["verdict"][0].split(" (95")[0] in page
    assert "Agreement of the trees" in page and "no better than chance" in page
    rows = {(row[1], row[2]): row[3] for row in csv_rows(found)}
    assert rows["tree_agreement", "twin"] == found["layers"]["conv5"]["trees"][0]["trees"]["value"]
    assert rows["tree_agreement", "trained"] == ""


def test_clusters_of_other_images_are_refused(pair, tmp_path):
    add_clusters(tmp_path / "other", 3, 0.5, data="else")
    with pytest.raises(CnnlensError, match=r"cluster \(categories\) of conv5 was measured on"):
        compared([pair[0][0], tmp_path / "other"])


def test_other_resamples_of_the_support_do_not_matter(pair):
    assert compared(pair[0])[2]["unlike"] == []
