from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cnnlens.errors import UsageError
from cnnlens.interpretable import cgl
from cnnlens.interpretable.cgl import draw_pairs, split
from cnnlens.interpretable.concept_groups import ConceptGroups, grouped_layers
from cnnlens.interpretable.group_report import Likeness
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from cnnlens.settings.finetune import CglSettings
from tests.reference import cgl as literal


class Small(nn.Module):
    """A convolution under an in-place rectifier, one with a batch norm, one of few filters."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.relu = nn.Conv2d(3, 7, 3, padding=1), nn.ReLU(inplace=True)
        self.two, self.bn = nn.Conv2d(7, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.three = nn.Conv2d(6, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.one(x))
        x = self.relu(self.bn(self.two(x)))
        return self.three(x).mean(dim=(2, 3))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    net = Small().double()
    with torch.no_grad():
        net.bn.weight.uniform_(-1, 1.5)
        net.bn.bias.uniform_(-1, 1)
    preprocess = Preprocess(size=(6, 5), mean=(0.5,) * 3, std=(0.5,) * 3)
    model = Model(net.float().eval(), "small", "small", preprocess, None, "0")
    layers = grouped_layers(model, (), 3)
    model.net.double().train()
    model.layers = layers
    return model


def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 6, 5, generator=generator, dtype=torch.float64)


def run(model: Model, settings: CglSettings, layers: slice = slice(2), seed: int = 0):
    groups = ConceptGroups(model.layers[layers], settings, seed).double()
    with groups.hooks(model.net):
        model.net(pictures())
        return groups, groups.terms(model.net)


ALL = CglSettings(groups=3)


def test_layers_are_grouped_with_their_norms(model):
    found = [(g.name, g.path, g.norm, g.groups.size, g.groups.free) for g in model.layers]
    assert found == [
        ("conv1", "one", "", 2, 1), ("conv2", "two", "bn", 2, 0), ("conv3", "three", "", 1, 0),
    ]  # fmt: skip


def test_more_groups_than_filters_is_an_error_that_names_the_layer():
    model = open_model("zoo:demo_net")
    with pytest.raises(UsageError, match="--groups 40 is more than the 32 filters of layer"):
        grouped_layers(model, ["conv1"], 40)
    with pytest.raises(UsageError, match="'maxpool' is no convolution"):
        grouped_layers(model, ["maxpool"], 5)


def test_a_convolution_that_a_pass_calls_twice_is_no_layer_of_groups():
    class Again(Small):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Conv2d(7, 7, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.relu(self.same(self.relu(self.same(self.relu(self.one(x))))))
            return self.three(self.relu(self.bn(self.two(x)))).mean(dim=(2, 3))

    preprocess = Preprocess(size=(6, 5), mean=(0.5,) * 3, std=(0.5,) * 3)
    model = Model(Again().eval(), "again", "again", preprocess, None, "0")
    with pytest.raises(UsageError, match="layer 'conv2': same is called 2 times") as caught:
        grouped_layers(model, (), 3)
    assert caught.value.hint == "name others: -l conv1 -l conv4 -l conv5"
    with pytest.raises(UsageError, match="layer 'same': same is called 2 times"):
        grouped_layers(model, ("same",), 3)
    named = grouped_layers(model, ("conv1", "conv4"), 3)
    assert [layer.read_at for layer in named] == ["one", "bn"]


def test_terms_are_the_printed_ones_on_the_pre_activations(model):
    _, terms = run(model, ALL)
    net = copy.deepcopy(model.net)
    one = net.one(pictures())
    two = net.two(one.relu())
    centred = two - two.mean(dim=(0, 2, 3), keepdim=True)
    spread = (two.var(dim=(0, 2, 3), keepdim=True, correction=0) + net.bn.eps).sqrt()
    gamma, beta = (p.detach().numpy() for p in (net.bn.weight, net.bn.bias))
    psi = [
        literal.soft_field(one.detach().numpy(), 1, 0),
        literal.soft_field_of_norm((centred / spread).detach().numpy(), gamma, beta, 1, 0),
    ]
    pairs = [[(0, 1)], [(2, 3)], [(4, 5)]]  # groups of two have one pair each
    expected = sum(literal.group_loss(p, pairs) for p in psi)
    assert terms["group_loss"].item() == pytest.approx(expected, rel=1e-6)
    spatial = sum(literal.spatial_loss(p) for p in psi)
    assert terms["spatial_loss"].item() == pytest.approx(spatial, rel=1e-5)
    weights = [net.one.weight, net.two.weight]
    norm = sum(literal.block_norm(w.detach().numpy(), 3) for w in weights)
    assert terms["block_norm"].item() == pytest.approx(norm)


def test_terms_are_weighted_as_in_equation_8(model):
    settings = CglSettings(3, group_weight=0.2, spatial_weight=0.03, block_weight=0.004)
    groups, terms = run(model, settings)
    expected = 0.2 * terms["group_loss"] + 0.03 * terms["spatial_loss"]
    expected += 0.004 * terms["block_norm"]
    assert torch.allclose(groups.weighted(terms), expected)


def test_every_weight_and_both_scales_get_a_gradient(model):
    groups, terms = run(model, ALL)
    groups.weighted(terms).backward()
    below = [*model.net.one.parameters(), *model.net.two.parameters(), *model.net.bn.parameters()]
    for parameter in (*below, groups.p1, groups.p2):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0
        assert parameter.grad.isfinite().all()


def test_scales_that_are_not_learned_stay(model):
    groups, terms = run(model, CglSettings(3, learn_field=False))
    groups.weighted(terms).backward()
    assert groups.p1.grad is None and not groups.p1.requires_grad


def test_scales_cannot_make_all_fields_alike(model):
    """With P1 = 0 the group loss would be 0 whatever the filters do."""
    settings = CglSettings(3, group_weight=1.0, spatial_weight=0.0)
    groups = ConceptGroups(model.layers[:2], settings).double()
    optimizer = torch.optim.SGD(groups.parameters(), lr=5.0)
    with groups.hooks(model.net):
        for _ in range(5):
            model.net(pictures())
            terms = groups.terms(model.net)
            optimizer.zero_grad()
            terms["group_loss"].backward()
            optimizer.step()
    assert terms["group_loss"].item() > 0.5
    assert groups.record()["p1"] >= 1 and groups.record()["p2"] <= 0


def test_the_forward_pass_stays_as_it_is(model):
    net = model.net.eval()
    before = net(pictures())
    groups = ConceptGroups(model.layers, ALL).double()
    with groups.hooks(net):
        assert torch.equal(net(pictures()), before)
    assert not any(m._forward_hooks for m in net.modules())
    assert list(net.state_dict()) == list(Small().state_dict())


def test_terms_without_weight_are_not_computed(model):
    _, terms = run(model, CglSettings(3, group_weight=0.0, spatial_weight=0.0))
    assert list(terms) == ["block_norm"]
    _, terms = run(model, CglSettings(3, group_weight=0.0))
    assert list(terms) == ["spatial_loss", "block_norm"]


def test_pairs_are_drawn_anew_each_step_and_alike_for_a_seed():
    model = open_model("zoo:demo_net")
    model.net.requires_grad_(True)
    layers = grouped_layers(model, ["conv1"], 1)  # 96 of 496 pairs

    def losses(seed: int) -> list[float]:
        groups = ConceptGroups(layers, ALL, seed)
        found = []
        with groups.hooks(model.net):
            for _ in range(2):
                model.net(torch.ones(2, 3, 64, 64).cumsum(3) / 64)
                found.append(groups.terms(model.net)["group_loss"].item())
        return found

    one = losses(0)
    assert one[0] != one[1] and one == losses(0) and one != losses(1)


def test_sliding_weight_compares_layers(model):
    _, plain = run(model, ALL)
    _, slid = run(model, CglSettings(3, sliding_weight=0.5))
    assert slid["group_loss"].item() > plain["group_loss"].item()


def test_block_norm_replaces_the_decay_of_its_weights_alone(model):
    groups, _ = run(model, ALL)
    spared = {id(p) for p in groups.undecayed(model.net)}
    assert spared == {id(model.net.one.weight), id(model.net.two.weight)}


def test_half_precision_is_lifted(model):
    net = model.net.float()
    groups = ConceptGroups(model.layers[:2], ALL)
    with groups.hooks(net):
        with torch.autocast("cpu", torch.bfloat16):
            net(pictures().float())
        terms = groups.terms(net)
    assert all(t.dtype == torch.float32 for t in terms.values())


def test_fields_that_descend_the_group_loss_grow_alike_within_groups_and_not_across():
    groups = split(16, 4)
    generator = torch.Generator().manual_seed(0)
    own, base = torch.rand(2, 4, 16, 6, 6, generator=generator)
    shared = (base[:, ::4] > 0.5).float().repeat_interleave(4, dim=1)  # a map per group
    psi = (0.6 * shared + 0.4 * own).requires_grad_()
    before = Likeness(groups)
    before.add(psi.detach())
    for _ in range(60):
        first, second = draw_pairs(groups, generator)
        (slope,) = torch.autograd.grad(cgl.group_loss(psi, first, second), psi)
        psi = (psi - 20 * slope).detach().clamp(0.01, 0.99).requires_grad_()
    found = Likeness(groups)
    found.add(psi.detach())
    assert np.mean(before.within) < 0.8
    assert np.mean(found.within) > 0.85 > 0.75 > found.across


def test_the_record_says_what_a_checkpoint_needs(model):
    groups, _ = run(model, ALL)
    assert groups.record() == {
        "method": "cgl", "layers": ["one", "two"], "p1": 1.0, "p2": 0.0,
        "groups": {"one": {"number": 3, "size": 2}, "two": {"number": 3, "size": 2}},
    }  # fmt: skip
    relevance = groups.relevance(model.net)
    assert relevance["conv1"] == pytest.approx(
        [float(model.net.one.weight[g * 2 : g * 2 + 2].detach().norm()) for g in range(3)]
    )


# ---- settings


@pytest.mark.parametrize(
    "wrong", [{"groups": 0}, {"group_weight": -1.0}, {"block_weight": float("nan")}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        CglSettings(**wrong)


def test_presets_hold_and_give_way_to_what_is_given():
    assert CglSettings.of("paper").group_weight == 1e-3
    assert CglSettings.of("paper", group_weight=0.5, groups=None).group_weight == 0.5
    assert all(CglSettings.of(name) for name in CglSettings.presets)
    with pytest.raises(UsageError, match="no preset 'papers'"):
        CglSettings.of("papers")
