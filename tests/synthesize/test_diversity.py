from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnlens.settings import VisualizeSettings
from cnnlens.synthesize.diversity import apart, gram, grams
from cnnlens.synthesize.objective import channel, evaluate
from cnnlens.synthesize.visualize import visualize
from tests.synthesize.nets import Small, layer_of, model_of


@pytest.fixture(scope="module")
def model():
    return model_of(Small())


def literal(value: float, maps: np.ndarray, others: list[np.ndarray], weight: float) -> float:
    """The formula, position by position."""

    def table(maps: np.ndarray) -> np.ndarray:
        channels, height, width = maps.shape
        found = np.zeros((channels, channels))
        for y in range(height):
            for x in range(width):
                found += np.outer(maps[:, y, x], maps[:, y, x])
        return found

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))

    own = table(maps)
    alike = np.mean([cosine(own, table(other)) for other in others])
    return value - weight * abs(value) * alike


def test_the_term_is_the_formula(model):
    layer = layer_of(model, "conv2")
    images = torch.rand((3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    plain = channel(layer, 1)
    with torch.no_grad():
        x = torch.relu(model.net.one(model.preprocess.normalize(images)))
        maps = torch.relu(model.net.two(torch.nn.functional.max_pool2d(x, 2)))
        one = apart(plain, layer, grams(model, layer, list(images[1:])), 0.7)
        found = float(evaluate(model, [one], model.preprocess.normalize(images[:1])))
        value = float(evaluate(model, [plain], model.preprocess.normalize(images[:1])))
    first, *others = (m.double().numpy() for m in maps)
    assert found == pytest.approx(literal(value, first, others, 0.7), rel=1e-4)
    assert one.name == "conv2:1@mean~3"


def test_gram_does_not_know_where_things_are():
    maps = torch.rand((4, 5, 6), generator=torch.Generator().manual_seed(0))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    moved = maps.flatten(1)[:, order].reshape(4, 5, 6)
    torch.testing.assert_close(gram(maps), gram(moved))
    assert float(gram(maps).norm()) == pytest.approx(1)
    assert torch.equal(gram(torch.zeros(4, 2, 2)), torch.zeros(4, 4))


def test_an_image_apart_is_more_different_than_one_of_another_seed(model):
    layer, settings = layer_of(model, "conv2"), VisualizeSettings(steps=48)
    plain = channel(layer, 1)

    def made(objective, seed=0):
        settings_now = VisualizeSettings(steps=48, seed=seed)
        (picture,) = list(visualize(model, [objective], settings_now))[-1].pictures
        return torch.from_numpy(picture.image)

    first = made(plain, settings.seed)
    (known,) = grams(model, layer, [first])

    def alike(image):
        return float((grams(model, layer, [image])[0] * known).sum())

    other_seeds = [alike(made(plain, seed)) for seed in (1, 2)]
    assert alike(made(apart(plain, layer, [known]))) < min(other_seeds)
