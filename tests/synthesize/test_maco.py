from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cnnlens.settings import RunSettings, VisualizeSettings
from cnnlens.synthesize.maco import (
    Crops,
    Phases,
    spectrum_of,
    transparency,
    usual_spectrum,
)
from cnnlens.synthesize.objective import channel, custom
from cnnlens.synthesize.usual import completed, recipe
from cnnlens.synthesize.visualize import visualize
from tests.synthesize.nets import Small, layer_of, model_of, seeded

SHAPE = (3, 24, 20)


def phases(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return seeded((1, shape[0], shape[1], shape[2] // 2 + 1), seed) * 3


def planted(power: float, count: int = 40) -> np.ndarray:
    """Photos of known colours and of magnitudes that fall by a power of the frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None])
    frequency[0, 0] = np.inf
    angles = rng.uniform(0, 2 * math.pi, (count, 3, *frequency.shape))
    plain = np.fft.irfft2(frequency**-power * np.exp(1j * angles), s=(64, 64))
    plain /= plain.std((0, 2, 3), keepdims=True)
    mixed = np.einsum("ij,njhw->nihw", [[0.1, 0.03, 0], [0.1, 0, 0.01], [0.1, -0.03, 0]], plain)
    mean = np.array([0.6, 0.5, 0.4])[:, None, None]
    return np.clip((mixed + mean) * 255, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("power", [0.5, 1.5])
def test_the_spectrum_of_photos_is_found(power):
    found = spectrum_of(planted(power), (3, 64, 64))
    np.testing.assert_allclose(found.mean, [0.6, 0.5, 0.4], atol=0.01)
    covariance = (found.colours @ found.colours.T).numpy()
    truth = np.array([[0.0109, 0.01, 0.0091], [0.01, 0.0101, 0.01], [0.0091, 0.01, 0.0109]])
    np.testing.assert_allclose(covariance, truth, rtol=0.08)
    for plane in found.magnitude:  # the slope between two frequencies of the first row
        slope = math.log(plane[0, 4:6].mean() / plane[0, 16:24].mean()) / math.log(20 / 4.5)
        assert slope == pytest.approx(power, abs=0.25)


def test_images_have_the_photos_power_whatever_the_phases():
    spectrum = spectrum_of(planted(1.0), (3, 64, 64))
    image = Phases((3, 64, 64), spectrum)
    photos = planted(1.0) / 255
    for seed in (0, 1):
        made = image.unbounded(phases(image.shape, seed))[0].numpy()
        np.testing.assert_allclose(made.std((1, 2)), photos.std((0, 2, 3)), rtol=0.15)
        np.testing.assert_allclose(made.mean((1, 2)), photos.mean((0, 2, 3)), atol=0.02)


@pytest.mark.parametrize("shape", [SHAPE, (1, 9, 15), (4, 16, 16)])
def test_decoding_is_the_formula_and_encoding_finds_the_phases(shape):
    image = Phases(shape, usual_spectrum(shape))
    code = phases(shape).double()
    spectrum = image.spectrum.magnitude.numpy() * np.exp(1j * code[0].numpy())
    plain = np.fft.irfft2(spectrum, s=shape[1:])
    truth = np.einsum("ij,jhw->ihw", image.spectrum.colours.numpy(), plain) + 0.5
    np.testing.assert_allclose(image.unbounded(code)[0].numpy(), truth, atol=1e-4)
    found = image.encode(image.unbounded(code))
    inner = slice(1, (shape[2] - 1) // 2)  # frequencies that are not their own mirror image
    turned = torch.polar(torch.ones_like(code), found - code)[..., inner]
    torch.testing.assert_close(turned, torch.ones_like(turned), atol=1e-4, rtol=0)
    assert image.unbounded(code).std() == pytest.approx(0.23, abs=0.08)


def test_crops_shrink_and_stay_inside():
    ramp = torch.linspace(0, 1, 100).expand(1, 1, 100, 100)  # a pixel's value is its column
    widths = []
    for share in (0.0, 0.5, 1.0):
        spans = []
        for seed in range(20):
            randomness = [torch.Generator().manual_seed(seed)]
            crop = Crops(share)(ramp, (64, 64), randomness).mean((0, 1, 2))
            spans.append(float(crop[-8:].mean() - crop[:8].mean()) * 64 / 56)
            assert -0.1 < float(crop.mean()) < 1.1
        widths.append(np.mean(spans))
    np.testing.assert_allclose(widths, [0.64, 0.416, 0.192], atol=0.02)


@pytest.mark.parametrize(
    ("enlarged", "first", "last"), [(1, 1, 0.3), (0.5, 1, 0.6), (2, 0.5, 0.15), (6, 0.5, 0.05)]
)
def test_crops_hold_what_the_network_sees_at_once(enlarged, first, last):
    """Of a large image those of the paper; of one like the input, from all of it on."""
    sides = [Crops(share).side(enlarged) for share in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(sides, [first, (first + last) / 2, last])


@pytest.mark.parametrize(("side", "deviation"), [(50, 0.03), (64, 0.03), (100, 0.08)])
def test_noise_has_its_deviation(side, deviation):
    grey = torch.full((1, 3, side, side), 0.5)
    crop = Crops(0.3)(grey, (64, 64), [torch.Generator().manual_seed(0)])
    assert float(crop.std()) == pytest.approx(deviation, rel=0.05)


def test_an_image_like_the_input_is_seen_from_near_and_from_far():
    """The slope of a ramp's views: magnified 0.4 to 1.6 times, also in the end of the climb."""
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    slopes, middles = [], []
    for seed in range(200):
        view = Crops(seed / 199)(ramp, (64, 64), [torch.Generator().manual_seed(seed)])
        steps = (view[0, 0, 28:36, 36] - view[0, 0, 28:36, 28]).mean() * 63 / 8
        slopes.append(float(1 / steps.abs().clamp_min(1e-3)))
        middles.append(float(view[0, 0, 24:40, 24:40].mean()))
    assert np.quantile(slopes, 0.1) == pytest.approx(0.52, abs=0.08)
    assert np.quantile(slopes, 0.9) == pytest.approx(1.5, abs=0.15)
    assert 0.05 < np.std(middles) < 0.25  # and shifted


@pytest.fixture(scope="module")
def model():
    return model_of(Small())


def test_it_climbs_and_keeps_the_spectrum(model):
    layer = layer_of(model, "conv2")
    spectrum = usual_spectrum((3, 32, 32))
    settings = VisualizeSettings(method="maco", steps=40, views=8, transparent=True)
    steps = list(visualize(model, [channel(layer, 1)], settings, prior=spectrum))
    (picture,) = steps[-1].pictures
    assert np.mean(picture.trace[-5:]) > np.mean(picture.trace[:5])
    assert picture.image.std() == pytest.approx(0.23, abs=0.08)
    assert picture.opacity is not None and picture.opacity.shape == (32, 32)
    assert (picture.opacity == 0).any() and (picture.opacity == 255).any()


@pytest.mark.parametrize(("size", "lr", "views"), [(0, 0.4, 4), (32, 0.4, 4), (48, 1.0, 32)])
def test_of_a_large_image_rate_and_crops_are_the_papers(model, size, lr, views):
    asked = VisualizeSettings(method="maco", size=size)
    settings = completed(model, asked, channel(layer_of(model, "conv2"), 1))
    made = recipe(settings)
    assert (settings.lr, made.views, made.steps, made.penalties) == (lr, views, 256, ())


@pytest.mark.parametrize("method", ["maco", "pixels"])
def test_a_stopped_climb_goes_on_to_the_same_picture(model, method):
    layer, settings = layer_of(model, "conv2"), VisualizeSettings(method=method, steps=12, views=3)
    goals = [channel(layer, 1), channel(layer, 2)]
    steps = visualize(model, goals, settings)
    for step in steps:
        if step.number == 5:
            state = step.state()
    through = step.pictures
    again = list(visualize(model, goals, settings, state=state))[-1].pictures
    for one, other in zip(through, again, strict=True):
        assert np.array_equal(one.image, other.image)
        assert one.trace == other.trace


def test_what_is_touched_is_opaque(model):
    layer = layer_of(model, "conv2")
    corner = custom(layer, lambda maps: maps[:, :2, :2].sum(), "corner")
    settings = VisualizeSettings(steps=6, jitter=0, rotate=0, scale=0, transparent=True)
    (picture,) = list(visualize(model, [corner], settings))[-1].pictures
    assert picture.opacity[:6, :6].mean() > 100
    assert picture.opacity[20:, 20:].max() == 0


def test_opacity_is_by_rank():
    touched = torch.arange(100.0).reshape(1, 10, 10)
    (found,) = transparency(touched)
    assert (found.flatten()[:19] == 0).all() and (found.flatten()[81:] == 255).all()
    assert (np.diff(found.flatten().astype(int)) >= 0).all()


def test_more_views_are_their_mean_whatever_fits_at_once(model):
    layer = layer_of(model, "conv2")
    pictures = []
    for batch in (1, 2, 16):
        settings = VisualizeSettings(steps=4, views=6)
        run = RunSettings(batch_size=batch)
        (picture,) = list(visualize(model, [channel(layer, 1)], settings, run))[-1].pictures
        pictures.append(picture.image)
    for other in pictures[1:]:
        np.testing.assert_allclose(pictures[0], other, atol=2 / 255)
