from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnlens.errors import UsageError
from cnnlens.model.hooks import read
from cnnlens.model.layers import Layers

from .nets import filled, layers_of, network, pictures, value

Follow = tuple[str | None, str | None]  # the norm and the activation after a convolution


def _relu(path: str, net: nn.Module) -> Follow:
    return None, "relu"


def _googlenet(path: str, net: nn.Module) -> Follow:
    return path.removesuffix("conv") + "bn", "relu"


def _resnet(path: str, net: nn.Module) -> Follow:
    if "downsample" in path:
        return path[:-1] + "1", None
    block = net.get_submodule(path.rpartition(".")[0]) if "." in path else None
    final = "conv3" if hasattr(block, "conv3") else "conv2"
    norm = path[:-5] + "bn" + path[-1]
    return norm, None if path.endswith(final) else "relu"


def _densenet(path: str, net: nn.Module) -> Follow:
    if path == "features.conv0":
        return "features.norm0", "relu"
    return (path[:-5] + "norm2", "relu") if path.endswith("conv1") else (None, None)


def _sequential(path: str, net: nn.Module) -> Follow:
    parent, _, place = path.rpartition(".")
    siblings = dict(net.get_submodule(parent).named_children())
    norm, act = str(int(place) + 1), siblings.get(str(int(place) + 2))
    names = {nn.ReLU: "relu", nn.ReLU6: "relu6", nn.Hardswish: "hardswish", nn.SiLU: "silu"}
    return f"{parent}.{norm}", names.get(type(act))


def _nothing(path: str, net: nn.Module) -> Follow:
    return None, None


NETS = {
    "alexnet": (5, _relu),
    "vgg16": (13, _relu),
    "squeezenet1_0": (26, _relu),
    "googlenet": (57, _googlenet),
    "resnet18": (20, _resnet),
    "resnet50": (53, _resnet),
    "densenet121": (120, _densenet),
    "mobilenet_v2": (52, _sequential),
    "mobilenet_v3_small": (34, _sequential),
    "efficientnet_b0": (49, _sequential),
    "convnext_tiny": (22, _nothing),
}
SETTINGS = {"googlenet": {"init_weights": False}}  # with its auxiliary heads


def by_hand(net: nn.Module, x: Tensor, follow) -> list[Tensor]:
    """Catch every convolution's output as it is made, and do by hand what follows it."""
    caught: list[tuple[str, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda m, a, out, p=path: caught.append((p, out.clone())))
        for path, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and "fc" not in path and "aux" not in path
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    values = []
    for path, out in caught:
        norm, act = follow(path, net)
        with torch.no_grad():
            out = net.get_submodule(norm)(out) if norm else out
            values.append(getattr(F, act)(out) if act else out)
    return values


@pytest.mark.parametrize("name", NETS)
def test_convn_is_the_nth_convolution_behind_its_norm_and_activation(name):
    count, follow = NETS[name]
    net = network(name, **SETTINGS.get(name, {}))
    layers = layers_of(net)
    x = pictures()
    expected = by_hand(net, x, follow)
    assert len(expected) == count
    found = [layers.resolve(f"conv{n + 1}") for n in range(count)]
    with torch.no_grad():
        values = read(net, x, [layer.place for layer in found])
    for layer, ours, theirs in zip(found, values, expected, strict=True):
        assert ours.shape == theirs.shape and tuple(ours.shape[1:]) == layer.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert layers.resolve("last").place == found[-1].place
    with pytest.raises(UsageError, match=f"conv{count + 1}"):
        layers.resolve(f"conv{count + 1}")
    listed = [row.alias for row in layers.rows if row.alias]
    assert sorted(listed, key=lambda a: int(a[4:])) == [f"conv{n + 1}" for n in range(count)]


def test_fully_connected_layers_are_maps_of_one_position_to_those_who_ask():
    head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 8 * 8, 6), nn.ReLU(inplace=True))
    net, x = filled(nn.Sequential(nn.Conv2d(3, 4, 1), *head, nn.Linear(6, 2))), pictures(2, (8, 8))
    layers = layers_of(net, (8, 8))
    found = [layers.resolve(name, vectors=True) for name in ("2", "3", "4")]
    assert [(one.is_vector, one.shape) for one in found] == [
        (True, (6, 1, 1)), (True, (6, 1, 1)), (True, (2, 1, 1)),
    ]  # fmt: skip
    with torch.no_grad():
        values = read(net, x, [one.place for one in found])
        weighted = net[2](net[0](x).flatten(1))
        expected = [weighted, weighted.clamp(min=0), net[4](weighted.clamp(min=0))]
    for ours, theirs in zip(values, expected, strict=True):
        torch.testing.assert_close(ours, theirs[:, :, None, None])
    assert not layers.resolve("conv1", vectors=True).is_vector
    with pytest.raises(UsageError, match="gives no map: its output is 6 per image"):
        layers.resolve("2")


def test_gates_do_not_count_where_maps_have_one_position():
    wide, small = (layers_of(network("mobilenet_v3_small"), size) for size in ((64, 64), (32, 32)))
    assert small.resolve("last").shape[1:] == (1, 1)
    assert wide.resolve("last").place == small.resolve("last").place
    assert wide.resolve("last").alias == small.resolve("last").alias == "conv34"


class Functional(nn.Module):
    """Everything in one forward: no module returns what conv1 and conv3 mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 5, 3, stride=2)
        self.norm = nn.BatchNorm2d(5)
        self.c = nn.Conv2d(5, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.a(x)), 2)
        x = F.gelu(self.norm(self.b(x)))
        return torch.sigmoid_(self.c(x)).mean((2, 3))

    def by_hand(self, x: Tensor) -> list[Tensor]:
        one = self.a(x).clamp(min=0)
        two = F.gelu(self.norm(self.b(F.max_pool2d(one, 2))))
        return [one, two, torch.sigmoid(self.c(two))]


@pytest.mark.parametrize("inference", [False, True])
def test_values_that_no_module_returns_are_read_from_operations(inference):
    net = filled(Functional())
    layers, x = layers_of(net), pictures()
    places = [layers.resolve(f"conv{n}").place for n in (1, 2, 3)]
    assert all(place.op >= 0 for place in places)
    with torch.inference_mode() if inference else torch.no_grad():
        for ours, theirs in zip(read(net, x, places), net.by_hand(x), strict=True):
            torch.testing.assert_close(ours, theirs)
        pre = read(net, x, [layers.resolve("a").place])[0]
    torch.testing.assert_close(pre, net.a(x).detach())


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x)))).flatten(1)


def test_in_place_rectifiers_leave_the_named_convolution_as_it_was():
    net = filled(InPlace())
    layers, x = layers_of(net), pictures()
    names = ["module:conv1", "conv1", "module:conv2", "conv2", "relu"]
    with torch.no_grad():
        pre1 = net.conv1(x)
        post1 = pre1.clamp(min=0)
        pre2 = net.conv2(post1)
        post2 = pre2.clamp(min=0)
    assert (pre1 < 0).any() and (pre2 < 0).any()
    truth = dict(zip(names, [pre1, post1, pre2, post2, post2], strict=True))
    with torch.no_grad():
        together = read(net, x, [layers.resolve(n).place for n in names])
    for name, ours in zip(names, together, strict=True):
        assert torch.equal(ours, truth[name]), name
        assert torch.equal(value(net, x, layers.resolve(name).place), truth[name]), name


def test_a_reused_rectifier_is_told_apart_call_by_call():
    layers = layers_of(filled(InPlace()))
    first, second = layers.resolve("conv1"), layers.resolve("conv2")
    assert (first.place.path, first.place.call) == ("relu", 0)
    assert (second.place.path, second.place.call) == ("relu", 1)
    assert layers.resolve("relu").place == second.place  # the path means the last call


def test_the_alias_wins_over_a_module_of_its_name():
    layers = layers_of(filled(InPlace()))
    assert layers.resolve("conv1").place != layers.resolve("module:conv1").place
    assert layers.resolve("module:conv1").place.path == "conv1"
    assert layers.resolve("module:conv1").name == "module:conv1"
    names = [row.name for row in layers.rows]
    assert len(names) == len(set(names)) and "module:conv1" in names
    for row in layers.rows:  # what is listed can be typed, and means the same
        assert layers.resolve(row.name).place == row.place


def test_an_alias_and_a_path_of_the_same_place_have_one_key():
    layers = layers_of(network("squeezenet1_0"))
    path = layers.resolve("conv1").place.path
    assert path == "features.1"
    assert layers.resolve(path).place.key == layers.resolve("conv1").place.key
    assert layers.resolve(path).alias == "conv1"


def test_unknown_layers_and_layers_without_maps_are_wrong_usage():
    layers = layers_of(network("squeezenet1_0"))
    with pytest.raises(UsageError, match=r"features\.12"):
        layers.resolve("feature.12")
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(4))
    net(torch.rand(1, 3, 8, 8))
    with pytest.raises(UsageError, match="gives no map"):
        layers_of(net.eval(), (8, 8)).resolve("2")
    with pytest.raises(UsageError, match="no convolution"):
        layers_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (2, 2)).resolve("last")


class Twins(nn.Module):
    """A module that returns a pair, and one that only training runs."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.unused = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        a, b = self.pair(x)
        return a, {"b": b}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x


def test_modules_that_return_no_tensor_or_never_run_are_named_as_such():
    layers = layers_of(Twins().eval())
    with pytest.raises(UsageError, match="'pair' returns no tensor but a tuple"):
        layers.resolve("pair")
    with pytest.raises(UsageError, match="'unused' is not run"):
        layers.resolve("unused")
    assert layers.resolve("conv1").place.path == "pair.conv"


class Branching(nn.Module):
    """Reads numbers out of tensors on the way, starts with an identity."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Identity()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        if x.abs().sum() > 0 and x.max().item() < 1e9:
            x = self.conv(x)
        return x


def test_layers_that_hand_on_the_input_and_decisions_on_values_are_no_obstacle():
    layers = layers_of(Branching().eval(), (9, 7))
    assert layers.resolve("start").shape == (3, 9, 7)
    assert layers.resolve("conv").shape == (2, 7, 5)
    assert [row.as_row()["size"] for row in layers.rows] == [[9, 7], [7, 5]]


@pytest.mark.parametrize("name", ["swin_t", "convnext_tiny"])
def test_maps_with_channels_last_come_out_as_units_first(name):
    net = network(name)
    layers, x = layers_of(net), pictures()
    if name == "swin_t":
        last = ["features.1.0.norm1", "features.1.0.attn", "features.1.1.attn", "features.1.0"]
        last += [
            "features.1.0.mlp.0",
            "features.1.0.mlp",
            "features.2",
            "features.3.1.attn",
            "norm",
        ]
        first = ["features.0.0"]
    else:
        last = [f"features.1.0.block.{n}" for n in (1, 2, 3, 4, 5)]
        first = ["features.1.0.block.0", "features.1.0.block.6", "features.1.0", "features.3"]
    for path in last + first:
        caught = []
        handle = net.get_submodule(path).register_forward_hook(
            lambda m, a, out, c=caught: c.append(out.clone())
        )
        with torch.no_grad():
            net(x)
        handle.remove()
        truth = caught[0].permute(0, 3, 1, 2) if path in last else caught[0]
        layer = layers.resolve(path)
        assert layer.shape == tuple(truth.shape[1:]), path
        assert torch.equal(value(net, x, layer.place), truth), path


def exported(net: nn.Module, x: Tensor) -> nn.Module:
    return torch.export.unflatten(torch.export.export(net, (x,))).eval()


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v3_small"])
def test_exported_programs_have_the_same_aliases(name):
    net, x = network(name, **({"aux_logits": False} if name == "googlenet" else {})), pictures(1)
    plain, program = layers_of(net), exported(net, x)
    layers = layers_of(program)
    assert layers.resolve("last").alias == plain.resolve("last").alias
    for alias in ("conv1", "conv5", "last"):
        assert layers.resolve(alias).shape == plain.resolve(alias).shape
        assert layers.resolve(alias).fields == plain.resolve(alias).fields
        torch.testing.assert_close(
            value(program, x, layers.resolve(alias).place),
            value(net, x, plain.resolve(alias).place),
        )


def test_exported_functional_networks_have_the_same_aliases():
    net, x = filled(Functional()), pictures(1)
    program = exported(net, x)
    layers = layers_of(program)
    for alias, truth in zip(("conv1", "conv2", "conv3"), net.by_hand(x), strict=True):
        torch.testing.assert_close(value(program, x, layers.resolve(alias).place), truth.detach())


def test_transposed_convolutions_do_not_count():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(4, 2, 1)
    )
    layers = layers_of(net.eval())
    assert layers.resolve("last").alias == "conv2" and layers.resolve("conv2").place.path == "2"


def test_rows_read_as_json_and_stand_in_the_order_of_the_forward_pass():
    layers: Layers = layers_of(network("alexnet"), (224, 224))
    rows = {row.alias: row.as_row() for row in layers.rows if row.alias}
    assert list(rows) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert rows["conv5"] == {
        "name": "features.11",
        "alias": "conv5",
        "kind": "ReLU",
        "units": 256,
        "size": [13, 13],
        "receptive_field": 163,
        "stride": 16,
        "vector": False,
    }
    last = layers.rows[-1].as_row()
    assert last == {
        "name": "classifier",
        "alias": None,
        "kind": "Linear",
        "units": 5,
        "size": [1, 1],
        "receptive_field": None,
        "stride": None,
        "vector": True,
    }


def test_what_is_listed_is_what_can_be_named_and_nothing_else_is():
    net = network("alexnet")
    layers = layers_of(net, (224, 224))
    named = {row.name for row in layers}
    for row in layers:
        assert layers.resolve(row.name, vectors=True).place == row.place
    for path in dict(net.named_modules()):
        assert (path in layers) == (path in named or f"module:{path}" in named)


def test_layers_are_a_sequence_and_a_mapping() -> None:
    layers = layers_of(network("squeezenet1_0"))
    assert len(layers) == len(list(layers)) == len(layers.rows) > 20
    assert layers[0] is next(iter(layers)) and layers[-1] is layers.rows[-1]
    assert layers["conv2"] == layers.resolve("conv2")
    assert "conv2" in layers and "features.3" in layers and "conv99" not in layers
    with pytest.raises(UsageError, match="no layer 'conv99'"):
        layers["conv99"]


def test_layers_are_printed_as_a_table_and_a_layer_in_a_line() -> None:
    layers = layers_of(network("squeezenet1_0"))
    lines = repr(layers).splitlines()
    assert len(lines) == 1 + len(layers)
    assert lines[0].split() == [
        *("name", "alias", "kind", "units", "size", "receptive_field", "stride", "vector"),
    ]
    row = next(line for line in lines if " conv2 " in line)
    conv = layers["conv2"]
    assert row.split()[3:5] == [str(conv.units), "×".join(map(str, conv.shape[1:]))]
    text = repr(conv)
    assert "conv2" in text and "×".join(map(str, conv.shape)) in text and len(text) < 80
