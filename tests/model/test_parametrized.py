"""Weights in parts come out as the network that kept them computes with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from cnnlens.errors import CnnlensError
from cnnlens.model.parametrized import whole_weights


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def trained(net: nn.Module) -> nn.Module:
    """Let a forward pass in training mode settle what is estimated on the way."""
    torch.manual_seed(1)
    net.train()(torch.rand(2, 3, 8, 8))
    return net.eval()


def pruned(conv: nn.Module) -> None:
    prune.l1_unstructured(conv, "weight", 0.5)
    prune.random_structured(conv, "weight", 0.3, dim=0)


WAYS = {
    "pruning": pruned,
    "weight normalization": lambda conv: parametrizations.weight_norm(conv),
    "weight normalization, by inputs": lambda conv: parametrizations.weight_norm(conv, dim=1),
    "weight normalization, as a whole": lambda conv: nn.utils.weight_norm(conv, dim=None),
    "weight normalization, old": lambda conv: nn.utils.weight_norm(conv),
    "spectral normalization": lambda conv: parametrizations.spectral_norm(conv),
    "spectral normalization, old": lambda conv: nn.utils.spectral_norm(conv),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_weight_is_what_the_network_computes_with(way: str, transposed: bool) -> None:
    torch.manual_seed(0)
    conv = (nn.ConvTranspose2d if transposed else nn.Conv2d)(3, 5, 3)
    net = nn.Sequential(conv, nn.BatchNorm2d(5))
    WAYS[way](net[0])
    state, lines = whole_weights(trained(net).state_dict())
    assert lines == [f"{way.partition(',')[0]} of 1 tensors is computed"]
    plain = nn.Sequential(type(conv)(3, 5, 3), nn.BatchNorm2d(5))
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(plain.eval()(x), net(x), rtol=1e-5, atol=1e-6)


def test_plain_names_with_the_same_endings_stay() -> None:
    state = {"attention.w_v": torch.ones(2), "gain_g": torch.ones(1), "weight": torch.ones(3)}
    found, lines = whole_weights(state)
    assert list(found) == list(state) and not lines


def test_what_cannot_be_known_is_named_with_the_way_out() -> None:
    conv = nn.Conv2d(3, 5, 3)
    parametrize.register_parametrization(conv, "weight", Doubled())
    with pytest.raises(CnnlensError, match="weight is parametrized") as caught:
        whole_weights({f"stem.{k}": v for k, v in conv.state_dict().items()})
    assert "remove_parametrizations" in caught.value.hint
