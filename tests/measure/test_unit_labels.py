from __future__ import annotations

import numpy as np
import pytest

from cnnlens.errors import CnnlensError
from cnnlens.measure.linear_labels import Search, class_concepts, split
from cnnlens.measure.unit_labels import label, p_value
from cnnlens.progress import Step
from cnnlens.settings import LabelSettings

CLASSES = [name for name in ("cat", "dog", "car") for _ in range(40)]


class Maps:
    """A source of maps (N, C, 2, 2) in two batches."""

    shapes, limits, skipped = ((4, 2, 2),), (120,), ()

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        is_a = {name: np.array([one == name for one in CLASSES], float) for name in set(CLASSES)}
        maps = rng.normal(0, 0.2, (120, 4, 2, 2)) + rng.normal(0, 0.2, (120, 4, 1, 1))
        maps[:, 0] += is_a["cat"][:, None, None]
        maps[:, 1] += (is_a["cat"] + is_a["dog"])[:, None, None]
        maps[:, 2] = 0.0  # dead
        # where its mean follows nothing, its peak follows cars
        maps[:, 3] = rng.normal(0, 0.01, (120, 2, 2))
        maps[:, 3, 0, 0] += 3 * is_a["car"]
        maps[:, 3, 1, 1] -= 3 * is_a["car"]
        self.maps = maps.astype(np.float32)

    def sweep(self, observers):
        for rows in (np.arange(50), np.arange(50, 120)):
            observers[0](rows, self.maps[rows])
            yield Step(int(rows[-1]), 120)


def named(**settings):
    return label(Maps(), CLASSES, {"animal": ["cat", "dog"]}, LabelSettings(**settings))


def test_units_get_the_names_that_were_planted():
    found = named()
    cat, animal, dead, _ = found.rows
    assert (cat.label, animal.label, dead.label) == ("cat", "animal", "")
    assert cat.score > 0.8 and cat.p_value == 0.001 and abs(cat.chance) < 0.3
    assert (cat.single, cat.runner_up) == ("cat", "animal") and cat.is_sure
    assert dead.score is None and dead.p_value is None and dead.chance is None
    assert cat.terms[0][0] == "cat" and cat.terms[0][1] > 1
    summary = found.summary()
    assert summary["concepts"] == 4 and summary["images_held_out"] == 36
    assert summary["sure"] == 2 and summary["named"] in (2, 3)
    scores = [row.score for row in found.rows if row.score is not None]
    assert summary["scored"] == len(scores) < 4  # a dead unit has none, which is not 0
    assert summary["mean_score"] == pytest.approx(sum(scores) / len(scores))


def test_a_peak_may_follow_what_the_mean_does_not():
    assert named().rows[3].label != "car"
    assert named(response="peak").rows[3].label == "car"


def test_chance_is_what_shuffled_images_give():
    many = named(chance=20)
    assert all(abs(row.chance) < 0.15 for row in many.rows if row.label)
    assert named(chance=0).rows[0].chance is None


def test_a_p_value_counts_shuffles():
    names, concepts = class_concepts(CLASSES, {})
    search = Search(concepts, split(120, 0))
    unit = 0.5 * concepts[:, names.index("dog")] + np.random.default_rng(1).normal(0, 1, 120)
    found = search.label(unit)
    draws = np.stack([np.random.default_rng(n).permutation(36) for n in range(200)])
    said, held = search.predict(found.terms), unit[search.parts.held]
    as_high = sum(np.corrcoef(said, held[draw])[0, 1] >= found.score for draw in draws)
    assert as_high > 5 and p_value(search, found, unit, draws) == (1 + as_high) / 201


def test_one_class_names_nothing():
    with pytest.raises(CnnlensError, match="all images are of one class, cat"):
        label(Maps(), ["cat"] * 120)
