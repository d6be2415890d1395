"""Whether an image's values are its own: planted networks whose values depend on more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlens import Preprocess, wrap_module
from cnnlens.model.steady import BATCH, CHANCE, unsteady

PREPROCESS = Preprocess((8, 8), (0.5,) * 3, (0.5,) * 3)


class Doing(nn.Module):
    """A convolution, and what is done with its maps."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.what = nn.Conv2d(3, 4, 3), what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(self.conv(x)).mean((2, 3))


def one_by_one(x: Tensor) -> Tensor:
    if len(x) > 1:
        raise ValueError("one image at a time")
    return x


def one_by_one_at_random(x: Tensor) -> Tensor:
    return F.dropout(one_by_one(x))


KINDS: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "steady": (F.relu, []),
    "dropout without a flag": (F.dropout, [CHANCE]),
    "noise": (lambda x: x + torch.randn(1), [CHANCE]),
    "norms of the batch": (nn.BatchNorm2d(4, track_running_stats=False), [BATCH]),
    "scale of the batch": (lambda x: x / x.abs().max(), [BATCH]),
    "one image alone": (one_by_one, []),
    "one image alone, by chance": (one_by_one_at_random, [CHANCE]),
    "fails": (lambda x: x[:, 9:].squeeze(1), []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_values_depend_on_besides_the_image_is_found(kind: str) -> None:
    what, lines = KINDS[kind]
    net = Doing(what).eval()
    state = torch.random.get_rng_state()
    assert unsteady(net, PREPROCESS) == lines
    assert torch.equal(state, torch.random.get_rng_state())
    assert wrap_module(net, PREPROCESS).unsteady == lines


def test_of_a_fixed_batch_the_other_images_are_exchanged() -> None:
    def of_two(x: Tensor) -> Tensor:
        return x.view(2, 4, 6, 6)

    assert unsteady(Doing(of_two).eval(), PREPROCESS, batch=2) == []
    normed = Doing(lambda x: of_two(x) / of_two(x).amax()).eval()
    assert unsteady(normed, PREPROCESS, batch=2) == [BATCH]
