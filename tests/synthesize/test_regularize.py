from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from cnnlens.synthesize.regularize import (
    Edits,
    GradientFilter,
    alpha_norm,
    gaussian_blur,
    total_variation,
)
from tests.synthesize.nets import seeded

MEAN = torch.full((3, 1, 1), 0.5)


def literal_total_variation(image: np.ndarray, beta: float) -> float:
    channels, height, width = image.shape
    total, count = 0.0, 0
    for c in range(channels):
        for y in range(height - 1):
            for x in range(width - 1):
                right = image[c, y, x + 1] - image[c, y, x]
                down = image[c, y + 1, x] - image[c, y, x]
                total += (right * right + down * down) ** (beta / 2)
                count += 1
    return total / count


@pytest.mark.parametrize("beta", [1.0, 2.0, 2.5])
def test_total_variation_is_the_papers_sum(beta):
    images = seeded((2, 3, 6, 7)).double()
    truth = [literal_total_variation(image, beta) for image in images.numpy()]
    np.testing.assert_allclose(total_variation(images, beta).numpy(), truth, rtol=1e-9)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_total_variation_of_a_flat_image_is_nothing_and_has_a_gradient(beta):
    image = torch.full((1, 3, 5, 5), 0.3, requires_grad=True)
    value = total_variation(image, beta)
    value.sum().backward()
    assert value.item() < 1e-4
    assert torch.equal(image.grad, torch.zeros_like(image))


@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("turned", [False, True])
def test_total_variation_of_one_row_is_that_along_it(turned, beta):
    row = seeded((2, 3, 1, 9)).double()
    steps = np.abs(np.diff(row.numpy())) ** beta  # (2, 3, 1, 8)
    images = (row.transpose(2, 3) if turned else row).requires_grad_()
    found = total_variation(images, beta)
    np.testing.assert_allclose(found.detach().numpy(), steps.mean((1, 2, 3)), rtol=1e-9)
    assert torch.autograd.gradcheck(lambda x: total_variation(x, beta), (images,))


def test_total_variation_of_one_pixel_is_nothing():
    assert total_variation(torch.rand(2, 3, 1, 1)).max() <= 1e-10


def test_alpha_norm_runs_from_grey_to_black_and_white():
    images = torch.tensor([0.5, 0.0, 1.0, 0.75]).reshape(4, 1, 1, 1).expand(4, 3, 2, 2)
    assert alpha_norm(images, 6).tolist() == [0, 1, 1, 0.5**6]


@pytest.mark.parametrize("value", [total_variation, alpha_norm])
def test_gradients_of_penalties_are_right_in_double_precision(value):
    images = seeded((2, 3, 4, 5)).double().requires_grad_()
    assert torch.autograd.gradcheck(value, (images,))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_blur_is_scipys(sigma):
    images = seeded((2, 3, 24, 31)).double()
    truth = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="mirror")
    np.testing.assert_allclose(gaussian_blur(images, sigma).numpy(), truth, atol=1e-7)


def test_blur_of_an_image_smaller_than_the_kernel_is_finite():
    assert gaussian_blur(seeded((1, 3, 4, 4)), 5.0).isfinite().all()


def test_decay_pulls_every_step_towards_the_mean_colour():
    images = torch.full((1, 3, 4, 4), 0.9)
    edited = Edits(decay=0.25)(images, images, MEAN, step=1)
    torch.testing.assert_close(edited, torch.full_like(images, 0.8))


def test_edits_come_when_they_are_due():
    edits = Edits(blur=1.0, every=3)
    assert [edits.is_due(step) for step in (1, 2, 3, 4, 6)] == [False, False, True, False, True]
    assert not Edits().is_due(4)
    assert Edits(decay=0.1).is_due(1)


def test_between_blurs_and_clippings_nothing_but_decay_happens():
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    edits = Edits(decay=0.25, blur=1.0, every=3, small_pixels=0.2, small_contributions=0.2)
    decayed = MEAN + 0.75 * (images - MEAN)
    for step in (1, 2, 4, 5):
        assert edits.is_due(step)
        torch.testing.assert_close(edits(images, images, MEAN, step), decayed)
    for more in ({"blur": 1.0}, {"small_pixels": 0.2}, {"small_contributions": 0.2}):
        edited = Edits(decay=0.25, every=3, **more)(images, images, MEAN, 3)
        assert (edited - decayed).abs().max() > 0.01


def test_the_palest_pixels_are_wiped_out():
    images = 0.5 + torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4) / 40
    edited = Edits(small_pixels=0.25, every=1)(images, images, MEAN, step=1)
    wiped = (edited == 0.5)[0, 0].flatten().tolist()
    assert wiped == [True] * 4 + [False] * 12
    assert torch.equal(edited[0, 0].flatten()[4:], images[0, 0].flatten()[4:])


def test_the_least_contributing_pixels_are_wiped_out():
    images = torch.full((1, 3, 4, 4), 0.9)
    gradient = torch.zeros(1, 3, 4, 4)
    gradient[0, :, 1, 2], gradient[0, :, 3, 0] = 5.0, -4.0
    edited = Edits(small_contributions=0.8, every=1)(images, gradient, MEAN, step=1)
    kept = (edited[0, 0] != 0.5).nonzero().tolist()
    assert kept == [[1, 2], [3, 0]]


def test_the_gradient_is_blurred_shifted_and_turned_by_each_images_own_generator():
    gradient = torch.zeros(2, 1, 21, 21)
    gradient[:, :, 10, 10] = 1.0
    made = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    moved = GradientFilter(shift=4.0)(gradient, made)
    assert not torch.equal(moved[0], moved[1])
    torch.testing.assert_close(moved.sum((1, 2, 3)), torch.ones(2))  # it moves, it does not vanish
    alone = GradientFilter(shift=4.0)(gradient[1:], [torch.Generator().manual_seed(2)])
    torch.testing.assert_close(alone[0], moved[1])
    blurred = GradientFilter(blur=3.0)(gradient, [torch.Generator().manual_seed(s) for s in (1, 2)])
    assert (blurred.amax((1, 2, 3)) < 0.9).all()
    torch.testing.assert_close(blurred.sum((1, 2, 3)), torch.ones(2))
