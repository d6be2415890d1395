"""Networks whose weights lie in several processes are refused, and the way out leads out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import cnnlens
from tests import bare

FED = cnnlens.Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)
PHOTOS = list(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8))


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Any]:
    """One process that is a whole group."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        from torch.distributed.device_mesh import init_device_mesh

        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def fsdp2(net: nn.Sequential, mesh: Any) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    fully_shard(net[0], mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net


def fsdp2_in_part(net: nn.Sequential, mesh: Any) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    fully_shard(net[0], mesh=mesh)
    return net


def fsdp1(net: nn.Sequential, mesh: Any) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    net[0] = FullyShardedDataParallel(net[0], device_id=torch.device("cpu"))
    return net


def tensor_parallel(net: nn.Sequential, mesh: Any) -> nn.Module:
    from torch.distributed.tensor import distribute_module

    return distribute_module(net, mesh)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shard", [fsdp2, fsdp2_in_part, fsdp1, tensor_parallel])
def test_it_is_named_and_its_whole_state_opens(
    shard: Callable[[nn.Sequential, Any], nn.Module], mesh: Any, tmp_path: Path
) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    net = shard(plain(), mesh)
    with pytest.raises(cnnlens.CnnlensError, match="shared out among processes: 0") as caught:
        cnnlens.Investigation(net, tmp_path / "ws", preprocess=FED, quiet=True)
    assert "torch.distributed.checkpoint.state_dict.get_model_state_dict" in caught.value.hint
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    copy = plain()
    nn.init.zeros_(copy[0][0].weight)
    copy.load_state_dict(get_model_state_dict(net, options=options))
    lens = cnnlens.Investigation(copy, tmp_path / "copy", preprocess=FED, quiet=True)
    store = lens.extract(data=PHOTOS, layer="conv1")
    x = FED.normalize(torch.from_numpy(np.stack(PHOTOS)).permute(0, 3, 1, 2))
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(store[0:5]), plain()[0](x))


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_it_is_named_wherever_it_is_read(mesh: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"state_dict": fsdp2(plain(), mesh).state_dict()}, path)
    words = "net.pt holds weights that are shared out among processes"
    for allow in (False, True):
        with pytest.raises(cnnlens.CnnlensError, match=words):
            cnnlens.open_model(str(path), allow_pickle=allow)
    opened = f"from cnnlens import open_model\nopen_model({str(path)!r})"
    assert words in bare.run(opened).stderr  # where PyTorch does not know of parts


def test_a_network_with_a_scripted_part_says_what_to_give_instead() -> None:
    net = plain()
    net[0] = torch.jit.script(net[0])
    with pytest.raises(cnnlens.UsageError, match="TorchScript"):
        cnnlens.wrap_module(net, FED)
