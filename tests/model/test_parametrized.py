"""Weights in parts come out as the network that kept them computes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from cnnlens.errors import CnnlensError
from cnnlens.model import zoo
from cnnlens.model.from_file import open_file
from cnnlens.model.open import open_model
from cnnlens.model.parametrized import whole_weights


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def trained(net: nn.Module, inputs: int = 3) -> nn.Module:
    """Let a forward pass in training mode settle what is estimated on the way."""
    torch.manual_seed(1)
    net.train()(torch.rand(2, inputs, 8, 8))
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
@pytest.mark.parametrize("inputs", [3, 5])  # of as many inputs as outputs no shape tells the axis
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_weight_is_what_the_network_computes_with(
    way: str, transposed: bool, inputs: int
) -> None:
    torch.manual_seed(0)
    conv = (nn.ConvTranspose2d if transposed else nn.Conv2d)(inputs, 5, 3)
    net = nn.Sequential(conv, nn.BatchNorm2d(5))
    WAYS[way](net[0])
    state, lines = whole_weights(trained(net, inputs).state_dict())
    assert lines == [f"{way.partition(',')[0]} of 1 tensor is computed"]
    plain = nn.Sequential(type(conv)(inputs, 5, 3), nn.BatchNorm2d(5))
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    x = torch.rand(2, inputs, 8, 8)
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


def test_a_network_whose_layers_are_called_as_those_of_adapters_opens(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("dla34").eval()
    torch.save(net.state_dict(), tmp_path / "dla.pt")
    model = open_model(str(tmp_path / "dla.pt"), arch="timm:dla34", device="cpu")
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.net(x), net(x))


@pytest.mark.parametrize(
    "name",
    ["base_model.model.conv1.lora_A.default.weight", "conv1.base_layer.weight", "qkv.lora_B"],
)
def test_adapters_that_wait_to_be_merged_are_refused(tmp_path: Path, name: str) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.ones(8, 3, 3, 3), name: torch.ones(2, 2)}},
               tmp_path / "net.pt")  # fmt: skip
    with pytest.raises(CnnlensError, match="adapters that are not merged") as caught:
        open_file(tmp_path / "net.pt")
    assert name in caught.value.message and "merge_and_unload" in caught.value.hint


@pytest.mark.parametrize(
    "name",
    ["resnet.embedder.embedder.convolution.weight", "embeddings.patch_embeddings.weight",
     "vit.embeddings.cls_token", "mobilenet_v2.conv_stem.first_conv.convolution.weight",
     "vision_model.embeddings.patch_embedding.weight"],
)  # fmt: skip
def test_weights_of_transformers_want_their_settings_beside_them(tmp_path: Path, name: str) -> None:
    torch.save({name: torch.ones(8, 3, 3, 3)}, tmp_path / "net.pt")
    with pytest.raises(CnnlensError, match=r"transformers .* without its config\.json") as caught:
        open_file(tmp_path / "net.pt")
    assert "config.json beside it" in caught.value.hint


# ---- quantized


def refusal(path: Path) -> str:
    with pytest.raises(CnnlensError) as caught:
        open_file(path)
    assert "before it was quantized" in caught.value.hint
    return caught.value.message


def dynamic() -> nn.Module:
    torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    return torch.ao.quantization.quantize_dynamic(zoo.shapes_net(), {nn.Linear}, torch.qint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrapped", [False, True])
def test_packed_weights_are_refused(wrapped: bool, tmp_path: Path) -> None:
    state = dynamic().state_dict()
    torch.save({"state_dict": state, "epoch": 1} if wrapped else state, tmp_path / "net.pt")
    assert "holds a quantized network (fc._packed_params" in refusal(tmp_path / "net.pt")


@pytest.mark.filterwarnings("ignore")
def test_a_pickled_quantized_network_is_refused(tmp_path: Path) -> None:
    torch.save(dynamic(), tmp_path / "net.pt")
    with pytest.raises(CnnlensError, match=r"holds a quantized network \(fc\)"):
        open_model(str(tmp_path / "net.pt"), allow_pickle=True, device="cpu")


class WithExtraState(nn.Module):
    """Keeps a number beside its tensors, as metrics and some layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))

    def get_extra_state(self) -> dict[str, float]:
        return {"seen": 2.0}

    def set_extra_state(self, state: dict[str, float]) -> None:
        """Nothing is kept."""


def test_what_is_no_tensor_in_a_state_is_no_obstacle(tmp_path: Path) -> None:
    net = WithExtraState()
    torch.save(net, tmp_path / "net.pt")
    model = open_model(str(tmp_path / "net.pt"), allow_pickle=True, device="cpu")
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(model.net(x), net(x))


@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors_are_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = zoo.shapes_net().state_dict()
    state["conv1.weight"] = torch.quantize_per_tensor(state["conv1.weight"], 0.1, 0, torch.qint8)
    torch.save(state, tmp_path / "net.pt")
    assert "(conv1.weight)" in refusal(tmp_path / "net.pt")


@pytest.mark.parametrize("kind", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_whole_numbers_are_not_taken_for_weights(kind: torch.dtype, tmp_path: Path) -> None:
    state = {k: v.contiguous() for k, v in zoo.shapes_net().state_dict().items()}
    state["conv2.weight"] = torch.ones_like(state["conv2.weight"], dtype=kind)
    save_file(state, tmp_path / "net.safetensors")
    assert "(conv2.weight)" in refusal(tmp_path / "net.safetensors")
    torch.save({k: v.numpy() for k, v in state.items()}, tmp_path / "arrays.pt")
    assert "(conv2.weight)" in refusal(tmp_path / "arrays.pt")


def test_networks_prepared_for_quantization_are_refused(tmp_path: Path) -> None:
    state = zoo.shapes_net().state_dict()
    state["conv1.weight_fake_quant.scale"] = torch.ones(1)
    torch.save({"model": state}, tmp_path / "net.pt")
    assert "(conv1.weight_fake_quant.scale)" in refusal(tmp_path / "net.pt")


def test_masks_and_an_optimizers_bytes_are_no_quantized_weights(tmp_path: Path) -> None:
    more = {"optimizer": {"state": {0: {"exp_avg": torch.ones(2, 2, dtype=torch.uint8)}}}}
    torch.save({"state_dict": zoo.shapes_net().state_dict(), **more}, tmp_path / "net.pt")
    assert open_file(tmp_path / "net.pt").arch == "zoo:shapes_net"
