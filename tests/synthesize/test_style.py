"""Style transfer against the formula taken literally, and on planted answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from cnnlens.settings.synthesize import StyleSettings
from cnnlens.synthesize.style import aims, content_and_style_layers, gram, transfer
from tests.reference import style as literal


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.ReLU()
    ).eval().requires_grad_(False)  # fmt: skip
    return wrap_module(net, Preprocess((12, 12), (0.5,) * 3, (0.5,) * 3))


def picture(seed: int, height: int = 12, width: int = 12) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def stripes(width: int = 12) -> torch.Tensor:
    """Vertical stripes, red and black."""
    found = torch.zeros(3, 12, width)
    found[0, :, ::2] = 1
    return found


def layers_of(model: Model) -> dict[str, object]:
    found = find_layers(model)
    return {name: found.resolve(name) for name in ("conv1", "conv2")}


def maps_of(model: Model, image: torch.Tensor) -> dict[str, object]:
    x = model.preprocess.normalize(image[None])
    first = model.net[:2](x)
    return {"conv1": first[0].numpy(), "conv2": model.net[2:](first)[0].numpy()}


def test_gram_matrices_are_the_formulas():
    maps = torch.randn(4, 3, 5)
    torch.testing.assert_close(
        gram(maps).double(), torch.from_numpy(literal.gram(maps.numpy())), rtol=1e-5, atol=1e-6
    )


def test_both_losses_are_the_formulas_and_the_style_may_have_another_size(model):
    layers = layers_of(model)
    content, style = picture(0), picture(1, 9, 15)
    settings = StyleSettings(steps=4, content_weight=0.7, style_weight=2.0)
    both = [layers["conv1"], layers["conv2"]]
    for step in transfer(model, content, style, [layers["conv2"]], both, settings):
        found = step.losses()
        expected = literal.losses(
            maps_of(model, step.image()), maps_of(model, content), maps_of(model, style),
            ["conv2"], ["conv1", "conv2"],
        )  # fmt: skip
        assert found.content == pytest.approx(expected[0], rel=1e-3, abs=1e-7)
        assert found.style == pytest.approx(expected[1], rel=1e-3, abs=1e-7)


def test_without_variation_the_loss_is_the_weighted_sum(model):
    layers = layers_of(model)
    settings = StyleSettings(steps=6, content_weight=0.7, style_weight=2.0, tv=0)
    chosen = ([layers["conv2"]], [layers["conv1"]])
    for step in transfer(model, picture(0), picture(1), *chosen, settings):
        found = step.losses()
        assert step.loss == pytest.approx(0.7 * found.content + 2.0 * found.style, rel=1e-4)


def test_a_row_of_pixels_has_a_variation_that_counts():
    net = nn.Sequential(nn.Conv2d(3, 6, (1, 3), padding=(0, 1)), nn.ReLU()).eval()
    model = wrap_module(net.requires_grad_(False), Preprocess((1, 16), (0.5,) * 3, (0.5,) * 3))
    layer, settings = [find_layers(model).resolve("conv1")], StyleSettings(steps=3)
    first = next(transfer(model, picture(0, 1, 16), picture(1, 1, 16), layer, layer, settings))
    found = first.losses()
    weighted = settings.content_weight * found.content + settings.style_weight * found.style
    assert first.loss > 1.001 * weighted


def test_a_picture_in_its_own_style_is_there_already(model):
    layers = layers_of(model)
    first = next(
        transfer(
            model, picture(0), picture(0), [layers["conv2"]], [layers["conv1"]],
            StyleSettings(steps=1, tv=0),
        )
    )  # fmt: skip
    assert first.losses().content == pytest.approx(0, abs=1e-4)
    assert first.losses().style == pytest.approx(0, abs=1e-4)


def test_style_alone_brings_the_stripes_colours_and_weights_decide(model):
    """Stripes' Gram matrices are reached from noise; more weight of the content keeps it nearer."""
    layers = layers_of(model)
    chosen = ([layers["conv2"]], [layers["conv1"]])
    ends = {}
    for weight in (0.0, 1.0, 50.0):
        settings = StyleSettings(
            steps=60, content_weight=weight, style_weight=1, init="noise", tv=0
        )
        *_, last = transfer(model, picture(0), stripes(), *chosen, settings)
        ends[weight] = (last.losses(), last.image())
    assert ends[0.0][0].style < 0.1
    red, green, blue = ends[0.0][1].mean(dim=(1, 2)).tolist()
    assert red > 2 * max(green, blue)
    assert ends[50.0][0].content < ends[1.0][0].content < ends[0.0][0].content
    assert ends[50.0][0].style > ends[0.0][0].style


def test_the_start_is_the_content_or_noise(model):
    layers = layers_of(model)
    chosen = ([layers["conv2"]], [layers["conv1"]])
    for init, near in (("content", True), ("noise", False)):
        settings = StyleSettings(steps=1, init=init)
        first = next(transfer(model, picture(0), stripes(), *chosen, settings))
        assert (first.losses().content < 1e-3) is near


def test_equal_seeds_give_equal_bytes(model):
    layers = layers_of(model)
    chosen = ([layers["conv2"]], [layers["conv1"]])
    made = []
    for seed in (0, 0, 1):
        settings = StyleSettings(steps=3, init="noise", seed=seed)
        *_, last = transfer(model, picture(0), stripes(), *chosen, settings)
        made.append(last.image())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_layer_that_answers_nothing_is_named(model):
    layers = layers_of(model)
    model.net[0].weight.zero_()
    model.net[0].bias.fill_(-1)
    with pytest.raises(CnnlensError, match="conv1 answers nothing"):
        aims(model, picture(0), picture(1), [layers["conv1"]], [layers["conv1"]])


def test_places_are_the_papers_on_vgg_and_evenly_spaced_elsewhere(model):
    from cnnlens.model.open import open_model

    vgg = open_model("torchvision:vgg16", image_size=(32, 32))
    content, style, said = content_and_style_layers(find_layers(vgg), vgg.arch)
    assert content == ["conv9"]  # conv4_2
    assert style == ["conv1", "conv3", "conv5", "conv8", "conv11"]  # conv1_1 … conv5_1
    assert "conv4_2" in said
    content, style, said = content_and_style_layers(find_layers(model), model.arch)
    assert set(content + style) <= {"conv1", "conv2"}
    assert "evenly spaced" in said
