"""Generators: the climb of a code, what is assumed of foreign ones, how one learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.settings import RunSettings, VisualizeSettings
from cnnlens.settings.generator import GeneratorSettings
from cnnlens.synthesize import generator_training
from cnnlens.synthesize.examples import Examples
from cnnlens.synthesize.generator import Generated, Generator, Range, code_layer, fitted
from cnnlens.synthesize.generator_training import (
    Training,
    comparator_layer,
    squared,
    taken_for_photos,
    told_apart,
)
from cnnlens.synthesize.neighbours import Photos
from cnnlens.synthesize.objective import logit
from cnnlens.synthesize.usual import update_of
from cnnlens.synthesize.visualize import visualize
from tests.reference import generator as slow
from tests.synthesize.nets import Linear, Small, model_of, seeded

SHAPE = (3, 8, 8)


class Planted(nn.Module):
    """A linear generator: grey, and each unit of the code brings its own image."""

    def __init__(self, units: int, shape: tuple[int, int, int] = SHAPE, size: float = 0.01) -> None:
        super().__init__()
        self.images = nn.Parameter(seeded((units, *shape), 1) * size)

    def forward(self, codes: Tensor) -> Tensor:
        return 0.5 + torch.einsum("nu,uchw->nchw", codes.flatten(1), self.images)


@pytest.fixture(scope="module")
def linear() -> Model:
    """One class score, linear in the pixels, behind a pooling that the code is read at."""
    return model_of(nn.Sequential(Linear(seeded(SHAPE, 5)), nn.Flatten()), size=SHAPE[1:])


def ranged(*rows: tuple[float, float, float]) -> Range:
    return Range(*(torch.tensor(column).reshape(-1, 1, 1) for column in zip(*rows, strict=True)))


def planted(model: Model, codes: Range) -> Generator:
    units = len(codes.mean)
    layer = find_layers(model).resolve("0.conv")
    return Generator(Planted(units), replace(layer, shape=(units, 1, 1)), codes)


def test_codes_keep_within_what_photos_give():
    codes = ranged((1.0, 0.5, 0.0), (-1.0, 0.5, -2.0), (0.0, 0.0, 0.0))
    assert codes.top.flatten().tolist() == [2.5, 0.5, 0.0]
    assert codes.bottom.flatten().tolist() == [0.0, -2.5, 0.0]


def test_a_step_of_the_code_is_the_formula(linear):
    codes = ranged((1.0, 0.5, 0.0), (0.2, 0.1, 0.0), (-1.0, 0.5, -2.0), (0.3, 0.4, 0.1))
    generator = planted(linear, codes)
    image = Generated(SHAPE, generator, linear)
    settings = VisualizeSettings(method="generator", steps=7, lr=0.4, rivals=0.0)
    weight, plane = linear.net[0].conv.weight[0] / 0.5, generator.net.images
    slope = torch.einsum("chw,uchw->u", weight, plane).tolist()  # of the score by the code
    start = image.noise([torch.Generator().manual_seed(3)], 0.0)
    scale, low, high = (one.flatten().tolist() for one in (image.scale, codes.bottom, codes.top))
    expected = (start * image.scale).flatten().tolist()
    update, code = update_of(settings), image.kept(start)
    for _ in range(7):
        code = image.kept(update(code, (torch.tensor(slope).reshape(1, -1, 1, 1) * image.scale),
                                 torch.zeros(1)))  # fmt: skip
        expected = slow.code_step(expected, slope, scale, low, high, 0.4, 0.99)
        np.testing.assert_allclose((code * image.scale).flatten(), expected, rtol=1e-5, atol=1e-6)


def test_the_planted_optimum_is_reached(linear):
    """Units that raise the score end at their top, less the decay; the others at the bottom."""
    codes = ranged(*[(1.0, 0.5, 0.0)] * 6)
    generator = planted(linear, codes)
    settings = VisualizeSettings(
        method="generator", steps=60, lr=0.2, rivals=0.0, jitter=0, rotate=0, scale=0
    )
    *_, last = visualize(linear, [logit(0)], settings, prior=generator)
    (picture,) = last.pictures
    slope = torch.einsum("chw,uchw->u", linear.net[0].conv.weight[0], generator.net.images)
    best = torch.where(slope > 0, 2.5, 0.0)
    with torch.no_grad():
        wanted = generator.net(best[None])[0].clamp(0, 1)
    np.testing.assert_allclose(picture.image, wanted, atol=0.02)
    assert picture.final > picture.initial


def test_views_of_a_network_do_not_depend_on_how_many_climb(linear):
    codes = ranged(*[(1.0, 0.5, 0.0)] * 3)
    settings = VisualizeSettings(method="generator", steps=3, rivals=0.0)
    goals = [logit(0, name) for name in "ab"]
    made = []
    for size in (1, 2):
        steps = visualize(linear, goals, settings, RunSettings(batch_size=size),
                          prior=planted(linear, codes))  # fmt: skip
        made.append([p.image for step in steps for p in step.pictures])
    np.testing.assert_array_equal(*map(np.stack, made))


def test_without_a_generator_there_is_no_such_picture(linear):
    with pytest.raises(ValueError, match="needs a generator"):
        list(visualize(linear, [logit(0)], VisualizeSettings(method="generator", steps=1)))


# ---- foreign ones


class Foreign(nn.Module):
    def __init__(self, units: int, channels: int = 3, side: int = 8, maps: bool = False) -> None:
        super().__init__()
        self.maps, self.shape = maps, (channels, side, side)
        self.layer = nn.Linear(units, channels * side * side)

    def forward(self, codes: Tensor) -> Tensor:
        flat = codes.flatten(1) if self.maps else codes
        return torch.tanh(self.layer(flat)).unflatten(1, self.shape)


@pytest.fixture(scope="module")
def small() -> Model:
    return model_of(Small(), size=(16, 16))


def tried(model: Model, net: nn.Module, between: tuple[float, float] | None = None) -> Any:
    layer = replace(find_layers(model).resolve("conv2"), shape=(6, 1, 1))
    codes = ranged(*[(0.5, 0.5, 0.0)] * 6)
    return fitted(net, layer, codes, (3, 16, 16), "their.py:net", between)


@pytest.mark.parametrize("maps", [False, True])
def test_a_foreign_generator_of_vectors_or_maps_is_taken_and_what_is_assumed_said(small, maps):
    torch.manual_seed(0)
    net = Foreign(6, maps=maps).train()
    generator, said = tried(small, net)
    assert not net.training and generator.between == (-1.0, 1.0)
    assert "8×8 pixels, which are resized to 16×16" in said[0]
    assert "between -1 and 1; --generator-range" in said[1]
    image = Generated((3, 16, 16), generator, small)
    codes = torch.rand(2, 6, 1, 1)
    made = image.decode(codes)
    assert made.shape == (2, 3, 16, 16) and 0 <= float(made.amin()) <= float(made.amax()) <= 1
    middle = (net((codes * image.scale).flatten(1)) + 1) / 2
    np.testing.assert_allclose(made.mean(), middle.mean(), atol=0.01)


def test_its_range_can_be_said_and_grey_serves_colours(small):
    generator, said = tried(small, Foreign(6, channels=1, side=16), (-2.0, 2.0))
    assert said == [] and generator.between == (-2.0, 2.0)
    made = Generated((3, 16, 16), generator, small).decode(torch.rand(1, 6, 1, 1))
    assert made.shape == (1, 3, 16, 16) and torch.equal(made[:, 0], made[:, 2])


class Wrong(nn.Module):
    def forward(self, codes: Tensor) -> Tensor:
        return codes.flatten(1)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Foreign(9), r"takes codes of 9 units, conv2 answers with 6×1×1"),
        (Wrong(), r"gives 6 for a code, no image"),
        (Foreign(6, channels=4), r"gives 4×8×8 for a code, no image of 3 channels"),
    ],
)
def test_what_does_not_fit_is_named(small, net, message):
    with pytest.raises(CnnlensError, match=message):
        tried(small, net)


# ---- which layers


def test_the_code_is_the_layer_before_the_classes(small):
    layers = find_layers(small)
    assert code_layer(small, layers).name == "conv2"
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2),
    )  # fmt: skip
    deep = model_of(net, size=(8, 8))
    assert code_layer(deep, find_layers(deep)).name == "5"
    pooled = nn.Sequential(*net[:4], nn.Linear(4, 2))  # nothing is learned behind the maps
    flat = model_of(pooled, size=(8, 8))
    assert code_layer(flat, find_layers(flat)).shape == (4, 6, 6)
    assert code_layer(flat, find_layers(flat), spread=False).shape == (4, 1, 1)
    square = nn.Sequential(*net[:4], nn.Linear(4, 4), nn.Linear(4, 2))
    mixed = model_of(square, size=(8, 8))
    assert code_layer(mixed, find_layers(mixed)).name == "4"


def test_the_comparator_has_maps_and_lies_before_the_code(small):
    layers = find_layers(small)
    code = layers.resolve("conv2")
    found = comparator_layer(layers, code)
    assert found.depth < code.depth and max(found.shape[1:]) > max(code.shape[1:])
    with pytest.raises(UsageError, match="no layer with maps"):
        comparator_layer(layers, replace(code, depth=0))


# ---- learning


def photos(count: int = 40, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 3, 3, 3, generator=generator)
    return (nn.functional.interpolate(corners, (side, side), mode="bilinear") * 255).byte()


@pytest.fixture(scope="module")
def examples(small) -> Examples:
    return answers_of(small)


def answers_of(small: Model) -> Examples:
    """Photos and their answers, to learn from."""
    found = Examples(small, find_layers(small).resolve("conv2"), photos(), limit=20)
    for _ in found.read(torch.arange(32)):
        pass
    return found


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators of few weights."""
    monkeypatch.setattr(generator_training, "WIDTH", 8)


def begun(model: Model, examples: Examples, **settings: Any) -> Training:
    asked = GeneratorSettings(**{"learn_steps": 6, "learn_batch": 8, **settings})
    comparator = find_layers(model).resolve("conv1")
    return Training(model, comparator, examples, torch.arange(32), torch.arange(32, 40), asked)


def weights(run: Training) -> Tensor:
    nets = (run.net, run.averaged, run.critic)
    return torch.cat([p.detach().flatten() for net in nets for p in net.parameters()])


def test_losses_are_the_formulas():
    made, wanted = seeded((2, 3, 4, 4), 1), seeded((2, 3, 4, 4), 2)
    found = float(squared(made, wanted, torch.tensor(0.7)))
    assert found == pytest.approx(slow.squared(made.numpy(), wanted.numpy(), 0.7), rel=1e-5)
    one, two = seeded((9,), 3) * 3, seeded((9,), 4) * 3
    assert float(taken_for_photos(two)) == pytest.approx(slow.generators_loss(two.tolist()), 1e-4)
    expected = slow.critics_loss(one.tolist(), two.tolist())
    assert float(told_apart(one, two)) == pytest.approx(expected, rel=1e-4)


def test_a_generator_learns(small, examples):
    run = begun(small, examples, learn_steps=60, learn_rate=0.01, adversarial_loss=0)
    before = run.errors()["pixel RMSE"]
    steps = list(run.run())
    assert (steps[-1].done, steps[-1].total) == (60, 60)
    assert {"image", "feature", "pixel RMSE"} <= steps[-1].terms.keys()
    assert run.errors()["pixel RMSE"] < 0.9 * before
    assert steps[-1].terms["image"] < 0.6 and steps[-1].terms["feature"] < 0.8


def test_a_stopped_training_goes_on_to_the_same_weights(small, examples, tmp_path):
    whole, first, second = (begun(small, examples) for _ in range(3))
    list(whole.run())
    for step in first.run():
        if step.done == 4:
            break
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [step.done for step in second.run()] == [5, 6]
    assert torch.equal(weights(whole), weights(second))


LEFT_OUT = {"image_loss": "image", "feature_loss": "feature", "adversarial_loss": "adversarial"}


@pytest.mark.parametrize("weight", LEFT_OUT)
def test_each_loss_can_be_left_out(small, examples, weight):
    run = begun(small, examples, **{weight: 0.0}, learn_steps=1)
    (step,) = run.run()
    assert LEFT_OUT[weight] not in step.terms
    assert set(LEFT_OUT.values()) - {LEFT_OUT[weight]} <= step.terms.keys()
    if weight == "adversarial_loss":
        assert torch.equal(run.critic.plain.weight, begun(small, examples).critic.plain.weight)


def test_every_photo_is_seen_once_in_a_round(small, examples):
    run = begun(small, examples)
    seen = torch.cat([run._batch(step) for step in range(8)])
    for start in (0, 32):
        assert sorted(seen[start : start + 32].tolist()) == list(range(32))


def test_a_training_that_diverges_is_named(small, examples, monkeypatch):
    monkeypatch.setattr(generator_training, "squared", lambda *_: torch.tensor(torch.nan))
    with pytest.raises(CnnlensError, match="diverged in step 1"):
        list(begun(small, examples).run())


# ---- beside photos


def test_the_nearest_photos_are_those_of_a_slow_search(small, examples):
    known = Photos.of([str(n) for n in range(32)], examples, torch.arange(32))
    images = examples.images(torch.arange(36, 40))
    found = known.nearest(images, examples.features(torch.arange(36, 40)))
    pixels = (examples.images(torch.arange(32)) * 255).round().numpy() / 255
    own = [slow.nearest(pixels[n], np.delete(pixels, n, 0))[1] for n in range(32)]
    for image, one in zip(images.numpy(), found, strict=True):
        place, distance = slow.nearest(image, pixels)
        near = one["pixels"]
        assert near["photo"] == str(place) and near["distance"] == pytest.approx(distance, rel=1e-2)
        assert near["photos_distance"] == pytest.approx(np.sort(own)[15], rel=1e-2)
        share = np.mean(np.array(own) < near["distance"])
        assert near["nearer_photos"] == pytest.approx(share, abs=0.04)
    copy = known.nearest(examples.images(torch.arange(1)), examples.features(torch.arange(1)))[0]
    assert copy["pixels"]["photo"] == copy["code"]["photo"] == "0"
    assert copy["pixels"]["distance"] < 0.01 and copy["pixels"]["nearer_photos"] == 0
