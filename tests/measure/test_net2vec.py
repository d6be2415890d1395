from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cnnlens.data.broden import Broden
from cnnlens.errors import CnnlensError
from cnnlens.measure.combine import CUTS, first_weights
from cnnlens.measure.embeddings import Embeddings
from cnnlens.measure.net2vec import LearningStep, net2vec, net2vec_steps
from cnnlens.progress import Step, followed
from cnnlens.settings import Net2VecSettings

from ..reference import dissect as dissected
from ..reference import net2vec as reference
from ..reference.dissect import Picture, World
from .worlds import ArraySource, random_world, write_world

FEW = {"filters": "1,2", "epochs": 3, "chance": 0, "top": 2, "quantile": 0.1}


def in_splits(broden: Broden, splits: Sequence[str]) -> Broden:
    rows = zip(broden.rows, splits, strict=True)
    return replace(broden, rows=tuple(replace(row, split=split) for row, split in rows))


def smooth(seed: int, images: int, units: int, h: int, w: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, units, h, w)).astype(np.float32)


def learn(broden: Broden, maps: np.ndarray, batch: int = 4, workers: int = 1, **more: Any) -> Any:
    settings = Net2VecSettings(**{**FEW, **more})
    source = ArraySource([maps], batch, range(len(maps)))
    (found,) = net2vec(source, broden, settings, workers)
    return found


class Truth:
    """The slow side: binary maps and truths of a world, by concept and split."""

    def __init__(
        self, world: World, maps: np.ndarray, splits: Sequence[str], settings: Net2VecSettings
    ) -> None:
        self.world, self.maps, self.splits = world, maps, splits
        self.thresholds = [
            dissected.threshold(maps[:, unit], settings.kept_share) for unit in range(maps.shape[1])
        ]
        above = np.stack([maps[:, u] > t for u, t in enumerate(self.thresholds)], axis=1)
        self.binary = torch.from_numpy(above.astype(np.float64))
        self.truths = [dissected.truths(world, picture, False) for picture in world.pictures]

    def images(self, concept: tuple[str, int], split: str) -> list[Any]:
        """Numbers and truths of a split's images that show a concept."""
        return [
            (n, torch.from_numpy(found[concept].astype(np.float64)))
            for n, (found, where) in enumerate(zip(self.truths, self.splits, strict=True))
            if where == split and concept in found and found[concept].any()
        ]

    def pairs(self, concept: tuple[str, int], split: str) -> list[reference.Image]:
        return [(self.binary[n], truth) for n, truth in self.images(concept, split)]

    def alone(self, concept: tuple[str, int], split: str, unit: int) -> float:
        maps = torch.from_numpy(self.maps.astype(np.float64))
        pairs = [(maps[n, unit], truth) for n, truth in self.images(concept, split)]
        return reference.unit_iou(pairs, float(self.thresholds[unit]))


@pytest.fixture(scope="module")
def world() -> World:
    return random_world(np.random.default_rng(1), 44)


def best_cut(images: list[reference.Image], weights: torch.Tensor) -> float:
    return float(CUTS[int(np.argmax(reference.ious(images, weights, CUTS.tolist())))])


SPLITS = (["train", "train", "val"] * 15)[:44]


@pytest.mark.parametrize("loss", ["cross-entropy", "reference"])
@pytest.mark.parametrize("cut", ["fitted", "half"])
def test_weights_cuts_and_scores_equal_the_slow_reference(world, tmp_path, loss, cut):
    maps = smooth(2, 44, 6, 5, 4)
    rate = 8.0 if loss == "cross-entropy" else 0.01
    given: dict[str, Any] = {"loss": loss, "cut": cut, "lr": rate, "filters": "2"}
    settings = Net2VecSettings(**{**FEW, **given})
    found = learn(in_splits(write_world(world, tmp_path / "d"), SPLITS), maps, **given)
    truth, space = Truth(world, maps, SPLITS, settings), world.concepts(False)
    start = first_weights(len(space), 6, settings.seed)
    compared = 0
    for row, concept in enumerate(found.concepts):
        key = (concept.category, concept.number)
        here, there = truth.pairs(key, "train"), truth.pairs(key, "val")
        assert (found.learned_on[row], found.validated_on[row]) == (len(here), len(there))
        if not found.of_pixels[row]:
            continue
        first = torch.from_numpy(start[space.index(key)].astype(np.float64))
        ours = torch.from_numpy(found.weights[row].astype(np.float64))
        all_units = torch.ones(6, dtype=torch.bool)
        theirs = reference.learn(here, first, all_units, 3, rate, loss == "reference")
        assert ours.tolist() == pytest.approx(theirs.tolist(), rel=2e-4, abs=2e-4)
        assert float((ours - first).abs().max()) > 0.01  # it has learned something
        chosen = best_cut(here, ours) if cut == "fitted" else 0
        assert found.cut[row] == chosen
        assert found.iou[row] == pytest.approx(reference.iou(there, ours, float(chosen)), abs=1e-12)
        assert found.iou_at_half[row] == pytest.approx(reference.iou(there, ours, 0), abs=1e-12)
        scores = [truth.alone(key, "train", unit) for unit in range(6)]
        assert found.best_unit[row] == int(np.argmax(scores))
        alone = truth.alone(key, "val", int(np.argmax(scores)))
        assert found.best_unit_iou[row] == pytest.approx(alone, abs=1e-12)
        two = torch.zeros(6, dtype=torch.bool)
        two[ours.abs().argsort(descending=True, stable=True)[:2]] = True
        again = reference.learn(here, first, two, 3, rate, loss == "reference")
        chosen = best_cut(here, again) if cut == "fitted" else 0
        near = reference.iou(there, again, float(chosen))
        assert found.filters == [2, 6]
        assert found.curve[0, row] == pytest.approx(near, abs=0.02)  # a pixel at the cut may differ
        assert found.curve[1, row] == found.iou[row]
        compared += 1
    assert compared >= 6
    assert found.thresholds.tolist() == [float(t) for t in truth.thresholds]


def test_batches_and_threads_change_nothing(world, tmp_path):
    maps = smooth(3, 44, 5, 4, 6)
    broden = in_splits(write_world(world, tmp_path / "d"), SPLITS)
    first = learn(broden, maps, chance=2)
    for batch, workers in ((1, 1), (44, 3), (7, 8)):
        assert_equal(learn(broden, maps, batch, workers, chance=2), first)
    assert first.chance.shape == (2, len(first.concepts))


def assert_equal(one: Embeddings, other: Embeddings) -> None:
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == getattr(other, name).tobytes(), name
    assert one.summary() == other.summary()
    assert one.top.positions.tolist() == other.top.positions.tolist()
    assert one.top.maps.tobytes() == other.top.maps.tobytes()


def planted(tmp_path: Any, images: int = 48, units: int = 8) -> tuple[Broden, np.ndarray]:
    """A concept that is where unit 2 or unit 5 is active, never both; and noise beside them."""
    rng = np.random.default_rng(4)
    maps = rng.random((images, units, 6, 6), np.float32)
    pictures = []
    for number in range(images):
        blob = np.zeros((2, 6, 6))
        y, x = rng.integers(0, 5, 2)
        blob[number % 2, y : y + 2, x : x + 2] = 5 + rng.random()
        maps[number, [2, 5]] = blob
        plane = (np.kron(blob.sum(0), np.ones((4, 4))) > 0).astype(int)
        pictures.append(Picture((24, 24), {"object": [plane]}))
    world = World(["object"], {1: ["object"]}, {1: "object"}, pictures)
    splits = ["val" if number % 3 == 0 else "train" for number in range(images)]
    return in_splits(write_world(world, tmp_path / "planted"), splits), maps


@pytest.mark.parametrize("loss", ["cross-entropy", "reference"])
def test_a_concept_that_is_the_sum_of_two_units_is_found(tmp_path, loss):
    broden, maps = planted(tmp_path)
    found = learn(broden, maps, loss=loss, epochs=100, quantile=0.05, filters="1,2", top=4,
                  lr=None if loss == "cross-entropy" else 0.001, chance=1)  # fmt: skip
    best_two = np.argsort(-found.weights[0])[:2]
    assert sorted(best_two.tolist()) == [2, 5]
    assert found.best_unit[0] in (2, 5)
    assert found.best_unit_iou[0] < 0.55
    assert found.iou[0] > 0.7  # noise tears holes where all units count
    assert found.better.all()
    one, two, everything = found.curve[:, 0]
    assert one < 0.6 < 0.85 < two
    assert everything == found.iou[0]
    assert found.chance[0, 0] < 0.5
    assert found.top_shows.all()
    validating = [n for n, split in enumerate(broden.splits) if split == "val"]
    assert set(found.top.positions[0].tolist()) <= set(validating)
    (row,) = found.rows()
    assert row.gain == found.iou[0] - found.best_unit_iou[0]


def test_a_direction_is_the_weights_over_how_far_units_spread(tmp_path):
    broden, maps = planted(tmp_path)
    maps[:, 3] = 1.5  # dead: the same value everywhere
    found = learn(broden, maps)
    spread = maps.astype(np.float64).transpose(1, 0, 2, 3).reshape(8, -1).std(axis=1)
    wanted = np.divide(found.weights[0], spread, out=np.zeros(8), where=spread > 1e-6)
    assert found.direction[0].tolist() == pytest.approx(wanted.tolist(), rel=1e-4, abs=1e-6)
    assert found.direction[0, 3] == 0


def stopped(broden: Broden, maps: np.ndarray, at: int, **more: Any) -> tuple[Any, int]:
    """State after so many epochs, and how many there are in all."""
    steps = net2vec_steps(
        ArraySource([maps], 8, range(len(maps))), broden, Net2VecSettings(**{**FEW, **more}), 2
    )
    states = [step.state for step in steps if isinstance(step, LearningStep)]
    return states[at], len(states)


def test_learning_goes_on_where_it_was_stopped(world, tmp_path):
    maps = smooth(5, 44, 5, 4, 4)
    broden = in_splits(write_world(world, tmp_path / "d"), SPLITS)
    settings = Net2VecSettings(**{**FEW, "chance": 1})
    unbroken = learn(broden, maps, chance=1)
    _, epochs = stopped(broden, maps, 0, chance=1)
    assert epochs == 3 * 4  # all units, two units, one unit, shuffled
    for at in (0, 2, 3, 7, 10, 11):
        state, _ = stopped(broden, maps, at, chance=1)
        seen: list[Step] = []
        source = ArraySource([maps], 8, range(len(maps)))
        steps = net2vec_steps(source, broden, settings, 2, states=[state])
        (found,) = followed(steps, seen.append)
        assert_equal(found, unbroken)
        learned = [step for step in seen if isinstance(step, LearningStep)]
        assert len(learned) == epochs - at - 1  # nothing is learned twice


def test_an_interrupt_in_an_epoch_leaves_the_state_of_the_last_one_alone(world, tmp_path):
    maps = smooth(5, 44, 5, 4, 4)
    broden = in_splits(write_world(world, tmp_path / "d"), SPLITS)
    state, _ = stopped(broden, maps, 0)
    again, _ = stopped(broden, maps, 0)
    for name, array in state.items():
        assert array.tobytes() == again[name].tobytes(), name


def test_what_has_no_extent_is_told_of_whole_images(world, tmp_path):
    maps = smooth(6, 44, 7, 1, 1)
    broden = in_splits(write_world(world, tmp_path / "d"), SPLITS)
    found = learn(broden, maps, cut="fitted", chance=1)
    assert not found.of_pixels.any()
    truth = Truth(world, maps, SPLITS, Net2VecSettings(**FEW))
    means = torch.from_numpy(maps[:, :, 0, 0].astype(np.float64))
    for row, concept in enumerate(found.concepts):
        key = (concept.category, concept.number)
        carried = [n for n, p in enumerate(world.pictures) if p.cells.get(concept.category)]
        here, there = ([n for n in carried if SPLITS[n] == s] for s in ("train", "val"))
        y = torch.tensor([bool(truth.truths[n][key].any()) for n in carried], dtype=torch.float64)
        shown = dict(zip(carried, y.tolist(), strict=True))
        of_here = torch.tensor([shown[n] for n in here], dtype=torch.float64)
        weights, bias = reference.probe(means[here], of_here, 0.1)
        assert found.weights[row].tolist() == pytest.approx(weights.tolist(), abs=2e-4)
        logits = found.direction[row] @ maps[:, :, 0, 0].T + found.bias[row]
        mean, std = means[here].mean(0), means[here].std(0, correction=0)
        theirs = ((means - mean) / std) @ weights + bias
        assert logits.tolist() == pytest.approx(theirs.tolist(), abs=2e-3)
        hits = [(theirs[n] > 0, shown[n] > 0) for n in there]
        union = sum(a or b for a, b in hits)
        both = sum(bool(a and b) for a, b in hits)
        assert found.iou[row] == pytest.approx(both / union if union else 0)
    assert {reason.reason for reason in found.left_out} >= {
        "it is on every image to learn from that has labels of its category"
    }


# ---- what data lack


def test_a_concept_of_one_split_is_left_out_or_has_no_score(tmp_path):
    plane = np.kron(np.eye(2, dtype=int), np.ones((3, 3), int))
    cells = [[plane], [plane], [plane * 2], [plane * 3], [plane]]
    pictures = [Picture((6, 6), {"object": cell}) for cell in cells]
    declared = {number: ["object"] for number in (1, 2, 3, 4)}
    world = World(["object"], declared, dict.fromkeys(declared, "object"), pictures)
    splits = ["train", "train", "train", "val", "val"]
    found = learn(in_splits(write_world(world, tmp_path / "d"), splits), smooth(7, 5, 3, 3, 3))
    assert [c.number for c in found.concepts] == [1, 2]
    assert [(one.label, one.reason) for one in found.left_out] == [
        ("label 3", "it is on images that validate alone"),
        ("label 4", "it is on no image"),
    ]
    learned, unseen = found.rows()
    assert learned.images == 1 and learned.iou is not None
    assert (unseen.images, unseen.iou, unseen.gain, unseen.best_unit_iou) == (0, None, None, None)
    assert found.summary()["concepts"] == 1
    assert {point.iou for point in found.points() if point.label == "label 2"} == {None}


def test_without_splits_images_are_divided_by_their_paths(world, tmp_path):
    broden = write_world(world, tmp_path / "d")  # all are of "train"
    found = learn(broden, smooth(8, 44, 4, 3, 3))
    learned, validating = found.images
    assert learned + validating == 44 and 0.5 < learned / 44 < 0.9
    assert "all are 'train'" in found.split
    other = learn(broden, smooth(8, 44, 4, 3, 3), seed=1)
    assert found.learned_on.tolist() != other.learned_on.tolist()


def test_one_image_is_too_few(world, tmp_path):
    broden = write_world(world, tmp_path / "d")
    one = replace(broden, paths=broden.paths[:1], rows=broden.rows[:1])
    with pytest.raises(CnnlensError, match="has 1 image: some are learned from"):
        learn(one, smooth(9, 1, 3, 2, 2))


def test_data_without_any_concept_to_learn_say_so(tmp_path):
    pictures = [
        Picture((4, 4), {"object": []}),
        Picture((4, 4), {"object": [np.ones((4, 4), int)]}),
    ]
    world = World(["object"], {1: ["object"]}, {1: "object"}, pictures)
    broden = in_splits(write_world(world, tmp_path / "d"), ["train", "val"])
    with pytest.raises(CnnlensError, match="no concept can be learned; of label 1, say: it is on"):
        learn(broden, smooth(10, 2, 3, 2, 2))


def test_units_that_never_fire_weigh_nothing_in_the_scores(tmp_path):
    broden, maps = planted(tmp_path)
    maps[:] = 0
    found = learn(broden, maps)
    assert found.best_unit.tolist() == [-1]
    assert found.iou.tolist() == [0]
    (row,) = found.rows()
    assert row.best_unit is None and row.best_unit_iou == 0


def test_units_of_noise_beat_shuffled_labels_on_about_half_of_the_concepts(world, tmp_path):
    """As the page says beside their number."""
    broden = in_splits(write_world(world, tmp_path / "d"), SPLITS)
    counts = [learn(broden, smooth(seed, 44, 6, 5, 4), chance=1).summary() for seed in range(8)]
    compared = sum(count["concepts"] for count in counts)
    assert 0.3 < sum(count["better_than_chance"] for count in counts) / compared < 0.7
