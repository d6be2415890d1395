"""Grad-CAM of transformers, and why they have neither CAM nor DeconvNet."""

from __future__ import annotations

import pytest
import torch

from cnnlens.attribution.cam import ClassMaps
from cnnlens.errors import UsageError
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from tests.model.nets import pictures
from tests.model.transformers import SIZE, swin_net, timm_net


def test_gradcam_is_tokens_weighed_by_their_mean_gradient():
    """Against a pass of the network's own from the first block's output on."""
    net, x = timm_net(), pictures(1, SIZE)
    seen = ClassMaps(wrap_module(net, Preprocess(size=SIZE)), "gradcam", "block1")
    found = seen(x, classes=[3])
    kept: list[torch.Tensor] = []

    def keep(module, args, output):  # type: ignore[no-untyped-def]
        kept.append(output.detach().requires_grad_())
        return kept[0]

    handle = net.blocks[0].register_forward_hook(keep)
    (gradient,) = torch.autograd.grad(net(x)[0, 3], kept)
    handle.remove()
    maps, slopes = (
        t[:, 3:].transpose(1, 2).reshape(1, 24, 4, 6) for t in (kept[0].detach(), gradient)
    )
    truth = (maps * slopes.mean((2, 3), keepdim=True)).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(found.maps, truth, rtol=1e-4, atol=1e-6)


def test_behind_the_last_block_only_the_class_token_counts():
    """The default is the last block whose tokens the scores read; a later one is refused."""
    model = wrap_module(timm_net(), Preprocess(size=SIZE))
    seen = ClassMaps(model, "gradcam")
    assert seen.layer == "block1" and seen(pictures(1, SIZE), classes=[0]).maps.any()
    with pytest.raises(UsageError, match="read nothing of last but its class token"):
        ClassMaps(model, "gradcam", "last")(pictures(1, SIZE))


def test_a_head_of_zeros_is_named_as_the_reason():
    net = timm_net()  # as torchvision's begin
    torch.nn.init.zeros_(net.head.weight)
    with pytest.raises(UsageError, match="are the same for every image"):
        ClassMaps(wrap_module(net, Preprocess(size=SIZE)), "gradcam")


def test_with_averaged_tokens_the_last_block_counts():
    net = timm_net(class_token=False, global_pool="avg")
    assert ClassMaps(wrap_module(net, Preprocess(size=SIZE)), "gradcam").layer == "block2"


def test_transformers_have_no_cam_but_swin_has():
    model = wrap_module(timm_net(), Preprocess(size=SIZE))
    with pytest.raises(UsageError, match="its classes are read from tokens, behind attention"):
        ClassMaps(model, "cam")
    net, x = swin_net(), pictures(2, (32, 32))
    found = ClassMaps(wrap_module(net, Preprocess(size=(32, 32))), "cam")(x, classes=[1])
    sums = found.maps.mean((2, 3))[:, 0] + net.head.bias[1]
    torch.testing.assert_close(sums, found.scores[:, 0], rtol=1e-4, atol=1e-4)


def test_a_single_output_has_no_probability():
    net = timm_net(num_classes=1)
    found = ClassMaps(wrap_module(net, Preprocess(size=SIZE)), "gradcam")(pictures(1, SIZE))
    assert found.probabilities is None
    assert found.of(0).as_dict(None, "gradcam")["classes"][0]["probability"] is None
    binary = torch.nn.Sequential(net, torch.nn.Sigmoid())
    found = ClassMaps(wrap_module(binary, Preprocess(size=SIZE)), "gradcam")(pictures(1, SIZE))
    share = found.probabilities
    assert share is not None and float(share) == pytest.approx(float(found.scores.sigmoid()))
