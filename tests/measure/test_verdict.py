from __future__ import annotations

from typing import Any

import pytest

from cnnlens.measure.comparison import Estimate, chance_apart, difference
from cnnlens.measure.quantities import QUANTITIES
from cnnlens.measure.verdict import at_chance, conclude, unlike_training
from cnnlens.settings import CompareSettings

KEYS = {q.key: q for q in QUANTITIES}


def entry(
    value: float, low: float, high: float, chance: float | None = None, units: int = 9
) -> Any:
    return {"value": value, "interval": [low, high], "chance": chance, "units": units, "beside": {}}


def layer(**known: tuple[Any, Any, Any]) -> dict[str, Any]:
    nothing: dict[str, list[Any]] = {"values": [None, None], "differences": [None]}
    found: dict[str, Any] = dict.fromkeys(KEYS, nothing)
    for key, (one, other, apart) in known.items():
        found[key] = {"values": [one, other], "differences": [apart]}
    return {**found, "names": ["a", "b"], "trees": []}


def concluded(accuracies: tuple[Any, Any] = (None, None), **layers: Any) -> dict[str, Any]:
    who = [{"name": n, "accuracy": a} for n, a in zip(("old", "new"), accuracies, strict=True)]
    found = {"workspaces": who, "settings": CompareSettings().as_dict(), "layers": layers}
    conclude(found)
    return found


def test_newcombes_interval_is_the_papers():
    # 56 of 70 against 48 of 80: Newcombe 1998, table II, contrast a, method 10
    one, other = Estimate(48 / 80, 0.4904, 0.7004, 80), Estimate(56 / 70, 0.6918, 0.8769, 70)
    found = difference(one, other, CompareSettings())
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=2e-4)


def test_the_sentence_sorts_by_direction_and_interval():
    found = concluded(
        conv5=layer(
            detectors=(entry(3, 1, 5), entry(9, 6, 12), entry(6, 2, 10)),
            location_instability=(entry(0.1, 0, 1), entry(0.2, 0, 1), entry(0.1, 0.05, 0.15)),
            selectivity=(entry(0.6, 0.5, 0.7), entry(0.61, 0.5, 0.7), entry(0.01, -0.1, 0.1)),
        )
    )
    assert found["verdict"] == [
        "new is better than old at detectors (9 against 3) and worse at location instability "
        "(lower is better; 0.200 against 0.100), each by more than the noise (95 % intervals); "
        "within the noise: selectivity (0.610 against 0.600)."
    ]


def test_lower_is_better_where_it_is():
    apart = entry(-0.1, -0.15, -0.05)
    found = concluded(
        c=layer(location_instability=(entry(0.2, 0, 1), entry(0.1, 0, 1), apart)),
    )
    assert found["verdict"][0].startswith("new is better than old at location instability")


@pytest.mark.parametrize(
    ("by_chance", "said"),
    [
        (
            5.0,
            "do not differ beyond the noise (95 % intervals); no more than chance differs: "
            "detectors (9 against 3, by chance 12 against 7).",
        ),
        (-5.0, "is better than old at detectors (9 against 3, by chance 2 against 7)"),
        (12.0, "is worse than old at detectors (9 against 3, by chance 19 against 7)"),
        (None, "is better than old at detectors (9 against 3),"),
    ],
)
def test_what_counts_is_the_difference_beyond_chance(by_chance: float | None, said: str):
    known, other = (None, 2.0) if by_chance is None else (7.0, 7 + by_chance)
    apart = {**entry(6, 2, 10), "chance": chance_apart(known, other)}
    found = concluded(c=layer(detectors=(entry(3, 1, 5, known), entry(9, 6, 12, other), apart)))
    assert said in found["verdict"][0]


def test_nothing_beyond_the_noise_is_said():
    same = (entry(0.6, 0.5, 0.7), entry(0.61, 0.5, 0.7), entry(0.01, -0.1, 0.1))
    (said,) = concluded(c=layer(selectivity=same))["verdict"]
    assert said.startswith("new and old do not differ beyond the noise")


def test_counts_of_layers_of_other_widths_are_not_held_against_each_other():
    one, other = entry(3, 1, 5, units=10), entry(9, 6, 12, units=20)
    (said,) = concluded(c=layer(detectors=(one, other, entry(6, 2, 10))))["verdict"]
    assert "detectors" not in said


def test_several_layers_are_named():
    sure = entry(6, 2, 10)
    one = layer(detectors=(entry(3, 1, 5), entry(9, 6, 12), sure))
    (said,) = concluded(c1=one, c2=one)["verdict"]
    assert "detectors (c1: 9 against 3; c2: 9 against 3)" in said
    (said,) = concluded(c1=one, c2=one, c3=one)["verdict"]
    assert "detectors (in 3 layers, c3: 9 against 3)" in said


def accuracy(value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    ends = {"interval": [low, high], "chance": 0.1, "images": 300}
    return {"value": value, **ends, **more, "source": "x"}


def test_a_network_at_chance_and_dead_outputs_are_warned_of():
    found = concluded(
        (accuracy(0.9, 0.87, 0.93), accuracy(0.1, 0.07, 0.14, constant_outputs=4)),
        c=layer(dead_units=(entry(0, 0, 0), entry(5, 3, 7), None)),
    )
    warnings = "\n".join(found["warnings"])
    assert (
        "new classifies no better than chance (accuracy 0.100, always the most frequent class "
        "0.100)" in warnings
    )
    assert "old" not in warnings
    assert "4 dead outputs of new: the same score" in warnings
    assert "5 of 9 units of c are dead in new" in warnings
    assert found["accuracy_differences"][0]["interval"][1] < -0.7


def test_chance_inside_the_interval_counts_by_direction():
    assert at_chance(KEYS["selectivity"], entry(0.52, 0.48, 0.56, 0.5))
    assert not at_chance(KEYS["selectivity"], entry(0.62, 0.58, 0.66, 0.5))
    assert at_chance(KEYS["location_instability"], entry(0.11, 0.10, 0.12, 0.115))
    assert not at_chance(KEYS["location_instability"], entry(0.09, 0.08, 0.10, 0.115))
    assert not at_chance(KEYS["centre_distance"], entry(0.09, 0.08, 0.10, 0.09))


def test_other_trainings_are_named():
    one = {"method": "none", "epochs": 3, "settings": {"lr": 0.1, "method": "none", "icnn": {}}}
    other = {"method": "icnn", "epochs": 6, "settings": {"lr": 0.2, "method": "icnn"}}
    said = list(unlike_training(["plain", "icnn"], [one, {**other, "notes": ["it is dead"]}]))
    assert said == [
        "trained otherwise: lr 0.1 in plain, 0.2 in icnn",
        "trained otherwise: epochs 3 in plain, 6 in icnn",
        "icnn: it is dead",
    ]
    assert list(unlike_training(["a", "b"], [one, one])) == []
    (said,) = unlike_training(["a", "b"], [one, {}])
    assert said.startswith("how b was trained is not known")
