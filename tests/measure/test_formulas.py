"""Formulas of concepts against an exhaustive search over dense masks, another's, planted ones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cnnlens.data.broden import open_broden
from cnnlens.errors import UsageError
from cnnlens.measure.combinations import grouped
from cnnlens.measure.dissected_units import formulas_said, unit_table, units_of
from cnnlens.measure.formula_look import combinations
from cnnlens.measure.formulas import AND, AND_NOT, OR, Formula
from cnnlens.measure.label_cache import LabelCache
from cnnlens.settings import DissectSettings

from ..reference.dissect import Picture, World
from ..reference.formulas import Dense
from .test_dissect import adversarial_maps, measure, planted
from .worlds import random_world, write_world

WIDE = 1000  # a beam that leaves nothing out


def small_world(rng: np.random.Generator, images: int) -> World:
    """Four concepts of two categories, of which some images carry one, both or none."""
    pictures = []
    for _ in range(images):
        cells: dict = {"object": [], "part": []}
        if rng.random() < 0.8:
            cells["object"] = [np.kron(rng.integers(0, 3, (3, 2)), np.ones((3, 4), int))]
        if rng.random() < 0.7:
            cells["part"] = [np.kron(rng.integers(2, 5, (3, 2)) // 3 * 3, np.ones((3, 4), int))]
            cells["part"] += [np.kron(rng.integers(0, 2, (3, 2)) * 4, np.ones((3, 4), int))]
        pictures.append(Picture((9, 8), cells))
    declared = {1: ["object"], 2: ["object"], 3: ["part"], 4: ["part"]}
    return World(["object", "part"], declared, {n: c[0] for n, c in declared.items()}, pictures)


@pytest.mark.parametrize("length", [2, 3])
def test_a_wide_beam_finds_what_an_exhaustive_search_over_dense_masks_finds(length, tmp_path):
    rng = np.random.default_rng(length)
    world = random_world(rng, 14) if length == 2 else small_world(rng, 12)
    maps = adversarial_maps(rng, len(world.pictures), 5, 4)
    broden = write_world(world, tmp_path / "d")
    settings = DissectSettings(quantile=0.2, chance=1, formula=length, beam=WIDE)
    (found,) = measure(broden, [maps], settings, workers=2)
    dense, images = Dense(world, maps, settings.kept_share), range(len(maps))
    book = LabelCache(broden.concept_space(), len(maps), keep=True, by_concept=False)
    list(book.store_all(images, 1))
    donors = combinations(book, images).shuffled(1, settings.seed)[0]
    assert list(donors) == list(images) and list(donors.values()) != list(images)
    every, alone = dense.all(length), dense.all(1)

    def best(known: list, labels: list[int]) -> list[float]:
        return [dense.best(unit, known, labels) for unit in range(found.units)]

    single = best(alone, list(images))
    assert found.formulas.iou.tolist() == best(every, list(images))
    assert found.formulas.single.tolist() == found.best_iou.tolist() == single
    dealt = list(donors.values())
    assert (
        found.formulas.null[0].tolist()
        == np.subtract(best(every, dealt), best(alone, dealt)).tolist()
    )
    lengths = [len(one.formula) for one in found.formulas.found if one]
    assert max(lengths) == length and min(lengths) < length


def test_label_maps_are_shuffled_among_images_that_carry_the_same_categories(tmp_path):
    rng = np.random.default_rng(5)
    broden = write_world(random_world(rng, 60), tmp_path / "d")
    book = LabelCache(broden.concept_space(), 60, keep=True, by_concept=False)
    list(book.store_all(range(60), 1))
    table = combinations(book, range(60))
    first, again = (table.shuffled(2, 0) for _ in range(2))
    assert first == again and first[0] != first[1] and first != table.shuffled(2, 1)
    for donors in first:
        assert sorted(donors) == sorted(donors.values())
        assert all(set(book.carried(a)) == set(book.carried(b)) for a, b in donors.items())


def test_combinations_hold_every_pixel_of_every_concept(tmp_path):
    rng = np.random.default_rng(6)
    world = random_world(rng, 20)
    maps = adversarial_maps(rng, 20, 3, 3)
    broden = write_world(world, tmp_path / "d")
    book = LabelCache(broden.concept_space(), 20, keep=True, by_concept=False)
    list(book.store_all(range(20), 1))
    table = combinations(book, range(20))
    (plain,) = measure(broden, [maps], DissectSettings(chance=0))
    every = table.overlap(np.arange(len(table.pixels)), table.pixels)
    assert every.concepts.tolist() == plain.concepts.pixels.tolist()
    assert every.pixels == sum(p.size[0] * p.size[1] for p in world.pictures)
    for concept, rows in enumerate(table.rows_of):
        assert (
            rows.tolist()
            == np.flatnonzero(table.show(np.arange(len(table.pixels)), concept)).tolist()
        )


@pytest.mark.parametrize("planes", [0, 1, 4])
def test_pixels_are_grouped_by_all_their_planes(planes):
    rng = np.random.default_rng(planes)
    of = rng.choice([0, 1, 2, 40000], (planes, 500), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint16)
    groups, samples = grouped(of)
    assert np.array_equal(of[:, samples][:, groups], of)
    assert len(samples) == len(np.unique(of, axis=1).T) if planes else len(samples) == 1


# -- planted ---------------------------------------------------------------------------------------


def planted_formula(images: int, units: int) -> tuple[World, np.ndarray]:
    """Unit 0 shines on (1 OR 2) AND NOT 3, the others somewhere."""
    rng = np.random.default_rng(1)
    world, maps = planted(images, units, seed=1)
    pictures = []
    for n in range(images):
        plane, over = np.zeros((2, 32, 32), int)
        for number, of in ((1, plane), (2, plane), (3, over)):
            y, x = rng.integers(0, 19, 2)
            of[y : y + 13, x : x + 13] = number
        pictures.append(Picture((32, 32), {"object": [plane, over]}))
        maps[n, 0] = rng.random((32, 32)) / 10
        maps[n, 0][(plane > 0) & (over != 3)] += 1
    return World(["object"], world.declared, world.home, pictures), maps


def test_a_planted_formula_is_found_and_gains_more_than_by_chance(tmp_path):
    world, maps = planted_formula(40, 12)
    share = float((maps[:, 0] > 0.5).mean())
    settings = DissectSettings(quantile=share, chance=5, formula=3)
    (found,) = measure(write_world(world, tmp_path / "d"), [maps], settings, workers=2)
    first, *others = units_of(found)
    assert first.formula in (
        "(label 1 OR label 2) AND NOT label 3",
        "(label 2 OR label 1) AND NOT label 3",
    )
    assert first.formula_iou == 1.0 and first.formula_length == 3
    assert first.formula_p_value == 1 / (1 + 12 * 5)
    assert first.label in ("label 1", "label 2") and first.iou < 0.7
    assert np.mean([unit.formula_p_value for unit in others]) > 0.2
    told = found.summary()["formulas"]
    assert told["beyond_chance"] >= 1 and 0 < told["mean_gain_by_chance"] < told["mean_gain"]
    assert f"fit {told['longer']} of 12 units better" in formulas_said(found.summary())


def test_one_concept_stays_alone_where_no_other_helps(tmp_path):
    world, maps = planted(30, 6, seed=3)
    settings = DissectSettings(quantile=64 / 1024, chance=2, formula=3)
    (found,) = measure(write_world(world, tmp_path / "d"), [maps], settings)
    unit = next(units_of(found))
    assert (unit.formula, unit.formula_length) == ("label 1", 1)
    assert unit.formula_iou == unit.iou == 1.0 and unit.formula_p_value == 1.0


def test_units_that_never_fire_and_masks_of_no_area_have_no_formula(tmp_path):
    rng = np.random.default_rng(9)
    empty = {"object": [np.zeros((4, 4), int)], "part": [np.zeros((4, 4), int)]}
    world = small_world(rng, 8)
    maps = adversarial_maps(rng, 8, 4, 4)
    (found,) = measure(write_world(world, tmp_path / "a"), [maps], DissectSettings(formula=9))
    dead = list(units_of(found))[2]  # zeros
    assert (dead.formula, dead.formula_length, dead.formula_iou) == ("", 0, 0.0)
    assert dead.formula_p_value == dead.p_value == 1.0
    assert max(unit.formula_length for unit in units_of(found)) <= 4  # there are no more concepts
    world = World(world.categories, world.declared, world.home, [Picture((4, 4), empty)] * 8)
    (found,) = measure(write_world(world, tmp_path / "b"), [maps], DissectSettings(formula=3))
    assert {unit.formula for unit in units_of(found)} == {""}


def test_images_of_unusable_labels_count_in_no_formula(tmp_path):
    rng = np.random.default_rng(5)
    world, maps = random_world(rng, 24), adversarial_maps(rng, 24, 4, 4)
    write_world(world, tmp_path / "d")
    next((tmp_path / "d" / "images").glob("8_*.png")).write_bytes(b"not a picture")
    settings = DissectSettings(quantile=0.2, chance=1, formula=2, beam=WIDE)
    (found,) = measure(open_broden(tmp_path / "d"), [maps], settings)
    world.pictures[8] = Picture((1, 1), {})
    dense = Dense(world, maps, settings.kept_share)
    for unit in (0, 5):
        assert found.formulas.iou[unit] == dense.best(unit, dense.all(2), list(range(24)))


def test_batches_and_workers_change_no_formula_and_wider_beams_find_no_worse(tmp_path):
    rng = np.random.default_rng(7)
    broden = write_world(random_world(rng, 13), tmp_path / "d")
    layers = [adversarial_maps(rng, 13, 5, 6), adversarial_maps(rng, 13, 3, 2)]
    settings = DissectSettings(chance=2, quantile=0.1, formula=3, beam=2)
    plain = measure(broden, layers, settings, batch=13)
    for one, other in zip(plain, measure(broden, layers, settings, 4, 16), strict=True):
        assert one.formulas.found == other.formulas.found
        assert np.array_equal(one.formulas.null, other.formulas.null)
    without = DissectSettings(chance=0, quantile=0.1, formula=3, beam=20)
    wide = measure(broden, layers, without)
    assert (wide[0].formulas.iou >= plain[0].formulas.iou).all()
    assert (
        wide[0].formulas.p_values is None
        and "p of the gain" not in unit_table(list(units_of(wide[0])))[0]
    )
    lengths = [DissectSettings(chance=0, quantile=0.1, formula=n) for n in (1, 2, 3)]
    ious = [measure(broden, layers[:1], s)[0].formulas.iou for s in lengths]
    assert all((b >= a).all() for a, b in pairwise(ious))


def test_the_search_is_that_of_another_package(tmp_path):
    optimal = pytest.importorskip("compositional_explanations.optimal")
    import torch
    from compositional_explanations import metrics

    rng = np.random.default_rng(2)
    planes = [rng.integers(0, 3, (5, 8, 8)), rng.choice([0, 3, 4, 5], (5, 8, 8))]
    pictures = [Picture((8, 8), {"object": list(of)}) for of in zip(*planes, strict=True)]
    numbers = {n: ["object"] for n in range(1, 6)}
    world = World(["object"], numbers, dict.fromkeys(numbers, "object"), pictures)
    maps = rng.random((5, 4, 8, 8), np.float32)
    maps[:, 0][(planes[0] > 0) & (planes[1] != 3)] += 0.6
    maps[:, 1][(planes[0] == 2) | (planes[1] == 5)] += 0.4
    settings = DissectSettings(quantile=0.25, chance=0, formula=3, beam=WIDE)
    (found,) = measure(write_world(world, tmp_path / "d"), [maps], settings)
    dense = Dense(world, maps, settings.kept_share)
    masks = [
        torch.from_numpy(np.stack([one[c].ravel() for one in dense.truths])) for c in dense.concepts
    ]  # of each concept (N, H · W)
    disjoint = torch.tensor([[not bool((a & b).any()) for b in masks] for a in masks])
    for unit, one in enumerate(found.formulas.found):
        bitmap = torch.from_numpy(np.stack(dense.masks(unit, list(range(5))))).flatten(1)
        best = optimal.compute_optimal_explanations(
            bitmaps=bitmap, masks=masks, disjoint_info=disjoint, length=3, device="cpu"
        )
        theirs = metrics.compute_iou_from_masks(formula=best, masks=masks, bitmaps=bitmap)
        assert one.iou == theirs and len(one.formula) > 1


# -- words -----------------------------------------------------------------------------------------


def test_brackets_stand_where_and_and_or_meet():
    names = ["car", "bus", "road", "hair (part)"]
    formula = Formula(0).grown(OR, 1)
    assert formula.words(names) == "car OR bus"
    assert formula.grown(AND_NOT, 2).words(names) == "(car OR bus) AND NOT road"
    chain = Formula(3).grown(AND, 1).grown(AND_NOT, 0)
    assert chain.words(names) == "hair (part) AND bus AND NOT car"
    assert chain.grown(OR, 2).words(names) == "(hair (part) AND bus AND NOT car) OR road"
    assert len(chain) == 3 and chain.concepts == [3, 1, 0]


def test_formulas_are_the_same_in_any_order_of_parts_but_of_no_other():
    a, b = Formula(0), Formula(1)
    assert a.grown(OR, 1).same == b.grown(OR, 0).same != b.grown(AND, 0).same
    assert a.grown(AND_NOT, 1).same != b.grown(AND_NOT, 0).same
    one, other = a.grown(AND, 1).grown(AND_NOT, 2), a.grown(AND_NOT, 2).grown(AND, 1)
    assert one.same == other.same != a.grown(AND, 1).grown(OR, 2).same
    assert a.grown(OR, 1).grown(AND, 2).same == b.grown(OR, 0).grown(AND, 2).same


def test_a_label_of_two_categories_is_told_apart(tmp_path):
    broden = write_world(random_world(np.random.default_rng(0), 5), tmp_path / "d")
    (found,) = measure(broden, [np.zeros((5, 1, 2, 2), np.float32)], DissectSettings(chance=0))
    assert {"label 2 (object)", "label 2 (material)", "label 3"} < set(found.concepts.words)


def test_values_that_do_not_fit_are_named():
    for values, words in (
        ({"formula": -1}, "--formula -1 is not at least 0"),
        ({"formula": 2.5}, "--formula 2.5 is no whole number"),
        ({"beam": 0}, "--beam 0 is not at least 1"),
        ({"formula": 2, "compat": "ndlite"}, "--compat ndlite knows no formulas"),
    ):
        with pytest.raises(UsageError, match=words):
            DissectSettings(**values)


def test_a_beam_matters_only_where_formulas_are_looked_for():
    assert DissectSettings(beam=7).as_dict() == DissectSettings().as_dict()
    told = [
        DissectSettings(formula=f, beam=b).as_dict() for f, b in ((0, 5), (2, 5), (3, 5), (3, 7))
    ]
    assert len({tuple(sorted(one.items())) for one in told}) == 4
