from __future__ import annotations

import pytest
import torch

from cnnlens.interpretable.cgl import soft_field, soft_field_of_norm
from cnnlens.interpretable.concept_groups import ConceptGroups, grouped_layers
from cnnlens.interpretable.group_record import record_groups
from cnnlens.interpretable.group_report import Likeness
from cnnlens.model.open import open_model
from cnnlens.settings.cgl import CglSettings


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
