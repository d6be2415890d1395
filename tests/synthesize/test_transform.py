from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from cnnlens.synthesize.transform import Transform, moved, resized, turning
from tests.synthesize.nets import seeded


def smooth(size: tuple[int, int]) -> torch.Tensor:
    noise = ndimage.gaussian_filter(seeded(size).numpy(), 2.0)
    return torch.from_numpy(noise)[None, None].double()


def test_a_shift_moves_down_and_right_by_pixels():
    image = smooth((20, 30))
    turns = turning(torch.zeros(1), torch.ones(1), torch.tensor([[3.0, 5.0]]), (20, 30))
    result = moved(image, turns, (20, 30), "zeros")
    torch.testing.assert_close(result[..., 3:, 5:], image[..., :-3, :-5], atol=1e-5, rtol=0)
    assert result[..., :3, :].abs().max() < 1e-5


@pytest.mark.parametrize("size", [(33, 33), (25, 41)])
def test_a_rotation_is_scipys(size):
    image = smooth(size)
    turns = turning(torch.tensor([10.0]), torch.ones(1), torch.zeros(1, 2), size)
    result = moved(image, turns, size, "zeros")[0, 0].numpy()
    truth = ndimage.rotate(image[0, 0].numpy(), 10.0, reshape=False, order=1)
    np.testing.assert_allclose(result[6:-6, 6:-6], truth[6:-6, 6:-6], atol=2e-3)


def test_a_scale_above_one_enlarges():
    rows = torch.linspace(-1, 1, 41).double()
    image = rows.expand(1, 1, 41, 41)
    turns = turning(torch.zeros(1), torch.tensor([2.0]), torch.zeros(1, 2), (41, 41))
    result = moved(image, turns, (41, 41), "zeros")
    torch.testing.assert_close(result[0, 0, 20], rows / 2, atol=1e-5, rtol=0)


def test_views_stay_within_their_bounds():
    image = torch.zeros(200, 1, 64, 64)
    image[:, :, 31:33, 31:33] = 1.0
    made = [torch.Generator().manual_seed(seed) for seed in range(200)]
    views = Transform(jitter=6)(image, (64, 64), made)
    at = torch.arange(64.0)
    weight = views.sum((1, 2, 3))
    for axis in (2, 3):
        centre = (views.sum((1, 5 - axis)) * at).sum(1) / weight - 31.5
        assert 4 < centre.abs().max() <= 6.01
        assert abs(centre.mean()) < 1


def test_a_view_does_not_depend_on_the_others():
    images = torch.rand(3, 3, 16, 16)
    transform = Transform(3, 0.1, 10)
    all_ = transform(images, (24, 24), [torch.Generator().manual_seed(s) for s in (1, 2, 3)])
    one = transform(images[1:2], (24, 24), [torch.Generator().manual_seed(2)])
    assert torch.equal(all_[1:2], one)


def test_without_transforms_an_image_of_the_right_size_is_left_alone():
    images = torch.rand(2, 3, 16, 16)
    assert Transform()(images, (16, 16), [torch.Generator(), torch.Generator()]) is images


def test_outside_an_image_goes_on():
    images = torch.full((1, 3, 16, 16), 0.8)
    view = Transform(8, 0.1, 45)(images, (16, 16), [torch.Generator().manual_seed(1)])
    torch.testing.assert_close(view, torch.full_like(view, 0.8))


def test_views_can_be_differentiated():
    transform = Transform(2, 0.1, 10)

    def view(images):
        return transform(images, (7, 6), [torch.Generator().manual_seed(1)])

    assert torch.autograd.gradcheck(view, (torch.rand(1, 2, 5, 6).double().requires_grad_(),))


def test_large_images_are_averaged_not_sampled():
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    images = board.float().expand(1, 3, 64, 64)
    for view in (
        resized(images, (16, 16)),
        Transform(jitter=1e-3)(images, (16, 16), [torch.Generator()]),
    ):
        torch.testing.assert_close(view, torch.full_like(view, 0.5), atol=0.02, rtol=0)
