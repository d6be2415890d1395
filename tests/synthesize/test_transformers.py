"""Images for units of transformers: all gradients go through the same maps."""

from __future__ import annotations

import torch

from cnnlens.model.layers import find_layers
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from cnnlens.settings import InvertSettings
from cnnlens.synthesize.invert import features, invert
from cnnlens.synthesize.objective import channel, evaluate, unit
from tests.model.nets import pictures
from tests.model.transformers import SIZE, timm_net


def test_units_of_tokens_have_the_networks_own_gradients():
    net, x = timm_net(), pictures(1, SIZE)
    model = wrap_module(net, Preprocess(size=SIZE))
    layers = find_layers(model)
    kept: list[torch.Tensor] = []
    net.blocks[1].register_forward_hook(lambda m, a, out: kept.append(out))
    one = x.clone().requires_grad_()
    net(one)
    truths = (kept[0][0, 3 + 1 * 6 + 4, 7], kept[0][0, 3:, 7].mean(), kept[0][0, 0, 7])
    objectives = (
        unit(layers["block2"], 7, (1, 4)),
        channel(layers["block2"], 7),
        unit(layers.resolve("block2:cls", vectors=True), 7),
    )
    for truth, objective in zip(truths, objectives, strict=True):
        (wanted,) = torch.autograd.grad(truth, one, retain_graph=True)
        other = x.clone().requires_grad_()
        value = evaluate(model, [objective], other)
        (found,) = torch.autograd.grad(value.sum(), other)
        torch.testing.assert_close(value[0], truth, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_blocks_are_inverted():
    model = wrap_module(timm_net(), Preprocess(size=SIZE))
    layer = find_layers(model)["block1"]
    photo = torch.rand((3, *SIZE), generator=torch.Generator().manual_seed(3))
    target = features(model, layer, photo)
    steps = list(invert(model, layer, target, photo, InvertSettings(steps=12)))
    assert target.shape == (24, 4, 6) and steps[-1].error < 0.85 * steps[0].error
