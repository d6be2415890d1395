from __future__ import annotations

import pytest

from cnnlens.errors import UsageError
from cnnlens.model.addresses import concept_in, parse_filters, units_by_layer
from tests.model.nets import layers_of, network


@pytest.fixture(scope="module")
def layers():
    return layers_of(network("resnet18"))


@pytest.mark.parametrize(
    ("text", "layer", "units", "position"),
    [
        ("conv5:12", "conv5", [12], None),
        ("conv5:0-3", "conv5", [0, 1, 2, 3], None),
        ("layer4:3,7,9", "layer4", [3, 7, 9], None),
        ("layer4:7,1-2,1", "layer4", [7, 1, 2], None),
        ("conv5:all", "conv5", list(range(64)), None),
        ("layer4.1:5@1,0", "layer4.1", [5], (1, 0)),
        ("module:conv1:3", "module:conv1", [3], None),
        ("module:conv1", "module:conv1", None, None),
        ("conv5", "conv5", None, None),
    ],
)
def test_addresses(layers, text, layer, units, position):
    (found,) = parse_filters([text], layers)
    assert (found.layer.name, found.units, found.position) == (layer, units, position)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conv5:64", "no unit 64 in conv5\nits units are 0 to 63"),
        ("conv5:0-64", "no unit 64"),
        ("conv5:-1", "no unit and no range"),
        ("conv5:3-1", "runs backwards"),
        ("conv5:", "names no unit"),
        ("conv5:cat", "names no unit"),
        ("layer4:1@2,0", "rows 0 to 1, columns 0 to 1"),
        ("layer4:1@2", "row, column"),
        ("layr4:1", "did you mean layer4"),
    ],
)
def test_what_does_not_fit_is_named(layers, text, says):
    with pytest.raises(UsageError, match=says):
        parse_filters([text], layers)


def test_units_are_listed_by_place_each_once(layers):
    named = parse_filters(["conv1:1,2", "conv1:2,0", "conv1:2@0,1"], layers)
    ((layer, targets),) = units_by_layer(named)
    assert layer.name == "conv1"
    assert targets == [(1, None), (2, None), (0, None), (2, (0, 1))]
    with pytest.raises(UsageError, match="names no units"):
        units_by_layer(parse_filters(["conv1"], layers))


def test_a_concept_s_address_is_taken_apart(layers):
    assert concept_in("conv1:[part:hair]") == ("conv1", "part:hair")
    assert concept_in("module:conv1:[object:a:b [c]]") == ("module:conv1", "object:a:b [c]")
    assert concept_in(" features.12:[ T shirt ] ") == ("features.12", "T shirt")
    for text in ("conv1", "conv1:3", "conv1:all", "conv1:2@0,1", "[part:hair]"):
        assert concept_in(text) is None
    with pytest.raises(UsageError, match="names no concept"):
        concept_in("conv1:[ ]")
    with pytest.raises(UsageError, match="is a concept, and units are wanted here"):
        parse_filters(["conv1:[part:hair]"], layers)
