"""Training an up-convolutional network: what it learns, and that it can be interrupted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError
from cnnlens.model.model import Model
from cnnlens.settings.invert import UpconvSettings
from cnnlens.synthesize.examples import Examples, as_planes
from cnnlens.synthesize.training import Training
from tests.synthesize.nets import layer_of, model_of

TRAINING, HELD_OUT = torch.arange(48), torch.arange(48, 64)


def blobs(count: int = 64, side: int = 8) -> Tensor:
    """Images (N, 3, H, W) uint8 that differ in their colours and where these change."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 3, 2, 2, generator=generator)
    return (nn.functional.interpolate(corners, (side, side), mode="bilinear") * 255).byte()


@pytest.fixture(scope="module")
def model() -> Model:
    return small()


def small() -> Model:
    """A network whose layer keeps everything."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 2, 2), nn.ReLU())
    with torch.no_grad():  # ±identity: what the rectifier cuts of one, the other has
        net[0].weight.zero_()
        for c in range(3):
            net[0].weight[c, c, 1, 1], net[0].weight[c + 3, c, 1, 1] = 1.0, -1.0
        net[0].bias.zero_()
    return model_of(net, size=(8, 8))


def begun(model: Model, layer: str = "1", **settings: Any) -> Training:
    examples = Examples(model, layer_of(model, layer), blobs(), limit=16)
    for _ in examples.read(TRAINING):
        pass
    asked = UpconvSettings(**{"epochs": 3, "width": 8, "lr": 0.01, **settings})
    return Training(examples, TRAINING, HELD_OUT, asked, model)


def weights(run: Training) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.net.parameters()])


def test_a_layer_that_keeps_everything_is_inverted_nearly_exactly(model: Model) -> None:
    run = begun(model, epochs=20, width=16)
    images = as_planes(blobs(), 3)
    expected = (images[48:] - images[:48].mean(0)).square().mean().sqrt()
    assert run.floor == pytest.approx(float(expected), rel=1e-5)
    assert run.rmse(HELD_OUT) == pytest.approx(run.floor, rel=1e-5)  # it begins there
    assert all(step.done <= step.total for step in run.steps())
    assert run.rmse(HELD_OUT) < run.floor / 2
    assert run.best["held_out_rmse"] == pytest.approx(run.rmse(HELD_OUT), rel=1e-5)


def test_an_interrupted_training_that_goes_on_ends_as_an_unbroken_one(model: Model) -> None:
    whole, cut, goes_on = begun(model), begun(model), begun(model)
    assert sum(step.milestone for step in whole.steps()) == 3
    for step in cut.steps():
        if step.milestone:
            state = cut.state_dict()
            break
    goes_on.load_state_dict(state)
    assert [step.milestone for step in goes_on.steps()].count(True) == 2
    assert torch.equal(weights(goes_on), weights(whole))
    assert goes_on.history == whole.history


def test_what_memory_does_not_hold_is_computed_anew_and_gives_the_same(model: Model) -> None:
    kept, anew = begun(model, epochs=1), begun(model, epochs=1)
    anew.examples._kept = None
    assert [*kept.steps()] and [*anew.steps()]
    torch.testing.assert_close(weights(anew), weights(kept))


def test_settings_and_seed_change_it(model: Model) -> None:
    runs = [begun(model, epochs=1), begun(model, epochs=1, seed=1), begun(model, epochs=1, lr=0.02)]
    for run in runs:
        assert [*run.steps()]
    assert not torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


def test_memory_that_runs_short_changes_nothing_but_the_batch(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, short = begun(model, epochs=1), begun(model, epochs=1)
    errors = short._errors

    def tight(rows: Tensor) -> Tensor:
        if len(rows) > 8:
            raise MemoryError
        return errors(rows)

    monkeypatch.setattr(short, "_errors", tight)
    assert [*whole.steps()] and [*short.steps()]
    torch.testing.assert_close(weights(short), weights(whole), rtol=1e-4, atol=1e-5)


def test_a_training_that_diverges_goes_back_and_halves_its_rate(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(model, epochs=2)
    errors, calls = run._errors, []

    def once(rows: Tensor) -> Tensor:
        calls.append(0)
        return errors(rows) * (torch.nan if len(calls) == 2 else 1)

    monkeypatch.setattr(run, "_errors", once)
    assert sum(step.milestone for step in run.steps()) == 2
    assert run.state_dict()["factor"] == 0.5
    assert torch.isfinite(weights(run)).all()


def test_one_that_always_diverges_is_one_clear_line(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(model)
    errors = run._errors
    monkeypatch.setattr(run, "_errors", lambda rows: errors(rows) * torch.nan)
    with pytest.raises(CnnlensError, match="training on 1 diverged in epoch 1") as caught:
        [*run.steps()]
    assert "--lr" in caught.value.hint


def test_answers_that_are_not_finite_are_named(model: Model) -> None:
    examples = Examples(model, layer_of(model, "1"), torch.full((4, 3, 8, 8), torch.inf))
    with pytest.raises(CnnlensError, match="layer '1' is not finite"):
        [*examples.read(torch.arange(2))]


def test_colours_repeat_in_a_network_of_more_channels() -> None:
    planes = as_planes(torch.tensor([0, 255, 51]).byte().reshape(1, 3, 1, 1), 5)
    torch.testing.assert_close(planes.flatten(), torch.tensor([0.0, 1.0, 0.2, 0.0, 1.0]))
    assert as_planes(planes, 2).shape == (1, 2, 1, 1)
