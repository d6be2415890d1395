from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cnnlens.data.broden import Broden, open_broden
from cnnlens.errors import CnnlensError
from cnnlens.measure.dissect import dissect, dissect_steps
from cnnlens.measure.dissected_units import formulas_said, one_per_concept
from cnnlens.measure.dissection import Dissection, beside
from cnnlens.progress import Step
from cnnlens.settings import DissectSettings

from ..reference import dissect as reference
from ..reference.dissect import Picture, World
from .worlds import ArraySource, random_world, write_world


def measure(
    broden: Broden,
    layers: list[np.ndarray],
    settings: DissectSettings,
    batch: int = 4,
    workers: int = 1,
    positions: list[int] | None = None,
) -> list[Dissection]:
    source = ArraySource(layers, batch, positions or range(len(layers[0])))
    steps: list[Step] = []
    found = dissect(source, broden, settings, workers, steps.append)
    assert {step.stage for step in steps} >= {"thresholds", "counting"}
    return found


def agree(found: Dissection, truth: reference.Answer, min_iou: float = 0.04) -> None:
    """Every count of a dissection equals the reference's."""
    concepts = [(c.category, c.number) for c in found.concepts.names]
    assert concepts == truth.concepts
    assert found.thresholds.tobytes() == np.array(truth.thresholds, np.float32).tobytes()
    assert found.concepts.pixels.tolist() == [truth.G[k] for k in concepts]
    assert found.concepts.images.tolist() == [truth.images_with[k] for k in concepts]
    for counts, tally in zip([found.counts, *found.null], [truth.tally, *truth.null], strict=True):
        for unit in range(found.units):
            ours = counts.intersection[unit].tolist()
            assert ours == [tally.I.get((unit, k), 0) for k in concepts]
            areas = counts.area[unit].tolist()
            assert areas == [tally.A.get((unit, c), 0) for c in found.concepts.categories]
    names = [None if b < 0 else concepts[b] for b in found.best]
    best = [truth.best(truth.tally, u) for u in range(found.units)]
    assert names == [b for b, _ in best]
    assert found.best_iou.tolist() == [iou for _, iou in best]
    detected = truth.detectors(truth.tally, min_iou)
    assert found.detectors.detectors == len(detected)
    assert found.detectors.unique == len(set(detected))
    for number, category in enumerate(found.concepts.categories):
        own = [c for c in detected if c[0] == category]
        within = truth.detectors(truth.tally, min_iou, category)
        assert found.detectors.by_category[category] == (len(own), len(set(own)))
        assert found.detectors.per_category[category] == (len(within), len(set(within)))
        winners, scores = found.best_within(number)
        for unit in range(found.units):
            name, iou = truth.best(truth.tally, unit, category)
            assert scores[unit] == iou
            assert (None if winners[unit] < 0 else concepts[winners[unit]]) == name
    if truth.null:
        p = [truth.p_value(unit) for unit in range(found.units)]
        assert found.p_values.tolist() == pytest.approx(p, abs=1e-15)
        assert found.chance["detectors"] == pytest.approx(
            np.mean([len(truth.detectors(t, min_iou)) for t in truth.null])
        )
        assert found.chance["unique_detectors"] == pytest.approx(
            np.mean([len(set(truth.detectors(t, min_iou))) for t in truth.null])
        )
        assert found.chance["mean_iou"] == pytest.approx(
            np.mean([truth.mean_iou(t) for t in truth.null])
        )


def adversarial_maps(rng: np.random.Generator, images: int, h: int, w: int) -> np.ndarray:
    """Units of every awkward kind: (N, 9, H, W) float32."""
    smooth = rng.normal(size=(images, h, w))
    units = [
        smooth,
        -np.abs(smooth) - 1,  # negative everywhere
        np.zeros_like(smooth),  # dead
        np.full_like(smooth, 3.25),  # constant
        np.minimum(np.maximum(smooth * 5, 0), 6),  # a plateau at its own threshold
        np.maximum(smooth, 0) * (rng.random((images, 1, 1)) < 0.3),  # mostly zeros
        np.round(smooth),  # few distinct values
        smooth * 1e30,
        np.where(smooth > 2, 1.0, -1e-40),  # subnormal below
    ]
    return np.stack(units, axis=1).astype(np.float32)


CASES = {
    "the papers' quantile": (16, 16, DissectSettings(chance=2)),
    "usual": (6, 6, DissectSettings(chance=5, quantile=0.1, top=2)),
    "one position": (1, 1, DissectSettings(chance=4, quantile=0.1)),
    "larger than the labels": (30, 28, DissectSettings(chance=0, quantile=0.02)),
    "not square": (3, 11, DissectSettings(chance=1, quantile=0.03, seed=5)),
    "older counting": (15, 12, DissectSettings(chance=2, compat="ndlite")),
    "older counting, other quantile": (
        5,
        7,
        DissectSettings(chance=0, compat="ndlite", quantile=0.2),
    ),
    "half of everything": (4, 4, DissectSettings(chance=1, quantile=0.5, min_iou=0.2)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_count_equals_the_dense_reference(case, tmp_path):
    h, w, settings = CASES[case]
    rng = np.random.default_rng(len(case))
    world = random_world(rng, 17)
    maps = adversarial_maps(rng, 17, h, w)
    compat = settings.compat == "ndlite"
    truth = reference.dissect(
        world, maps, settings.kept_share, compat, settings.chance, settings.seed
    )
    (found,) = measure(write_world(world, tmp_path / "d"), [maps], settings)
    agree(found, truth, settings.min_iou)
    assert found.images == 17
    assert truth.tally.I and sum(truth.tally.I.values()) > 0


def test_settings_speak_of_exact_shares():
    assert DissectSettings().kept_share * 1000 == 5
    assert DissectSettings(compat="ndlite").kept_share * 999 == 5
    assert DissectSettings(quantile=1e-05).kept_share * 100000 == 1


@pytest.mark.parametrize("chance", [0, 2])
def test_batches_workers_and_neighbouring_layers_change_no_count(tmp_path, chance):
    rng = np.random.default_rng(3)
    broden = write_world(random_world(rng, 13), tmp_path / "d")
    layers = [adversarial_maps(rng, 13, 5, 6), adversarial_maps(rng, 13, 9, 2)]
    settings = DissectSettings(chance=chance, top=3)
    plain = measure(broden, layers, settings, batch=13)
    for batch, workers in ((1, 1), (4, 3), (32, 16)):
        for one, other in zip(
            plain, measure(broden, layers, settings, batch, workers), strict=True
        ):
            assert one.thresholds.tobytes() == other.thresholds.tobytes()
            for a, b in zip([one.counts, *one.null], [other.counts, *other.null], strict=True):
                assert np.array_equal(a.intersection, b.intersection)
                assert np.array_equal(a.area, b.area)
            assert np.array_equal(one.concepts.pixels, other.concepts.pixels)
            assert np.array_equal(one.top.positions, other.top.positions)
            assert np.array_equal(one.top.maps, other.top.maps)
            assert np.array_equal(one.histogram.counts, other.histogram.counts)
            assert np.array_equal(one.histogram.edges, other.histogram.edges)
    alone = measure(broden, layers[1:], settings)[0]
    assert np.array_equal(alone.counts.intersection, plain[1].counts.intersection)


def test_images_without_a_row_do_not_count(tmp_path):
    rng = np.random.default_rng(4)
    world = random_world(rng, 12)
    maps = adversarial_maps(rng, 12, 4, 4)
    there = [0, 1, 2, 3, 5, 6, 8, 9, 10, 11]
    settings = DissectSettings(chance=2)
    (found,) = measure(write_world(world, tmp_path / "d"), [maps[there]], settings, positions=there)
    less = World(world.categories, world.declared, world.home, [world.pictures[i] for i in there])
    truth = reference.dissect(less, maps[there], settings.kept_share, False, 0, 0)
    agree(replace(found, null=[]), truth)


def test_an_image_with_bad_labels_keeps_its_activations_but_counts_nowhere(tmp_path):
    rng = np.random.default_rng(5)
    world = random_world(rng, 24)
    maps = adversarial_maps(rng, 24, 4, 4)
    broden = write_world(world, tmp_path / "d")
    damaged = next((tmp_path / "d" / "images").glob("8_*.png"))
    damaged.write_bytes(b"not a picture")
    for chance in (0, 1):
        (found,) = measure(open_broden(tmp_path / "d"), [maps], DissectSettings(chance=chance))
        assert [path for path, _ in found.skipped] == ["images/8.png"]
        world.pictures[8] = Picture((1, 1), {})
        truth = reference.dissect(world, maps, DissectSettings().kept_share, False, chance, 0)
        agree(found, truth)
    assert broden.paths


def test_too_many_bad_labels_are_fatal(tmp_path):
    rng = np.random.default_rng(6)
    broden = write_world(random_world(rng, 12), tmp_path / "d")
    for path in (tmp_path / "d" / "images").glob("*_*.png"):
        path.write_bytes(b"")
    for chance in (0, 1):
        with pytest.raises(CnnlensError, match="of 12 images cannot be used"):
            measure(broden, [adversarial_maps(rng, 12, 3, 3)], DissectSettings(chance=chance))


def test_no_image_at_all_is_an_error(tmp_path):
    broden = write_world(random_world(np.random.default_rng(7), 4), tmp_path / "d")
    with pytest.raises(CnnlensError, match="no image"):
        measure(broden, [np.zeros((0, 2, 3, 3), np.float32)], DissectSettings())


@pytest.mark.parametrize(
    ("columns", "numbers", "winner"),
    [
        (["b", "a"], {"b": [5, 9], "a": [5]}, ("b", 5)),  # equal numbers: the first category
        (["b", "a"], {"b": [9], "a": [5]}, ("a", 5)),  # the lower number, though in a later one
    ],
)
def test_ties_go_to_the_lowest_number_then_to_the_first_category(
    tmp_path, columns, numbers, winner
):
    same = np.zeros((4, 4), int)
    same[:2] = 1
    cells = {c: [same * n for n in numbers[c]] for c in columns}
    declared = {n: [c for c in columns if n in numbers[c]] for n in (9, 5)}
    home = {n: names[0] for n, names in declared.items()}
    world = World(columns, declared, home, [Picture((4, 4), cells)] * 2)
    maps = np.zeros((2, 1, 4, 4), np.float32)
    maps[:, 0, :2] = 1
    settings = DissectSettings(quantile=0.5, chance=0)
    (found,) = measure(write_world(world, tmp_path / "d"), [maps], settings)
    assert len(set(found.iou[0])) == 1 and found.best_iou[0] > 0.5
    best = found.concepts.names[found.best[0]]
    assert (best.category, best.number) == winner


def planted(images: int, units: int, seed: int) -> tuple[World, np.ndarray]:
    """Unit 0 shines exactly on label 1, the others somewhere: squares of the same size."""
    rng = np.random.default_rng(seed)
    pictures = []
    maps = rng.random((images, units, 32, 32)).astype(np.float32) / 10

    def square() -> tuple[slice, slice]:
        y, x = rng.integers(0, 25, 2)
        return slice(y, y + 8), slice(x, x + 8)

    for n in range(images):
        plane = np.zeros((32, 32), int)
        for number in (2, 3, 1):
            plane[place := square()] = number
        maps[n, 0][place] += 1
        for unit in range(1, units):
            maps[n, unit][square()] += 1
        pictures.append(Picture((32, 32), {"object": [plane]}))
    declared = {n: ["object"] for n in (1, 2, 3)}
    return World(["object"], declared, dict.fromkeys(declared, "object"), pictures), maps


def test_a_planted_detector_beats_chance_and_random_units_do_not(tmp_path):
    world, maps = planted(40, 25, seed=1)
    broden = write_world(world, tmp_path / "d")
    settings = DissectSettings(quantile=64 / 1024, chance=10)
    (found,) = measure(broden, [maps], settings, workers=2)
    assert found.concepts.names[found.best[0]].number == 1
    assert found.best_iou[0] == 1.0
    assert found.p_values[0] == 1 / (1 + 25 * 10)
    others = np.sort(found.p_values[1:])
    uniform = np.arange(1, 25) / 24
    assert np.abs(others - uniform).max() < 0.33  # Kolmogorov-Smirnov at 1 %


def test_a_seed_decides_the_shuffles(tmp_path):
    world, maps = planted(16, 6, seed=2)
    broden = write_world(world, tmp_path / "d")
    runs = [
        measure(broden, [maps], DissectSettings(quantile=0.05, chance=3, seed=s))[0]
        for s in (7, 7, 8)
    ]
    nulls = [np.stack([c.intersection for c in r.null]) for r in runs]
    assert np.array_equal(nulls[0], nulls[1]) and not np.array_equal(nulls[0], nulls[2])
    assert np.array_equal(runs[0].counts.intersection, runs[2].counts.intersection)


def test_stopping_early_leaves_no_thread_behind(tmp_path):
    import threading

    rng = np.random.default_rng(8)
    broden = write_world(random_world(rng, 12), tmp_path / "d")
    source = ArraySource([adversarial_maps(rng, 12, 3, 3)], 2, range(12))
    before = threading.active_count()
    for stage in ("thresholds", "labels", "counting"):
        run = dissect_steps(source, broden, DissectSettings(chance=1), workers=2)
        for step in run:
            if step.stage == stage:
                break
        run.close()
        assert threading.active_count() == before


def test_networks_stand_beside_each_other_layer_by_layer():
    def summary(count: int) -> dict[str, object]:
        chance = {"detectors": 1}
        return {"units": 8, "detectors": count, "chance": chance, "unique_detectors": 2,
                "mean_iou": 0.5}  # fmt: skip

    one, other = ({"conv1": summary(n), "conv2": summary(n + 1)} for n in (3, 5))
    columns, rows = beside({"a": one, "b": other})
    assert [row[:4] for row in rows] == [
        ["conv1", "a", 8, 3], ["conv1", "b", 8, 5], ["conv2", "a", 8, 4], ["conv2", "b", 8, 6],
    ]  # fmt: skip
    assert all(len(row) == len(columns) for row in rows)


def test_the_first_unit_of_every_concept_is_chosen():
    units = [SimpleNamespace(unit=n, label=label) for n, label in ((4, "a"), (2, "a"), (7, "b"))]
    assert one_per_concept(units) == [4, 7]


def noise(images: int, shares: list[float], seed: int) -> tuple[World, np.ndarray]:
    """Units without meaning, each 0 but on a share of the positions; labels at random."""
    rng = np.random.default_rng(seed)
    planes = [np.kron(rng.integers(0, 4, (4, 4)), np.ones((8, 8), int)) for _ in range(images)]
    pictures = [Picture((32, 32), {"object": [plane]}) for plane in planes]
    declared = {n: ["object"] for n in (1, 2, 3)}
    world = World(["object"], declared, dict.fromkeys(declared, "object"), pictures)
    shape = (images, len(shares), 6, 6)
    fires = rng.random(shape) < np.array(shares)[:, None, None]
    return world, (np.abs(rng.normal(size=shape)) * fires).astype(np.float32)


def test_dead_units_change_the_p_value_of_no_other(tmp_path):
    world, maps = noise(30, [1.0] * 12, seed=4)
    dead = np.zeros((30, 30, 6, 6), np.float32)
    dead[10:, 20:] = 6  # at its highest nearly everywhere: no mask either
    broden = write_world(world, tmp_path / "d")
    settings = DissectSettings(quantile=0.02, chance=4, formula=2, top=0)
    (alone,) = measure(broden, [maps], settings)
    (beside_dead,) = measure(broden, [np.concatenate([dead, maps], axis=1)], settings)
    assert beside_dead.p_values[30:].tolist() == alone.p_values.tolist()
    assert beside_dead.formulas.p_values[30:].tolist() == alone.formulas.p_values.tolist()
    assert set(beside_dead.p_values[:30]) == set(beside_dead.formulas.p_values[:30]) == {1.0}
    told, without = beside_dead.summary(), alone.summary()
    assert told["formulas"]["tested"] == without["formulas"]["tested"] == 12
    assert told["detectors_beyond_chance"] == without["detectors_beyond_chance"]
    assert formulas_said(told).endswith("1 would by chance")  # of twelve, not of all


def test_p_values_of_noise_are_uniform_beside_units_that_hardly_fire(tmp_path):
    few = np.geomspace(0.001, 0.015, 60).tolist()
    world, maps = noise(120, [*few, *[1.0] * 60, *[0.0] * 60], seed=5)
    settings = DissectSettings(quantile=0.02, chance=10, top=0)
    (found,) = measure(write_world(world, tmp_path / "d"), [maps], settings, batch=60, workers=2)
    for kind in (slice(60), slice(60, 120)):
        p = np.sort(found.p_values[kind])
        assert np.abs(p - np.arange(1, 61) / 60).max() < 0.21  # Kolmogorov-Smirnov at 1 %
    assert len(set(found.kinds[:60])) > 2 and (found.kinds[:60] >= 0).all()


def test_p_values_of_noise_are_uniform_whatever_chance_gives_a_unit(tmp_path):
    """Units that fire at random, but in large patches on few images: chance gives them more."""
    world, maps = noise(80, [1.0] * 60, seed=6)
    rng = np.random.default_rng(7)
    maps[:, :12] = rng.uniform(0.5, 1, (80, 12, 6, 6)) * (rng.random((80, 12, 1, 1)) ** 12)
    settings = DissectSettings(quantile=0.02, chance=12, top=0)
    (found,) = measure(write_world(world, tmp_path / "d"), [maps], settings, batch=40, workers=2)
    by_chance = np.mean([scores.max(axis=1) for scores in found._null_iou], axis=0)
    assert by_chance[:12].min() > by_chance[12:].max() and set(found.kinds) == {-1}
    for kind in (slice(12), slice(12, 60)):
        p = np.sort(found.p_values[kind])
        worst = np.abs(p - np.arange(1, len(p) + 1) / len(p)).max()
        assert worst < 1.63 / len(p) ** 0.5  # Kolmogorov-Smirnov at 1 %
