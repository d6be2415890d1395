from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnlens.synthesize.objective import (
    along,
    channel,
    custom,
    evaluate,
    logit,
    peak,
    response,
    scores,
    unit,
    whole,
)
from tests.synthesize.nets import Small, layer_of, model_of, seeded


@pytest.fixture(scope="module")
def model():
    return model_of(Small())


@pytest.fixture(scope="module")
def x():
    return seeded((3, 3, 32, 32), 9)


def maps(model, x):
    first = torch.relu(model.net.one(x))
    return torch.relu(model.net.two(torch.nn.functional.max_pool2d(first, 2)))


def test_objectives_read_what_the_network_computes(model, x):
    layer = layer_of(model, "conv2")
    made = [unit(layer, 1, (2, 3)), channel(layer, 4), whole(layer)]
    values = evaluate(model, made, x)
    truth = maps(model, x)
    assert values[0] == truth[0, 1, 2, 3]
    torch.testing.assert_close(values[1], truth[1, 4].mean())
    torch.testing.assert_close(values[2], truth[2].pow(2).mean())
    assert evaluate(model, [peak(layer, 5)] * 3, x).tolist() == truth[:, 5].amax((1, 2)).tolist()


def test_a_unit_without_position_is_its_maps_centre(model, x):
    layer = layer_of(model, "conv2")
    assert layer.shape[1:] == (8, 8)
    assert evaluate(model, [unit(layer, 0)] * 3, x).tolist() == maps(model, x)[:, 0, 4, 4].tolist()


def test_a_logit_is_the_networks_own_output(model, x):
    torch.testing.assert_close(evaluate(model, [logit(2)] * 3, x), model.net(x)[:, 2])
    assert len(scores(model)) == 4


@pytest.mark.parametrize("classes", [1, 2, 4, 9])
def test_rivals_are_the_five_strongest_other_classes(classes):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, classes))
    model = model_of(net)
    images = seeded((3, 3, 32, 32), 0)
    found = evaluate(model, [logit(0, rivals=0.7)] * 3, images)
    for row, scores_of in enumerate(net(images).tolist()):
        strongest = sorted(scores_of[1:], reverse=True)[:5]
        truth = scores_of[0] - (0.7 * sum(strongest) / len(strongest) if strongest else 0)
        assert float(found[row]) == pytest.approx(truth, abs=1e-5)


def test_objectives_compose(model, x):
    layer = layer_of(model, "conv2")
    a, b = channel(layer, 0), channel(layer, 1)
    va, vb = (evaluate(model, [o] * 3, x) for o in (a, b))
    for made, truth in [
        (a + b, va + vb),
        (a - b, va - vb),
        (a * b, va * vb),
        (2 * a - b, 2 * va - vb),
        (a * 2 + 1, va * 2 + 1),
        (1 - a, 1 - va),
        (-a, -va),
        (sum([a, b]), va + vb),
        (3 * (a - b) * b, 3 * (va - vb) * vb),
    ]:
        torch.testing.assert_close(evaluate(model, [made] * 3, x), truth)


def test_composed_names_say_what_is_computed(model):
    layer = layer_of(model, "conv2")
    a, b = channel(layer, 0), channel(layer, 1)
    assert (a + b).name == "conv2:0@mean+conv2:1@mean"
    assert (2 * (a - b)).name == "2*(conv2:0@mean-conv2:1@mean)"
    assert (a - (b + 1)).name == "conv2:0@mean-(conv2:1@mean+1)"


def test_objectives_over_several_layers_and_the_output(model, x):
    one, two = layer_of(model, "conv1"), layer_of(model, "conv2")
    made = custom([one, two], lambda p, q: p[0].sum() * q.max(), "mine") + logit(1)
    first = torch.relu(model.net.one(x))
    truth = first[:, 0].sum((1, 2)) * maps(model, x).amax((1, 2, 3)) + model.net(x)[:, 1]
    torch.testing.assert_close(evaluate(model, [made] * 3, x), truth)


@pytest.mark.parametrize("name", ["conv1", "conv2", "one"])
def test_gradients_are_those_of_the_plain_network(model, x, name):
    layer = layer_of(model, name)
    mine, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    evaluate(model, [channel(layer, 3)] * 3, mine).sum().backward()
    before = model.net.one(plain)
    values = before if name == "one" else torch.relu(before)
    if name == "conv2":
        values = maps(model, plain)
    values[:, 3].mean((1, 2)).sum().backward()
    torch.testing.assert_close(mine.grad, plain.grad)


def test_the_pass_stops_at_the_deepest_place(model, x):
    made = [channel(layer_of(model, "conv2"), 0)] * 3
    evaluate(model, made, x)  # what is looked for once, is known now
    ran: list[int] = []
    handle = model.net.head.register_forward_hook(lambda *a: ran.append(1))
    evaluate(model, made, x)
    assert not ran
    evaluate(model, [logit(0)] * 3, x)
    assert ran
    handle.remove()


def test_a_fixed_batch_is_filled_up(model, x):
    fixed = model_of(model.net)
    fixed.batch = 5
    layer = layer_of(model, "conv2")
    sizes = []
    handle = model.net.one.register_forward_hook(lambda m, a, o: sizes.append(len(o)))
    values = evaluate(fixed, [channel(layer, 0)] * 3, x)
    handle.remove()
    assert set(sizes) == {5}  # a first pass finds out which operation the layer is
    torch.testing.assert_close(values, maps(model, x)[:, 0].mean((1, 2)))


def test_programmers_mistakes_are_value_errors(model, x):
    layer = layer_of(model, "conv2")
    with pytest.raises(ValueError, match="unit 6"):
        channel(layer, 6)
    with pytest.raises(ValueError, match="position 8,0"):
        unit(layer, 0, (8, 0))
    with pytest.raises(ValueError, match="2 objectives for 3"):
        evaluate(model, [channel(layer, 0)] * 2, x)
    with pytest.raises(ValueError, match="no number"):
        evaluate(model, [custom(layer, lambda maps: maps[0])] * 3, x)


def test_a_direction_is_read_as_if_it_were_a_unit(model, x):
    layer = layer_of(model, "conv2")
    alone = np.zeros(layer.units, np.float32)
    alone[4] = 1
    height, width = layer.shape[1:]
    like = {
        "map": response(layer, 4),
        "mean": channel(layer, 4),
        "max": peak(layer, 4),
        "centre": unit(layer, 4, (height // 2, width // 2)),
    }
    for target, of_unit in like.items():
        made = along(layer, alone, "part:hair", target)
        values = evaluate(model, [made, of_unit], x[:1].expand(2, -1, -1, -1))
        torch.testing.assert_close(values[0], values[1])
        assert "[part:hair]" in made.name and made.sees == of_unit.sees
    mixed = np.linspace(-1, 1, layer.units).astype(np.float32)
    truth = torch.tensordot(torch.from_numpy(mixed), maps(model, x)[0], 1)
    value = evaluate(model, [along(layer, mixed, "x", "max")], x[:1])[0]
    torch.testing.assert_close(value, truth.amax())
    with pytest.raises(ValueError, match="a direction of"):
        along(layer, mixed[:3], "x")
