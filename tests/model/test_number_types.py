"""Networks in half, bfloat16 and double: everything that runs one takes them and gives float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cnnlens.activations.passes import Forward
from cnnlens.attribution.cam import ClassMaps
from cnnlens.attribution.deconv import Projector
from cnnlens.model.classes import gives_scores
from cnnlens.model.convolutions import find_convolutions, first_filters
from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.surgery import head_of
from cnnlens.model.wrap import wrap_module
from cnnlens.settings import InvertSettings, VisualizeSettings
from cnnlens.synthesize.invert import features, invert
from cnnlens.synthesize.objective import channel
from cnnlens.synthesize.visualize import visualize

TYPES = {
    torch.float16: 2e-3,  # relative to the largest activation
    torch.bfloat16: 2e-2,
    torch.float64: 1e-5,
}


def plain(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
        *(nn.Conv2d(6, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)),
    ).eval()


def lent(dtype: torch.dtype) -> Model:
    return wrap_module(plain().to(dtype), Preprocess((12, 12)))


def place(model: Model) -> Layer:
    return find_layers(model).resolve("conv2")


@pytest.fixture(params=TYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def close(found: np.ndarray, wanted: np.ndarray, dtype: torch.dtype) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=TYPES[dtype] * np.abs(wanted).max())


def test_maps_and_scores_are_float32_and_those_of_the_network(dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 256, (3, 3, 12, 12), dtype=torch.uint8)
    results = []
    for model in (lent(dtype), lent(torch.float32)):
        maps, logits = Forward(model, [place(model)], logits=True, limit=2)(pixels)
        results.append((maps[0], logits))
    for found, wanted in zip(*results, strict=True):
        close(found, wanted, dtype)


def test_layers_convolutions_filters_and_heads_are_found(dtype: torch.dtype) -> None:
    model, other = lent(dtype), lent(torch.float32)
    assert [layer.name for layer in find_layers(model)] == [r.name for r in find_layers(other)]
    assert [c.norm for c in find_convolutions(model)] == ["1", ""]
    assert gives_scores(model) and head_of(model) == ("7", 4)
    found = first_filters(model, find_layers(model).resolve("conv1"))
    assert found is not None and found.dtype == np.float32


def test_units_are_visualized(dtype: torch.dtype) -> None:
    model = lent(dtype)
    steps = list(visualize(model, [channel(place(model), 1)], VisualizeSettings(steps=3)))
    picture = steps[-1].pictures[0]
    assert picture.alive and picture.final != 0 and np.isfinite(picture.image).all()


def test_photos_are_inverted(dtype: torch.dtype) -> None:
    model, photo = lent(dtype), torch.rand(3, 12, 12)
    target = features(model, place(model), photo)
    assert target.dtype == torch.float32
    steps = list(invert(model, place(model), target, photo, InvertSettings(steps=8)))
    assert steps[-1].error < 1


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_class_maps_are_made(dtype: torch.dtype, method: str) -> None:
    x = torch.rand(2, 3, 12, 12)
    found, wanted = (
        ClassMaps(model, method)(x, [2]) for model in (lent(dtype), lent(torch.float32))
    )
    close(found.maps.numpy(), wanted.maps.numpy(), dtype)


def test_units_are_projected(dtype: torch.dtype) -> None:
    x, model = torch.rand(2, 3, 12, 12), lent(dtype)
    with model.in_use():
        found = Projector(model.net, x, place(model).place).project([1]).numpy()
    other = lent(torch.float32)
    with other.in_use():
        wanted = Projector(other.net, x, place(other).place).project([1]).numpy()
    close(found, wanted, dtype)


def test_a_factory_of_such_a_network_opens_and_computes_in_float32(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    name = str(dtype)
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "def small():\n"
        f"    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to({name})\n"
    )
    model = open_model(f"{tmp_path / 'nets.py'}:small", image_size=(12, 12), device="cpu")
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}
    assert any(name.removeprefix("torch.") in note for note in model.notes)
    assert find_layers(model).resolve("conv1").units == 4


def test_an_exported_program_keeps_its_type(dtype: torch.dtype, tmp_path: Path) -> None:
    x = torch.rand(2, 3, 12, 12).to(dtype)
    program = torch.export.export(
        plain().to(dtype), (x,), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    model = open_model(str(tmp_path / "net.pt2"), device="cpu")
    pixels = torch.randint(0, 256, (3, 3, 12, 12), dtype=torch.uint8)
    maps, logits = Forward(model, [place(model)], logits=True, limit=2)(pixels)
    assert maps[0].dtype == np.float32 and logits is not None and logits.shape == (3, 4)
