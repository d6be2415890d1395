from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnnlens.errors import CnnlensError
from cnnlens.synthesize import slope as engine
from cnnlens.synthesize.image import Fourier, Pixels
from cnnlens.synthesize.objective import channel, custom, logit, unit
from cnnlens.synthesize.optimize import generators, optimize
from cnnlens.synthesize.regularize import Edits, GradientFilter, Penalty, alpha_norm
from cnnlens.synthesize.slope import Recipe
from cnnlens.synthesize.transform import Transform
from cnnlens.synthesize.update import Adam, Ascent
from tests.model.nets import network
from tests.synthesize.nets import Linear, Small, layer_of, model_of, seeded

EVERYTHING = Recipe(
    6,
    Transform(2, 0.1, 10),
    (Penalty("alpha", 0.1, alpha_norm),),
    True,
    Edits(0.01, 0.5, 2, 0.1, 0.1),
    GradientFilter(1.0, 1.0, 5.0),
)


@pytest.fixture(scope="module")
def model():
    return model_of(Small())


def climb(model, objectives, recipe, image=None, update=None, batch_size=32, seed=0, start=None):
    image = image or Fourier((model.preprocess.channels, *model.preprocess.size))
    made = generators(seed, objectives)
    start = image.noise(made, 0.01) if start is None else start
    update = update or Adam(0.05)
    return list(optimize(model, objectives, image, start, made, recipe, update, batch_size))


def test_the_optimum_of_a_linear_unit_is_the_sign_of_its_weights():
    weight = seeded((3, 8, 8))
    model = model_of(Linear(weight), size=(8, 8))
    layer = layer_of(model, "conv")
    steps = climb(model, [unit(layer, 0)], Recipe(60), Pixels((3, 8, 8)), Ascent(0.05))
    # a pixel whose weight is nearly nothing has not arrived yet
    large = weight.abs() > 0.2
    assert torch.equal((steps[-1].images()[0] > 0.5)[large], (weight > 0)[large])
    found = steps[-1].images()[0][large]
    assert found[weight[large] > 0].min() > 0.95
    assert found[weight[large] < 0].max() < 0.05


def test_a_penalty_holds_against_a_linear_unit_where_calculus_says():
    # w·(2x − 1) − λ·mean (2x − 1)² is largest at 2x − 1 = w·n / 2λ
    weight = seeded((1, 4, 4)) * 0.1
    model = model_of(Linear(weight), channels=1, size=(4, 4))
    layer = layer_of(model, "conv")
    penalty = Penalty("energy", 4.0, lambda x: alpha_norm(x, 2.0))
    recipe = Recipe(400, penalties=(penalty,))
    steps = climb(model, [unit(layer, 0)], recipe, Pixels((1, 4, 4)), Adam(0.01))
    truth = 0.5 + weight * 16 / (2 * 4.0) / 2
    torch.testing.assert_close(steps[-1].images()[0], truth, atol=2e-3, rtol=0)


def test_the_values_are_the_views_own_and_rise(model):
    layer = layer_of(model, "conv2")
    steps = climb(model, [channel(layer, 0), logit(1)], Recipe(40))
    assert (steps[-1].values > steps[0].values + 0.1).all()
    before = steps[-2].images()
    seen = model.preprocess.normalize(before)
    torch.testing.assert_close(steps[-1].values[1], model.net(seen)[1, 1], rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_bytes_and_others_do_not(model):
    made = [channel(layer_of(model, "conv2"), 0)]
    one, same, other = (climb(model, made, EVERYTHING, seed=s)[-1].images() for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("image", [Fourier((3, 32, 32)), Pixels((3, 32, 32))])
def test_an_image_does_not_depend_on_the_others(model, image):
    layer = layer_of(model, "conv2")
    made = [channel(layer, u) for u in range(5)]
    together = climb(model, made, EVERYTHING, image)[-1]
    split = climb(model, made, EVERYTHING, image, batch_size=2)[-1]
    alone = climb(model, [made[3]], EVERYTHING, image)[-1]
    torch.testing.assert_close(split.images(), together.images(), atol=1e-4, rtol=0)
    torch.testing.assert_close(alone.images()[0], together.images()[3], atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("image", [Fourier((3, 32, 32)), Pixels((3, 32, 32))])
def test_an_image_is_the_same_to_the_bit_where_the_kernels_are(model, image):
    # oneDNN has others for a batch of one; what is left is all that cnnlens itself does
    layer, recipe = layer_of(model, "conv2"), replace(EVERYTHING, steps=12, views=2)
    made = [channel(layer, u) for u in range(5)]
    with torch.backends.mkldnn.flags(enabled=False):
        whole = climb(model, made, recipe, image)[-1]
        for size in (1, 2, 3):
            apart = climb(model, made, recipe, image, batch_size=size)[-1]
            assert torch.equal(apart.images(), whole.images())
        for units in ([3], [3, 1], [0, 4, 3]):
            some = climb(model, [made[unit] for unit in units], recipe, image)[-1].images()
            assert torch.equal(some[units.index(3)], whole.images()[3])


@pytest.mark.parametrize("update", [Adam, Ascent])
def test_an_ascent_goes_on_where_an_equal_one_stopped(model, update):
    layer = layer_of(model, "conv2")
    made = [channel(layer, u) for u in range(3)]
    whole = climb(model, made, EVERYTHING, update=update(0.05))
    image = Fourier((3, *model.preprocess.size))
    randomness = generators(0, made)
    start = image.noise(randomness, 0.01)
    steps = optimize(model, made, image, start, randomness, EVERYTHING, update(0.05))
    state = next(step.state() for step in steps if step.done == 4)
    next(steps)  # what goes on after it was asked for does not change it
    fresh = generators(0, made)
    rest = list(optimize(model, made, image, start, fresh, EVERYTHING, update(0.05), state=state))
    assert [step.done for step in rest] == [5, 6]
    assert torch.equal(rest[-1].images(), whole[-1].images())
    assert torch.equal(rest[-1].values, whole[-1].values)
    with pytest.raises(ValueError, match="a state of"):
        next(optimize(model, made[:2], image, start[:2], fresh[:2], EVERYTHING, state=state))


@pytest.mark.parametrize("relative", [True, False])
def test_a_penalty_that_is_not_finite_does_not_pass(model, relative):
    nothing = Penalty("mean of nothing", 1.0, lambda x: x.flatten(1).mean(1) / 0 * 0)
    recipe = Recipe(1, penalties=(nothing,), relative=relative)
    with pytest.raises(CnnlensError, match="not finite"):
        climb(model, [channel(layer_of(model, "conv2"), 0)], recipe)


def test_running_out_of_memory_halves_the_batch_and_changes_nothing(model):
    layer = layer_of(model, "conv2")
    made = [channel(layer, u) for u in range(4)]
    whole = climb(model, made, EVERYTHING)[-1].images()
    sizes = []

    def forgetful(module, inputs):
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = model.net.register_forward_pre_hook(forgetful)
    halved = climb(model, made, EVERYTHING)[-1].images()
    handle.remove()
    assert max(sizes) == 4
    assert max(sizes[sizes.index(2) :]) == 2  # it does not try the larger batch again
    torch.testing.assert_close(halved, whole, atol=1e-4, rtol=0)


def test_memory_for_not_even_one_image_is_named(model):
    def empty(module, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    handle = model.net.register_forward_pre_hook(empty)
    with pytest.raises(CnnlensError, match="not enough memory"):
        climb(model, [logit(0)], EVERYTHING)
    handle.remove()


def test_parameters_get_no_gradient(model):
    climb(model, [logit(0)], Recipe(2))
    assert all(p.grad is None for p in model.net.parameters())


class Dead(nn.Module):
    """All of its units are off near grey: they stand behind two strongly negative biases."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.small = Small()
        self.relu = nn.ReLU(inplace=True)
        self.functional = functional
        with torch.no_grad():
            self.small.one.bias.fill_(-1.5)
            self.small.two.bias.fill_(-0.5)

    def forward(self, x):
        x = self.small.one(x)
        x = F.relu(x) if self.functional else self.relu(x)
        return F.relu_(self.small.two(x))


@pytest.mark.parametrize("functional", [True, False])
def test_a_dead_start_comes_to_life(functional, monkeypatch):
    model = model_of(Dead(functional))
    made = [channel(layer_of(model, "conv2"), u) for u in range(6)]
    image = Fourier((3, 32, 32))
    steps = climb(model, made, Recipe(80), image)
    assert (steps[0].values == 0).all()  # dead, all of them
    assert steps[-1].alive.all()
    assert (steps[-1].values > 0).sum() >= 4
    monkeypatch.setattr(engine, "WakingRectifiers", nullcontext)
    asleep = climb(model, made, Recipe(20), image)
    assert (asleep[-1].values == 0).all()
    assert not asleep[-1].alive.any()


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "googlenet"])
def test_real_networks_wake_up(name):
    settings = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = model_of(network(name, **settings), size=(64, 64))
    with torch.no_grad():
        last = [m for m in model.net.modules() if isinstance(m, nn.Conv2d)][1]
        last.bias is None or last.bias.fill_(-50.0)
        norm = [m for m in model.net.modules() if isinstance(m, nn.BatchNorm2d)]
        for m in norm[1:2]:
            m.bias.fill_(-50.0)
    (step,) = climb(model, [channel(layer_of(model, "conv2"), 0)], Recipe(1))
    assert float(step.values) == 0
    assert step.alive.all()


def test_what_the_input_does_not_reach_is_known(model):
    layer = layer_of(model, "conv2")
    made = [custom(layer, lambda maps: maps.detach().sum(), "cut"), channel(layer, 0)]
    steps = climb(model, made, Recipe(3))
    assert steps[-1].alive.tolist() == [False, True]
    assert steps[-1].images().isfinite().all()


def test_values_that_are_not_finite_are_named(model):
    layer = layer_of(model, "conv2")
    wrong = custom(layer, lambda maps: maps.sum() / 0, "endless")
    with pytest.raises(CnnlensError, match="endless is not finite"):
        climb(model, [channel(layer, 0), wrong], Recipe(3))


@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("kind", [Fourier, Pixels])
def test_networks_of_other_channels_and_sizes(channels, kind):
    model = model_of(Small(channels), channels, (40, 28))
    layer = layer_of(model, "conv2")
    steps = climb(model, [channel(layer, 0)], EVERYTHING, kind((channels, 20, 14)))
    assert steps[-1].images().shape == (1, channels, 20, 14)
    assert steps[-1].values.isfinite().all()


def test_edits_change_the_image_between_steps(model):
    layer = layer_of(model, "conv2")
    image = Pixels((3, 32, 32))
    plain, decayed = (
        climb(model, [channel(layer, 0)], Recipe(10, edits=edits), image, Ascent(0.05))
        for edits in (Edits(), Edits(decay=0.3))
    )
    size = [(steps[-1].images() - 0.5).abs().mean() for steps in (plain, decayed)]
    assert size[1] < 0.5 * size[0]
