"""Gradients and precision are had where they are needed, in whatever mode the caller is, whose mode
stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import cnnlens
from cnnlens.model.gradients import with_gradients
from cnnlens.synthesize.objective import unit
from tests.model.nets import small_net

FED = cnnlens.Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)
MODES = {
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default_device": lambda: torch.device("meta"),  # as others set "cuda"
}


def mode_now() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_device(),
    )


@pytest.mark.parametrize("mode", MODES)
def test_methods_that_follow_gradients_run_in_every_mode_of_the_caller(mode: str) -> None:
    photos = list(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8))
    net = small_net()
    wanted = cnnlens.Investigation(net, preprocess=FED, quiet=True).deconv(
        data=photos, filter="conv2:0"
    )
    with MODES[mode]():
        before = mode_now()
        lens = cnnlens.Investigation(net, preprocess=FED, quiet=True)
        assert lens.deconv(data=photos, filter="conv2:0").table() == wanted.table()
        lens.visualize(filter="conv2:0", steps=2)
        lens.fool(image=photos[:1], steps=2)
        lens.invert(image=photos[:1], layer="conv1", steps=2)
        lens.style(content=photos[0], style=photos[1], steps=2)
        lens.cam(image=photos[:1], method="gradcam", layer="conv1")
        assert mode_now() == before
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_a_generator_keeps_gradients_while_it_works_and_its_caller_keeps_his_mode() -> None:
    @with_gradients
    def steps() -> Iterator[bool]:
        for _ in range(2):
            yield torch.is_grad_enabled() and not torch.is_inference_mode_enabled()

    with torch.inference_mode():
        for has in steps():
            assert has and torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    with torch.no_grad():
        left = steps()
        assert next(left)
    left.close()
    assert torch.is_grad_enabled()


def test_what_is_kept_in_full_precision_was_made_in_it(tmp_path: Path) -> None:
    photos = list(np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8))
    found = []
    for folder in ("a", "b"):
        lens = cnnlens.Investigation(small_net(), tmp_path / folder, preprocess=FED, quiet=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=folder == "a"):
            lens.units(data=photos, layer="conv2")
        found.append((tmp_path / folder / "units/conv2/units.csv").read_bytes())
    assert found[0] == found[1]


def test_the_functions_below_compute_in_full_precision_too() -> None:
    model = cnnlens.wrap_module(small_net(), FED)
    layer = cnnlens.find_layers(model).resolve("conv2")
    settings = cnnlens.VisualizeSettings(steps=2, size=16)
    found = []
    for caller in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=caller):
            *_, last = cnnlens.visualize(model, [unit(layer, 0)], settings)
            assert torch.is_autocast_enabled("cpu") == caller
        found.append(last.pictures[0].image)
    assert np.array_equal(*found)


def test_weights_that_were_made_in_inference_mode_are_named() -> None:
    with torch.inference_mode():
        net = small_net()
    layer = cnnlens.find_layers(cnnlens.wrap_module(net, FED)).resolve("conv2")
    with pytest.raises(cnnlens.CnnlensError, match="made in inference mode"):
        cnnlens.Projector(net, torch.rand(1, 3, 16, 16), layer.place)


class Following(torch.nn.Sequential):
    """Turns gradients on itself, as networks do whose passes are made of slopes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return super().forward(x.requires_grad_())


def test_a_network_that_turns_gradients_on_is_measured_as_one_that_does_not(tmp_path: Path) -> None:
    photos = list(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8))
    found = []
    for net in (small_net(), Following(*small_net())):
        lens = cnnlens.Investigation(
            net, tmp_path / type(net).__name__, preprocess=FED, classes=[*"abc"], quiet=True
        )
        lens.extract(data=photos, labels=[*"abc"] * 4, layer="conv2", logits=True)
        tables = lens.units(layer="conv2").table(), lens.ablate(filter="conv2:all").table()
        cam = [(row["class"], row["final"]) for row in lens.cam(image=photos[:2]).table()]
        found.append([*tables, cam, lens.outliers().table()])
        lens.visualize(logit="a", steps=1)
    assert found[0] == found[1]


def test_classes_that_take_a_module_run_it_as_trained_and_leave_it_as_it_was() -> None:
    x = torch.rand(2, 3, 16, 16)
    nets = small_net(), small_net()
    nets[0][1].running_var.fill_(4)
    nets[1].load_state_dict(nets[0].state_dict())
    state = {name: value.clone() for name, value in nets[0].state_dict().items()}
    found = []
    for net in (nets[0].train(), nets[1].eval()):
        model = cnnlens.wrap_module(net, FED)
        place = cnnlens.find_layers(model).resolve("conv2").place
        maps = [cnnlens.ClassMaps(model, way)(x, classes=[1]).maps for way in ("cam", "gradcam")]
        found.append([*map(torch.as_tensor, maps), cnnlens.project(net, x, place, 0)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in nets[0].state_dict().items())
    assert all(m.training for m in nets[0].modules())
    assert all(p.requires_grad for p in nets[0].parameters())
