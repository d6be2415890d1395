from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.hooks import read
from cnnlens.settings import PRESETS, RunSettings, VisualizeSettings
from cnnlens.synthesize.goals import TARGETS, class_goals, shares_said
from cnnlens.synthesize.objective import evaluate, logit, peak, response, scores, whole
from cnnlens.synthesize.usual import image_size
from cnnlens.synthesize.visualize import visualize
from tests.synthesize.nets import Small, layer_of, model_of


@pytest.fixture(scope="module")
def model():
    return model_of(Small())


def pictures(model, objectives, **settings):
    made = VisualizeSettings(**{"steps": 30, **settings})
    steps = visualize(model, objectives, made, RunSettings(batch_size=3))
    return [picture for step in steps for picture in step.pictures]


def test_pictures_excite_their_units_more_than_noise_does(model):
    layer = layer_of(model, "conv2")
    made = pictures(model, [response(layer, u) for u in range(5)])
    assert len(made) == 5
    for u, picture in enumerate(made):
        assert picture.objective.name == f"conv2:{u}"
        assert picture.final > 2 * picture.initial
        assert picture.image.shape == (3, 32, 32)
        np.testing.assert_allclose(picture.image * 255, np.rint(picture.image * 255), atol=1e-4)


def test_the_activation_is_measured_on_the_picture_itself(model):
    layer = layer_of(model, "conv2")
    steps = visualize(
        model, [response(layer, 1)], VisualizeSettings(steps=5), activations=[peak(layer, 1)]
    )
    (picture,) = list(steps)[-1].pictures
    x = model.preprocess.normalize(torch.from_numpy(picture.image)[None])
    with torch.no_grad():
        (maps,) = read(model.net, x, [layer.place])
    assert picture.final == pytest.approx(float(maps[0, 1].max()), rel=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_what_it_says(model, target):
    layer = layer_of(model, "conv2")
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = read(model.net, x, [layer.place])[0][0, 2]
        value = evaluate(model, [TARGETS[target](layer, 2)], x).item()
    truth = {
        "map": maps.mean() + 0.4 * maps.max() / 8,  # the maps are 8×8
        "mean": maps.mean(),
        "max": maps.max(),
        "centre": maps[4, 4],
    }
    assert value == pytest.approx(float(truth[target]), rel=1e-5)


def test_progress_counts_the_whole_request_and_pictures_come_batch_by_batch(model):
    layer = layer_of(model, "conv2")
    objectives = [response(layer, u) for u in range(5)]
    steps = list(
        visualize(model, objectives, VisualizeSettings(steps=4), RunSettings(batch_size=2))
    )
    assert [s.done for s in steps] == [2, 4, 6, 8, 10, 12, 14, 16, 17, 18, 19, 20]
    assert {s.total for s in steps} == {20}
    assert [len(s.pictures) for s in steps if s.pictures] == [2, 2, 1]


def test_a_class_and_a_layer(model):
    for objective in (logit(2), whole(layer_of(model, "conv1"))):
        (picture,) = pictures(model, [objective])
        assert picture.final > picture.initial


class Shares(nn.Module):
    """Small, answering with probabilities alone, with its scores beside, or in another way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.net, self.way = Small(), way

    def forward(self, x: torch.Tensor) -> object:
        scores = 30 * self.net(x)  # as sure as networks are
        if self.way == "none":
            return scores
        shares = scores.log_softmax(1) if self.way == "log" else scores.softmax(1)
        if self.way == "norm":
            return shares / shares.sum(1, keepdim=True)
        return (shares, scores) if self.way == "both" else shares


@pytest.mark.parametrize("way", ["alone", "both", "log"])
def test_a_softmax_at_the_end_changes_no_class_picture(way):
    made, values = [], []
    for net in (Shares("none"), Shares(way)):
        model = model_of(net)
        (goal,) = class_goals(model, ["2"], rivals=0.5)
        assert goal.objective.of_class and not shares_said(model, [goal])
        (picture,) = pictures(model, [goal.objective], steps=4)
        made.append(picture.image)
        values.append((picture.initial, picture.final))
    np.testing.assert_array_equal(*made)
    assert values[0] == pytest.approx(values[1])


def test_probabilities_whose_scores_are_not_found_are_told():
    model = model_of(Shares("norm"))
    assert "probabilities" in shares_said(model, class_goals(model, ["2"]))
    assert not shares_said(model, [])


@pytest.mark.parametrize("ask", [scores, lambda model: class_goals(model, ["2"])])
def test_classes_of_a_network_that_takes_another_size_are_refused_as_its_units_are(ask):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 32 * 32, 5))
    with pytest.raises(CnnlensError, match="not run on a 3×64×64 input") as caught:
        ask(model_of(net, size=(64, 64)))
    assert "it does run on 32" in caught.value.hint


def test_a_start_from_the_mean_or_a_photo_is_where_it_says(model):
    photo = np.zeros((3, 32, 32), np.uint8)
    photo[0] = 200
    settings = VisualizeSettings(steps=1, basis="pixels", update="ascent", lr=1e-4, init="x")
    (step,) = visualize(model, [logit(0)], settings, photo=photo)
    np.testing.assert_allclose(step.pictures[0].image, photo / 255, atol=0.01)
    grey = VisualizeSettings(steps=1, basis="pixels", update="ascent", lr=1e-4, init="mean")
    (step,) = visualize(model, [logit(0)], grey)
    np.testing.assert_allclose(step.pictures[0].image, 0.5, atol=0.01)


def test_the_image_keeps_the_inputs_proportions():
    model = model_of(Small(), size=(40, 60))
    assert image_size(model, VisualizeSettings()) == (40, 60)
    assert image_size(model, VisualizeSettings(size=20)) == (20, 30)


def test_presets_are_settings_and_what_is_given_comes_first():
    for name in PRESETS:
        VisualizeSettings.of(name)
    assert VisualizeSettings.of("yosinski", steps=7, blur=None).steps == 7
    assert VisualizeSettings.of("yosinski", blur=None).blur == 1.0
    with pytest.raises(UsageError, match="no preset 'x'"):
        VisualizeSettings.of("x")


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"lr": -1.0}, {"clip": 1.0}, {"target": "all"}, {"tv": float("nan")}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        VisualizeSettings(**wrong)
