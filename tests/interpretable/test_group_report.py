from __future__ import annotations

import pytest
import torch

from cnnlens.interpretable.cgl import Groups, soft_field, soft_field_of_norm, split
from cnnlens.interpretable.concept_groups import ConceptGroups, grouped_layers
from cnnlens.interpretable.group_report import Likeness, group_concepts, record_groups
from cnnlens.model.open import open_model
from cnnlens.settings.finetune import CglSettings

RED, DOG = ("red", "color"), ("dog", "object")


def test_a_group_stands_for_what_its_members_detect_weighted_by_iou():
    labels = [RED, RED, DOG, None, RED, None, None, None, RED]
    iou = [0.05, 0.06, 0.2, 0.03, 0.04, 0.01, 0.0, 0.0, 0.9]
    one, other = group_concepts(labels, iou, split(9, 2))
    assert (one.label, one.category, one.detectors, one.members) == ("dog", "object", 1, 4)
    assert one.score == pytest.approx(0.2 / 4) and one.aligned
    assert other.label == "red" and other.score == pytest.approx(0.01) and not other.aligned


def test_a_group_without_detectors_stands_for_nothing():
    (found,) = group_concepts([None, None], [0.01, 0.02], Groups(2, 1))
    assert (found.label, found.score, found.aligned) == ("", 0, False)


def test_labels_that_do_not_fit_the_layer_are_a_mistake():
    with pytest.raises(ValueError, match="1 labels"):
        group_concepts([None], [0.1], Groups(2, 1))


def fields(groups: Groups, noise: float) -> torch.Tensor:
    """Members follow one map per group, the free units their own."""
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(6, groups.number, 8, 8, generator=generator)
    own = torch.rand(6, groups.units, 8, 8, generator=generator)
    psi = own.clone()
    for group in range(groups.number):
        members = groups.members(group)
        psi[:, members] = (1 - noise) * base[:, group : group + 1] + noise * own[:, members]
    return psi


def test_members_that_agree_are_alike_within_and_not_across():
    groups = split(23, 5)
    found = Likeness(groups)
    found.add(fields(groups, 0.0))
    assert found.within == pytest.approx([1.0] * 5)
    assert found.across == pytest.approx(0.5, abs=0.05)  # of independent uniform maps


def test_members_of_nothing_in_common_are_as_alike_within_as_across():
    groups = split(23, 5)
    found = Likeness(groups)
    found.add(fields(groups, 1.0))
    assert found.within == pytest.approx([found.across] * 5, abs=0.05)


def test_likeness_does_not_depend_on_batches():
    groups = split(23, 5)
    psi = fields(groups, 0.3)
    whole, parts = Likeness(groups), Likeness(groups)
    whole.add(psi)
    for part in psi.split(2):
        parts.add(part)
    assert parts.within == pytest.approx(whole.within, rel=1e-6)
    assert parts.across == pytest.approx(whole.across, rel=1e-6)


def test_one_group_has_no_others_and_groups_of_one_no_pairs():
    one = Likeness(Groups(4, 1))
    one.add(torch.rand(2, 4, 3, 3))
    assert one.across is None and len(one.within) == 1
    single = Likeness(Groups(4, 4))
    single.add(torch.rand(2, 4, 3, 3))
    assert single.within == [None] * 4 and 0 < single.across < 1


def test_pairs_across_are_of_different_groups_and_never_free():
    groups = split(23, 5)
    found = Likeness(groups)
    first, second = found._first[30:], found._second[30:]
    of = torch.tensor(groups.of_units())
    assert (of[first] != of[second]).all() and (of[second] >= 0).all()
    assert set(of[second].tolist()) == set(range(5))


def test_groups_are_described_by_relevance_and_likeness():
    model = open_model("zoo:demo_net")
    groups = ConceptGroups(grouped_layers(model, ["conv1", "conv2"], 5), CglSettings())
    with torch.no_grad():
        groups.p1.fill_(9.0)  # the trained scale does not count
    x = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    one, two = record_groups(groups, model.net, [x])
    assert (one["layer"], one["path"], one["number"], one["size"], one["free"]) == (
        "conv1", "conv1", 5, 6, 2,
    )  # fmt: skip
    assert two["relevance"] == groups.relevance(model.net)["conv2"]
    expected = Likeness(groups.layers[0].groups)
    expected.add(soft_field(model.net.conv1(x), torch.tensor(1.0), torch.tensor(0.0)))
    assert one["within"] == pytest.approx(expected.within)
    assert one["across"] == pytest.approx(expected.across)
    assert not any(m._forward_hooks for m in model.net.modules())


def test_batch_norms_are_read_where_they_stand():
    model = open_model("torchvision:resnet18", image_size=(32, 32))
    groups = ConceptGroups(grouped_layers(model, ["layer1.0.conv1"], 4), CglSettings())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net = model.net
    (found,) = record_groups(groups, net, [x])
    y = net.layer1[0].bn1(net.layer1[0].conv1(net.maxpool(net.relu(net.bn1(net.conv1(x))))))
    expected = Likeness(groups.layers[0].groups)
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    expected.add(soft_field_of_norm(y, net.layer1[0].bn1.weight, one, zero))
    assert found["within"] == pytest.approx(expected.within, rel=1e-5)
