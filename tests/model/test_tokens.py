"""Tokens as maps: against what timm and the networks' own modules give."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import AttentionPool2d
from timm.models.crossvit import CrossVit
from timm.models.hiera import Hiera
from timm.models.levit import Levit
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from timm.models.nest import Nest
from timm.models.sequencer import Sequencer2d
from timm.models.tnt import TNT
from torch import nn

from cnnlens.errors import UsageError
from cnnlens.model.addresses import parse_filters
from cnnlens.model.hooks import read, read_live
from cnnlens.model.layers import Layers
from tests.model.nets import filled, layers_of, network, pictures, value
from tests.model.transformers import SIZE, Plain, swin_net, timm_net, torchvision_net


def caught(net: nn.Module, path: str, x: torch.Tensor) -> torch.Tensor:
    """What a module returns."""
    found: list[torch.Tensor] = []
    handle = net.get_submodule(path).register_forward_hook(lambda m, a, out: found.append(out))
    with torch.no_grad():
        net(x)
    handle.remove()
    return found[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reg_tokens": 0},
        {"class_token": False, "reg_tokens": 0, "global_pool": "avg"},
        {"dynamic_img_size": True},
        {"no_embed_class": True, "init_values": 0.1},
    ],
)
def test_blocks_are_timms_intermediates(settings):
    net, x = timm_net(**settings), pictures(2, SIZE)
    layers = layers_of(net, SIZE)
    with torch.no_grad():
        theirs = net.forward_intermediates(
            x, output_fmt="NCHW", norm=False, intermediates_only=True
        )
        ours = read(net, x, [layers["block1"].place, layers["block2"].place])
    assert [one.shape for one in ours] == [(2, 24, 4, 6)] * 2
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("name", "settings", "size"),
    [
        ("deit_tiny_distilled_patch16_224", {"depth": 2, "img_size": 64}, (64, 64)),
        ("eva02_tiny_patch14_224", {"depth": 2, "img_size": (42, 56)}, (42, 56)),
        ("vit_small_patch16_18x2_224", {"depth": 1, "img_size": 32}, (32, 32)),
        ("cait_xxs24_224", {"depth": 2, "img_size": 64}, (64, 64)),
    ],
)
def test_blocks_of_other_families_are_timms_intermediates(name, settings, size):
    net = filled(timm.create_model(name, pretrained=False, num_classes=3, **settings))
    layers, x = layers_of(net, size), pictures(1, size)
    assert len(layers.blocks) == settings["depth"]
    with torch.no_grad():
        theirs = net.forward_intermediates(
            x, output_fmt="NCHW", norm=False, intermediates_only=True
        )
        ours = read(net, x, [block.place for block in layers.blocks])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_torchvisions_blocks_and_hidden_units_are_its_modules():
    net, x = torchvision_net(), pictures(2, (32, 32))
    layers = layers_of(net, (32, 32))
    for number in (1, 2):
        path = f"encoder.layers.encoder_layer_{number - 1}"
        for alias, inside, units in (("block", path, 24), ("mlp", f"{path}.mlp.1", 48)):
            truth = caught(net, inside, x)[:, 1:].transpose(1, 2).reshape(2, units, 4, 4)
            layer = layers[f"{alias}{number}"]
            assert (layer.place.path, layer.alias) == (inside, f"{alias}{number}")
            assert torch.equal(value(net, x, layer.place), truth)
            assert layers[inside].place == layer.place  # one place, whatever it is called
    assert layers["last"].place == layers["block2"].place


def test_the_class_token_is_a_vector():
    net, x = timm_net(), pictures(2, SIZE)
    layers = layers_of(net, SIZE)
    layer = layers.resolve("block2:cls", vectors=True)
    assert (layer.shape, layer.is_vector, layer.folder) == ((24, 1, 1), True, "block2_cls")
    assert torch.equal(value(net, x, layer.place)[:, :, 0, 0], caught(net, "blocks.1", x)[:, 0])
    assert layer.place.key != layers["block2"].place.key
    with pytest.raises(UsageError, match="gives no map: it is one vector per image"):
        layers.resolve("block2:cls")
    (named,) = parse_filters(["block2:cls:3,5"], layers, vectors=True)
    assert (named.layer.name, named.units) == ("block2:cls", [3, 5])
    assert parse_filters(["block2:cls"], layers, vectors=True)[0].units is None


def test_registers_are_no_class_token():
    net = timm_net(class_token=False, global_pool="avg")
    with pytest.raises(UsageError, match="there is no class token"):
        layers_of(net, SIZE).resolve("block1:cls", vectors=True)


def test_swin_has_blocks_in_its_own_maps():
    net, x = swin_net(), pictures(2, (32, 32))
    layers = layers_of(net, (32, 32))
    assert [block.place.path for block in layers.blocks] == [
        *("features.1.0", "features.1.1", "features.3.0", "features.3.1")
    ]
    truth = caught(net, "features.3.1", x).permute(0, 3, 1, 2)
    assert torch.equal(value(net, x, layers["last"].place), truth)
    assert layers["mlp4"].place.path == "features.3.1.mlp.1"


def test_blocks_whose_tokens_become_maps_in_between_are_found_in_every_stage():
    net = filled(timm.create_model("pvt_v2_b0", pretrained=False, depths=(1, 1, 1, 1)))
    layers = layers_of(net, (64, 64))
    assert [block.shape for block in layers.blocks] == [
        *((32, 16, 16), (64, 8, 8), (160, 4, 4), (256, 2, 2))
    ]
    assert layers["last"].place == layers["block4"].place


@pytest.mark.parametrize("first", [False, True])
def test_patches_cut_by_hand_and_tokens_ahead_of_the_batch(first):
    net, x = filled(Plain(first)), pictures(2, (32, 48))
    layers = layers_of(net, (32, 48))
    assert [(a, layers[a].shape) for a in ("block1", "mlp1", "block2", "mlp2")] == [
        *(("block1", (16, 4, 6)), ("mlp1", (20, 4, 6)), ("block2", (16, 4, 6))),
        ("mlp2", (20, 4, 6)),
    ]
    hidden = value(net, x, layers["mlp2"].place)
    given: list[torch.Tensor] = []
    handle = net.back[1].register_forward_pre_hook(lambda m, args: given.append(args[0]))
    with torch.no_grad():
        net(x)
    handle.remove()
    rows = given[0].transpose(0, 1) if first else given[0]  # (N, T, C)
    truth = rows[:, 1:].transpose(1, 2).reshape(2, 20, 4, 6)
    torch.testing.assert_close(hidden, truth)


def test_a_position_is_where_its_patch_is():
    """A patch that alone is lit changes its own tokens most, before positions are mixed."""
    net = timm_net()
    layer = layers_of(net, SIZE)["patch_embed"]
    x = torch.zeros(1, 3, *SIZE)
    x[:, :, 8:16, 32:40] = 1  # row 1, column 4
    change = value(net, x, layer.place) - value(net, torch.zeros_like(x), layer.place)
    lit = change.abs().sum(1)[0].nonzero().tolist()
    assert lit == [[1, 4]] and layer.fields[1].centre(4) == 36


@pytest.mark.parametrize("net", [timm_net(), swin_net()], ids=["vit", "swin"])
def test_attention_leaves_no_receptive_field(net):
    layers = layers_of(net, SIZE if hasattr(net, "blocks") else (32, 32))
    assert layers["conv1"].as_row()["receptive_field"] in (4, 8)
    row = layers["last"].as_row()
    assert row["receptive_field"] is None and row["stride"] == 8
    assert layers["last"].sees_all and layers.about_fields()


def test_class_tokens_are_listed_behind_their_blocks_under_a_name_that_means_them():
    layers = layers_of(timm_net(), SIZE)
    names = [row.name for row in layers]
    for number, following in enumerate(("blocks.1.norm1", "norm"), 1):
        row = layers.rows[names.index(f"block{number}:cls")]
        assert names.index(f"blocks.{number - 1}") < names.index(row.name) < names.index(following)
        assert row.shape == (24, 1, 1) and row == layers.resolve(row.name, vectors=True)
    assert {row.name for row in layers if row.is_vector} >= {"block1:cls", "block2:cls", "head"}


def test_convolutional_networks_have_receptive_fields_and_no_blocks():
    for name in ("resnet18", "mobilenet_v3_small", "convnext_tiny"):
        layers = layers_of(network(name))
        assert not layers.blocks and not layers.about_fields()
        assert layers["last"].name == "last" and layers["last"].alias.startswith("conv")


def test_heads_of_attention_are_no_layers():
    names = [layer.name for layer in layers_of(timm_net(qk_norm=True), SIZE)]
    assert "blocks.0.attn.q_norm" not in names and "blocks.0.attn.qkv" in names


def levit() -> nn.Module:
    return Levit(
        64, embed_dim=(16, 24, 32), key_dim=4, depth=(1, 1, 1), num_heads=(2, 2, 2), num_classes=3
    )


def mvit() -> nn.Module:
    cfg = MultiScaleVitCfg(
        depths=(1, 1), embed_dim=(16, 32), num_heads=(1, 2), use_cls_token=False, expand_attn=True
    )
    return MultiScaleVit(cfg, img_size=(32, 32), num_classes=3)


def tnt(legacy: bool = False) -> nn.Module:
    more = {"num_heads_inner": 2, "num_heads_outer": 2, "num_classes": 3}
    return TNT(32, embed_dim=24, inner_dim=8, depth=2, legacy=legacy, **more)


def crossvit() -> nn.Module:
    return CrossVit(
        32, (1.0, 1.0), (8, 16), embed_dim=(16, 24), depth=((1, 2, 0), (1, 2, 0)),
        num_heads=(2, 2), mlp_ratio=(2.0, 2.0, 1.0), num_classes=3,
    )  # fmt: skip


COARSER = [levit, mvit, tnt, lambda: tnt(legacy=True), crossvit]


@pytest.mark.parametrize("make", COARSER)
def test_blocks_are_found_where_tokens_become_fewer_or_are_of_two_scales(make):
    net, size = filled(make()), (64, 64) if make is levit else (32, 32)
    layers, x = layers_of(net, size), pictures(2, size)  # aliases are found on one image alone
    with torch.no_grad():
        theirs = net.forward_intermediates(
            x, output_fmt="NCHW", norm=False, intermediates_only=True
        )
    ours = read(net, x, [block.place for block in layers.blocks])
    for one in theirs:
        assert any(one.shape == own.shape and torch.allclose(one, own, atol=1e-6) for own in ours)
    assert layers["last"].place == layers.blocks[-1].place
    coarse = layers["last"].as_row()
    assert coarse["stride"] * coarse["size"][0] == size[0]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Hiera((32, 32), embed_dim=16, num_heads=1, stages=(1, 1), q_pool=1,
                       mask_unit_size=(2, 2), mask_unit_attn=(True, False), num_classes=3),
         "attention among tokens"),
        (lambda: Nest(32, patch_size=4, num_levels=2, embed_dims=(16, 24), num_heads=(2, 2),
                      depths=(1, 2), num_classes=3), "attention among tokens"),
        (lambda: Sequencer2d(3, 32, layers=(1, 2), patch_sizes=(4, 2), embed_dims=(8, 16),
                             hidden_sizes=(4, 8), mlp_ratios=(2.0, 2.0)), "blocks without a conv"),
    ],
    ids=["hiera", "nest", "sequencer"],
)  # fmt: skip
def test_where_the_last_block_is_not_known_last_says_so(make, what):
    with pytest.raises(UsageError, match=f"'last' is not known: after conv. .* {what}"):
        layers_of(filled(make()), (32, 32)).resolve("last")


def test_attention_that_pools_what_a_convolution_gives_is_no_block():
    """As CLIP's ResNets end: every position asks once, then one answer is taken."""
    conv = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2))
    net = filled(nn.Sequential(conv, AttentionPool2d(16, feat_size=7, out_features=5, num_heads=2)))
    layers = layers_of(net, (32, 32))
    assert layers["last"].alias == "conv2" and not layers.blocks


def test_one_register_without_a_class_token_is_no_class_token():
    net = timm_net(class_token=False, reg_tokens=1, global_pool="avg")
    layers, x = layers_of(net, SIZE), pictures(2, SIZE)
    with pytest.raises(UsageError, match="there is no class token"):
        layers.resolve("block1:cls", vectors=True)
    assert not any(row.is_vector and ":cls" in row.name for row in layers)
    truth = caught(net, "blocks.0", x)[:, 1:].transpose(1, 2).unflatten(2, (4, 6))
    assert torch.equal(value(net, x, layers["block1"].place), truth)
    assert layers_of(timm_net(reg_tokens=0), SIZE).resolve("block1:cls", vectors=True)


@pytest.mark.parametrize("make", [timm_net, torchvision_net, swin_net, Plain])
def test_live_values_are_the_same_and_lay_out_their_gradients(make):
    net = make().eval()
    size = SIZE if make is timm_net else (32, 32)
    layer = layers_of(net, size)["block1"]
    x = pictures(1, size).requires_grad_()
    (live,), output = read_live(net, x, [layer.place], stop=False)
    maps = layer.place.as_maps(live.value)
    torch.testing.assert_close(maps, value(net, x.detach(), layer.place), rtol=1e-4, atol=1e-5)
    back = layer.place.laid_out(maps, live.value)
    assert back.shape == live.value.shape and torch.equal(layer.place.as_maps(back), maps)
    (gradient,) = torch.autograd.grad(output[0, 0], live.edge)
    assert layer.place.as_maps(gradient).abs().sum() > 0


def test_batches_of_any_size_are_read_alike():
    net, x = timm_net(), pictures(3, SIZE)
    layers: Layers = layers_of(net, SIZE)
    whole = value(net, x, layers["mlp2"].place)
    apart = torch.cat([value(net, row[None], layers["mlp2"].place) for row in x])
    torch.testing.assert_close(whole, apart)


class Gated(nn.Module):
    """As many channels as positions, and a gate computed from the flattened map."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.head = nn.Conv2d(3, 16, 3, 2, 1), Gate(), nn.Linear(256, 2)

    def forward(self, x):
        return self.head(self.gate(self.conv(x)).flatten(1))


class Gate(nn.Module):
    def forward(self, x):
        rows = x.flatten(2).argmax(2)  # (N, C), where C is the number of positions as well
        return x * (rows[..., None, None] + 1)


def test_a_map_under_a_gate_stays_a_map():
    found = layers_of(Gated(), (8, 8))
    assert found.resolve("gate").shape == (16, 4, 4)
