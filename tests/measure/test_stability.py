from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from cnnlens.data.parts import PartSet
from cnnlens.errors import CnnlensError
from cnnlens.measure.stability import Stability, stability
from cnnlens.model.receptive_field import Field
from cnnlens.progress import Step
from cnnlens.settings import StabilitySettings
from tests.reference import stability as literal

SIZE, SIDE, STRIDE = (64, 64), 16, 4.0
FIELDS = (Field(STRIDE, 9.0, 2.0), Field(STRIDE, 9.0, 2.0))
QUICK = StabilitySettings(chance=40)


class Maps:
    """Activations (N, C, H, W) in memory, shown in batches."""

    def __init__(self, maps: np.ndarray, skipped: int = 0) -> None:
        self.maps, self.skipped = maps.astype(np.float32), skipped
        self.shapes, self.limits = [maps.shape[1:]], [len(maps)]

    def sweep(self, observers: Any) -> Any:
        for start in range(0, len(self.maps), 7):
            part = self.maps[start : start + 7]
            observers[0](np.arange(start, start + len(part)) + self.skipped, part)
            yield Step(start + len(part), len(self.maps))


def things(
    count: int = 60, categories: int = 1, parts: int = 2, seed: int = 0, masks: bool = False
) -> PartSet:
    """Objects whose parts lie on the grid of receptive-field centres."""
    random = np.random.default_rng(seed)
    cells = random.integers(2, SIDE - 2, (count, parts, 2))
    centres = (cells * STRIDE + 2.0) / SIZE[0]
    if parts > 1:
        centres[::3, 1] = np.nan  # the last part is hidden on every third

    def read(index: int) -> dict[int, np.ndarray]:
        found = {}
        for part in range(parts):
            if not np.isnan(centres[index, part, 0]):
                y, x = (centres[index, part] * SIZE[0]).astype(int)
                plane = np.zeros(SIZE, bool)
                plane[y - 5 : y + 5, x - 4 : x + 4] = True
                found[part] = plane
        return found

    names = tuple(f"{n}.png" for n in range(count))
    return PartSet(
        root=Path("planted"),
        paths=names,
        kind="parts",
        image_categories=tuple("abc"[n % categories] for n in range(count)),
        files=names,
        boxes=np.tile([0, 0, SIZE[1], SIZE[0]], (count, 1)),
        parts=tuple("pq"[:parts]),
        centres=centres,
        masks=read if masks else None,
    )


def peaked(cells: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Maps (N, H, W) with one peak each."""
    maps = np.zeros((len(cells), SIDE, SIDE))
    maps[np.arange(len(cells)), cells[:, 0], cells[:, 1]] = heights
    return maps


def measure(
    data: PartSet, maps: np.ndarray, settings: StabilitySettings = QUICK, others: Any = None
) -> Stability:
    negatives = None if others is None else Maps(others, skipped=3)  # their first are damaged
    return stability(Maps(maps), data, [FIELDS], SIZE, settings, negatives)[0]


def cells_of(data: PartSet, part: int) -> np.ndarray:
    return np.nan_to_num((data.centres[:, part] * SIZE[0] - 2) / STRIDE).astype(int)


@pytest.fixture(scope="module")
def planted() -> tuple[PartSet, Stability]:
    """Units: on the part, beside it, anywhere, dead, at the centre."""
    data, random = things(parts=1, count=120), np.random.default_rng(1)
    on = cells_of(data, 0)
    heights = random.uniform(1, 2, 120)
    anywhere = random.integers(0, SIDE, (120, 2))
    centre = np.full((120, 2), SIDE // 2)
    beside = on + np.array([2, -1])
    units = [on, beside, anywhere, on, centre]
    maps = np.stack([peaked(at, heights) for at in units], axis=1)  # (N, C, H, W)
    maps[:, 3] = 0
    return data, measure(data, maps)


def test_a_unit_on_the_part_or_beside_it_is_steady(planted):
    _, found = planted
    assert found.instability[:2] == pytest.approx([0, 0], abs=1e-12)
    assert found.p_value[:2] == pytest.approx([1 / 41, 1 / 41])


def test_a_unit_anywhere_is_as_unsteady_as_chance(planted):
    _, found = planted
    assert found.instability[2] == pytest.approx(found.uniform, rel=0.25)
    assert found.p_value[2] > 0.05


def test_a_dead_unit_is_counted_and_left_out(planted):
    _, found = planted
    assert found.dead.tolist() == [False, False, False, True, False]
    for values in (found.instability, found.p_value, found.centre_distance, found.selectivity):
        assert np.isnan(values[3])
    assert np.isnan(found.deviations[3]).all()


def test_a_unit_at_the_centre_is_no_better_than_its_baseline(planted):
    _, found = planted
    # the cell's centre is (34, 34), the picture's (32, 32)
    assert found.instability[4] == pytest.approx(found.centre, rel=0.05)
    assert found.p_value[4] == 1.0  # shuffled, its places are the same
    assert found.centre_distance[4] == pytest.approx(np.hypot(2, 2) / np.hypot(*SIZE), rel=1e-5)
    assert found.instability[4] < found.uniform  # which is why the baseline is there


def test_one_category_has_no_selectivity_unless_there_are_negatives(planted):
    data, found = planted
    assert np.isnan(found.selectivity).all()
    random = np.random.default_rng(3)
    maps = random.uniform(0, 1, (120, 2, SIDE, SIDE))
    others = random.uniform(0, 1, (50, 2, SIDE, SIDE))
    others[:, 0] *= 0.5
    again = measure(data, maps, QUICK, others)
    own, negative = maps.max((2, 3)), others.max((2, 3))
    wanted = [literal.roc_area(own[:, c], negative[:, c]) for c in range(2)]
    assert again.selectivity == pytest.approx(wanted, abs=1e-6) and wanted[0] > 0.99


def noise(images: int, units: int, seed: int = 0) -> np.ndarray:
    """Maps (N, C, H, W) that know nothing; one image excites all units more than another."""
    random = np.random.default_rng(seed)
    gain = random.lognormal(0, 0.4, (images, 1, 1, 1))
    return np.maximum(random.normal(size=(images, units, SIDE, SIDE)) - 0.5, 0) * gain


def shuffled_by_hand(maps: np.ndarray, others: np.ndarray, categories: int) -> float:
    """Deal categories out anew, to negatives too, choose by sums, count by pairs."""
    maps = np.concatenate([maps, others])
    labels = ["abc"[n % categories] for n in range(len(maps) - len(others))] + [""] * len(others)
    sums, peaks, found = maps.sum((2, 3)), maps.max((2, 3)), []
    for _ in range(12):
        dealt = np.random.default_rng(len(found)).permutation(labels)
        for unit in range(maps.shape[1]):
            means = {c: sums[dealt == c, unit].mean() for c in "abc"[:categories]}
            own = dealt == max(means, key=means.__getitem__)
            found.append(literal.roc_area(peaks[own, unit], peaks[~own, unit]))
    return float(np.mean(found))


@pytest.mark.parametrize(("categories", "negatives"), [(3, 0), (3, 20), (1, 20)])
def test_selectivity_by_chance_is_that_of_categories_dealt_out_by_hand(categories, negatives):
    data, maps = things(60, categories), noise(60, 10)
    others = noise(negatives, 10, seed=1)
    found = measure(data, maps, QUICK, others if negatives else None)
    by_hand = shuffled_by_hand(maps, others, categories)
    assert found.selectivity_chance == pytest.approx(by_hand, abs=0.03)
    assert found.selectivity_chance > (0.53 if categories > 1 else 0.47)
    assert found.summary()["selectivity_chance"] == found.selectivity_chance


def test_units_that_know_nothing_are_selective_by_chance_alone():
    data, settings = things(60, 3), StabilitySettings(chance=20)
    found = [measure(data, noise(60, 4, seed), settings) for seed in range(16)]
    real, by_chance = (
        np.mean([getattr(one, name) for one in found])
        for name in ("selectivity", "selectivity_chance")
    )
    assert real == pytest.approx(by_chance, abs=0.03) and by_chance > 0.53


def test_without_shuffles_or_others_selectivity_has_no_chance():
    maps = noise(60, 2)
    assert measure(things(60, 1), maps).summary()["selectivity_chance"] is None
    bare = measure(things(60, 3), maps, StabilitySettings(chance=0))
    assert bare.summary()["selectivity_chance"] is None


def test_categories_chosen_by_places_are_not_chosen_again_by_sums():
    settings = StabilitySettings(chance=20, category="minimum")
    found = measure(things(60, 3), noise(60, 10), settings)
    assert found.selectivity_chance == pytest.approx(0.5, abs=0.03)


def half_silent(images: int, least: float, units: int, seed: int = 8) -> np.ndarray:
    """Units (N, C, H, W) anywhere on the images that excite them, and silent on the others."""
    random = np.random.default_rng(seed)
    lit = random.uniform(size=(images, units)) < random.uniform(least, 0.9, units)
    cells = random.integers(0, SIDE, (images, units, 2))
    heights = np.where(lit, random.uniform(1, 2, (images, units)), 0)
    return np.stack([peaked(cells[:, u], heights[:, u]) for u in range(units)], axis=1)


def test_p_values_of_units_anywhere_are_uniform_though_they_are_often_silent():
    data = things(parts=1, count=160)  # of which a hundred count: all of them excite the unit
    maps = half_silent(160, 0.7, 150)
    assert ((maps.max((2, 3)) > 0).sum(axis=0) >= 100).mean() > 0.6
    found = measure(data, maps, StabilitySettings(chance=99))
    assert kstest(found.p_value, "uniform").pvalue > 0.01


def test_a_mostly_silent_units_p_value_is_the_literal_one():
    data, maps = things(parts=1), half_silent(60, 0.1, 3)
    found = measure(data, maps, StabilitySettings(chance=400))
    centres, deal = (data.centres * SIZE[0]).tolist(), random.Random(0)
    for unit in range(3):
        flat = maps[:, unit].reshape(60, -1)
        peaks = [(2 + STRIDE * (k // SIDE), 2 + STRIDE * (k % SIDE)) for k in flat.argmax(1)]
        wanted = literal.p_value(peaks, flat.max(1).tolist(), centres, SIZE, 250, deal)
        assert found.p_value[unit] == pytest.approx(wanted, abs=0.12)  # 3 σ of both's shuffles


def test_a_unit_that_one_image_excites_has_nothing_to_shuffle():
    data = things(parts=1)
    maps = np.zeros((60, 1, SIDE, SIDE))
    maps[7, 0, 5, 9] = 1
    assert measure(data, maps).p_value[0] == 1
    assert np.isnan(measure(data, maps, StabilitySettings(chance=0)).p_value[0])


@pytest.mark.parametrize("categories", [1, 3])
def test_everything_agrees_with_the_literal_version(categories):
    data, random = things(90, categories), np.random.default_rng(5)
    maps = np.maximum(random.normal(0, 1, (90, 6, SIDE, SIDE)), 0)
    maps *= random.uniform(0.2, 2, (90, 6, 1, 1))
    found = measure(data, maps)
    labels = np.array(["abc".index(c) for c in data.image_categories])
    for unit in range(6):
        sums = [maps[labels == c, unit].sum((1, 2)).mean() for c in range(categories)]
        own = np.flatnonzero(labels == np.argmax(sums))
        assert found.category[unit] == np.argmax(sums)
        flat = maps[own, unit].reshape(len(own), -1)
        peaks = [(2 + STRIDE * (k // SIDE), 2 + STRIDE * (k % SIDE)) for k in flat.argmax(1)]
        centres = (data.centres[own] * SIZE[0]).tolist()
        value, parts = literal.instability(peaks, flat.max(1).tolist(), centres, SIZE)
        assert found.instability[unit] == pytest.approx(value, rel=1e-9)
        assert found.deviations[unit] == pytest.approx(parts, rel=1e-9, nan_ok=True)
        away = [np.hypot(y - 32, x - 32) / np.hypot(*SIZE) for y, x in peaks]
        assert found.centre_distance[unit] == pytest.approx(np.mean(away), rel=1e-6)
        if categories > 1:
            top = maps[:, unit].max((1, 2))
            wanted = literal.roc_area(top[own].tolist(), np.delete(top, own).tolist())
            assert found.selectivity[unit] == pytest.approx(wanted, abs=1e-6)


def test_only_the_hundred_highest_peaks_count():
    data = things(160, parts=1)
    random = np.random.default_rng(2)
    cells, heights = cells_of(data, 0), np.linspace(2, 1, 160)
    cells[100:] = random.integers(0, SIDE, (60, 2))  # strays, all of them lower
    found = measure(data, peaked(cells, heights)[:, None])
    assert found.instability[0] == pytest.approx(0, abs=1e-12)
    found = measure(data, peaked(cells, heights[::-1])[:, None])
    assert found.instability[0] > 0.05


def test_the_papers_minimum_over_categories():
    data = things(90, 3, parts=1)
    cells = cells_of(data, 0)
    labels = np.arange(90) % 3
    cells[labels != 1] = np.random.default_rng(0).integers(0, SIDE, (60, 2))
    heights = np.where(labels == 0, 5.0, 1.0)  # the largest mean is a's, the steadiest b
    maps = peaked(cells, heights)[:, None]
    assert measure(data, maps).category[0] == 0
    found = measure(data, maps, StabilitySettings(chance=40, category="minimum"))
    assert found.category[0] == 1 and found.instability[0] == pytest.approx(0, abs=1e-12)
    # the smallest of three is low by chance, too: the baseline takes the smallest likewise
    assert found.shuffled < measure(data, maps).shuffled


def of_two_sizes(data: PartSet) -> PartSet:
    """Cut part masks of every fourth object, the last ones aside, to their upper half.

    The smallest part then is neither the first nor the last that is met.
    """
    plain = data.masks

    def read(index: int) -> dict[int, np.ndarray]:
        found = plain(index)
        if index % 4 < 2 and 4 < index < len(data.paths) - 4:
            for plane in found.values():
                rows = np.flatnonzero(plane.any(axis=1))
                plane[rows[len(rows) // 2] :] = False
        return found

    return replace(data, masks=read)


def test_part_interpretability_bound_and_quantiles():
    data, random = of_two_sizes(things(40, 2, masks=True)), np.random.default_rng(7)
    maps = random.uniform(0, 0.5, (40, 3, SIDE, SIDE))
    on = cells_of(data, 0)
    for image, (y, x) in enumerate(on):
        maps[image, 0, y - 1 : y + 2, x - 1 : x + 2] += 2  # unit 0 covers part p
    settings = StabilitySettings(quantile=0.02, wide=0.05, chance=5)
    found = measure(data, maps, settings)
    labels = np.arange(40) % 2
    assert [one.quantile for one in found.associations] == [0.02, 0.05]
    for one in found.associations:
        for unit in range(3):
            values = np.sort(maps[:, unit].astype(np.float32).ravel())[::-1]
            threshold = values[int(one.quantile * values.size)]
            own = np.flatnonzero(labels == found.category[unit])
            planes = torch.nn.functional.interpolate(
                torch.tensor(maps[own, unit].astype(np.float32))[:, None].double(),
                size=SIZE, mode="bilinear",
            )[:, 0].numpy()  # fmt: skip
            for part in range(2):
                masks = [data.masks(int(i)).get(part, np.zeros(SIZE, bool)) for i in own]
                share, bound = literal.association(planes > threshold, masks)
                assert one.by_part[unit, part] == pytest.approx(share)
                assert one.bound[unit, part] == pytest.approx(bound)
    first = found.associations[0]
    assert first.best(first.by_part)[0] == first.by_part[0, 0] > 0.5
    assert first.best(first.chance)[0] < 0.5  # the parts of other objects lie elsewhere


def test_the_wide_quantile_is_a_mean_parts_share():
    data = things(30, masks=True, parts=1)
    maps = np.random.default_rng(0).uniform(0, 1, (30, 2, SIDE, SIDE))
    found = measure(data, maps, StabilitySettings(chance=2))
    assert [one.quantile for one in found.associations] == [0.005, pytest.approx(80 / 64**2)]


def test_the_seed_decides_the_chance_level():
    data = things(parts=1)
    maps = np.random.default_rng(0).uniform(0, 1, (60, 2, SIDE, SIDE))
    one, same, other = (
        measure(data, maps, StabilitySettings(chance=5, seed=seed)) for seed in (0, 0, 1)
    )
    assert one.shuffled == same.shuffled != other.shuffled
    assert one.uniform == same.uniform != other.uniform


def test_categories_with_too_few_images_are_no_units_own():
    data = things(30, 3, parts=1)
    data.centres[np.arange(30) % 3 == 2] = np.nan
    maps = np.zeros((30, 1, SIDE, SIDE))
    maps[2::3] = 9.0  # the unit likes c most
    maps[1::3, :, 3, 4] = 1.0
    found = measure(data, maps)
    assert found.unmeasured == ["c"] and found.category.tolist() == [1]


def test_too_few_images_with_a_part():
    data = things(9, parts=1)
    with pytest.raises(CnnlensError, match="no part is shown on 10 images"):
        measure(data, np.ones((9, 1, SIDE, SIDE)))
