"""A caller's default number type decides nothing, and comes back."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cnnlens
from cnnlens.model.of_all_threads import in_float32
from tests.model.nets import small_net

FED = cnnlens.Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)
PHOTOS = list(np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8))
TYPES = [torch.float64, torch.bfloat16, torch.float16]


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(before)


def made(net: nn.Module, folder: Path) -> dict[str, str]:
    """Digests of all pictures and tables that some commands make of a network."""
    lens = cnnlens.Investigation(net, folder, preprocess=FED, quiet=True)
    lens.visualize(filter="conv2:0", steps=3)
    lens.units(data=PHOTOS, layer="conv2")
    lens.invert(image=PHOTOS[:1], layer="conv1", steps=2)
    lens.invert(image=PHOTOS[:1], data=PHOTOS, layer="conv2", method="upconv", epochs=1)
    files = sorted(f for f in folder.rglob("*") if f.suffix in (".png", ".csv"))
    return {str(f.relative_to(folder)): hashlib.md5(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(small_net(), tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize("dtype", TYPES)
def test_commands_make_the_same_bytes(
    dtype: torch.dtype, usual: dict[str, str], tmp_path: Path
) -> None:
    net = small_net()
    with default(dtype):
        found = made(net, tmp_path)
    assert found == usual and len(usual) > 3


def test_a_network_of_float64_computes_in_it_as_before(tmp_path: Path) -> None:
    net = small_net().double().eval()
    x = FED.normalize(torch.from_numpy(np.stack(PHOTOS)).permute(0, 3, 1, 2))
    with torch.no_grad():
        expected: Tensor = net[:5](x.double()).float()
    with default(torch.float64):
        lens = cnnlens.Investigation(net, tmp_path, preprocess=FED, quiet=True)
        lens.visualize(filter="conv2:0", steps=2)
        store = lens.extract(data=PHOTOS, layer="conv2")
    assert torch.equal(torch.from_numpy(store[0:6]), expected)
    assert all(p.dtype == torch.float64 for p in net.parameters())


def test_a_network_of_a_file_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\ntorch.set_default_dtype(torch.float64)\n"
        "def make():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())\n"
    )
    with default(torch.float16):
        own = cnnlens.open_model(f"{tmp_path / 'own.py'}:make", device="cpu")
        zoo = cnnlens.open_model("zoo:demo_net", device="cpu")
        assert torch.equal(zoo.example(), zoo.example()) and zoo.example().dtype == torch.float32
    assert {p.dtype for m in (own, zoo) for p in m.net.parameters()} == {torch.float32}
    assert zoo.fingerprint == cnnlens.open_model("zoo:demo_net", device="cpu").fingerprint


def test_an_encoder_of_names_computes_in_float32(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text(
        "import torch\n"
        "def texts(of):\n"
        "    assert torch.ones(1).dtype == torch.float32\n"
        "    return torch.stack([torch.tensor([1.0, len(one)]) for one in of])\n"
        "def make():\n"
        "    return texts, texts\n"
    )
    lens = cnnlens.Investigation(small_net(), tmp_path / "ws", preprocess=FED, quiet=True)
    photos = list(np.random.default_rng(1).integers(0, 256, (48, 16, 16, 3), np.uint8))
    lens.label(data=photos, labels=["cat", "dog"] * 24, layer="conv2")
    with default(torch.float64):
        assert lens.search("cat", encoder=f"{tmp_path / 'words.py'}:make")


def test_the_functions_below_make_the_same_pictures() -> None:
    from cnnlens.synthesize.objective import unit

    model = cnnlens.wrap_module(small_net(), FED)
    layer = cnnlens.find_layers(model).resolve("conv2")
    found = []
    for dtype in (torch.float32, torch.float64):
        with default(dtype):
            settings = cnnlens.VisualizeSettings(steps=2, size=16)
            steps, types = [], []
            for step in cnnlens.visualize(model, [unit(layer, 0)], settings):
                steps.append(step)
                types.append(torch.get_default_dtype())
        assert set(types) == {dtype}  # between steps the caller has his own
        found.append(steps[-1].pictures[0].image)
    assert np.array_equal(*found)


def test_of_several_threads_the_last_one_puts_it_back() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with in_float32():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with default(torch.float64):
        thread.start()
        inside.wait(60)
        with in_float32():
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float32  # the other one computes still
        leave.set()
        thread.join()


def test_operations_without_a_deterministic_algorithm_only_warn(tmp_path: Path) -> None:
    seen = []
    net = small_net()
    net.register_forward_hook(
        lambda *_: seen.append(torch.is_deterministic_algorithms_warn_only_enabled())
    )
    torch.use_deterministic_algorithms(True)
    try:
        lens = cnnlens.Investigation(net, tmp_path, preprocess=FED, quiet=True)
        lens.extract(data=PHOTOS, layer="conv2")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen and all(seen)
