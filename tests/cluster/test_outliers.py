from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cnnlens.cluster.outliers import correlation, outliers, rank_of
from cnnlens.cluster.regions import NOISES, gale_shapley, name_clusters, noise_images, radii
from cnnlens.cluster.taken_for import predicted_as, surest
from cnnlens.cluster.vectors import Maps, group
from cnnlens.errors import CnnlensError
from cnnlens.progress import Step
from cnnlens.settings import OutlierSettings
from tests.cluster.nets import classifier


def is_stable(match: tuple[int, ...], proposers: np.ndarray, receivers: np.ndarray) -> bool:
    """Literally: no two prefer each other to their partners."""
    of = {receiver: proposer for proposer, receiver in enumerate(match)}
    for proposer, receiver in itertools.product(range(len(match)), repeat=2):
        mine, theirs = list(proposers[proposer]), list(receivers[receiver])
        if mine.index(receiver) < mine.index(match[proposer]) and theirs.index(
            proposer
        ) < theirs.index(of[receiver]):
            return False
    return True


@pytest.mark.parametrize("seed", range(12))
def test_marriages_are_stable_and_of_all_such_the_best_for_every_proposer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 1 + seed % 5
    proposers = np.array([rng.permutation(count) for _ in range(count)])
    receivers = np.array([rng.permutation(count) for _ in range(count)])
    found = gale_shapley(proposers, receivers)
    stable = [m for m in itertools.permutations(range(count)) if is_stable(m, proposers, receivers)]
    assert tuple(found) in stable
    for proposer in range(count):
        wanted = list(proposers[proposer])
        assert wanted.index(found[proposer]) == min(wanted.index(m[proposer]) for m in stable)


def test_shares_and_confidence_of_planted_scores() -> None:
    logits = np.log(
        np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.9, 0.05, 0.05]])
    )
    found = predicted_as("strangers", logits + 5)
    np.testing.assert_allclose(found.shares, [0.75, 0, 0.25])
    assert found.confidence == pytest.approx((0.7 + 0.6 + 0.5 + 0.9) / 4)
    assert (found.first, found.images) == (0, 4)


def test_behind_a_sigmoid_confidence_is_that_of_the_predicted_class_alone() -> None:
    given = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.3]], np.float32)
    assert predicted_as("s", given, "sigmoid").confidence == pytest.approx((0.9 + 0.3) / 2)
    (first, _) = surest({"s": given}, {"s": np.array([4, 7])}, "abc", link="sigmoid")
    assert (first["row"], first["class"], first["probability"]) == (4, 0, pytest.approx(0.9))


def test_what_a_network_ends_with_is_asked_of_it() -> None:
    model = classifier()
    model.net = nn.Sequential(model.net, nn.Sigmoid())
    steps: list[Step] = []
    found = outliers(model, {}, settings=OutlierSettings(noise=4), progress=steps.append)
    assert steps[-1].done == steps[-1].total
    assert found.link == "sigmoid"
    for one in found.predicted:  # a mean of maxima is no less than the largest mean
        assert one.confidence >= one.logits.max()


def test_planted_clusters_are_found_and_named_after_their_categories() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 10)) * 10
    names = ["d", "b", "a", "c"]
    vectors = np.repeat(centres, 20, axis=0) + rng.standard_normal((80, 10))
    groups = group([n for n in names for _ in range(20)])
    found = name_clusters(vectors, groups)
    assert (found.purity, found.agreement, found.optimal_accuracy) == (1, 1, 1)
    assert found.stable_accuracy == 1
    assert (found.optimal[found.of_image] == groups.of_image).all()


@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_names_are_the_optimal_and_the_stable_ones_where_these_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((60, 2))
    groups = group([str(i % 5) for i in range(60)])
    found = name_clusters(vectors, groups)
    centres = [vectors[found.of_image == i].mean(0) for i in range(5)]
    means = [vectors[groups.of_image == i].mean(0) for i in range(5)]
    far = np.linalg.norm(np.array(centres)[:, None] - np.array(means), axis=2)
    matches = list(itertools.permutations(range(5)))
    best = min(matches, key=lambda match: sum(far[range(5), match]))
    wanted, wanted_back = far.argsort(1), far.argsort(0).T
    (stable,) = [match for match in matches if is_stable(match, wanted, wanted_back)]
    assert best != stable
    assert (tuple(found.optimal), tuple(found.stable)) == (best, stable)
    assert found.agreement == np.mean(np.array(best) == stable)
    mine = groups.of_image
    assert found.optimal_accuracy == np.mean(np.array(best)[found.of_image] == mine)
    assert found.stable_accuracy == np.mean(np.array(stable)[found.of_image] == mine)


def test_naming_is_no_better_than_chance_where_categories_mean_nothing() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 5))
    found = name_clusters(vectors, group([str(i % 4) for i in range(200)]))
    assert found.optimal_accuracy < 0.45


def test_chance_is_what_all_orders_of_the_categories_give_on_the_mean() -> None:
    """The truth: every way to deal two categories to seven images, named anew by hand."""
    rng = np.random.default_rng(3)
    vectors, labels = rng.standard_normal((7, 2)), np.array([0, 0, 0, 1, 1, 1, 1])
    found = name_clusters(vectors, group([str(one) for one in labels]))
    cluster = found.of_image
    centres = np.array([vectors[cluster == i].mean(0) for i in (0, 1)])
    purity, right = [], []
    for dealt in sorted(set(itertools.permutations(labels.tolist()))):
        of = np.array(dealt)
        means = np.array([vectors[of == k].mean(0) for k in (0, 1)])
        far = np.linalg.norm(centres[:, None] - means, axis=2)
        names = np.array([0, 1] if far[0, 0] + far[1, 1] <= far[0, 1] + far[1, 0] else [1, 0])
        right.append(np.mean(names[cluster] == of))
        purity.append(sum(np.bincount(of[cluster == i]).max() for i in (0, 1)) / 7)
    assert found.shuffles == 200
    for key, all_of_them in (("purity", purity), ("optimal_accuracy", right)):
        mean, p95 = found.chance[key]
        assert abs(mean - np.mean(all_of_them)) < 4 * np.std(all_of_them) / 200**0.5
        assert mean <= p95 <= max(all_of_them) + 1e-12
    assert right[0] > 0 and np.mean(right) > 0.5  # names are fitted to the images themselves


def test_chance_follows_the_seed_and_is_written() -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 3))
    groups = group([str(i % 4) for i in range(40)])
    one, same, other = (name_clusters(vectors, groups, seed) for seed in (1, 1, 2))
    assert one.chance == same.chance != other.chance
    written = one.as_dict(groups.names)["chance"]
    assert written["shuffles"] == 200
    assert written["purity"] == {"mean": one.chance["purity"].mean, "p95": one.chance["purity"].p95}


def test_identical_images_cannot_be_clustered() -> None:
    with pytest.raises(CnnlensError, match="fewer different images"):
        name_clusters(np.ones((8, 3)), group(list("aabbccdd")))


def test_a_radius_is_the_root_mean_square_distance_from_the_mean() -> None:
    vectors = np.array([[0.0, 0], [2, 0], [5, 5], [5, 9]])
    np.testing.assert_allclose(radii(vectors, group(list("aabb"))), [1, 2])


@pytest.mark.parametrize("kind", list(NOISES))
def test_noise_fills_the_range_and_follows_its_seed(kind: str) -> None:
    one = noise_images(kind, (6, 3, 16, 20), seed=1)
    assert one.shape == (6, 3, 16, 20)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, noise_images(kind, (6, 3, 16, 20), seed=1))
    assert (one != noise_images(kind, (6, 3, 16, 20), seed=2)).any()
    assert 40 < one.mean() < 215
    assert one.std() > 20


def test_natural_noise_has_its_power_at_low_frequencies() -> None:
    power = {
        kind: np.abs(np.fft.fft2(noise_images(kind, (20, 1, 32, 32), 0) / 255.0)) ** 2
        for kind in ("uniform noise", "1/f noise")
    }
    high = {
        k: p[:, :, 12:20, 12:20].sum() / (p.sum() - p[:, :, 0, 0].sum()) for k, p in power.items()
    }
    assert high["1/f noise"] < 0.2 * high["uniform noise"]


def test_ranks_and_correlations_pass_over_what_is_not_known() -> None:
    values = np.array([1.0, np.nan, 3, 2, 5])
    assert (rank_of(values, 2), rank_of(values, 1)) == (2, None)
    assert correlation(values, np.ones(5)) is None
    found = correlation(values, values**3)
    assert found is not None
    assert found["rho"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("shares", "values", "wanted"),
    [
        ([0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4], 2 / 24),  # one order of 24, and its reverse
        ([0, 0, 0, 1], [2, 1, 3, 4], 2 / 4),  # the class that takes all has the largest: or least
        ([0.4, 0.1, 0.2, 0.3, 0], [5, 1, 3, 4, 2], 10 / 120),
    ],
)
def test_the_p_value_of_a_few_classes_is_that_of_all_their_orders(shares, values, wanted) -> None:
    # sums of squared differences of ranks: 0 once, 2 by any of four neighbours; and mirrored
    found = correlation(np.array(shares), np.array(values, float))
    assert found is not None and found["p_value"] == pytest.approx(wanted)


def test_a_rank_is_among_the_classes_whose_region_is_known() -> None:
    groups = group([name for name in "abc" for _ in range(10)])
    source = Maps(np.random.default_rng(0).standard_normal((30, 4, 1, 1)).astype(np.float32))
    model = replace(classifier(bias=(0.0, 9.0, 0.0)), classes=["x", "b", "c"])
    noise = outliers(model, {}, source, groups, OutlierSettings(noise=2)).noise
    assert noise is not None
    assert (noise.bias.known, noise.radius.known) == (3, 2)  # no images of x


# ---- the whole


def test_noise_stands_against_the_bias_and_the_regions_of_its_class() -> None:
    model = classifier(bias=(0.0, 9.0, 0.0))
    rng = np.random.default_rng(0)
    spread = np.repeat([1.0, 4.0, 2.0], 10)[:, None, None, None]
    source = Maps((spread * rng.standard_normal((30, 4, 1, 1))).astype(np.float32))
    groups = group([name for name in "abc" for _ in range(10)])
    logits = np.eye(3)[[0, 0, 0, 2]]
    found = outliers(model, {"strangers": logits}, source, groups, OutlierSettings(noise=4))
    assert [one.source for one in found.predicted] == ["strangers", *NOISES]
    assert found.noise is not None
    assert (found.noise.number, found.noise.shares.tolist()) == (1, [0, 1, 0])
    assert (found.noise.bias.value, found.noise.bias.rank) == (9, 1)
    assert (found.noise.radius.rank, found.noise.radius.known) == (1, 3)
    assert found.regions is not None
    np.testing.assert_array_equal(found.noise.radius.values, found.regions.radius)
    document = found.as_dict()
    assert found.names == ["0", "1", "2"]  # nobody has named them
    assert document["sources"][0]["taken_for"] == [
        {"class": 0, "name": "0", "share": 0.75},
        {"class": 2, "name": "2", "share": 0.25},
    ]
    assert (document["noise"]["name"], document["noise"]["share"]) == ("1", 1)
    assert document["regions"]["clusters"]["purity"] == found.regions.clusters.purity
    assert sum(c["images"] for c in document["regions"]["clusters"]["named"]) == 30


def test_without_known_images_there_are_no_regions_and_without_noise_no_class() -> None:
    model = classifier()
    found = outliers(model, {}, settings=OutlierSettings(noise=2))
    assert found.regions is None
    assert found.names == ["0", "1", "2"]
    assert found.noise is not None
    assert found.noise.radius.as_dict() == {
        "value": None, "rank": None, "known": 0, "correlation": None,
    }  # fmt: skip
    logits = {"strangers": np.eye(3)}
    assert outliers(model, logits, settings=OutlierSettings(noise=0)).noise is None
    with pytest.raises(ValueError, match="neither"):
        outliers(model, {}, settings=OutlierSettings(noise=0))


def test_too_few_different_images_leave_out_the_clusters_and_say_why() -> None:
    same = Maps(np.ones((6, 4, 1, 1), np.float32))
    settings = OutlierSettings(noise=0)
    logits = {"strangers": np.eye(3)}
    found = outliers(classifier(), logits, same, group(list("aabbcc")), settings).regions
    assert found is not None
    assert found.clusters is None
    assert "fewer different images" in found.unclustered
    assert found.as_dict()["clusters"] is None


@pytest.mark.parametrize("end", [nn.Identity(), nn.Sigmoid()])
def test_a_single_output_is_read_as_the_two_classes_whose_softmax_it_is(end: nn.Module) -> None:
    one, two = classifier(["good"]), classifier(["not good", "good"])
    narrow = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1)  # as wide as two classes, and not theirs
    slope, bias = torch.linspace(-2, 2, 8), torch.tensor(0.3)
    for net, factors in ((one.net, [1.0]), (two.net, [-0.5, 0.5])):
        net[-1] = nn.Linear(8, len(factors))
        net[-1].weight.data = torch.stack([slope * f for f in factors])
        net[-1].bias.data = torch.stack([bias * f for f in factors])
        net.insert(0, nn.Sequential(*narrow))
        net.requires_grad_(False)
    one.net.append(end)
    scores = torch.tensor([[3.0], [-1.0], [0.5], [-8.0]])
    settings = OutlierSettings(noise=4)
    found = outliers(one, {"strangers": end(scores).numpy()}, settings=settings)
    wanted = outliers(
        two, {"strangers": (scores * torch.tensor([-0.5, 0.5])).numpy()}, settings=settings
    )
    assert found.names == ["not good", "good"]
    assert found.predicted[0].shares.tolist() == [0.5, 0.5]
    for mine, its in zip(found.predicted, wanted.predicted, strict=True):
        np.testing.assert_array_equal(mine.shares, its.shares)
        assert mine.confidence == pytest.approx(its.confidence, rel=1e-5)
    assert found.noise is not None and wanted.noise is not None
    assert found.noise.number == wanted.noise.number
    np.testing.assert_allclose(found.noise.bias.values, [-0.15, 0.15], rtol=1e-6)
    rows = {"strangers": np.arange(4)}
    first = surest({"strangers": found.scores["strangers"]}, rows, found.names, 1, found.link)[0]
    assert (first["row"], first["name"]) == (3, "not good")
    assert first["probability"] == pytest.approx(1 / (1 + np.exp(-8)), rel=1e-5)
