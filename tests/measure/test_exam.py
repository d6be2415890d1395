"""Labels on images that chose nothing: of classes, and of label maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cnnlens
from cnnlens.data.broden import Broden, open_broden
from cnnlens.data.synthetic import make_shapes
from cnnlens.measure.distinct import Among
from cnnlens.measure.exam import Sheet
from cnnlens.measure.exam_papers import ClassPaper, Given, MapPaper, halves
from cnnlens.measure.linear_labels import split
from cnnlens.measure.masks import mask
from cnnlens.measure.meaning import read_meaning
from cnnlens.measure.planted import Planted, found_of
from cnnlens.measure.unit_labels import label
from cnnlens.progress import followed
from cnnlens.settings import DissectSettings, ExamSettings, LabelSettings

FEW = ExamSettings(chance=2, resamples=20)
CLASSES = [name for name in ("cat", "dog", "car") for _ in range(40)]
GROUPS = {"animal": ["cat", "dog"]}


def source(maps: np.ndarray) -> Planted:
    """Activations (N, C, H, W) of all images."""
    return Planted([], np.arange(len(maps)), maps.astype(np.float32))


def units() -> np.ndarray:
    """(120, 4, 1, 1): cats, animals, nothing, never."""
    rng = np.random.default_rng(0)
    is_a = {name: np.array([one == name for one in CLASSES], float) for name in set(CLASSES)}
    values = rng.normal(0, 0.3, (120, 4))
    values[:, 0] += is_a["cat"]
    values[:, 1] += is_a["cat"] + is_a["dog"]
    values[:, 3] = 0
    return values[:, :, None, None]


PAPER = ClassPaper(CLASSES, GROUPS, LabelSettings(), FEW)


def examined(given: list[Given] | None, paper: ClassPaper = PAPER) -> Sheet:
    return followed(paper.steps(source(units()), given), None)


GIVEN = [
    Given(0, "cat"), Given(1, "animal"), Given(2, "dog"), Given(3, "cat"), Given(0, "cow")
]  # fmt: skip


def test_true_labels_pass_and_others_do_not() -> None:
    sheet = examined(GIVEN)
    cat, animal, noise, dead = sheet.rows
    assert cat.passes and animal.passes and not noise.passes and not dead.passes
    assert cat.scores[0] > 0.6 and cat.low[0] < cat.scores[0] < cat.high[0]
    assert abs(cat.chance[0]) < 0.4 and cat.p_value == 1e-4
    assert dead.p_value is None and np.isnan(dead.scores).all()
    summary = sheet.summary()
    assert (summary["labels"], summary["tested"], summary["passes"]) == (4, 3, 2)
    assert summary["share"] == 0.5 and summary["share_by_chance"] == 0
    assert "unit 0: no concept 'cow'" in summary["left_out"][0]


def test_labels_of_arrays_are_examined_without_a_folder(tmp_path: Path) -> None:
    labels = {0: "cat", 1: "animal", 2: "dog", 3: "cat"}
    sheet = cnnlens.exam(source(units()), labels, CLASSES, GROUPS, FEW)
    own = examined(GIVEN[:4])
    for one, other in zip(sheet.rows, own.rows, strict=True):
        assert (one.label, one.p_value, one.told_by) == (other.label, other.p_value, "classes")
        np.testing.assert_array_equal(one.scores, other.scores)
    data = open_broden(make_shapes(tmp_path / "shapes", 40, 24))
    maps = np.random.default_rng(0).normal(0, 1, (len(data.paths), 1, 4, 4))
    (noise,) = cnnlens.exam(source(maps), {0: "red"}, data, settings=FEW).rows
    assert noise.is_same and noise.told_by == "label maps" and not noise.passes


def test_label_s_names_are_examined_on_just_the_images_it_held_out() -> None:
    found = label(source(units()), CLASSES, GROUPS, LabelSettings(chance=0))
    own = {row.unit: row.score for row in found.rows if row.label}
    sheet = examined([Given(row.unit, row.label, "", row.terms) for row in found.rows])
    assert {row.unit: row.scores[0] for row in sheet.rows} == pytest.approx(own, abs=1e-6)
    assert (sheet.parts.held == split(120, 0).held).all()
    chosen = examined(None)  # the pipeline that twins and planted units go through
    assert [row.label for row in chosen.rows] == [row.label for row in sheet.rows]
    assert [row.p_value for row in chosen.rows] == [row.p_value for row in sheet.rows]


def test_images_that_examine_choose_nothing() -> None:
    """Whatever the units do on images held out, the cut stays; and the other way round."""
    held, changed = split(120, 0).held, units()
    changed[held] = changed[held][::-1]
    before, after = (
        followed(PAPER.steps(source(maps), [Given(0, "cat")]), None) for maps in (units(), changed)
    )
    assert before.rows[0].scores[0] != after.rows[0].scores[0]
    fires = units()[held, 0, 0, 0] > 0
    assert fires.any()
    others = np.setdiff1d(np.arange(120), held)
    changed = units()
    changed[others] = -changed[others]
    turned = followed(PAPER.steps(source(changed), [Given(0, "cat")]), None)
    same = [0, 1, 4]  # correlation, average precision, cosine: nothing of them was chosen
    assert turned.rows[0].scores[same] == pytest.approx(before.rows[0].scores[same])
    assert turned.rows[0].scores[3] != before.rows[0].scores[3]  # F1's cut was


def test_planted_units_of_classes_are_found() -> None:
    paper = replace(PAPER, settings=replace(FEW, planted=8, signal=2.0))
    planted = paper.plant(np.arange(120), (1, 1))
    found = found_of(planted, followed(paper.steps(planted), None))
    assert len(found) == 8 and sum(one.is_found for one in found) >= 7
    assert all(one.passes for one in found if one.is_found)
    noise = replace(paper.settings, signal=0.01)
    lost = replace(paper, settings=noise).plant(np.arange(120), (1, 1))
    assert sum(f.is_found for f in found_of(lost, followed(paper.steps(lost), None))) <= 3


def test_a_planted_unit_is_found_by_its_classes_whatever_their_weights() -> None:
    """A class of less than half the highest weight is named all the same."""
    both = read_meaning("cat + dog", {"cat": "cat", "dog": "dog"})
    there = np.array([[one != "car"] * 3 for one in CLASSES])
    planted = Planted([both] * 3, np.arange(120), np.zeros((120, 3, 1, 1), np.float32), there)
    said = [{"cat": 1.0, "dog": 0.3}, {"cat": 1.0}, {"cat": 1.0, "dog": 1.0, "car": 0.3}]
    sheet = examined([Given(u, " + ".join(s), "", tuple(s.items())) for u, s in enumerate(said)])
    assert [one.is_found for one in found_of(planted, sheet)] == [True, False, False]


# ---- label maps


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Broden:
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, 40, 24)
    return open_broden(folder)


def map_paper(shapes: Broden, **settings: object) -> MapPaper:
    naming = DissectSettings(quantile=0.01, chance=0)
    return MapPaper(shapes, naming, replace(FEW, **settings), workers=1)


def test_planted_maps_are_found_and_overlaps_are_counted_right(shapes: Broden) -> None:
    paper = map_paper(shapes, planted=6, signal=4.0)
    positions = np.arange(len(shapes.paths))
    planted = paper.plant(positions, (12, 12))
    sheet = followed(paper.steps(planted), None)
    found = found_of(planted, sheet)
    assert sum(one.is_found for one in found) >= 4
    # one row's IoU and share, counted once more from the label maps themselves
    row, claim = sheet.rows[0], sheet.claims[0]
    space = shapes.concept_space()
    (name,) = claim.meaning.concepts
    concept = next(
        at for at, c in enumerate(space.concepts) if name in (c.label, f"{c.category}:{c.label}")
    )
    choose = halves(len(positions), 0).fit
    values = planted.maps[choose, row.unit].ravel()
    threshold = np.sort(values)[::-1][int(0.01 * len(values))]
    shared = either = 0
    for at in sheet.parts.held:
        labels = space.labels(at)
        there = (labels.planes == concept + 1).any(axis=0) | (concept in labels.whole)
        ours = mask(planted.maps[at, row.unit], float(threshold), labels.size)
        shared, either = shared + (ours & there).sum(), either + (ours | there).sum()
        assert sheet.truth.amount[at, 0] == pytest.approx(there.mean())
    assert row.scores[2] == pytest.approx(shared / either)


def test_planted_formulas_are_found_by_the_search_for_formulas(shapes: Broden) -> None:
    paper = map_paper(shapes, planted=6, signal=4.0)
    naming = replace(paper.naming, quantile=0.05, formula=2)
    paper = replace(paper, naming=naming, formula=True)
    planted = paper.plant(np.arange(len(shapes.paths)), (24, 24))
    sheet = followed(paper.steps(planted), None)
    found = found_of(planted, sheet, whole=True)
    print([(one.planted, one.label, one.is_found) for one in found])
    right = [one for one in found if one.is_found]
    assert len(right) >= 3 and any(" OR " in one.label or " AND " in one.label for one in right)
    assert all(one.passes for one in right)


def test_labels_chosen_on_all_images_are_chosen_again_without_those_that_examine(
    shapes: Broden,
) -> None:
    paper = map_paper(shapes)
    planted = map_paper(shapes, planted=3, signal=8.0).plant(np.arange(len(shapes.paths)), (12, 12))
    names = [row.label for row in followed(paper.steps(planted), None).rows]
    wrong = Given(0, next(name for name in ("red", "blue") if name != names[0]))
    given = [wrong, Given(1, names[1])]
    first, second = followed(paper.steps(planted, given), None).rows
    assert (first.chosen, first.is_same, first.passes) == (names[0], False, False)
    assert second.is_same and second.chosen == names[1]
    elsewhere = replace(
        paper, chooses=False
    )  # labels that other images chose are taken as they are
    first, _ = followed(elsewhere.steps(planted, given), None).rows
    assert first.is_same and first.chosen == wrong.label


def test_a_source_shows_some_images_alone() -> None:
    seen: list[int] = []
    some = Among(source(units()), np.array([3, 50, 119]))
    for _ in some.sweep([lambda positions, maps: seen.extend(positions.tolist())]):
        pass
    assert seen == [3, 50, 119] and some.limits == [3]
