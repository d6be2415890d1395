from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.cluster.decision_path import DecisionPath, Split
from cnnlens.cluster.explanation import IMAGE_COLUMNS, Explanation, image_row
from cnnlens.cluster.filters import FilterTree
from cnnlens.methods import sections
from cnnlens.report.blocks import Gallery
from cnnlens.report.figures.explained import draw_explained, predicted, step, turned
from cnnlens.report.page import write_report
from cnnlens.report.sections import explanations

FOUND: dict[str, Any] = {
    "class": 1, "class_name": "dog", "probability": 0.7,
    "second": {"class_name": "cat", "probability": 0.2}, "turned": [],
    "true": {"category": "cat", "known_from": "its folder"}, "right": False, "path": [],
}  # fmt: skip
SPLIT: dict[str, Any] = {
    "critical_filter": 5, "images": 30, "images_chosen": 12, "to_chosen": 0.25, "to_other": 0.5,
    "activation": 3.0, "share_below_category": 0.4, "share_below_data": 0.9,
    "turn": {"unit": 5, "scale": 0.5}, "easiest": {"unit": 7, "scale": 1.25}, "detects": "fur",
}  # fmt: skip


def without(name: str, probability: float, kept: float) -> dict[str, Any]:
    return {"number": 0, "name": name, "probability": probability, "kept": kept}


def test_what_is_said_and_what_is_so() -> None:
    assert predicted(FOUND) == "the network says dog (70.0%), then cat (20.0%); it is cat: wrong"
    right = {**FOUND, "true": {"category": "dog"}, "right": True}
    assert predicted(right).endswith("it is dog: right")
    assert predicted({**FOUND, "right": None}).endswith("it is cat")  # of no class: no verdict
    assert "is not known" in predicted({**FOUND, "true": None, "right": None})
    assert predicted({**FOUND, "class": None, "right": None}).startswith("the network gives no")


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ((None, True, False, None), "1 of 2 images of known class is predicted wrongly; it comes"),
        ((True, False, False), "2 of 3 images are predicted wrongly; they come"),
        ((None, None), ""),
        ((True, None), ""),
    ],
)
def test_the_page_counts_only_images_of_known_class(
    tmp_path: Path, verdicts: tuple[bool | None, ...], said: str
) -> None:
    (tmp_path / "explain").mkdir()
    for number, right in enumerate(verdicts):
        file = tmp_path / "explain" / f"{number}.json"
        file.write_text(json.dumps({**FOUND, "image": f"{number}.png", "right": right}))
        Image.new("RGB", (3, 3)).save(file.with_suffix(".png"))
    section = explanations(tmp_path)
    assert section is not None
    *texts, gallery = section.parts
    assert [text.text for text in texts] == ([f"{said} first."] if said else [])
    assert isinstance(gallery, Gallery)
    wrong = [f"{n}.png" for n, right in enumerate(verdicts) if right is False]
    assert [shot.title for shot in gallery.shots][: len(wrong)] == wrong


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (("argmin",), "the one that both sides share most: without it they would be least alike."),
        (("largest-change",), "the one without which how alike both sides are changes most."),
        (
            ("argmin", "largest-change"),
            "the one that both sides share most: without it they would be least alike; elsewhere "
            "(--rule largest-change), the one without which how alike both sides are changes most.",
        ),
        (
            (None,),
            "the one that both sides share most: without it they would be least alike.",
        ),  # of an earlier version
    ],
)
def test_the_page_says_which_filter_is_critical(
    tmp_path: Path, rules: tuple[str | None, ...], said: str
) -> None:
    (tmp_path / "explain").mkdir()
    for number, rule in enumerate(rules):
        file = tmp_path / "explain" / f"{number}.json"
        made = {"made_from": {"settings": {"rule": rule}}} if rule else {}
        file.write_text(json.dumps({**FOUND, "image": f"{number}.png", **made}))
        Image.new("RGB", (3, 3)).save(file.with_suffix(".png"))
    page = write_report(tmp_path, sections()).read_text(encoding="utf-8")
    assert f"critical filter, {said}" in re.sub("</?code>", "", page).replace("\n", " ")


def test_the_table_has_no_verdict_of_a_category_that_means_no_class() -> None:
    row = image_row("x", {**FOUND, "right": None, "category": "cat"})
    cells = dict(zip(IMAGE_COLUMNS, row, strict=True))
    assert (cells["is"], cells["right"]) == ("cat", None)


def test_what_would_have_turned_the_prediction() -> None:
    one = {**SPLIT, "without": without("cat", 0.5, 0.3)}
    assert turned({**FOUND, "path": [one], "turned": [5]}) == (
        "What would have turned it: without unit 5 · fur it says cat (50.0%)"
    )
    other = {**SPLIT, "critical_filter": 6, "without": without("dog", 0.6, 0.6)}
    kept = [{**SPLIT, "without": without("dog", 0.65, 0.65)}, other]
    assert turned({**FOUND, "path": kept}) == (
        "What would have turned it: nothing of this path alone; without any one of the 2 units "
        "below it still says dog, least surely (60.0%) without unit 6 · fur"
    )
    assert turned(FOUND) == ""


def test_a_step_is_said_in_sentences() -> None:
    answer, way, turn = step(SPLIT, "dog")
    assert answer == "It answers 3: more than on 40% of the images of dog and on 90% of all."
    assert "with 12 of 30 images, at distance 0.250; to the others it is 0.500" in way
    assert turn == (
        "It would have gone the other way, had this unit answered 0.5 × as much; the least that "
        "would: unit 7 at 1.2 × as much."
    )


@pytest.mark.parametrize(
    ("turn", "easiest", "said"),
    [
        (None, {"unit": 7, "scale": 3.0}, "Not this unit would have"),
        ({"unit": 5, "scale": 30.0}, {"unit": 5, "scale": 30.0}, "No single unit would have"),
        (None, None, "No single unit would have"),
        ({"unit": 5, "scale": 0.0}, {"unit": 5, "scale": 0.0}, "answered nothing at all."),
    ],
)
def test_far_strengths_turn_nothing(turn: Any, easiest: Any, said: str) -> None:
    assert said in list(step({**SPLIT, "turn": turn, "easiest": easiest}, "dog"))[-1]


def test_steps_bear_their_numbers_on_the_path_though_some_are_left_out() -> None:
    # ten merges: the first two of the path set one image apart, the last eight are halves
    pairs = [[2 * n, 2 * n + 1] for n in range(4)]  # 11 to 14
    pairs += [[11, 12], [13, 14], [15, 16], [17, 8], [18, 9], [19, 10]]
    none = np.zeros(10, np.int64)
    tree = FilterTree(np.arange(11), np.array(pairs), np.zeros(10), none, none, none[:0])
    path = DecisionPath(tuple(Split(m, 5, 0.25, 0.5, 0, 1) for m in (9, 8, *[6] * 8)), 0, 0.1)
    found = Explanation(None, "dog", tree, path, (None,) * 10, 0)
    split = {k: v for k, v in SPLIT.items() if k != "activation"}
    about = {**FOUND, "class": None, "right": None, "layer": "conv5", "path": [split] * 10}
    pixels = np.zeros((3, 8, 8), np.uint8)
    drawn = draw_explained(
        found, about, pixels, "a.png", lambda row, side: np.zeros((side, side, 3), np.uint8), {}
    )
    steps = [words.split(".")[0] for words, _ in drawn.info["apart"] if ". unit 5" in words]
    assert steps == [str(number) for number in range(3, 11)]
