from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cnnlens.activations import encoded
from cnnlens.activations.encoded import encoded_steps
from cnnlens.data.open import open_data
from cnnlens.data.synthetic import make_kinds
from cnnlens.data.word_vectors import WordVectors
from cnnlens.measure import text_labels
from cnnlens.measure.linear_labels import split
from cnnlens.measure.text_labels import Words, information, text_label_steps
from cnnlens.model.encoder import Encoder
from cnnlens.progress import Step, followed
from cnnlens.settings import LabelSettings, TextSettings
from tests.reference.soft_wpmi import soft_wpmi

NAMES = ("red", "blue", "green", "square", "circle", "triangle")
FILLER = tuple(f"thing{at}" for at in range(40))  # words that captions say of any picture
WORDS = (*NAMES, *FILLER)


def directions(rows: int, seed: int, length: int = 7) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, length))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_soft_wpmi_is_the_literal_formula_whatever_the_blocks(monkeypatch) -> None:
    images, words = directions(40, 0), directions(9, 1)
    units = np.random.default_rng(2).normal(size=(40, 5))
    rows = np.arange(3, 38)
    expected = soft_wpmi(images[rows], words, units[rows], 6)
    for block in (1024, 4):
        monkeypatch.setattr(text_labels, "_BLOCK", block)
        found = information(Words(images, words, split(40, 0)), units, rows, 6)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_scores_go_through_a_sigmoid_that_suits_the_units() -> None:
    images, words = directions(200, 0), directions(9, 1)
    parts, cosines = split(200, 0), images @ words.T
    apart = (cosines - cosines[parts.fit].mean(axis=0)) / cosines[parts.fit].std(axis=0)
    rare = 1 / (1 + np.exp(-5 * (apart - 2)))
    found = Words(images, words, parts).fitted(rare.astype(np.float64))
    assert (found.scale, found.offset) == (5.0, 2.0)
    np.testing.assert_allclose(found.scores(np.arange(200), np.s_[:]), rare, atol=1e-4)
    agrees = found.agreement(cosines.astype(float), parts.held)
    one = np.corrcoef(rare[parts.held, 3], cosines[parts.held, 5])[0, 1]
    assert agrees[5, 3] == pytest.approx(one, abs=1e-4)


class Planted:
    """A source of maps (N, C, 1, 1) made of values (N, C)."""

    limits, skipped = (1,), ()

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shapes = values.astype(np.float32), ((values.shape[1], 1, 1),)

    def sweep(self, observers) -> Iterator[Step]:
        observers[0](np.arange(len(self.values)), self.values[:, :, None, None])
        yield Step(len(self.values), len(self.values))


def seen(images) -> np.ndarray:
    """What a small image tower looks at: each colour's area, and how a figure fills its box."""
    found = []
    for image in images:
        pixels = np.asarray(image, float) / 255
        masks = [(pixels[..., at] > 0.5) & (pixels.sum(axis=2) < 1.5) for at in range(3)]
        areas = [mask.mean() for mask in masks]
        shape = []
        for half in np.split(np.any(masks, axis=0), 2):
            rows, columns = half.any(axis=1), half.any(axis=0)
            box = half[np.ix_(rows, columns)]
            shape += [box.mean(), box[0].mean(), box[-1].mean()] if box.size else [0.0] * 3
        found.append([*areas, *(np.array(areas) > 0), *shape, *np.square(shape), 1.0])
    return np.array(found)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    """Pictures, what each shows, and two towers that were fit to captions of other pictures."""
    folder = tmp_path_factory.mktemp("kinds")
    images = open_data(make_kinds(folder / "own", 20, 24))
    taught = open_data(make_kinds(folder / "taught", 60, 24, seed=1))
    says, told = (
        np.array([[name in of for name in NAMES] for of in data.image_categories], float)
        for data in (images, taught)
    )
    filler = np.random.default_rng(0).random((len(told), len(FILLER))) < 0.2
    captions = np.concatenate([told, filler], axis=1)
    looked = seen(taught.load(at) for at in range(len(told)))
    tower = np.linalg.lstsq(looked, captions - captions.mean(axis=0), rcond=None)[0]

    def of_texts(texts: list[str]) -> np.ndarray:
        return np.array([[float(word in text.split()) for word in WORDS] for text in texts])

    return images, says, Encoder("towers", "", lambda of: seen(of) @ tower, of_texts)


@pytest.fixture(scope="module")
def vectors(world, tmp_path_factory: pytest.TempPathFactory) -> WordVectors:
    images, _, encoder = world
    templates = ("{}", "a picture of a {}")
    kept = tmp_path_factory.mktemp("kept")
    return followed(encoded_steps(encoder, images, WORDS, templates, kept), None)


def planted(says: np.ndarray) -> tuple[list[str], Planted]:
    """Fifty units, each a word and noise half as large."""
    rng = np.random.default_rng(0)
    which = rng.integers(0, len(NAMES), 50)
    values = says[:, which] + rng.normal(0, 0.25, (len(says), 50))
    return [NAMES[at] for at in which], Planted(values)


@pytest.mark.parametrize("method", ["linear", "soft-wpmi"])
def test_an_encoder_of_captions_names_planted_units(world, vectors, method: str) -> None:
    wanted, source = planted(world[1])
    one = LabelSettings(terms=1, chance=2), TextSettings(method)
    found = followed(text_label_steps(source, vectors, *one), None)
    right = sum(row.label == name for row, name in zip(found.rows, wanted, strict=True))
    assert right >= 45, right
    assert sum(row.is_sure for row in found.rows) >= 45
    assert max(abs(row.chance) for row in found.rows if row.chance is not None) < 0.35
    assert abs(found.summary()["chance"]) < 0.1 < 0.4 < found.summary()["mean_score"]
    assert [row.rank for row in found.rows].count(1) >= 40
    row = found.rows[0]
    assert row.margin == pytest.approx(row.single_score - row.runner_up_score)
    again = WordVectors(vectors.images.copy(), vectors.words.copy(), vectors.names)
    assert followed(text_label_steps(source, again, *one), None).rows == found.rows


def test_vectors_are_made_once_and_an_interrupt_costs_a_block(world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(encoded, "_BLOCK", 64)
    images, _, encoder = world
    calls = []

    def counted(of):
        calls.append(len(of))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encoder.images(of)

    mine = Encoder("towers", "", counted, encoder.texts)
    with pytest.raises(KeyboardInterrupt):
        followed(encoded_steps(mine, images, NAMES, ("{}",), tmp_path, keys=("i", "w")), None)
    before, calls[3:] = sum(calls[:3]), [0]
    first = followed(encoded_steps(mine, images, NAMES, ("{}",), tmp_path, keys=("i", "w")), None)
    assert sum(calls) - before == 180 - 64  # of the first call two blocks of 32 were kept
    calls.append(0)
    before = len(calls)
    second = followed(encoded_steps(mine, images, NAMES, ("{}",), tmp_path, keys=("i", "w")), None)
    assert len(calls) == before
    np.testing.assert_array_equal(first.images, second.images)


def test_units_that_never_fire_have_no_name() -> None:
    vectors = WordVectors(directions(60, 0), directions(5, 1), tuple("abcde"))
    for method in ("linear", "soft-wpmi"):
        steps = text_label_steps(
            Planted(np.zeros((60, 2))), vectors, LabelSettings(chance=1), TextSettings(method)
        )
        assert [(row.label, row.score, row.rank) for row in followed(steps, None).rows] == [
            ("", None, None), ("", None, None),
        ]  # fmt: skip


def test_a_hundred_thousand_words_need_no_matrix_of_images_and_words() -> None:
    vectors = WordVectors(directions(60, 0, 3), directions(100_000, 1, 3), ("a",) * 100_000)
    values = vectors.images @ vectors.words[5]
    settings = LabelSettings(chance=0, terms=1), TextSettings("linear")
    (row,) = followed(text_label_steps(Planted(values[:, None]), vectors, *settings), None).rows
    assert row.score is not None and row.score > 0.95
