from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model import zoo
from cnnlens.model.from_file import open_file


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
def test_quantized_tensors_are_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = zoo.shapes_net().state_dict()
    state["conv1.weight"] = torch.quantize_per_tensor(state["conv1.weight"], 0.1, 0, torch.qint8)
    torch.save(state, tmp_path / "net.pt")
    assert "(conv1.weight)" in refusal(tmp_path / "net.pt")


def test_whole_numbers_are_not_taken_for_weights(tmp_path: Path) -> None:
    state = {k: v.contiguous() for k, v in zoo.shapes_net().state_dict().items()}
    state["conv2.weight"] = torch.ones_like(state["conv2.weight"], dtype=torch.int8)
    save_file(state, tmp_path / "net.safetensors")
    assert "(conv2.weight)" in refusal(tmp_path / "net.safetensors")


def test_networks_prepared_for_quantization_are_refused(tmp_path: Path) -> None:
    state = zoo.shapes_net().state_dict()
    state["conv1.weight_fake_quant.scale"] = torch.ones(1)
    torch.save({"model": state}, tmp_path / "net.pt")
    assert "(conv1.weight_fake_quant.scale)" in refusal(tmp_path / "net.pt")


def test_masks_and_an_optimizers_bytes_are_no_quantized_weights(tmp_path: Path) -> None:
    more = {"optimizer": {"state": {0: {"exp_avg": torch.ones(2, 2, dtype=torch.uint8)}}}}
    torch.save({"state_dict": zoo.shapes_net().state_dict(), **more}, tmp_path / "net.pt")
    assert open_file(tmp_path / "net.pt").arch == "zoo:shapes_net"
