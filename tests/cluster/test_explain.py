from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cnnlens
from cnnlens.activations.passes import Forward
from cnnlens.cluster.decision_path import decision_path
from cnnlens.cluster.explain import explain, explain_steps, explanations
from cnnlens.cluster.explanation import share_below
from cnnlens.cluster.filters import filter_tree
from cnnlens.cluster.vectors import Groups, group
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.progress import Step, followed
from tests.cluster.counting import Counting
from tests.cluster.nets import classifier, last_layer

NAMES = ("ant", "bee", "cat")


@dataclass
class World:
    """Images of three categories, and a layer's answers to them."""

    model: Model
    layer: Layer
    pixels: np.ndarray  # (N, 3, 20, 20) uint8
    source: Counting
    groups: Groups


@cache
def drawn() -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Pixels, the last layer's answers, and a bias with which every class is predicted."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (45, 3, 5, 5), dtype=np.uint8)
    pixels = coarse.repeat(4, axis=2).repeat(4, axis=3)
    model = classifier()
    forward = Forward(model, [last_layer(model)], logits=True, limit=9)
    (maps,), logits = forward(torch.from_numpy(pixels))
    assert logits is not None
    return pixels, maps, tuple(-logits.mean(0).astype(float))


@pytest.fixture
def world() -> World:
    pixels, maps, bias = drawn()
    model = classifier(NAMES, bias)
    groups = group([NAMES[i % 3] for i in range(45)])
    return World(model, last_layer(model), pixels, Counting(maps.copy()), groups)


def test_an_image_goes_down_the_tree_of_the_category_it_is_predicted_as(world: World) -> None:
    pixels = world.pixels[7]
    found = explain(world.model, world.layer, world.source, world.groups, pixels)
    x = world.model.preprocess.normalize(torch.from_numpy(pixels)[None])
    scores = world.model.net(x)[0].softmax(0)
    assert found.prediction is not None
    assert found.prediction.number == int(scores.argmax())
    assert found.prediction.probability == pytest.approx(float(scores.max()), rel=1e-5)
    assert found.category == found.prediction.name == NAMES[found.prediction.number]
    assert found.prediction.heat.ndim == 2
    maps = world.source.values[world.groups.rows(found.category)]
    path = decision_path(maps, filter_tree(maps), world.source.values[7])
    assert [s.merge for s in found.path.splits] == [s.merge for s in path.splits]
    assert found.leaf == world.groups.rows(found.category)[path.leaf]


def test_filters_are_held_against_the_category_and_all_data(world: World) -> None:
    found = explain(
        world.model, world.layer, world.source, world.groups, world.pixels[4], category="bee"
    )
    assert found.leaf == 4  # it is one of them
    assert found.path.distance == pytest.approx(0, abs=1e-6)
    peaks = world.source.values.max(axis=(2, 3))  # (N, C)
    rows = world.groups.rows("bee")
    assert len([e for e in found.evidence if e]) > 1
    for split, evidence in zip(found.path.splits, found.evidence, strict=True):
        if evidence is None:
            assert split.filter is None
            continue
        mine = peaks[:, split.filter]
        assert evidence.activation == pytest.approx(mine[4], rel=1e-4)
        np.testing.assert_array_equal(evidence.peaks, mine[rows])
        assert evidence.share_below_data == share_below(mine, evidence.activation)
        assert evidence.top == tuple(np.argsort(-mine, kind="stable")[:5])


@pytest.mark.parametrize("kept", [np.float16, np.float32])
def test_an_image_of_the_data_is_equal_to_itself_whatever_the_rounding(kept: Any) -> None:
    peaks = np.array([0, *np.geomspace(0.01, 200, 39)])  # each more than a thousandth from others
    stored = np.random.default_rng(0).permutation(peaks).astype(kept)
    for lower, peak in enumerate(peaks.tolist()):
        for noise in (-1e-5, 0, 1e-5):  # of another batch size
            assert share_below(stored, peak * (1 + noise)) == (lower + 0.5) / 40


def test_the_source_is_read_twice_however_many_images_there_are(world: World) -> None:
    given = (world.model, world.layer, world.source, world.groups)
    images = world.pixels[:9]
    together = list(explanations(*given, images))
    assert world.source.passes == 2
    assert len({found.category for found in together}) > 1
    for pixels, found in zip(images, together, strict=True):
        alone = explain(*given, pixels)
        names = [str(i) for i in range(45)]
        assert alone.as_dict(names) == found.as_dict(names)


def test_a_document_says_what_filters_detect(world: World) -> None:
    found = explain(
        world.model, world.layer, world.source, world.groups, world.pixels[0], category="ant"
    )
    images = [f"{i}.png" for i in range(45)]
    number, unit = next((i, s.filter) for i, s in enumerate(found.path.splits) if s.filter)
    document = found.as_dict(images, {unit: "stripes"})
    keys = ["class", "class_name", "probability", "second", "turned", "category", "path", "leaf"]
    assert list(document) == keys
    assert document["leaf"] == {"image": f"{found.leaf}.png", "distance": found.path.distance}
    entry, evidence = document["path"][number], found.evidence[number]
    assert evidence is not None
    assert entry["top_images"] == [images[row] for row in evidence.top]
    assert entry["images"] == found.tree.sizes[found.path.splits[number].merge]
    labelled = [one["critical_filter"] for one in document["path"] if "detects" in one]
    assert labelled == [unit]


def test_what_cannot_be_explained_is_said_before_anything_is_read(world: World) -> None:
    given = (world.model, world.layer, world.source)
    with pytest.raises(UsageError, match="'bea'") as error:
        explanations(*given, world.groups, world.pixels, category="bea")
    assert "bee" in error.value.hint
    others = group(["x"] * 20 + ["y"] * 25)
    with pytest.raises(CnnlensError, match="called after the predicted class"):
        explain(*given, others, world.pixels[0])
    world.model.net = world.model.net[:4]  # maps, no scores
    with pytest.raises(UsageError, match="no class scores"):
        explanations(*given, world.groups, world.pixels)
    assert world.source.passes == 0


def test_an_image_that_cannot_be_explained_costs_only_itself_where_that_is_wanted(
    world: World,
) -> None:
    images = world.pixels[:9]
    x = world.model.preprocess.normalize(torch.from_numpy(images))
    predicted = world.model.net(x).argmax(1).tolist()
    assert len(set(predicted)) > 1
    lost = predicted[0]
    names = ["zebra" if name == NAMES[lost] else name for name in NAMES]
    groups = group([names[i % 3] for i in range(45)])
    given = (world.model, world.layer, world.source, groups, images)
    skipped: dict[int, CnnlensError] = {}
    seen: list[Step] = []
    found = followed(explain_steps(*given, skip=skipped.__setitem__), seen.append)
    assert (9, 9) in [(one.done, one.total) for one in seen if one.stage == "predictions"]
    numbers = [number for number, _ in found]
    assert numbers == [n for n, c in enumerate(predicted) if c != lost]
    assert sorted(skipped) == [n for n, c in enumerate(predicted) if c == lost]
    assert all("called after the predicted class" in e.message for e in skipped.values())


def test_without_class_scores_a_named_category_is_explained(world: World) -> None:
    world.model.net = world.model.net[:4]
    found = cnnlens.explain(
        world.model, world.layer, world.source, world.groups, world.pixels[5], category="cat"
    )
    assert found.prediction is None
    assert found.leaf == 5
    assert found.as_dict([""] * 45)["class"] is None


def test_a_layer_without_answers_is_named(world: World) -> None:
    given = (world.model, world.layer, world.source, world.groups, world.pixels[0])
    world.source.values[world.groups.rows("ant")] = 0
    with pytest.raises(CnnlensError, match="nothing to any image of ant"):
        explain(*given, category="ant")
    world.model.net[2].bias.data.fill_(-1e6)
    with pytest.raises(CnnlensError, match="nothing to the image"):
        explain(*given, category="bee")


@pytest.mark.parametrize("end", [None, nn.Softmax(1), nn.Sigmoid()])
def test_units_are_switched_off_one_by_one(world: World, end: nn.Module | None) -> None:
    """Against a network that is run layer by layer, one map of the last layer being 0."""
    if end:
        world.model.net.append(end)
    behind = end or nn.Softmax(1)
    for pixels in world.pixels[:6]:
        found = explain(world.model, world.layer, world.source, world.groups, pixels)
        assert found.without and found.prediction is not None
        x = world.model.preprocess.normalize(torch.from_numpy(pixels)[None])
        maps = world.model.net[:4](x)
        for unit, answer in found.without.items():
            bare = maps.clone()
            bare[:, unit] = 0
            shares = behind(world.model.net[4:7](bare))[0]
            assert answer.number == int(shares.argmax())
            assert answer.probability == pytest.approx(float(shares.max()), rel=1e-5)
            assert answer.kept == pytest.approx(float(shares[found.prediction.number]), rel=1e-5)
        turned = [u for u, w in found.without.items() if w.number != found.prediction.number]
        assert found.turned == turned


def test_the_next_class_is_the_second_by_score(world: World) -> None:
    found = explain(world.model, world.layer, world.source, world.groups, world.pixels[3])
    x = world.model.preprocess.normalize(torch.from_numpy(world.pixels[3])[None])
    shares = world.model.net(x)[0].softmax(0)
    second = int(shares.argsort(descending=True)[1])
    assert found.prediction is not None and found.prediction.second is not None
    assert found.prediction.second == (NAMES[second], pytest.approx(float(shares[second])))


def test_right_is_what_the_category_says(world: World) -> None:
    found = explain(world.model, world.layer, world.source, world.groups, world.pixels[3])
    assert found.right(found.category) is True
    assert found.right(next(n for n in NAMES if n != found.category)) is False
    assert found.right(None) is None


def test_no_verdict_is_given_of_a_category_that_means_no_class(world: World) -> None:
    """A superclass, and folders that are not as many as the classes of a nameless network."""
    given = (world.model, world.layer, world.source)
    kinds = ["insect", "insect", "cat"]
    groups = group([kinds[i % 3] for i in range(45)])
    for pixels in world.pixels[:6]:
        found = explain(*given, groups, pixels, category="insect")
        assert found.prediction is not None
        assert found.right("insect") is None
        assert found.right("cat") is (found.prediction.number == NAMES.index("cat"))
    world.model.classes = None
    found = explain(*given, groups, world.pixels[3], category="cat")
    assert found.right("cat") is found.right("insect") is None


def test_an_order_that_nobody_held_against_images_gives_no_verdict(world: World) -> None:
    given = (world.model, world.layer, world.source, world.groups, world.pixels[3])
    world.model.classes = None
    found, named = explain(*given), explain(*given, category="bee")
    assert found.prediction is not None and named.prediction is not None
    assert found.right(NAMES[found.prediction.number]) is True
    assert found.prediction.name == NAMES[found.prediction.number]
    assert named.prediction.name == str(found.prediction.number)
    assert not named.of_predicted and all(named.right(name) is None for name in NAMES)


def test_a_class_of_two_folders_is_right_in_both(world: World) -> None:
    world.model.classes = ["ant, emmet", "bee", "cat"]
    names = ["ant", "emmet", "bee", "cat"]
    groups = group([names[i % 4] for i in range(45)])
    for pixels in world.pixels[:9]:
        found = explain(world.model, world.layer, world.source, groups, pixels, category="bee")
        assert found.prediction is not None
        assert found.right("ant") is found.right("emmet") is (found.prediction.number == 0)


def test_classes_are_called_by_their_names_beside_a_named_category(world: World) -> None:
    """Also where none of the data's categories is called after them."""
    groups = group(["left" if i % 2 else "right" for i in range(45)])
    others = []
    for pixels in world.pixels[:6]:
        found = explain(world.model, world.layer, world.source, groups, pixels, category="left")
        x = world.model.preprocess.normalize(torch.from_numpy(pixels)[None])
        first, second, _ = world.model.net(x)[0].argsort(descending=True).tolist()
        seen = found.prediction
        assert seen is not None and seen.second is not None
        assert (seen.name, seen.second[0]) == (NAMES[first], NAMES[second])
        others += found.without.values()
    assert others and all(one.name == NAMES[one.number] for one in others)


def test_folders_of_some_numbers_name_no_other_class(world: World) -> None:
    world.model.classes = None
    groups = group(["0" if i % 2 else "2" for i in range(45)])  # the second is no 1
    skipped: dict[int, CnnlensError] = {}
    given = (world.model, world.layer, world.source, groups, world.pixels[:9])
    found = dict(followed(explain_steps(*given, skip=skipped.__setitem__), None))
    assert found
    for number, one in found.items():
        x = world.model.preprocess.normalize(torch.from_numpy(world.pixels[number])[None])
        order = world.model.net(x)[0].argsort(descending=True).tolist()
        seen = one.prediction
        assert seen is not None and seen.second is not None
        assert [seen.name, seen.second[0]] == [str(n) for n in order[:2]]


# ---- a single output


def binary(world: World, classes: list[str] | None) -> tuple[Model, Model]:
    """A network of one output, and the one of two outputs whose softmax says the same."""
    one = classifier(classes)
    two = classifier(["bee", "ant"])  # the second is what is above 0
    one.net[-1], two.net[-1] = nn.Linear(8, 1), nn.Linear(8, 2)
    torch.manual_seed(1)
    slope = torch.randn(8)
    values = torch.from_numpy(world.source.values).mean((2, 3)) @ slope
    for net, factors in ((one.net, [1.0]), (two.net, [-0.5, 0.5])):
        net[-1].weight.data = torch.stack([slope * f for f in factors])
        net[-1].bias.data = torch.stack([-values.median() * f for f in factors])
        net.requires_grad_(False)
    return one, two


@pytest.mark.parametrize("end", [nn.Identity(), nn.Sigmoid()])
@pytest.mark.parametrize("classes", [None, ["ant"]])
def test_a_single_output_is_explained_as_its_two_classes(
    world: World, end: nn.Module, classes: list[str] | None
) -> None:
    one, two = binary(world, classes)
    one.net.append(end)
    names = ("ant", "bee") if classes else ("bee", "cat")  # by the name, else in their order
    two.classes = ["bee", "ant"] if classes else ["bee", "cat"]
    groups = group([names[i % 2] for i in range(45)])
    seen, asked = set(), 0
    for pixels in world.pixels[:8]:
        found, wanted = (
            explain(model, last_layer(model), world.source, groups, pixels) for model in (one, two)
        )
        assert found.prediction is not None and wanted.prediction is not None
        seen.add(found.prediction.name)
        mine, its = found.as_dict([""] * 45), wanted.as_dict([""] * 45)
        for key in ("class", "class_name", "category", "turned", "leaf"):
            assert mine[key] == its[key]
        assert mine["probability"] == pytest.approx(its["probability"], rel=1e-5)
        assert mine["second"]["class_name"] == its["second"]["class_name"]
        np.testing.assert_allclose(
            found.prediction.heat, 2 * wanted.prediction.heat, rtol=1e-4, atol=1e-6
        )  # the slope of one side's score is half of the output's
        assert found.without.keys() == wanted.without.keys()
        asked += len(found.without)
        for unit, without in found.without.items():
            assert without.name == wanted.without[unit].name
            assert without.probability == pytest.approx(wanted.without[unit].probability, rel=1e-4)
    assert seen == set(names) and asked


def test_what_is_not_the_one_class_has_no_tree_where_there_are_several_others(
    world: World,
) -> None:
    one, _ = binary(world, ["ant"])
    skipped: dict[int, CnnlensError] = {}
    given = one, last_layer(one), world.source, world.groups, list(world.pixels[:8])
    found = dict(followed(explain_steps(*given, skip=skipped.__setitem__), None))
    assert found and skipped
    assert {one.category for one in found.values()} == {"ant"}
    assert all("predicted class not ant" in error.message for error in skipped.values())
