from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError
from cnnlens.measure.responses import Responses
from cnnlens.measure.unit_sweep import BINS, UnitSweep
from cnnlens.measure.units import units
from cnnlens.model.preprocess import Preprocess
from cnnlens.progress import Step
from cnnlens.settings import UnitsSettings
from tests.reference import units as literal

QUICK = UnitsSettings(top=5, bins=4, per_bin=3, neighbours=4)


class Maps:
    """Activations (N, C, H, W) of some layers in memory, shown in batches."""

    def __init__(self, *layers: np.ndarray, batch: int = 7) -> None:
        self.layers, self.batch = [maps.astype(np.float32) for maps in layers], batch
        self.shapes = [maps.shape[1:] for maps in layers]
        self.limits = [len(maps) for maps in layers]
        self.skipped: list[Any] = []

    def sweep(self, observers: Any) -> Any:
        for maps, observe in zip(self.layers, observers, strict=True):
            for start in range(0, len(maps), self.batch):
                part = maps[start : start + self.batch]
                observe(np.arange(start, start + len(part)), part)
                yield Step(start + len(part), len(maps))


def data(count: int, categories: int = 0) -> ImageSet:
    kinds = tuple("cabdefghij"[n % categories] for n in range(count)) if categories else None
    kind = "classes" if categories else "images"
    return ImageSet(Path("planted"), tuple(f"{n}.png" for n in range(count)), kind, kinds)


def some(count: int = 130, units: int = 12, side: int = 3, seed: int = 0) -> np.ndarray:
    """Maps with ties: few values, half of them 0; a dead unit, a negative one, a constant one."""
    random = np.random.default_rng(seed)
    maps = np.maximum(random.integers(-9, 10, (count, units, side, side)) / 4, 0)
    maps[:, 3] = 0
    maps[:, 4] = -0.5 - random.integers(0, 9, (count, side, side)) / 8
    maps[:, 5] = random.standard_normal((count, side, side))
    maps[:, 6] = 1.25
    return maps.astype(np.float32)


def check(found: Responses, maps: np.ndarray, kinds: tuple[str, ...] | None, rows: Any) -> None:
    """Hold everything but neighbours against the literal version."""
    names = [f"{n}.png" for n in range(len(maps))]
    settings = found.settings
    order = np.random.default_rng(settings.seed).permutation(len(maps))
    order = [row for row in order.tolist() if row in rows]
    for row in found.rows(names):
        own = maps[:, row.unit].tolist()
        wanted = literal.unit(own, kinds, settings.top, rows)
        for name in ("dead", "category", "peak_max", "density"):
            assert getattr(row, name) == wanted[name], (row.unit, name)
        assert row.top_image == names[wanted["top"][0]]
        assert row.mean == pytest.approx(wanted["mean"], rel=1e-12, abs=1e-15)
        for name in ("category_share", "category_entropy", "class_selectivity"):
            known = getattr(row, name)
            expected = wanted[name]
            assert known == (expected if expected is None else pytest.approx(expected, abs=1e-12))
        for name in ("top", "bottom", "top_position", "bottom_position"):
            assert getattr(found, name)[row.unit].tolist() == wanted[name], (row.unit, name)
        peaks = [literal.peak(one) for one in own]
        edges, where = literal.bins(peaks, settings.bins)
        np.testing.assert_allclose(found.bin_edges[row.unit], edges, rtol=1e-14)
        counts = [where.count(k) for k in range(settings.bins)]
        assert found.bin_images[row.unit].tolist() == counts
        drawn = literal.examples(peaks, settings.bins, settings.per_bin, order)
        assert found.examples[row.unit].tolist() == drawn
        for bin, at in zip(drawn, found.example_position[row.unit].tolist(), strict=True):
            assert at == [literal.place(own[r]) if r >= 0 else [-1, -1] for r in bin]
        values = maps[:, row.unit].ravel()
        np.testing.assert_array_equal(
            found.histogram[row.unit], np.histogram(values, found.edges[row.unit])[0]
        )
        assert found.histogram[row.unit].sum() == values.size


@pytest.mark.parametrize("categories", [0, 1, 5])
@pytest.mark.parametrize("count", [1, 3, 130])
def test_everything_agrees_with_the_literal_version(count: int, categories: int) -> None:
    maps, images = some(count), data(count, categories)
    (found,) = units(Maps(maps), images, QUICK)
    check(found, maps, images.image_categories, list(range(count)))


def test_the_lists_show_ties_the_dead_and_the_whole_range() -> None:
    """Guards the planted maps: without ties, empty bins and dead units the test above says less."""
    (found,) = units(Maps(some()), data(130), QUICK)
    peaks = some().max(axis=(2, 3))
    assert any(len(set(peaks[found.top[unit], unit])) < QUICK.top for unit in range(12))
    assert found.dead.tolist() == [unit in (3, 4) for unit in range(12)]
    assert (found.examples == -1).any() and (found.examples[5] >= 0).all()
    assert found.bin_edges[4, 0] < 0 and found.bin_edges[0, 0] == 0
    assert (found.edges[:, 1:] > found.edges[:, :-1]).all()


def test_maps_of_one_position_are_measured_too() -> None:
    maps, images = some(40, side=1), data(40, 3)
    (found,) = units(Maps(maps), images, QUICK)
    check(found, maps, images.image_categories, list(range(40)))


def test_units_that_are_brought_near_in_several_groups_are_measured_alike() -> None:
    maps, images = some(20, units=50, side=7), data(20)
    (found,) = units(Maps(maps), images, QUICK)
    check(found, maps, None, list(range(20)))


def test_neighbours_agree_with_the_literal_version() -> None:
    near, far = some(seed=1), some(units=9, seed=2)
    far[:, 7] = near[:, 0]  # over layers
    near[:, 9] = near[:, 8]  # equal units
    far[:, 8] = near[:, 8]  # of equal correlations the own layer's comes first
    layers = {"b": near.max((2, 3)).T.tolist(), "a": far.max((2, 3)).T.tolist()}
    (found,) = units(Maps(near), data(130), QUICK, ["b", "a"], Maps(far))
    assert found.layers == ("b", "a")
    for unit in range(12):
        wanted = literal.neighbours(layers, "b", unit, QUICK.neighbours)
        known = found.neighbours[unit] >= 0
        assert known.sum() == len(wanted)
        alike = found.neighbour_correlation[unit][known]
        np.testing.assert_allclose(alike, [r for _, _, r in wanted], atol=1e-6)
        for n, (name, number, r) in enumerate(wanted):
            mine = found.layers[found.neighbour_layer[unit, n]], found.neighbours[unit, n]
            rounded = [round(other, 6) for _, _, other in wanted]
            assert mine == (name, number) or rounded.count(round(r, 6)) > 1
    rows = list(found.rows([f"{n}.png" for n in range(130)]))
    assert (rows[8].neighbour, rows[9].neighbour, rows[0].neighbour) == ("b:9", "b:8", "a:7")
    assert rows[8].neighbour_correlation == rows[9].neighbour_correlation == 1.0
    assert rows[3].neighbour == "" and rows[3].neighbour_correlation is None  # constant
    assert (found.neighbours[8, 1], found.neighbour_layer[8, 1]) == (8, 1)


def test_layers_of_one_run_are_each_others_neighbours_whatever_their_order() -> None:
    one, other = some(seed=1), some(units=9, seed=2)
    both = units(Maps(one, other), data(130), QUICK, ["x", "y"])
    back = units(Maps(other, one), data(130), QUICK, ["y", "x"])
    for a, b in zip(both, reversed(back), strict=True):
        assert a.layers == b.layers
        same(a, b)
    (alone,) = units(Maps(one), data(130), QUICK, ["x", "y"], Maps(other))
    same(alone, both[0])


def test_equal_correlations_come_in_the_order_of_names() -> None:
    maps = [some(seed=seed)[:, :3] for seed in range(3)]
    maps[0][:, 1] = maps[1][:, 1] = maps[2][:, 1]  # in all three layers
    found = {}
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        names = ["cab"[k] for k in order]
        for one in units(Maps(*(maps[k] for k in order)), data(130), QUICK, names):
            mine = one.layers[0]
            listed = [one.layers[k] for k in one.neighbour_layer[1, :2]]
            assert one.neighbour_correlation[1, :2].tolist() == [1, 1]
            assert listed == sorted(set("abc") - {mine})
            same(one, found.setdefault(mine, one))


def test_many_units_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    maps = random.standard_normal((60, 70, 1, 1)).astype(np.float32)
    (whole,) = units(Maps(maps), data(60), QUICK)
    monkeypatch.setattr("cnnlens.measure.unit_lists._UNITS", 16)
    monkeypatch.setattr("cnnlens.measure.unit_lists._BLOCK", 8 * 16 * 7)  # seven rows at once
    monkeypatch.setattr("cnnlens.measure.unit_lists._COLUMNS", 5)
    (blocks,) = units(Maps(maps), data(60), QUICK)
    same(whole, blocks, rtol=1e-6)
    r = np.corrcoef(maps[:, :, 0, 0].T)
    np.fill_diagonal(r, -2)
    np.testing.assert_array_equal(blocks.neighbours, np.argsort(-r, axis=1)[:, :4])


def same(one: Responses, other: Responses, rtol: float = 0) -> None:
    for field in fields(Responses):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=0, err_msg=field.name)
        else:
            assert a == b, field.name


@pytest.mark.parametrize("batch", [1, 32, 1000])
def test_batches_change_nothing(batch: int) -> None:
    maps = some() * np.float32(1 / 3)  # sums are not exact
    maps[:, 5] *= np.geomspace(1e-6, 1e6, 130, dtype=np.float32)[:, None, None]
    (one,) = units(Maps(maps), data(130, 4), QUICK)
    (other,) = units(Maps(maps, batch=batch), data(130, 4), QUICK)
    same(one, other)


def test_a_unit_for_a_class_is_found_as_such() -> None:
    images = data(300, 3)
    assert images.image_categories is not None
    maps = np.random.default_rng(0).uniform(0, 0.1, (300, 2, 4, 4)).astype(np.float32)
    own = np.array([kind == "b" for kind in images.image_categories])
    maps[own, 1] += 5
    (found,) = units(Maps(maps), images)
    row = list(found.rows(images.paths))[1]
    assert found.category_images.tolist()[1] == [0, 100, 0]
    assert (found.category_images.sum(axis=1) == 100).all()
    assert row.category == "b" and row.category_share == 1 and row.category_entropy == 0
    assert row.class_selectivity == pytest.approx(5 / 5.1, abs=0.01)
    other = next(iter(found.rows(images.paths)))
    assert other.category_share < 0.6 and other.category_entropy > 1.3
    assert other.class_selectivity < 0.1


def test_the_seed_draws_other_examples_from_the_same_bins() -> None:
    (one,) = units(Maps(some()), data(130), QUICK)
    (other,) = units(Maps(some()), data(130), replace(QUICK, seed=1))
    assert (one.examples != other.examples).any()
    np.testing.assert_array_equal(one.bin_images, other.bin_images)
    np.testing.assert_array_equal(one.top, other.top)


def test_examples_are_drawn_evenly() -> None:
    maps = np.ones((40, 1, 1, 1))
    drawn = [
        units(Maps(maps), data(40), UnitsSettings(bins=1, per_bin=4, seed=seed))[0].examples
        for seed in range(300)
    ]
    counts = np.bincount(np.concatenate(drawn).ravel(), minlength=40)
    assert counts.min() > 8 and counts.max() < 60  # 30 each, with a deviation of 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(bad: float) -> None:
    maps = some()
    maps[17, 2, 1, 1] = bad
    with pytest.raises(CnnlensError, match="not finite on image 17 of the data"):
        units(Maps(maps), data(130), QUICK)


def test_bins_of_the_histogram_are_no_wider_than_needed() -> None:
    values = {0: [0.0], 1: [-3.0, 5.0], 2: [1e-30, 1e30], 3: [7.0], 4: [-0.0, 0.1], 5: [1e-42]}
    maps = np.zeros((9, len(values), 1, 2), np.float32)
    for unit, own in values.items():
        maps[4, unit, 0, : len(own)] = own
    for order in (maps, maps[::-1]):
        sweep = UnitSweep(9, (len(values), 1, 2))
        for row, one in enumerate(order):
            sweep(np.array([row]), one[None])
        for unit in values:
            flat, edges = maps[:, unit].ravel(), sweep.edges[unit]
            np.testing.assert_array_equal(sweep.histogram[unit], np.histogram(flat, edges)[0])
            assert sweep.histogram[unit].sum() == flat.size
            width = edges[1] - edges[0]
            spans = np.floor(flat.max() / width * 2) - np.floor(flat.min() / width * 2)
            finest = np.abs(flat).max() / (width / 2) > 2**24
            assert spans >= BINS or finest or flat.max() == flat.min()


class Photos(ImageSet):
    """Images whose pixels are given."""

    def pixels(self, index: int, preprocess: Preprocess) -> np.ndarray:
        return np.full((3, 2, 2), int(self.paths[index].split("-")[0]), np.uint8)


def test_of_equal_images_the_first_is_listed() -> None:
    shown = [0, 1, 2, 2, 3, 1, 2, 4, 5, 6]  # images 3, 5 and 6 were there before
    names = tuple(f"{kind}-{n}.png" for n, kind in enumerate(shown))
    photos = Photos(Path("photos"), names)
    half = (0.5, 0.5, 0.5)
    preprocess = Preprocess((2, 2), half, half)
    random = np.random.default_rng(0)
    maps = random.uniform(0, 1, (7, 6, 2, 2)).astype(np.float32)[shown]
    maps[6] *= np.float32(1 + 1e-6)  # as another batch rounds
    maps[9] = maps[0]  # another image that excites all units alike
    (found,) = units(Maps(maps), photos, QUICK, preprocess=preprocess)
    assert found.repeated.tolist() == [3, 5, 6]
    check(found, maps, None, [0, 1, 2, 4, 7, 8, 9])
    (every,) = units(Maps(maps), photos, QUICK)
    assert every.repeated.size == 0
    check(every, maps, None, list(range(10)))


def test_copies_of_images_are_no_chance_level_of_lists_that_leave_them_out() -> None:
    """Of 24 images of b and 8 of a, 20 are copies of one: noise has a in two thirds of its top."""
    shown = [*range(12), *[11] * 20]
    names = tuple(f"{kind}-{n}.png" for n, kind in enumerate(shown))
    photos = Photos(Path("photos"), names, "classes", tuple("a" * 8 + "b" * 24))
    maps = np.random.default_rng(2).uniform(0, 1, (12, 3, 2, 2)).astype(np.float32)[shown]
    preprocess = Preprocess((2, 2), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    (found,) = units(Maps(maps), photos, QUICK, preprocess=preprocess)
    listed = found.category_images.sum(axis=0) / len(maps[0])
    assert len(found.repeated) == 20 and found.category_counts.tolist() == [8, 4]
    assert listed.tolist() == [8, 4]  # all that are listed: each unit's share is chance itself


def test_lists_are_followed_to_their_end() -> None:
    steps: list[Step] = []
    (found,) = units(Maps(some()), data(130, 2), QUICK, progress=steps.append)
    ends = {step.stage: (step.done, step.total) for step in steps}
    assert ends["lists and neighbours"] == (found.units, found.units)


def test_large_tables_are_kept_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlens.measure import image_tables
    from cnnlens.measure.units import units_steps
    from cnnlens.progress import followed

    monkeypatch.setattr(image_tables, "_LARGE", 1)
    kept = image_tables.room((3, 4), np.float32, tmp_path)
    assert isinstance(kept, np.memmap) and not kept.any() and not list(tmp_path.iterdir())
    steps = units_steps(Maps(some()), data(130, 2), QUICK, folder=tmp_path)
    (found,) = followed(steps, None)
    (memory,) = units(Maps(some()), data(130, 2), QUICK)
    same(found, memory)
