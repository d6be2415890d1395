"""The mark of a network in memory: another one after every change that its numbers may follow from,
the same one where nothing was changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlens import Preprocess, wrap_module
from cnnlens.model.definition import slots
from tests.model import in_memory
from tests.model.in_memory import Base, Keeper, Net, Straight, keeping, net

PREPROCESS = Preprocess((8, 8), (0.5,) * 3, (0.5,) * 3)


def mark(module: nn.Module) -> str:
    return wrap_module(module, PREPROCESS).fingerprint


def other_forward(self: Net, x: Tensor) -> Tensor:
    return self.fc(F.gelu(self.c2(F.relu(self.c1(x)))).mean((2, 3)))


def hooked(one: Net, factor: float) -> None:
    one.c1.register_forward_hook(lambda m, i, o: o * factor)


def made_parametrized(one: Net) -> None:
    nn.utils.parametrizations.weight_norm(one.c1)
    one.c1.parametrizations.weight.original0.data *= 2


CHANGES: dict[str, Callable[[Net, pytest.MonkeyPatch], object]] = {
    "weight": lambda n, p: n.c1.weight.data[0].add_(1),
    "buffer that no state dict has": lambda n, p: n.scale.fill_(2),
    "attribute": lambda n, p: setattr(n, "gain", 5),
    "tensor attribute": lambda n, p: n.mask[:, 2].zero_(),
    "entry of an attribute": lambda n, p: n.options.update(skip=True),
    "partial": lambda n, p: setattr(n, "last", in_memory.functools.partial(torch.mul, other=2.0)),
    "attribute of a layer": lambda n, p: setattr(n.c1, "padding", (0, 0)),
    "attribute of the class": lambda n, p: p.setattr(Net, "power", 2.0),
    "hook": lambda n, p: hooked(n, 0.5),
    "pre-hook": lambda n, p: n.c2.register_forward_pre_hook(lambda m, i: (i[0] + 1,)),
    "backward hook": lambda n, p: n.c2.register_full_backward_hook(lambda m, i, o: (i[0] * 2,)),
    "method as a hook": lambda n, p: n.c2.register_forward_hook(Keeper(0.5).hook),
    "forward of the class": lambda n, p: p.setattr(Net, "forward", other_forward),
    "forward of this one": lambda n, p: setattr(n, "forward", other_forward.__get__(n)),
    "method of a base": lambda n, p: p.setattr(Base, "scaled", lambda self, x: x * 3),
    "function that is called": lambda n, p: p.setattr(Net, "act", staticmethod(F.relu)),
    "number that is read": lambda n, p: p.setattr(in_memory, "SLOPE", 0.3),
    "replaced in a library": lambda n, p: p.setattr(F, "leaky_relu", lambda x, slope: x),
    "method of a library's class": lambda n, p: p.setattr(nn.Conv2d, "forward", lambda s, x: x),
    "autograd function": lambda n, p: p.setattr(Straight, "forward", staticmethod(other_forward)),
    "layer": lambda n, p: setattr(n, "c2", nn.Identity()),
    "parametrization": lambda n, p: made_parametrized(n),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = net()
    before = mark(one)
    assert mark(one) == before == mark(net())
    CHANGES[change](one, monkeypatch)
    assert mark(one) != before


def test_a_hook_is_seen_with_what_it_closes_over_and_so_is_its_end() -> None:
    marks = set()
    for factor in (0.5, 0.25):
        one = net()
        hooked(one, factor)
        marks.add(mark(one))
    assert len(marks) == 2
    one = net()
    before = mark(one)
    handle = one.c1.register_forward_hook(lambda m, i, o: -o)
    marks.add(mark(one))
    handle.remove()
    assert len(marks) == 3 and mark(one) == before


def test_what_passes_write_makes_no_other_network() -> None:
    """Counters, what the network or a hook keeps of a pass: also after a user's own pass."""
    one = keeping()
    before = mark(one)
    calls = one.calls
    assert mark(one) == before and one.calls == calls  # known: no pass was made
    one(torch.rand(3, 3, 8, 8)).sum().backward()
    assert one.kept is not None and mark(one) == before == mark(keeping())
    used = keeping()  # before it is ever looked at
    used(torch.rand(3, 3, 8, 8)).sum().backward()
    assert mark(used) == before
    one.gain = 3
    assert mark(one) != before


SAME: list[Callable[[Net], nn.Module]] = [
    lambda n: n.to(memory_format=torch.channels_last), nn.DataParallel, nn.Module.train,
    lambda n: n.requires_grad_(False), lambda n: torch.compile(n, backend="eager"),
]  # fmt: skip


@pytest.mark.parametrize("make", SAME)
def test_what_changes_no_number_is_not_seen(make: Callable[[Net], nn.Module]) -> None:
    assert mark(make(net())) == mark(net())


CELL = """
import torch, torch.nn.functional as F
from torch import nn
class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return F.ACT(x)
class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        "DOC"
        return Step.apply(F.ACT(self.c1(x))).mean((2, 3))
"""


def run_cell(act: str, where: str, doc: str = "One.") -> nn.Module:
    space = {"__name__": "__main__"}
    text = CELL.replace("ACT", act).replace("DOC", doc)
    exec(compile("\n" * len(where) + text, where, "exec"), space)
    torch.manual_seed(0)
    return space["Cell"]()  # type: ignore[operator]


def test_a_cell_that_runs_again_makes_the_same_network_and_a_changed_one_another() -> None:
    one = mark(run_cell("relu", "<cell 1>"))
    assert one == mark(run_cell("relu", "/kernel/cell.py", "Two."))
    assert one != mark(run_cell("leaky_relu", "<cell 1>"))


def test_weights_that_a_quantized_layer_packs_are_seen() -> None:
    def packed(seed: int) -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        torch.manual_seed(seed)
        net.append(nn.Linear(4, 2))
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear})

    assert mark(packed(0)) == mark(packed(0)) != mark(packed(1))


class Absent:
    """Stands for a package that is loaded when it is first asked, and is not installed (Keras)."""

    def __getattr__(self, name: str) -> object:
        raise ImportError("This requires the tensorflow module.")


def test_a_package_that_is_not_there_is_no_obstacle() -> None:
    net = nn.Conv2d(3, 4, 3)
    net.backend = Absent()
    before = mark(net)
    net.weight.data += 1
    assert mark(net) != before


def test_two_classes_of_one_name_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cell has it that derives a class from the one of its name."""
    derived = type("Net", (Net,), {"forward": other_forward, "__module__": Net.__module__})
    torch.manual_seed(0)
    assert mark(derived()) != mark(net())


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[list[str]]:
    """Marks that another process gives, with another order of sets and more threads."""
    text = (
        "from tests.model.test_definition import *; torch.set_num_threads(2)\n"
        "print(mark(net())); print(mark(keeping()))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, env=environment
    )
    yield done.stdout.split()


def test_another_process_gives_the_same_mark(elsewhere: list[str]) -> None:
    assert elsewhere == [mark(net()), mark(keeping())]


def test_things_that_hold_each_other_are_read_once() -> None:
    one = net()
    one.options["net"] = one
    one.ring = [one.c1]
    one.ring.append(one.ring)
    assert slots(one) == slots(one)
