from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError
from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.settings import InvertSettings
from cnnlens.synthesize.image import Fourier
from cnnlens.synthesize.invert import (
    MET,
    SHARE,
    Faded,
    Step,
    compare,
    features,
    input_plane,
    invert,
    pair_distance,
)
from cnnlens.synthesize.lbfgs import LBFGS
from cnnlens.synthesize.perturb import dropout
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


@pytest.mark.parametrize("tv, alpha", [(1.0, 1.0), (5.0, 0.0), (0.0, 0.0)])
def test_the_objective_is_the_sum_that_it_is_said_to_be(tv: float, alpha: float) -> None:
    model, picture = model_of(small_net()), photo()
    layer = place(model)
    target = features(model, layer, picture)
    flat = features(model, layer, torch.full_like(picture, 0.5))
    cost = float(((flat - target).double() ** 2).sum() / (target.double() ** 2).sum())
    settings = replace(QUICK, tv=tv, alpha=alpha)
    for step in invert(model, layer, target, picture, settings):
        if step.taken:
            price, kept = literal_prices(step.image(), picture, tv, alpha)
            error = step.error**2
            weight = cost * error / (error + MET * cost)
            found = error + weight * (price - kept) + cost * kept
            assert step.objective == pytest.approx(found, rel=0.01)  # flat is not flat to a digit


def literal_prices(image: Tensor, picture: Tensor, tv: float, alpha: float) -> tuple[float, float]:
    x, p = image.double().numpy(), picture.double().numpy()
    detail = literal_variation(x) / literal_variation(p)
    price = SHARE * (tv * detail + alpha * 7 * np.mean(np.abs(2 * x - 1) ** 6))
    return price, SHARE * tv * (detail - 1) ** 2 / detail if detail > 1 else 0.0


def literal_variation(x: np.ndarray) -> float:
    total, count = 0.0, 0
    for plane in x:
        for i in range(plane.shape[0] - 1):
            for j in range(plane.shape[1] - 1):
                right, down = plane[i, j + 1] - plane[i, j], plane[i + 1, j] - plane[i, j]
                total += right**2 + down**2
                count += 1
    return total / count


def faded(picture: Tensor, tv: float = 1.0, alpha: float = 1.0, flat: float = 0.8) -> Faded:
    image = Fourier((3, *picture.shape[1:]))
    return Faded(LBFGS(), image, tv, alpha, literal_variation(picture.double().numpy()), flat)


def test_prices_follow_the_photo_and_the_factors() -> None:
    picture, rough = photo(), photo() + 0.3 * torch.rand(3, *SIZE)
    for image in (picture, rough, torch.full_like(picture, 0.7)):
        found = faded(picture, 3.0, 0.5).prices(image[None])
        expected = literal_prices(image, picture, 3.0, 0.5)
        assert [float(one) for one in found] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert float(faded(picture, 0.0, 0.5).prices(rough[None])[1]) == 0


def test_the_gradient_that_is_followed_is_the_sum_s() -> None:
    seen: list[tuple[Tensor, float]] = []

    class Recording(LBFGS):
        def __call__(self, code: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
            seen.append((gradient[0], float(values[0])))
            return code

    rule = replace(faded(photo(), 4.0, 2.0), rule=Recording())
    generator = torch.Generator().manual_seed(0)
    code, along = (0.3 * torch.randn(1, 3, 16, 7, 2, generator=generator).double() for _ in "ab")
    shift = 1e-4

    def error(at: Tensor) -> Tensor:
        return (rule.image.decode(at) - 0.4).square().mean((1, 2, 3))

    at = code.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(error(at).sum(), at)
    for one, its in (
        (code, -gradient),
        (code + shift * along, -gradient),
        (code - shift * along,) * 2,
    ):
        rule(one, its, -error(one))
    slope = (seen[1][1] - seen[2][1]) / (2 * shift)
    assert slope == pytest.approx(float((seen[0][0] * along[0]).sum()), rel=1e-4)


# -- regularizers fade where the layer determines its input --------------------------------------


def on_white(size: tuple[int, int]) -> Tensor:
    picture = torch.ones(3, *size)
    picture[:, 5:10, 4:8] = torch.tensor([0.1, 0.8, 0.2])[:, None, None]
    return picture


def orthogonal() -> nn.Module:
    net = nn.Conv2d(3, 3, 1)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))
    net.weight.data = turn[:, :, None, None]
    return nn.Sequential(net)


def without_pooling() -> nn.Module:
    return filled(
        nn.Sequential(
            nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1),
            nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1),
        )
    )  # fmt: skip


def pooled_twice() -> nn.Module:
    """As the demonstration's network, whose filters outnumber what pooling takes."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
    )  # fmt: skip


@pytest.mark.parametrize("net", [orthogonal, without_pooling, pooled_twice])
@pytest.mark.parametrize("picture", [torch.ones(3, 16, 16), on_white((16, 16))])
def test_white_comes_back_white_where_a_layer_determines_it(net: Any, picture: Tensor) -> None:
    model = model_of(net(), size=(picture.shape[1], picture.shape[2]))
    layer = place(model, str(len(model.net) - 1))
    *_, last = search(model, layer, picture, InvertSettings(steps=60))
    assert float((last.image() - picture).square().mean().sqrt()) <= 0.02


def pooled_away() -> Model:
    body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    return model_of(filled(body), size=(32, 32))


def test_what_a_layer_leaves_open_is_not_filled_with_noise_once_it_is_met() -> None:
    model, picture = pooled_away(), photo(size=(32, 32))
    own = literal_variation(picture.numpy())
    detail = {}
    for factor in (1.0, 0.0):
        settings = InvertSettings(steps=100, tv=factor, alpha=factor)
        *_, last = search(model, place(model, "2"), picture, settings)
        assert last.error < 0.04
        detail[factor] = literal_variation(last.image().numpy()) / own
    assert detail[1.0] < 1.5
    assert detail[0.0] > 3


def test_where_no_picture_meets_the_answer_regularizers_stay() -> None:
    model, picture = pooled_away(), photo(size=(32, 32))
    layer = place(model, "2")
    target = dropout(features(model, layer, picture), torch.Generator().manual_seed(0))
    detail = {}
    for factor in (1.0, 0.0):
        settings = InvertSettings(steps=100, tv=factor, alpha=factor)
        *_, last = invert(model, layer, target, picture, settings)
        detail[factor] = literal_variation(last.image().numpy())
    assert detail[1.0] < 0.3 * detail[0.0]


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


@pytest.mark.parametrize("size", [(1, 24), (24, 1)])
def test_an_input_of_one_row_or_column_is_inverted(size: tuple[int, int]) -> None:
    model = model_of(filled(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())), size=size)
    picture = photo(size=size)
    rough = search(model, place(model, "1"), picture, replace(QUICK, tv=0.0))
    steps = search(model, place(model, "1"), picture)
    assert all(math.isfinite(step.objective) for step in steps)
    assert steps[-1].error < 0.2 * steps[0].error
    assert not torch.equal(steps[-1].image(), rough[-1].image())  # its variation counts


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
