"""Compiled networks give the bytes of those that they were compiled from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cnnlens
from tests import bare

FED = cnnlens.Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)
PHOTOS = list(np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8))


def rectified(x: Tensor) -> Tensor:
    return x.clamp(min=0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.top = nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU())
        self.fc = nn.Linear(4, 3)
        self.act = rectified

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.act(self.top(self.body(x))).mean((2, 3)))
        return found


def in_place(net: Net) -> Net:
    net.compile(backend="eager")
    return net


def part(net: Net) -> Net:
    net.body = torch.compile(net.body, backend="eager")
    return net


def part_in_place(net: Net) -> Net:
    net.body.compile(backend="eager")
    return net


def function(net: Net) -> Net:
    net.act = torch.compile(rectified, backend="eager")
    return net


KINDS = [lambda n: torch.compile(n, backend="eager"), in_place, part, part_in_place, function]


def made(net: nn.Module, folder: Path) -> dict[str, str]:
    lens = cnnlens.Investigation(net, folder, preprocess=FED, quiet=True)
    names = [row.name for row in lens.layers()]
    lens.visualize(filter="conv2:0", steps=2)
    lens.units(data=PHOTOS, layer="conv2")
    lens.extract(data=PHOTOS, layer="body.2")
    lens.deconv(data=PHOTOS, filter="conv2:0")
    lens.ablate(data=PHOTOS, labels=[0, 1, 2] * 2, filter="conv2:0")
    files = sorted(f for f in folder.rglob("*") if f.suffix in (".png", ".csv", ".json"))
    assert len(files) > 8
    found = {str(f.relative_to(folder)): hashlib.md5(f.read_bytes()).hexdigest() for f in files}
    return {**found, "names": " ".join(names)}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(Net().eval(), tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("compiled", KINDS)
@pytest.mark.parametrize("was_run", [False, True])
def test_the_same_bytes_as_without(
    compiled: Callable[[Net], nn.Module], was_run: bool, usual: dict[str, str], tmp_path: Path
) -> None:
    net = compiled(Net().eval())
    before = dict(net.named_modules())
    if was_run:
        net(torch.rand(1, 3, 16, 16))
    assert made(net, tmp_path) == usual
    assert dict(net.named_modules()) == before  # compiled as it was


def test_nothing_is_compiled_meanwhile_and_all_is_afterwards(tmp_path: Path) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    def compiled() -> Net:
        net = Net().eval()
        net.act = torch.compile(rectified, backend=backend)
        net.body = torch.compile(net.body, backend=backend)
        net.top.compile(backend=backend)
        return net

    x = torch.rand(1, 3, 16, 16)
    torch.compiler.reset()
    compiled()(x)
    usual = len(graphs)  # 3, of older PyTorch 2
    graphs.clear()
    torch.compiler.reset()
    net = compiled()
    lens = cnnlens.Investigation(net, tmp_path, preprocess=FED, quiet=True)
    lens.visualize(filter="conv2:0", steps=2)
    lens.units(data=PHOTOS, layer="conv2")
    assert not graphs
    net(x)
    assert len(graphs) == usual > 1


def test_a_stance_of_the_caller_comes_back(tmp_path: Path) -> None:
    from torch._dynamo import eval_frame

    with torch.compiler.set_stance("eager_on_recompile"):
        before = eval_frame._stance
        lens = cnnlens.Investigation(part(Net()), tmp_path, preprocess=FED, quiet=True)
        lens.extract(data=PHOTOS, layer="conv2")
        assert eval_frame._stance == before


def test_a_compiled_part_with_a_hook_of_its_own_keeps_it(tmp_path: Path) -> None:
    net = part(Net().eval())
    net.body.register_forward_hook(lambda module, args, output: output * 2)
    plain = Net().eval()
    plain.body.register_forward_hook(lambda module, args, output: output * 2)
    stores = []
    for name, one in {"compiled": net, "plain": plain}.items():
        lens = cnnlens.Investigation(one, tmp_path / name, preprocess=FED, quiet=True)
        stores.append(lens.extract(data=PHOTOS, layer="top.1")[0:6])
    assert np.array_equal(*stores)


def test_a_factory_whose_parts_are_compiled_opens_weights_of_the_plain_one(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def plain():\n"
        "    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
        "    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
        "def make():\n"
        "    net = plain()\n"
        "    net[0] = torch.compile(net[0], backend='eager')\n"
        "    return net\n"
    )
    state = cnnlens.open_model(f"{tmp_path / 'own.py'}:plain", device="cpu").net.state_dict()
    torch.save(state, tmp_path / "net.pt")
    words = ["layers", str(tmp_path / "net.pt"), "--arch", f"{tmp_path / 'own.py'}:make"]
    words += ["-w", str(tmp_path / "ws"), "--json"]
    done = bare.run(
        f"import sys\nfrom cnnlens.__main__ import main\nsys.argv[1:] = {words!r}\nmain()\n"
    )
    assert done.returncode == 0, done.stderr
    assert '"0.0"' in done.stdout and "_orig_mod" not in done.stdout
