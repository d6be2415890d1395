"""Which images one curve is of."""

from __future__ import annotations

from typing import Any

import pytest

from cnnlens.report.fool_curves import curves


def flipped(file: str, target: int | None, to: str | None, **made_from: Any) -> dict[str, Any]:
    noise = {"l2": [0.1, 0.2], "flips": [0.0, 0.5]}
    key = {"target": target, "image": file, "settings": {"steps": 9}, **made_from}
    return {"file": file, "target": to, "l2": 1.0, "noise": noise, "made_from": key}


def test_a_curve_holds_what_was_made_alike() -> None:
    """Two outputs that bore one name in turn, and two numbers of steps, are not mixed."""
    before = [flipped(f"{n}-dog.png", 3, "dog", names="before") for n in range(3)]
    now = [flipped(f"{n}-dog-2.png", 5, "dog", names="now") for n in range(4)]
    found = curves([*before, *now], ["1-dog-2.png"])
    assert [(c["to"], c["images"], c["asked"], c["curves"]) for c in found.values()] == [
        ("dog", 3, 0, 2), ("dog", 4, 1, 2),
    ]  # fmt: skip
    steps = [flipped(f"{n}.png", None, None, settings={"steps": 3}) for n in range(3)]
    renamed = [flipped(f"{n}-.png", None, None, names=str(n)) for n in range(3)]
    found = curves([*steps, *renamed])
    assert [curve["images"] for curve in found.values()] == [3, 3]  # any class, whatever its name
    assert next(iter(found)) == "curve.png" and len(found) == 2


@pytest.mark.parametrize("more", [{}, {"settings": {"steps": 9, "maps": 2}}, {"places": ["a"]}])
def test_how_many_maps_are_shown_parts_no_curve(more: dict[str, Any]) -> None:
    some = [flipped("a.png", None, None), flipped("b.png", None, None)]
    (curve,) = curves([*some, flipped("c.png", None, None, **more)]).values()
    assert curve["images"] == 3 and "curves" not in curve and "asked" not in curve


def test_an_image_counts_once_wherever_it_was() -> None:
    """Of its entries that of the latest run counts."""
    marks = [f"{place:016x}@{content:016x}" for place, content in ((1, 1), (2, 1), (3, 2), (4, 3))]
    entries = [flipped(f"{n}.png", None, None, image=one) for n, one in enumerate(marks)]
    for asked in ["0.png"], ["1.png"], ["0.png", "1.png"]:
        (curve,) = curves(entries, asked).values()
        assert (curve["images"], curve["asked"]) == (3, 1)
    assert curves(entries[:3]) == {}
