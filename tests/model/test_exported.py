from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.hooks import read
from cnnlens.model.layers import find_layers
from cnnlens.model.open import open_model


class Net(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        )
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x)).mean((2, 3))


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.write_text, (self.path, "caught")


def export(path: Path, net: nn.Module, *inputs: torch.Tensor, **options: Any) -> Path:
    torch.export.save(torch.export.export(net.eval(), inputs, **options), path)
    return path


def rewrite(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return export(tmp_path / "net.pt2", Net(), torch.zeros(2, 3, 40, 48))


def test_a_fixed_batch_and_size_are_found_and_honoured(program: Path) -> None:
    torch.manual_seed(0)
    net = Net().eval()
    model = open_model(str(program), device="cpu")
    x = torch.rand(2, 3, 40, 48)
    assert model.batch == 2
    assert model.preprocess.size == (40, 48)
    assert torch.allclose(model.net(x), net(x), atol=1e-6)
    assert {"stem.0", "stem.2", "head"} <= {name for name, _ in model.net.named_modules()}
    with pytest.raises(UsageError, match="takes pictures of 40x48 only"):
        open_model(str(program), image_size=(64, 64), device="cpu")


def test_a_free_batch_and_size_stay_free(tmp_path: Path) -> None:
    dims = {0: torch.export.Dim("n"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    x = torch.zeros(2, 3, 40, 48)
    path = export(tmp_path / "net.bin", Net(), x, dynamic_shapes=(dims,))
    model = open_model(str(path), image_size=(32, 64), device="cpu")
    assert model.batch is None
    assert model.preprocess.size == (32, 64)
    assert model.net(torch.zeros(5, 3, 32, 64)).shape == (5, 2)


def test_the_number_of_channels_follows_the_program(tmp_path: Path) -> None:
    path = export(tmp_path / "net.pt2", Net(6), torch.zeros(1, 6, 16, 16))
    assert open_model(str(path), device="cpu").preprocess.channels == 6


def test_programs_of_other_inputs_are_named(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    path = export(tmp_path / "two.pt2", Two(), torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(CnnlensError, match="takes 2 inputs"):
        open_model(str(path), device="cpu")


def test_a_damaged_program_gets_one_line(program: Path) -> None:
    rewrite(program, lambda name, data: b"{" if name.endswith("models/model.json") else data)
    with pytest.raises(CnnlensError) as caught:
        open_model(str(program), device="cpu")
    assert "cannot be opened as an exported program" in caught.value.message


@pytest.mark.parametrize("member", ["sample_inputs", "weight_0"])
def test_pickles_inside_are_never_run(program: Path, tmp_path: Path, member: str) -> None:
    mark = tmp_path / "mark"
    buffer = io.BytesIO()
    torch.save(Trap(mark), buffer)

    def plant(name: str, data: bytes) -> bytes:
        if member == "weight_0" and name.endswith("weights_config.json"):
            config = json.loads(data)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return json.dumps(config).encode()
        older = member == "weight_0" and name.endswith("weights/model.pt")
        return buffer.getvalue() if member in name or older else data

    rewrite(program, plant)
    with pytest.raises(CnnlensError) as caught:
        open_model(str(program), device="cpu")
    assert "--allow-pickle" in caught.value.hint
    assert not mark.exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"torch.ops.aten.relu.default", b"torch.os.system"),
        (b"torch.ops.aten.relu.default", b"_operator.methodcaller"),
        (b"torch.ops.aten.relu.default", b"torchx.os.system"),
        (b'"as_int": 40}', b'"as_expr": {"expr_str": "exec(chr(49))", "hint": null}}'),
        (b'"name": "relu"', b'"name": "relu)\\nimport os #"'),
    ],
)
def test_code_in_the_graph_is_refused(program: Path, old: bytes, new: bytes) -> None:
    found = []

    def plant(name: str, data: bytes) -> bytes:
        if name.endswith("models/model.json"):
            found.append(old in data)
            return data.replace(old, new)
        return data

    rewrite(program, plant)
    assert found == [True]
    with pytest.raises(CnnlensError) as caught:
        open_model(str(program), device="cpu")
    assert "can run any code" in caught.value.message


def test_loading_leaves_torch_as_it_was(program: Path) -> None:
    before = torch.load
    open_model(str(program), device="cpu")
    assert torch.load is before


class Dropping(Net):
    def __init__(self, drop: nn.Module) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(super().forward(x)[:, :, None, None])


class Bernoulli(nn.Module):
    """Stochastic depth, as torchvision and timm draw it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.empty_like(x).bernoulli_(0.5) if self.training else x


def saved(path: Path, net: nn.Module, decomposed: bool) -> str:
    program = torch.export.export(net, (torch.zeros(2, 3, 16, 16),))
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return str(path)


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Net, "its norms follow the batch"),
        (lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)), "its norms follow"),
        (lambda: Dropping(nn.Dropout()), "norms follow the batch and its dropout draws at random"),
        (lambda: nn.Sequential(nn.Dropout2d()), "its dropout draws at random"),
        (lambda: nn.Sequential(Bernoulli()), "its dropout draws at random"),
    ],
)
def test_training_mode_is_refused_and_evaluation_mode_opens(
    make: Callable[[], nn.Module], said: str, decomposed: bool, tmp_path: Path
) -> None:
    with pytest.raises(CnnlensError) as caught:
        open_model(saved(tmp_path / "train.pt2", make().train(), decomposed), device="cpu")
    assert "was exported in training mode" in caught.value.message
    assert said in caught.value.message
    assert "net.eval()" in caught.value.hint
    open_model(saved(tmp_path / "eval.pt2", make().eval(), decomposed), device="cpu")


@pytest.mark.parametrize("decomposed", [False, True])
def test_norms_that_keep_no_numbers_are_the_same_in_every_mode(
    decomposed: bool, tmp_path: Path
) -> None:
    net = nn.Sequential(nn.InstanceNorm2d(3), nn.GroupNorm(3, 3), nn.Dropout(0)).train()
    open_model(saved(tmp_path / "net.pt2", net, decomposed), device="cpu")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_programs_of_other_number_types_open_and_compute_the_same(
    kind: torch.dtype, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = Net().eval().to(kind)
    path = export(tmp_path / "net.pt2", net, torch.zeros(2, 3, 16, 16, dtype=kind))
    model = open_model(str(path), device="cpu")
    assert any(f"computes in {str(kind).removeprefix('torch.')}" in note for note in model.notes)
    layers = find_layers(model)
    x = torch.rand(2, 3, 16, 16)
    found = read(model.net, x, [layers.resolve("stem.2").place])[0]
    wanted = net.stem(x.to(kind)).float()
    assert torch.allclose(found, wanted, rtol=2e-2, atol=2e-2)
