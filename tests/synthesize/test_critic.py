"""What a generator is trained against looks at inputs of any proportions."""

from __future__ import annotations

import pytest
import torch

from cnnlens.synthesize.critic import Critic


@pytest.mark.parametrize("size", [(32, 32), (64, 16), (8, 128), (1, 64), (64, 1), (3, 3), (1, 1)])
def test_images_of_any_proportions_are_judged_by_every_pixel(size: tuple[int, int]) -> None:
    critic = Critic((3, *size), 5)
    images = torch.rand(2, 3, *size, requires_grad=True)
    found = critic(images, torch.rand(2, 5, 1, 1))
    assert found.shape == (2,) and found.isfinite().all()
    found.sum().backward()
    assert images.grad is not None and images.grad.abs().sum(1).all()
