"""Smallest changes against exact distances, the algorithm as it is printed, and foolbox's."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnlens.settings.fool import FoolSettings
from cnnlens.synthesize.answers import Answers
from cnnlens.synthesize.boundary import Aim, deepfool, length, smallest
from cnnlens.synthesize.fool import (
    as_written,
    ascend,
    changed_maps,
    noise,
    noise_flips,
    rounded,
)
from cnnlens.synthesize.fooled import fool
from tests.reference import fool as literal
from tests.synthesize.nets import Small, layer_of, model_of, seeded


class Flat(nn.Module):
    """An affine classifier of flattened pixels, or one with a hidden layer."""

    def __init__(self, values: int, classes: int, hidden: int = 0, seed: int = 0) -> None:
        super().__init__()
        sizes = [values, hidden, classes] if hidden else [values, classes]
        layers: list[nn.Module] = [nn.Flatten()]
        for wide, narrow in pairwise(sizes):
            layers += [nn.Linear(wide, narrow), nn.Tanh()]
        self.layers = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for number, p in enumerate(self.parameters()):
                p.copy_(seeded(tuple(p.shape), seed + number))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class OfTwo(Small):
    """Takes two pictures, no more and no less."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != 2:
            raise ValueError(f"{len(x)} pictures")
        return super().forward(x)


def answers_of(net: nn.Module, size: tuple[int, int], channels: int = 1) -> Answers:
    return Answers(model_of(net, channels, size))


def in_numpy(answers: Answers, size: tuple[int, int]) -> literal.Scores:
    net = copy.deepcopy(answers.model.net).double()

    def scores(flat: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(flat).reshape(1, 1, *size)
        return net((x - 0.5) / 0.5)[0].numpy()

    return scores


def middle(size: tuple[int, int], seed: int, spread: float = 0.02) -> Tensor:
    return 0.5 + spread * seeded((1, *size), seed)


@pytest.mark.parametrize("seed", range(4))
def test_of_an_affine_network_the_change_is_the_exact_distance(seed):
    size, answers = (3, 4), answers_of(Flat(12, 5, seed=seed), (3, 4))
    weights = 2 * answers.model.net.layers[1].weight.double().numpy()  # pixels become 2x − 1
    bias = answers.model.net.layers[1].bias.double().numpy() - weights.sum(1) / 2
    image = middle(size, seed)
    first = answers.of(image).number
    point = image.double().flatten().numpy()
    found = smallest(answers, image, Aim(first))
    assert length(found.image - image) == pytest.approx(
        literal.affine_distance(weights, bias, point), rel=4e-3
    )
    assert answers.of(found.image).number != first
    target = (first + 1) % 5
    reached = smallest(answers, image, Aim(first, target), refine=5)
    assert answers.of(reached.image).number == target
    exact = literal.affine_distance(weights, bias, point, target)
    assert 0.999 * exact <= length(reached.image - image) <= 1.3 * exact


@pytest.mark.parametrize("seed", range(3))
def test_deepfool_is_the_algorithm_as_it_is_printed(seed):
    answers, image = answers_of(Flat(6, 4, 5, seed), (2, 3)), middle((2, 3), seed, 0.2)
    found = deepfool(answers, image, Aim(answers.of(image).number))
    expected = literal.deepfool(in_numpy(answers, (2, 3)), image.double().flatten().numpy())
    np.testing.assert_allclose(found.image.flatten().numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_the_change_is_nearly_the_smallest_of_all_pictures_of_two_pixels(seed):
    answers, image = answers_of(Flat(2, 3, 6, seed), (1, 2)), middle((1, 2), seed, 0.25).clamp(0, 1)
    first = answers.of(image).number
    best = literal.nearest_on_grid(in_numpy(answers, (1, 2)), image.double().flatten().numpy(), 120)
    plain, refined = (smallest(answers, image, Aim(first), refine=r) for r in (0, 10))
    lengths = [length(one.image - image) for one in (plain, refined)]
    assert best - 0.012 <= lengths[1] <= lengths[0]  # the grid is as coarse
    assert lengths[1] <= 1.1 * best
    for one in (plain, refined):
        assert one.image.min() >= 0 and one.image.max() <= 1
        assert answers.of(one.image).number != first


def test_refining_never_makes_a_change_longer_and_makes_most_shorter():
    gains = []
    for seed in range(8):
        answers, image = answers_of(Flat(12, 4, 6, seed), (3, 4)), middle((3, 4), seed, 0.2)
        aim = Aim(answers.of(image).number)
        plain, refined = (smallest(answers, image, aim, refine=r) for r in (0, 3))
        gains.append(length(plain.image - image) / length(refined.image - image))
    assert min(gains) >= 1 and np.median(gains) > 1.001


def test_no_image_needs_a_larger_change_than_foolbox_finds():
    foolbox = pytest.importorskip("foolbox")
    answers = answers_of(Small(), (32, 32), 3)
    how = {"mean": [0.5] * 3, "std": [0.5] * 3, "axis": -3}
    theirs = foolbox.PyTorchModel(answers.model.net, (0, 1), preprocessing=how, device="cpu")
    ours, others = [], []
    for seed in range(12):
        image = noise(answers, seed, "image")
        first = answers.of(image).number
        ours.append(length(smallest(answers, image, Aim(first)).image - image))
        _, made, flipped = foolbox.attacks.L2DeepFoolAttack()(
            theirs, image[None], torch.tensor([first]), epsilons=None
        )
        assert bool(flipped)
        others.append(length(made[0] - image))
    assert np.median(ours) <= np.median(others)


def test_a_softmax_at_the_end_changes_nothing():
    plain = Flat(12, 5)
    image = middle((3, 4), 1)
    found = [
        fool(answers_of(net, (3, 4)), image, None, False, FoolSettings())
        for net in (plain, nn.Sequential(plain, nn.Softmax(1)))
    ]
    one, other = (each.as_dict() for each in found)
    assert one["l2"] == pytest.approx(other["l2"], rel=1e-3)
    assert one["ascent"]["steps"] == other["ascent"]["steps"]


def test_a_single_output_has_two_classes():
    answers = answers_of(Flat(12, 1), (3, 4))
    image = middle((3, 4), 0)
    first = answers.of(image).number
    found = smallest(answers, image, Aim(first))
    assert answers.count == 2 and answers.of(found.image).number == 1 - first
    value = answers.model.net((found.image - 0.5)[None] * 2)
    assert (value > 0).item() == (first == 0)


def test_a_network_of_one_batch_size_answers_any_number_of_pictures():
    answers = answers_of(Small(), (32, 32), 3)
    images = torch.stack([noise(answers, seed, "image") for seed in range(5)])
    fixed = Answers(replace(answers.model, net=OfTwo().eval().requires_grad_(False), batch=2))
    torch.testing.assert_close(fixed.scores(images), answers.scores(images))


def test_what_is_written_fools_in_eight_bits():
    answers = answers_of(Small(), (32, 32), 3)
    image = rounded(noise(answers, 1, "image"))
    aim = Aim(answers.of(image).number)
    found = smallest(answers, image, aim)
    written = as_written(answers, image, found, aim)
    levels = written * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert aim.is_reached(answers.of(written).number)
    assert length(written - image) >= length(found.image - image) * 0.99


def test_an_ascent_takes_steps_of_one_size_until_it_is_sure():
    answers = answers_of(Small(), (32, 32), 3)
    start = noise(answers, 0, "start") * 0.5 + 0.25  # nothing is cut off
    target = (answers.of(start).number + 1) % 4
    steps = list(ascend(answers, start, target, 0.001, 400, 0.6))
    assert steps[-1].share >= 0.6 > steps[-2].share
    assert steps[-1].flipped_at == next(
        s.steps for s in steps if answers.of(s.image).number == target
    )
    first = steps[1].image - steps[0].image
    assert float(first.square().mean()) ** 0.5 == pytest.approx(0.001, rel=1e-3)
    ended = list(ascend(answers, start, target, 0.001, 3, 0.6))
    assert [one.steps for one in ended] == [0, 1, 2, 3]


def test_an_ascent_is_that_of_the_plain_loop_with_momentum():
    answers = answers_of(Small(), (32, 32), 3)
    start = noise(answers, 3, "start")
    now, pull = start.clone(), 0.0
    for step in ascend(answers, start, 2, 0.01, 5, 1.0):
        torch.testing.assert_close(step.image, now)
        leaf = now.clone().requires_grad_(True)
        share = answers.scores(leaf[None]).softmax(1)[0, 2]
        (slope,) = torch.autograd.grad((share / (1 - share)).log(), leaf)
        pull = 0.9 * pull + 0.1 * slope
        now = (now + 0.01 * pull / pull.square().mean().sqrt()).clamp(0, 1)


def test_noise_flips_what_it_flips_and_less_than_the_change_hardly_ever():
    answers = answers_of(Small(), (32, 32), 3)
    image = noise(answers, 2, "image")
    aim = Aim(answers.of(image).number)
    far = length(smallest(answers, image, aim).image - image)
    shares = noise_flips(answers, image, [0.0, 0.9 * far, 1e3], 0, aim)
    assert shares[:2] == [0.0, 0.0]
    assert noise_flips(answers, image, [1e3], 0, Aim(aim.first, aim.first)) == [1 - shares[2]]


def test_maps_that_changed_most_come_first():
    answers = answers_of(Small(), (32, 32), 3)
    image, other = noise(answers, 0, "a"), noise(answers, 0, "b")
    layer = layer_of(answers.model, "conv1")
    found = changed_maps(answers.model, layer, image, other, 3)
    x = answers.model.preprocess.normalize(torch.stack([image, other]))
    maps = torch.relu(answers.model.net.one(x)).numpy().astype(float)
    apart = [np.linalg.norm(maps[1][u] - maps[0][u]) for u in range(8)]
    assert found.units == sorted(range(8), key=lambda u: -apart[u])[:3]
    usual = np.linalg.norm(maps[0]) / 8**0.5
    np.testing.assert_allclose(found.shares, [apart[u] / usual for u in found.units], rtol=1e-4)
    assert found.share == pytest.approx(np.linalg.norm(maps[1] - maps[0]) / np.linalg.norm(maps[0]))
    np.testing.assert_allclose(found.after, maps[1][found.units], rtol=1e-4, atol=1e-5)


def test_an_image_that_is_the_target_stays_as_it_is():
    answers = answers_of(Flat(12, 5), (3, 4))
    image = middle((3, 4), 1)
    entry = fool(answers, image, answers.of(image).number, False, FoolSettings()).as_dict()
    assert entry["already"] and entry["l2"] == entry["steps"] == 0
