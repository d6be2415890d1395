from __future__ import annotations

import captum.attr
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlens.attribution.cam import ClassMaps
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from tests.model.nets import filled, network, pictures


def model_of(net: nn.Module, size: int = 64) -> Model:
    net = net.eval().requires_grad_(False)
    return Model(net, "test", "a test's net", Preprocess(size=(size, size)), None, "0")


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    assert found.shape == wanted.shape
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max())


class Head(nn.Module):
    """A convolution and one of the ways that lead from maps to scores."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.stem, self.linear = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, 5)
        self.hidden, self.flat = nn.Linear(6, 6), nn.Linear(6 * 31 * 31, 5)
        self.as_conv, self.bare = nn.Conv2d(6, 5, 1), nn.Linear(6, 5, bias=False)
        self.wide = nn.Conv2d(6, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))  # (N, 6, 31, 31)
        return getattr(self, f"_{self.way}")(x)

    def _mean(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))

    def _means(self, x: Tensor) -> Tensor:
        return self.linear(F.dropout(x.mean(3).mean(2), training=self.training))

    def _flat_mean(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(2).mean(2))

    def _pool(self, x: Tensor) -> Tensor:
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def _window(self, x: Tensor) -> Tensor:
        return self.linear(F.avg_pool2d(x, 31).view(len(x), -1))

    def _no_bias(self, x: Tensor) -> Tensor:
        return self.bare(x.mean((2, 3)))

    def _conv_after(self, x: Tensor) -> Tensor:
        return self.as_conv(x.mean((2, 3), keepdim=True)).flatten(1)

    def _conv_before(self, x: Tensor) -> Tensor:
        return self.as_conv(x).mean((2, 3))

    def _conv_relu(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(F.relu(self.as_conv(x), inplace=True), 1).flatten(1)

    def _softmax(self, x: Tensor) -> Tensor:
        return F.softmax(self.linear(x.mean((2, 3))), dim=1)

    def _sigmoid(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3))).sigmoid()

    def _dict(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.linear(x.mean((2, 3)))}

    def _last(self, x: Tensor) -> Tensor:
        return self.linear(x.permute(0, 2, 3, 1).mean((1, 2)))

    def _last_in_turn(self, x: Tensor) -> Tensor:
        return self.linear(x.permute(0, 2, 3, 1).contiguous().mean(1).mean(1))

    def _turned(self, x: Tensor) -> Tensor:
        return self.linear(x.transpose(2, 3).mean((2, 3)))

    def _tokens(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(2).transpose(1, 2).mean(1))

    def _conv_before_last(self, x: Tensor) -> Tensor:
        return self.as_conv(x).permute(0, 2, 3, 1).mean((1, 2))

    def _scaled(self, x: Tensor) -> Tensor:
        weight, bias = self.linear.weight.t() / 3, self.linear.bias / 2
        return torch.addmm(bias, x.mean((2, 3)), weight, beta=2, alpha=3)

    def _normed_last(self, x: Tensor) -> Tensor:
        return self.linear(F.layer_norm(x.permute(0, 2, 3, 1), (6,)).mean((1, 2)))

    def _shuffled(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)).view(-1, 2, 3).transpose(1, 2).reshape(-1, 6))

    def _shuffled_classes(self, x: Tensor) -> Tensor:
        return self.hidden(x.mean((2, 3))).view(-1, 2, 3).transpose(1, 2).reshape(-1, 6)

    def _padded(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.as_conv.weight, self.as_conv.bias, padding=9).mean((2, 3))

    def _hidden(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.hidden(x.mean((2, 3)))))

    def _flatten(self, x: Tensor) -> Tensor:
        return self.flat(x.flatten(1))

    def _parts(self, x: Tensor) -> Tensor:
        return self.flat[: 6 * 4](x) if False else self.linear(F.avg_pool2d(x, 15)[:, :, 0, 0])

    def _max(self, x: Tensor) -> Tensor:
        return self.linear(x.amax((2, 3)))

    def _conv_wide(self, x: Tensor) -> Tensor:
        return self.wide(x).mean((2, 3))


LINEAR = ("mean", "means", "flat_mean", "pool", "window", "dict", "softmax", "sigmoid")
LAID_OUT = ("last", "last_in_turn", "turned", "tokens", "scaled")  # linear heads, too
CONVOLUTIONS = ("conv_after", "conv_before", "conv_before_last")


@pytest.mark.parametrize(
    ("way", "side"),
    [
        *((way, 64) for way in (*LINEAR, "no_bias", *CONVOLUTIONS, *LAID_OUT)),
        *((way, 14) for way in LAID_OUT),  # as many rows and columns as units
    ],
)
def test_map_averaged_plus_bias_is_the_score_before_softmax(way: str, side: int) -> None:
    net, x = filled(Head(way)), pictures(3, (side, side))
    seen = ClassMaps(model_of(net, side), "cam")
    found = seen(x, top=5)
    head = net.as_conv if way in CONVOLUTIONS else net.linear
    with torch.no_grad():
        maps = F.relu(net.stem(x))
        weights = net.bare.weight if way == "no_bias" else head.weight.reshape(5, 6)
        bias = torch.zeros(5) if way == "no_bias" else head.bias
        scores = maps.mean((2, 3)) @ weights.T + bias
        by_hand = torch.einsum("nchw,kc->nkhw", maps, weights)
    order = scores.argsort(1, descending=True)
    assert torch.equal(found.classes, order)
    assert close(found.scores, scores.gather(1, order))
    assert close(found.maps, torch.stack([m[o] for m, o in zip(by_hand, order, strict=True)]))
    assert close(found.maps.mean((2, 3)) + bias[order], found.scores)
    shares = scores.sigmoid() if way == "sigmoid" else scores.softmax(1)
    assert close(found.probabilities, shares.gather(1, order))


def test_maps_that_keep_their_channels_last_are_read_so() -> None:
    net, x = filled(Head("normed_last")), pictures(2, (14, 14))
    found = ClassMaps(model_of(net, 14), "cam")(x, classes=[3])
    with torch.no_grad():
        maps = F.layer_norm(F.relu(net.stem(x)).permute(0, 2, 3, 1), (6,))  # (N, H, W, C)
        assert close(found.scores[:, 0], net(x)[:, 3])
        assert close(found.maps[:, 0], maps @ net.linear.weight[3])


@pytest.mark.parametrize("way", ["mean", "conv_before", "conv_relu"])
def test_rounding_of_half_precision_is_no_other_head(way: str) -> None:
    assert ClassMaps(model_of(filled(Head(way)).bfloat16()), "cam").head is not None


def test_a_rectifier_between_class_maps_and_their_average_is_left_out() -> None:
    net, x = filled(Head("conv_relu")), pictures(2)
    found = ClassMaps(model_of(net), "cam")(x, classes=[3, 1])
    with torch.no_grad():
        maps = F.conv2d(F.relu(net.stem(x)), net.as_conv.weight)
        scores = net(x)
    assert close(found.maps, maps[:, [3, 1]]) and float(found.maps.min()) < 0
    rectified = F.relu(found.maps + net.as_conv.bias[[3, 1]][:, None, None])
    assert close(rectified.mean((2, 3)), scores[:, [3, 1]])
    assert close(found.scores, scores[:, [3, 1]])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("squeezenet1_0", "features"),
        ("densenet121", "relu"),
        ("mobilenet_v2", "features"),
        ("googlenet", "inception5b"),
    ],
)
def test_real_networks_have_maps_that_add_up_to_their_scores(name: str, layer: str) -> None:
    net, x = network(name), pictures(2)
    seen = ClassMaps(model_of(net), "cam")
    found = seen(x, top=2)
    assert seen.layer == layer and seen.head is not None and seen.head.bias is not None
    with torch.no_grad():
        best = net(x).topk(2)
    assert torch.equal(found.classes, best.indices) and close(found.scores, best.values)
    full = found.maps + seen.head.bias[found.classes][:, :, None, None]
    full = full.clamp(min=0) if seen.head.rectified else full
    assert close(full.mean((2, 3)), best.values)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("hidden", "between the pooling and the class weights there is 'relu'"),
        ("flatten", "its classifier reads every position of the maps"),
        ("max", "pooled by their maximum"),
        ("conv_wide", "is not 1×1"),
        ("shuffled", "do not read one average of each unit"),
        ("shuffled_classes", r"on noise their averages and the bias miss its class scores by \d+%"),
        ("padded", r"on noise their averages and the bias miss its class scores by \d+%"),
        ("parts", "between the pooling and the class weights there is|not global"),
    ],
)
def test_where_cam_is_not_possible_it_says_why_and_offers_gradcam(way: str, reason: str) -> None:
    model = model_of(filled(Head(way)))
    with pytest.raises(UsageError, match=reason) as caught:
        ClassMaps(model, "cam")
    assert "--method gradcam" in caught.value.hint
    found = ClassMaps(model, "gradcam")(pictures(2), top=2)
    assert found.maps.shape[:2] == (2, 2)


def test_cam_looks_only_where_the_class_weights_act() -> None:
    model = model_of(network("resnet18"))
    assert ClassMaps(model, "cam", "layer4.1").layer == "layer4.1"  # the same maps
    with pytest.raises(UsageError, match="do not act on layer3"):
        ClassMaps(model, "cam", "layer3")
    with pytest.raises(UsageError, match="no layer 'layer9'"):
        ClassMaps(model, "gradcam", "layer9")


@pytest.mark.parametrize(
    ("name", "path"), [("resnet18", "layer3"), ("vgg11", "features.10"), ("googlenet", "conv3")]
)
@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_captum_agrees_on_gradcam(name: str, path: str) -> None:
    net, x = network(name), pictures(2)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # captum reads the layer after it was overwritten
    seen = ClassMaps(model_of(net), "gradcam", f"module:{path}" if path == "conv3" else path)
    oracle = captum.attr.LayerGradCam(net, net.get_submodule(path))
    for number in (0, 3):
        wanted = oracle.attribute(x.clone().requires_grad_(), number, relu_attributions=True)
        assert close(seen(x, classes=[number]).maps, wanted.detach())


def test_gradcam_before_an_in_place_rectifier_reads_the_maps_as_they_were() -> None:
    net = network("vgg11")
    x, place = pictures(1), "features.8"  # a convolution; the rectifier after it works in place
    found = ClassMaps(model_of(net), "gradcam", place)(x, classes=[2]).maps
    with torch.no_grad():
        before = net.features[:9](x)
    maps = before.clone().requires_grad_()
    rest = nn.Sequential(*list(net.features)[10:], net.avgpool, nn.Flatten(), net.classifier)
    (gradient,) = torch.autograd.grad(rest(F.relu(maps))[0, 2], maps)
    wanted = torch.einsum("nchw,nc->nhw", before, gradient.mean((2, 3))).clamp(min=0)[:, None]
    assert close(found, wanted)


@pytest.mark.parametrize("way", ["mean", "softmax", "conv_after", "dict", "last", "normed_last"])
def test_gradcam_at_the_pooled_maps_is_the_positive_part_of_cam(way: str) -> None:
    model, x = model_of(filled(Head(way))), pictures(2)
    cam = ClassMaps(model, "cam")(x, classes=[4])
    seen = ClassMaps(model, "gradcam")
    assert close(seen(x, classes=[4]).maps * 31**2, cam.maps.clamp(min=0))


def test_gradcam_defaults_to_what_is_pooled_else_to_the_last_convolution() -> None:
    assert ClassMaps(model_of(network("resnet18")), "gradcam").layer == "layer4"
    assert ClassMaps(model_of(network("squeezenet1_0")), "gradcam").layer == "classifier.2"
    assert ClassMaps(model_of(network("vgg11")), "gradcam").layer == "last"
    assert ClassMaps(model_of(network("mobilenet_v3_small")), "gradcam").layer == "features"


def test_equal_scores_keep_the_order_of_the_classes() -> None:
    net = filled(Head("mean"))
    net.linear.weight.data.zero_()
    net.linear.bias.data.zero_()
    found = ClassMaps(model_of(net), "cam")(pictures(2), top=3)
    assert found.classes.tolist() == [[0, 1, 2]] * 2


def test_what_is_not_finite_is_said() -> None:
    net = filled(Head("mean"))
    net.linear.weight.data[2] = float("nan")
    with pytest.raises(CnnlensError, match="not finite"):
        ClassMaps(model_of(net), "cam")(pictures(1), classes=[2])


def test_scores_that_do_not_depend_on_a_layer_are_named() -> None:
    class OutOfPlace(Head):
        def forward(self, x: Tensor) -> Tensor:
            self.wide(self.stem(x))
            return self._mean(self.stem(x))

    with pytest.raises(CnnlensError, match=r"from the class scores .* to wide"):
        ClassMaps(model_of(filled(OutOfPlace("mean"))), "gradcam", "wide")(pictures(1))
