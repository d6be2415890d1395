from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as processes
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cnnlens.interpretable.cgl import split
from cnnlens.interpretable.concept_groups import ConceptGroups, GroupedLayer
from cnnlens.interpretable.reductions import average, from_first, reduce_max, reduce_sum
from cnnlens.settings.finetune import CglSettings
from tests import warm

SETTINGS = CglSettings(2, group_weight=0.5, spatial_weight=0.1, block_weight=0.02)
LAYERS = [GroupedLayer("conv1", "0", "", split(8, 2)), GroupedLayer("conv2", "2", "", split(9, 2))]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 9, 3), nn.AdaptiveAvgPool2d(1)
    ).double()


def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    scale = torch.linspace(0.2, 3, 6, dtype=torch.float64)[:, None, None, None]
    return torch.randn(6, 3, 9, 9, generator=generator, dtype=torch.float64) * scale


def train(model: nn.Module, inner: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Three steps; every process draws the same pairs."""
    groups = ConceptGroups(LAYERS, SETTINGS, 0).double()
    parameters = [*inner.parameters(), *groups.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    with groups.hooks(inner):
        for _ in range(3):
            task = model(x).square().mean()
            loss = task + groups.weighted(groups.terms(inner, reduce_sum))
            optimizer.zero_grad()
            loss.backward()
            for own in groups.parameters():  # which no data-parallel wrapper averages
                own.grad = reduce_sum(own.grad) / (
                    dist.get_world_size() if dist.is_initialized() else 1
                )
            optimizer.step()
    return {**inner.state_dict(), "p1": groups.p1.detach(), "p2": groups.p2.detach()}


def half(rank: int, folder: str) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    inner = net()
    found = train(DistributedDataParallel(inner), inner, pictures()[rank * 3 : rank * 3 + 3])
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    dist.barrier()  # nobody hangs up while the other still speaks
    os._exit(0)  # gloo's threads may abort a process that takes its leave


def left_alone(rank: int, folder: str) -> None:
    """The other process ends after one sum; this one asks it for more."""
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    total = reduce_sum(value := torch.ones(2, requires_grad=True))
    if rank:
        os._exit(0)
    said = []
    for ask in (
        lambda: total.sum().backward(),
        lambda: reduce_sum(value),
        lambda: reduce_max(value),
        lambda: average([value.detach()]),
        lambda: from_first((1.0,), torch.device("cpu")),
    ):
        try:
            ask()
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}".splitlines()[0])
    Path(folder, "said").write_text("\n".join(said))
    os._exit(0)


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_a_process_that_has_ended_is_told_in_plain_words(tmp_path: Path):
    processes.start_processes(left_alone, (str(tmp_path),), nprocs=2, start_method=warm.method())
    said = (tmp_path / "said").read_text().splitlines()
    assert said == ["CnnlensError: another process of this run has ended"] * 5


def test_one_process_adds_up_nothing():
    value = torch.ones(3)
    assert reduce_sum(value) is value


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_two_processes_of_half_the_minibatch_train_as_one_of_the_whole(tmp_path: Path):
    processes.start_processes(half, (str(tmp_path),), nprocs=2, start_method=warm.method())
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    whole = net()
    expected = train(whole, whole, pictures())
    start = net().state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-10), name
        assert name not in start or not torch.allclose(value, start[name])
