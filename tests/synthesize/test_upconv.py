"""The up-convolutional network: its arithmetic, its sizes, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnnlens.synthesize.upconv import UpConv, UpconvNet, sizes_between
from tests.reference.upconv import up_convolution


def test_up_convolution_is_zeros_between_values_then_a_convolution() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 3, 4)
    layer = UpConv(2, 3, (3, 4), (6, 8))
    kernel = layer.weight.detach().flip(2, 3).transpose(0, 1).numpy()  # (3, 2, 5, 5)
    assert layer.bias is not None
    bias = layer.bias.detach().numpy()
    expected = up_convolution(maps[0].numpy(), kernel, bias)  # (3, 6, 8)
    np.testing.assert_allclose(layer(maps)[0].detach().numpy(), expected, atol=1e-5)
    smaller = UpConv(2, 3, (3, 4), (5, 7))  # what is left out is the last row and column
    smaller.load_state_dict(layer.state_dict())
    np.testing.assert_allclose(smaller(maps)[0].detach().numpy(), expected[:, :5, :7], atol=1e-5)


@pytest.mark.parametrize(
    ("features", "image", "ups"),
    [
        ((256, 4, 4), (3, 32, 32), 3),
        ((32, 32, 32), (3, 32, 32), 0),
        ((5, 13, 13), (3, 224, 224), 4),  # 14 doubled four times
        ((5, 27, 20), (1, 223, 151), 3),
        ((7, 3, 9), (13, 30, 70), 3),
        ((10, 1, 1), (3, 224, 224), 6),
        ((10, 1, 1), (3, 3, 2), 0),
        ((4, 16, 16), (3, 7, 7), 0),  # features larger than the image
    ],
)
def test_images_are_exactly_of_their_size(
    features: tuple[int, int, int], image: tuple[int, int, int], ups: int
) -> None:
    net = UpconvNet(features, image, width=4)
    assert net(torch.randn(2, *features)).shape == (2, *image)
    assert sum(isinstance(m, UpConv) for m in net.modules()) == ups
    flat = sum(isinstance(m, nn.Linear) for m in net.modules())
    assert flat == (3 if features[1:] == (1, 1) else 0)


def test_sizes_halve_from_the_image_down() -> None:
    assert sizes_between((13, 13), (224, 224))[:2] == [(14, 14), (28, 28)]
    assert sizes_between((4, 4), (101, 31)) == [(13, 4), (26, 8), (51, 16), (101, 31)]


def test_weights_follow_from_the_seed_alone_and_leave_the_callers_randomness() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, other = UpconvNet((3, 4, 4), (3, 8, 8)), UpconvNet((3, 4, 4), (3, 8, 8), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    again = UpconvNet((3, 4, 4), (3, 8, 8))
    assert all(map(torch.equal, one.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(one.head[0].weight, other.head[0].weight)


def test_untrained_it_gives_the_mean_image_whatever_the_scale_of_the_features() -> None:
    net = UpconvNet((3, 4, 4), (3, 8, 8))
    floor = torch.rand(3, 8, 8)
    net.standardize(torch.full((3,), 1e6), torch.full((3,), 1e4), floor)
    assert torch.equal(net(1e6 + 1e4 * torch.randn(2, 3, 4, 4)), floor.expand(2, -1, -1, -1))
