from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError
from cnnlens.model.layers import Layer, find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.settings import InvertSettings
from cnnlens.synthesize.invert import (
    SHARE,
    Step,
    automatic,
    compare,
    features,
    input_plane,
    invert,
    pair_distance,
)
from tests.model.nets import filled

SIZE = (16, 12)
QUICK = InvertSettings(steps=25)


def model_of(net: nn.Module, channels: int = 3, size: tuple[int, int] = SIZE) -> Model:
    settings = Preprocess(size=size, mean=(0.45,) * channels, std=(0.25,) * channels)
    return Model(net.requires_grad_(False).eval(), "test", "test", settings, None, "print")


def small_net(channels: int = 3) -> nn.Module:
    return filled(
        nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        )
    )  # fmt: skip


def photo(seed: int = 0, channels: int = 3, size: tuple[int, int] = SIZE) -> Tensor:
    """Smooth, inside of the pixel range."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 4, 4, generator=generator) * 0.8 + 0.1
    return nn.functional.interpolate(coarse, size, mode="bilinear")[0]


def place(model: Model, name: str = "4") -> Layer:
    return find_layers(model).resolve(name)


def search(
    model: Model, layer: Layer, picture: Tensor, settings: InvertSettings = QUICK
) -> list[Step]:
    return list(invert(model, layer, features(model, layer, picture), picture, settings))


def test_a_linear_invertible_network_is_inverted_exactly() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1))
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))
    net[0].weight.data = turn[:, :, None, None]
    model, picture = model_of(net), photo()
    layer = place(model, "0")
    steps = search(model, layer, picture, InvertSettings(steps=300, tv=0, alpha=0))
    assert steps[-1].error < 1e-3
    torch.testing.assert_close(steps[-1].image(), picture, atol=2e-3, rtol=0)


def test_a_fully_connected_layer_is_inverted() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 12, 40))
    model = model_of(filled(body))
    layer, picture = find_layers(model).resolve("1", vectors=True), photo()
    *_, last = search(model, layer, picture, replace(QUICK, steps=60, tv=0.0, alpha=0.0))
    net, mean = model.net, 0.45
    answers = [net(((image - mean) / 0.25)[None]) for image in (picture, last.image())]
    error = float((answers[1] - answers[0]).norm() / answers[0].norm())
    assert last.error == pytest.approx(error, abs=1e-6) and error < 1e-3


def test_the_objective_never_rises_and_the_error_falls() -> None:
    model = model_of(small_net())
    steps = search(model, place(model), photo(), InvertSettings(steps=60, lr=3.0))
    objectives = np.array([step.objective for step in steps])
    taken = np.array([step.taken for step in steps])
    assert (np.diff(objectives)[taken[1:]] < 0).all()
    assert (np.diff(objectives)[~taken[1:]] == 0).all()
    assert steps[-1].error < 0.5 * steps[0].error


def test_the_objective_is_the_sum_that_it_is_said_to_be() -> None:
    model, picture = model_of(small_net()), photo()
    layer = place(model)
    last = search(model, layer, picture)[-1]
    x, p = last.image().double().numpy(), picture.double().numpy()
    target = features(model, layer, picture)
    flat = features(model, layer, torch.full_like(picture, 0.5))
    cost = float(((flat - target).double() ** 2).sum() / (target.double() ** 2).sum())
    found = (
        last.error**2
        + SHARE * cost * literal_variation(x) / literal_variation(p)
        + SHARE * cost * np.mean(np.abs(2 * x - 1) ** 6) * 7
    )
    assert math.isclose(last.objective, found, rel_tol=0.01)  # it starts from nearly flat, not flat


def literal_variation(x: np.ndarray) -> float:
    total, count = 0.0, 0
    for plane in x:
        for i in range(plane.shape[0] - 1):
            for j in range(plane.shape[1] - 1):
                right, down = plane[i, j + 1] - plane[i, j], plane[i + 1, j] - plane[i, j]
                total += right**2 + down**2
                count += 1
    return total / count


def test_weights_follow_the_photo_and_the_factors() -> None:
    picture = photo()
    tv, alpha = automatic(0.8, picture, 3.0, 0.5)
    x = picture.double().numpy()
    assert math.isclose(tv.weight * literal_variation(x), 3 * SHARE * 0.8, rel_tol=1e-4)
    assert math.isclose(alpha.weight / 7, 0.5 * SHARE * 0.8, rel_tol=1e-6)
    assert math.isclose(float(tv.value(picture[None])), literal_variation(x), rel_tol=1e-4)
    assert automatic(0.8, picture, 0, 0) == ()
    assert math.isfinite(automatic(0.8, torch.full((3, 4, 4), 0.5), 1, 1)[0].weight)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_a_layer_changes_nothing(factor: float) -> None:
    net, scaled = small_net(), small_net()
    with torch.no_grad():
        scaled[3].weight *= factor
        scaled[3].bias *= factor
    errors = []
    for one in (net, scaled):
        model = model_of(one)
        errors.append([step.error for step in search(model, place(model), photo())][:8])
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-3)


def test_equal_seeds_give_equal_bytes_and_leave_the_global_generator_alone() -> None:
    model = model_of(small_net())
    layer, before = place(model), torch.random.get_rng_state()
    first, again, other = (
        search(model, layer, photo(), replace(QUICK, seed=seed))[-1].image() for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_pictures_stay_in_range_whatever_the_first_step() -> None:
    model = model_of(small_net())
    for lr in (1e-4, 10.0):
        last = search(model, place(model), photo(), replace(QUICK, lr=lr))[-1]
        image = last.image()
        assert image.isfinite().all() and image.min() >= 0 and image.max() <= 1
        assert last.error < 0.8


class Logarithm(nn.Module):
    """Not finite where a pixel is above 0.63."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(0.7 - x)


def test_trials_that_are_not_finite_are_drawn_back() -> None:
    model = model_of(nn.Sequential(Logarithm(), nn.Conv2d(3, 4, 1)))
    picture = photo() * 0.3 + 0.3
    steps = search(model, place(model, "1"), picture, replace(QUICK, lr=10.0))
    assert not steps[1].taken  # the first trial was too long
    assert all(math.isfinite(step.error) for step in steps)
    assert steps[-1].error < 0.5 * steps[0].error


@pytest.mark.parametrize("channels", [1, 6])
def test_any_number_of_channels(channels: int) -> None:
    model = model_of(small_net(channels), channels)
    pixels = torch.randint(0, 256, (1 if channels == 1 else 3, *SIZE), dtype=torch.uint8)
    picture = input_plane(model, pixels)
    assert picture.shape == (channels, *SIZE)
    for channel, plane in enumerate(picture):
        assert torch.equal(plane, pixels[channel % len(pixels)].float() / 255)
    steps = search(model, place(model), picture)
    assert steps[-1].image().shape == (channels, *SIZE)
    assert steps[-1].error < steps[0].error


def test_an_input_smaller_than_the_receptive_field() -> None:
    net = filled(nn.Sequential(*(nn.Conv2d(3, 3, 7, padding=3) for _ in range(4))))
    model = model_of(net, size=(8, 8))
    steps = search(model, place(model, "3"), photo(size=(8, 8)))
    assert steps[-1].error < 0.5 * steps[0].error


def test_a_layer_that_says_nothing_is_named() -> None:
    net = small_net()
    with torch.no_grad():
        net[3].bias.fill_(-1e6)
    model = model_of(net)
    with pytest.raises(CnnlensError, match="every activation of 4 is 0"):
        search(model, place(model), photo())


def test_an_answer_that_is_not_finite_is_named() -> None:
    net = small_net()
    with torch.no_grad():
        net[3].weight[0, 0, 0, 0] = torch.nan
    model = model_of(net)
    with pytest.raises(CnnlensError, match="4 is not finite"):
        search(model, place(model), photo())


def test_a_layer_that_the_input_does_not_reach_is_named() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones_like(x)

    model = model_of(nn.Sequential(Constant(), filled(nn.Conv2d(3, 4, 3))))
    with pytest.raises(CnnlensError, match="does not depend on the input"):
        search(model, place(model, "1"), photo())


def test_a_layer_that_grey_leaves_dead_is_inverted_all_the_same() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    net[0].weight.data = torch.eye(3)[:, :, None, None]
    net[0].bias.data.fill_(-1.9)  # a pixel must be 0.475 above the mean to be seen
    model, picture = model_of(net), torch.full((3, *SIZE), 0.99)
    steps = search(model, place(model, "1"), picture, InvertSettings(steps=60))
    assert steps[-1].error < 0.5


def test_a_target_of_another_shape_is_a_mistake_of_the_caller() -> None:
    model = model_of(small_net())
    with pytest.raises(ValueError, match="a target of"):
        next(invert(model, place(model), torch.ones(8, 2, 2), photo(), QUICK))


def test_the_three_errors() -> None:
    model, one, other = model_of(small_net()), photo(0), photo(1)
    layer = place(model)
    a, b = (features(model, layer, x).double().numpy() for x in (one, other))
    found = compare(model, layer, other, one, features(model, layer, one), 4.0)
    distance = np.linalg.norm(b - a)
    assert math.isclose(found.features, distance / np.linalg.norm(a), rel_tol=1e-5)
    assert found.pairs is not None and math.isclose(found.pairs, distance / 4, rel_tol=1e-5)
    expected = np.sqrt(np.mean((one.numpy() - other.numpy()) ** 2))
    assert math.isclose(found.pixels, expected, rel_tol=1e-5)
    assert compare(model, layer, other, one, features(model, layer, one), None).pairs is None


def test_the_mean_distance_is_over_all_pairs() -> None:
    answers = [torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(s)) for s in range(4)]
    literal = [
        np.linalg.norm((answers[i].double() - answers[j].double()).numpy())
        for i in range(4)
        for j in range(i + 1, 4)
    ]
    found = pair_distance(torch.stack(answers).numpy())
    assert found is not None and math.isclose(found, np.mean(literal), rel_tol=1e-9)
    assert pair_distance(answers[0][None].numpy()) is None
