"""Names from words on images that chose nothing: by classes, by label maps, or by the encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnlens.data.dataset import ImageSet
from cnnlens.data.open import open_data
from cnnlens.data.synthetic import make_kinds, make_shapes
from cnnlens.data.word_vectors import WordVectors
from cnnlens.measure.exam import Sheet
from cnnlens.measure.exam_papers import ClassPaper, Given
from cnnlens.measure.exam_words import WordPaper
from cnnlens.measure.linear_labels import split
from cnnlens.measure.planted import Planted, found_of
from cnnlens.progress import followed
from cnnlens.settings import ExamSettings, LabelSettings, TextSettings

FEW = ExamSettings(chance=4, resamples=20)
NAMES = ("Red Circle", "grass", "sky", "mud", "stone")  # the first is a class, but for its case
DAMAGED = 7  # an image without a vector


def unit_length(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def vectors_of(images: int) -> WordVectors:
    rng = np.random.default_rng(0)
    own = unit_length(rng.normal(size=(images, 6)))
    own[DAMAGED] = 0
    return WordVectors(own, unit_length(rng.normal(size=(len(NAMES), 6))), NAMES)


def literal(vectors: WordVectors, word: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of a word with the images that can be read, and which of these are held out."""
    there = np.flatnonzero(vectors.images.any(axis=1))
    cosines = vectors.images[there] @ vectors.words[NAMES.index(word)]
    return cosines.astype(np.float64), split(len(there), seed).held


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return open_data(make_kinds(tmp_path_factory.mktemp("kinds") / "kinds", 20, 24))


def paper_of(images: ImageSet, method: str = "soft-wpmi") -> WordPaper:
    vectors = vectors_of(len(images.paths))
    return WordPaper(images, vectors, LabelSettings(), TextSettings(method), FEW)


def units(paper: WordPaper) -> Planted:
    """(N, 4, 1, 1): grass, red circles, noise, never."""
    rng, count = np.random.default_rng(1), len(paper.images.paths)
    values = rng.normal(0, 0.1, (count, 4))
    values[:, 0] += paper.vectors.images @ paper.vectors.words[1]
    values[:, 1] += [one == "red circle" for one in paper.images.image_categories or ()]
    values[:, 3] = 0
    return Planted([], np.arange(count), values[:, :, None, None].astype(np.float32))


def one_word(unit: int, word: str) -> Given:
    return Given(unit, word, "", ((word, 1.0),))


GIVEN = [one_word(0, "grass"), one_word(1, "Red Circle"), one_word(2, "sky"), one_word(3, "mud")]


def examined(paper: WordPaper, given: list[Given] | None) -> Sheet:
    return followed(paper.steps(units(paper), given), None)


def test_words_are_held_against_the_encoder_on_the_images_held_out(kinds: ImageSet) -> None:
    paper = paper_of(kinds)
    sheet = examined(paper, [*GIVEN, one_word(0, "sky")])
    grass, red, noise, dead, wrong = sheet.rows
    cosines, held = literal(paper.vectors, "grass")
    there = np.delete(np.arange(len(kinds.paths)), DAMAGED)
    values = units(paper).maps[there, 0, 0, 0]
    assert grass.scores[0] == pytest.approx(np.corrcoef(values[held], cosines[held])[0, 1], 1e-5)
    assert grass.images == len(held) and abs(grass.chance[0]) < 0.2
    assert grass.passes and red.passes and not noise.passes and not wrong.passes
    assert dead.p_value is None
    assert [row.told_by for row in sheet.rows] == ["encoder", "classes", *["encoder"] * 3]


def test_what_needs_yes_or_no_is_left_out_where_an_encoder_tells(kinds: ImageSet) -> None:
    sheet = examined(paper_of(kinds), GIVEN)
    grass, red, *_ = sheet.rows
    assert np.isnan(grass.scores[1:4]).all() and not np.isnan(grass.scores[[0, 4]]).any()
    assert not np.isnan(red.scores).any()
    summary = sheet.summary()
    assert summary["told_by"] == {"encoder": 3, "classes": 1}
    assert summary["mean"]["f1"] == pytest.approx(red.scores[3])  # of those that can have one
    of_all = np.nan_to_num([row.scores[0] for row in sheet.rows]).mean()
    assert summary["mean"]["correlation"] == pytest.approx(of_all)
    alone = examined(paper_of(kinds), GIVEN[:1]).summary()
    assert alone["mean"]["iou"] is None and alone["mean"]["correlation"] > 0.5


def test_a_word_that_is_a_class_is_examined_as_the_class_is(kinds: ImageSet) -> None:
    paper = paper_of(kinds)
    paper = replace(paper, vectors=replace(paper.vectors, images=abs(paper.vectors.images) + 1))
    by_class = ClassPaper(kinds.image_categories or (), {}, LabelSettings(), FEW)
    own = followed(by_class.steps(units(paper), [Given(1, "red circle")]), None).rows[0]
    (found,) = examined(paper, GIVEN[1:2]).rows
    for name in ("scores", "low", "high", "chance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(own, name))
    assert (found.p_value, found.shown) == (own.p_value, own.shown) and found.shown


def test_a_sum_of_words_goes_through_the_sigmoid_that_named_it(kinds: ImageSet) -> None:
    paper, rng = paper_of(kinds, "linear"), np.random.default_rng(2)
    apart = np.zeros((len(kinds.paths), 2))
    there = np.delete(np.arange(len(kinds.paths)), DAMAGED)
    parts = split(len(there), 0)
    for column, word in enumerate(("grass", "mud")):
        cosines, _ = literal(paper.vectors, word)
        fit = cosines[parts.fit]
        apart[there, column] = 1 / (1 + np.exp(-5 * ((cosines - fit.mean()) / fit.std() - 2)))
    values = apart @ [2.0, 1.0]
    maps = (values + rng.normal(0, 1e-3, len(values)))[:, None, None, None].astype(np.float32)
    source = Planted([], np.arange(len(maps)), maps)
    given = [Given(0, "grass + mud", "", (("grass", 2.0), ("mud", 1.0)))]
    (row,) = followed(paper.steps(source, given), None).rows
    expected = np.corrcoef(maps[there, 0, 0, 0][parts.held], values[there][parts.held])[0, 1]
    assert row.scores[0] == pytest.approx(expected, abs=1e-3) and row.passes


def test_label_maps_tell_of_words_that_they_hold(tmp_path: Path) -> None:
    data = open_data(make_shapes(tmp_path / "shapes", 40, 24))
    paper = paper_of(data)
    paper = replace(paper, vectors=replace(paper.vectors, names=("Red", *NAMES[1:])))
    rng = np.random.default_rng(0)
    maps = rng.normal(0, 1, (len(data.paths), 1, 1, 1)).astype(np.float32)
    given = [one_word(0, "Red"), one_word(0, "grass")]
    sheet = followed(paper.steps(Planted([], np.arange(len(maps)), maps), given), None)
    assert [row.told_by for row in sheet.rows] == ["label maps", "encoder"]
    area = []
    for at in np.delete(np.arange(len(data.paths)), DAMAGED):
        pixels = np.asarray(data.load(int(at)), int)
        red = (pixels[..., 0] > 128) & (pixels[..., 1:] < 100).all(axis=-1)
        area.append(red.mean())
    held = sheet.parts.held
    truth = sheet.truth.amount[held, 0]
    assert np.corrcoef(truth, np.array(area)[held])[0, 1] > 0.9


def test_units_without_labels_are_named_by_words_and_planted_ones_found(kinds: ImageSet) -> None:
    paper = paper_of(kinds)
    chosen = examined(paper, None)  # as twins are
    assert {row.label for row in chosen.rows} <= set(NAMES)
    assert chosen.rows[0].label == "grass"
    paper = replace(paper_of(kinds, "linear"), settings=replace(FEW, planted=6, signal=3.0))
    planted = paper.plant(np.arange(len(kinds.paths)), (1, 1))
    assert DAMAGED not in planted.positions
    assert [len(one.terms) for one in planted.meanings] == [1, 2, 1, 2, 1, 2]
    again = paper.plant(np.arange(len(kinds.paths)), (1, 1))
    np.testing.assert_array_equal(planted.maps, again.maps)
    sheet = followed(paper.steps(planted), None)
    assert sum(one.is_found for one in found_of(planted, sheet)) >= 5
    noise = replace(planted, maps=np.random.default_rng(0).normal(size=planted.maps.shape))
    sheet = followed(paper.steps(noise), None)
    assert sum(one.passes for one in found_of(noise, sheet)) <= 1
