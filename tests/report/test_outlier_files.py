"""Clusters beside their chance; results of a version that knew none are shown without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnlens.methods import sections
from cnnlens.report.outlier_files import read_outliers
from cnnlens.report.page import write_report

SHARES = {"purity": 0.275, "optimal_accuracy": 0.255, "stable_accuracy": 0.2, "agreement": 0.4}
CHANCE = {
    "shuffles": 200,
    **{key: {"mean": 0.173 + k / 100, "p95": 0.25} for k, key in enumerate(SHARES)},
}


def write(root: Path, known: object = None, **chance: object) -> Path:
    rank = {"value": 1.0, "rank": 1, "correlation": {"rho": 0.5, "p_value": 0.04}}
    rank |= {"known": known} if known else {}
    document = {
        "layer": "conv5",
        "sources": [{"source": "noise", "images": 3, "confidence": 0.5, "shares": [1.0, 0.0],
                     "taken_for": [{"class": 0, "name": "cat", "share": 1.0}]}],
        "noise": {"name": "cat", "share": 1.0, "classes": 10, "bias": rank, "radius": rank},
        "regions": {"data": "kinds", "images": 90, "clusters": {**SHARES, "named": [], **chance}},
        "classes": ["cat", "dog"],
    }  # fmt: skip
    (root / "outliers").mkdir()
    (root / "outliers" / "outliers.json").write_text(json.dumps(document))
    return root


@pytest.mark.parametrize("known", [True, False])
def test_clusters_stand_beside_chance_where_it_is_known(tmp_path: Path, known: bool) -> None:
    root = write(tmp_path, **({"chance": CHANCE} if known else {}))
    (line,) = read_outliers(root / "outliers").words[1:]
    page = write_report(root, sections()).read_text(encoding="utf-8")
    assert ("purity 28% (chance 17%)" in line) is known
    assert ("purity 27.5 % (chance 17.3 %)" in page) is known
    assert ("stable marriage for 20.0 % (chance 19.3 %)" in page) is known
    assert ("shuffled among the images, mean of 200 times" in page) is known
    assert "purity 28%" in line and "purity 27.5 %" in page


@pytest.mark.parametrize(
    ("known", "said", "on_page"),
    [
        (3, "1 of 3", "rank 1 of 3 classes for which it is known, of 10; over these ρ"),
        (10, "1 of 10", "rank 1 of 10; over all classes ρ"),
        (None, "1", "rank 1; over all classes ρ"),  # of an earlier version
    ],
)
def test_a_rank_is_of_the_classes_whose_value_is_known(
    tmp_path: Path, known: int | None, said: str, on_page: str
) -> None:
    root = write(tmp_path, known)
    line = read_outliers(root / "outliers").words[0]
    assert line.endswith(f"rank of its bias {said}, of its radius {said}")
    assert on_page in write_report(root, sections()).read_text(encoding="utf-8")
