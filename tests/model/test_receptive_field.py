from __future__ import annotations

import copy
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cnnlens.model.fields import receptive_fields
from cnnlens.model.layer import Layer
from cnnlens.model.receptive_field import field_box
from cnnlens.model.trace import trace

from .nets import layers_of, network


def positive(net: nn.Module) -> nn.Module:
    """The same net in float64 where nothing cancels: positive weights, averages for maxima."""
    net = copy.deepcopy(net).double().eval().requires_grad_(False)
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, pool)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            module.weight.data.fill_(1)
            module.bias.data.zero_()
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
            module.running_var.fill_(1)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.weight.data.abs_().div_(module.weight[0].numel())
    return net


def seen(net: nn.Module, size: tuple[int, int], layer: Layer, y: int, x: int) -> list[tuple]:
    """The input rows and columns that one unit's gradient reaches: [first, behind the last)."""
    image = (torch.rand(1, 3, *size, dtype=torch.float64) + 0.5).requires_grad_()
    caught: list[Tensor] = []
    module = net.get_submodule(layer.place.path)

    def catch(module: nn.Module, given: object, out: Tensor) -> None:
        caught.append(out)
        if len(caught) > layer.place.call:
            raise StopIteration  # what comes behind it is of no interest

    handle = module.register_forward_hook(catch)
    with suppress(StopIteration):
        net(image)
    handle.remove()
    caught[layer.place.call][0, :, y, x].sum().backward()
    reached = image.grad[0].abs().sum(0) > 0
    spans = []
    for axis in (1, 0):
        places = reached.any(axis).nonzero().flatten()
        spans.append((int(places[0]), int(places[-1]) + 1))
    return spans


PUBLISHED = [  # Araujo et al., "Computing receptive fields of CNNs", Distill 2019, and by hand
    ("alexnet", ["conv1", "conv2", "conv3", "conv4", "conv5"], [11, 51, 99, 131, 163]),
    ("vgg16", ["conv1", "conv2", "conv4", "conv7", "conv10", "conv13"], [3, 5, 14, 40, 92, 196]),
    ("resnet18", ["layer1", "layer2", "layer3", "layer4"], [43, 99, 211, 435]),
    ("resnet50", ["conv1", "layer1", "layer2", "layer3", "layer4"], [7, 35, 91, 267, 427]),
    ("mobilenet_v2", ["features.18"], [491]),
]


@pytest.mark.parametrize(("name", "layers", "sizes"), PUBLISHED)
def test_receptive_fields_are_the_published_ones(name, layers, sizes):
    found = layers_of(network(name), (224, 224))
    for layer, size in zip(layers, sizes, strict=True):
        assert [f.size for f in found.resolve(layer).fields] == [size, size]


DEEP = [  # the least height, nearly, in which the field lies within the image
    ("alexnet", "features.10", 224),
    ("squeezenet1_0", "features.12", 224),
    ("googlenet", "inception4b", 256),
    ("resnet18", "layer4", 512),
    ("resnet50", "layer4.0", 384),
    ("densenet121", "features.denseblock2", 352),
    ("mobilenet_v2", "features.18", 576),
    ("convnext_tiny", "features.3", 320),
]


@pytest.mark.parametrize(("name", "path", "height"), DEEP)
def test_deep_fields_are_where_the_gradient_is(name, path, height):
    settings = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    net = positive(_headless(network(name, **settings)))
    size = (height, 64)  # narrow, to be quick; the columns are checked on small nets
    with torch.no_grad():
        layer = layers_of(net.float(), size).resolve(path)
    rows = layer.fields[0]
    y = layer.shape[1] // 2
    (low, high), _ = seen(net.double(), size, layer, y, layer.shape[2] // 2)
    assert (low, high) == (rows.centre(y) - rows.size / 2, rows.centre(y) + rows.size / 2)


def _headless(net: nn.Module) -> nn.Module:
    if isinstance(net, (torchvision.models.AlexNet, torchvision.models.VGG)):
        net.classifier = nn.Identity()
    return net


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(2, 2, (1, 7), padding=(0, 3))
        self.tall = nn.Conv2d(2, 2, (5, 1), padding=(2, 0))
        self.gate = nn.Conv2d(2, 2, 1)
        self.join = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.wide(x) + self.tall(x)], 1)
        return self.join(x)


class Padded(nn.Module):
    """Padding and cropping by functions, not the same on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 3, stride=2)
        self.b = nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(F.pad(x, (0, 1, 2, 3)))
        return self.b(x[:, :, 1:-2, 3:])


class Skipping(nn.Module):
    """Strided slices, and space to depth."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(12, 2, 3)
        self.b = nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.b(self.a(torch.cat(parts, 1))[:, :, ::3, 1::2])


class Same(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.down = nn.AvgPool2d(2)
        self.b = nn.Conv2d(2, 2, 3, padding=1)
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.out(F.interpolate(self.b(self.down(x)), scale_factor=2) + x)


SMALL = {
    "strided, padded, dilated": nn.Sequential(
        nn.Conv2d(3, 2, (3, 5), stride=(2, 1), padding=(1, 0)),
        nn.Conv2d(2, 2, 3, dilation=(2, 3), padding=2),
        nn.Conv2d(2, 2, 2, stride=2),
    ),
    "pooled": nn.Sequential(
        nn.Conv2d(3, 2, 3),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(2, 2, 3),
        nn.AvgPool2d((2, 3), stride=(2, 1)),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ),
    "branches": Branches(),
    "padded and cropped": Padded(),
    "slices": Skipping(),
    "reflected": nn.Sequential(nn.ReflectionPad2d((3, 0, 0, 1)), nn.Conv2d(3, 2, 3)),
    "space to depth": nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 2, 3, stride=2)),
    "adaptive": nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.AdaptiveAvgPool2d((16, 10))),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_nets_fields_are_exact(name):
    net = SMALL[name]
    size = (64, 60)
    last = list(dict(net.named_children()))[-1]
    layer = layers_of(net.float().eval(), size).resolve(last)
    _, height, width = layer.shape
    for y, x in [(height // 2, width // 2), (height // 2 - 1, width // 2 + 1)]:
        spans = seen(positive(net), size, layer, y, x)
        for span, field, index in zip(spans, layer.fields, (y, x), strict=True):
            centre = field.centre(index)
            assert span == (centre - field.size / 2, centre + field.size / 2)


GROWING = {
    "transposed 4, 2, 1": nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=4), nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1)
    ),
    "transposed 3, 2": nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=4), nn.ConvTranspose2d(2, 2, 3, 2, padding=1, output_padding=1)
    ),
    "transposed 2, 2": nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=4), nn.ConvTranspose2d(2, 2, 2, stride=2)
    ),
    "nearest": nn.Sequential(nn.Conv2d(3, 2, 3, stride=4), nn.Upsample(scale_factor=2)),
    "bilinear": nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=4), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
    "bilinear, aligned": nn.Sequential(
        nn.Conv2d(3, 2, 3, stride=4),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    ),
    "depth to space": nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.PixelShuffle(2)),
}


@pytest.mark.parametrize("name", GROWING)
def test_upsampled_fields_have_the_largest_size_and_the_mean_centre(name):
    # neighbouring units look at more or less, a little to one side or the other
    net = GROWING[name]
    layer = layers_of(net.eval(), (64, 60)).resolve("1")
    _, height, width = layer.shape
    errors, sizes = [], []
    for step in range(4):
        y, x = height // 2 + step, width // 2 + step
        for span, field, i in zip(
            seen(positive(net), (64, 60), layer, y, x), layer.fields, (y, x), strict=True
        ):
            sizes.append(span[1] - span[0])
            errors.append((span[0] + span[1]) / 2 - field.centre(i))
    assert max(sizes) == layer.fields[0].size == layer.fields[1].size
    coarse = 4.0  # distance of neighbours before they were multiplied
    assert max(map(abs, errors)) <= coarse / 2
    if "aligned" not in name:
        assert abs(sum(errors)) / len(errors) <= coarse / 8


def test_branches_of_unequal_strides_meet():
    net = Same().eval()
    layer = layers_of(net, (64, 64)).resolve("out")
    assert layer.fields[0].stride == 2
    spans = [seen(positive(net), (64, 64), layer, 16 + i, 16)[0] for i in range(2)]
    low = min(a - layer.fields[0].centre(16 + i) for i, (a, _) in enumerate(spans))
    high = max(b - layer.fields[0].centre(16 + i) for i, (_, b) in enumerate(spans))
    assert layer.fields[0].size == pytest.approx(high - low, abs=2)


def test_fields_differ_by_axis():
    layer = layers_of(Branches().eval(), (64, 60)).resolve("join")
    assert (layer.fields[0].size, layer.fields[1].size) == (11, 15)
    assert layer.as_row()["receptive_field"] == 15


def test_gates_do_not_widen_fields():
    layers = layers_of(network("mobilenet_v3_small"), (224, 224))
    assert layers.resolve("features.1").fields[0].size == 7
    assert not layers.resolve("features.1").fields[0].whole
    assert layers.resolve("avgpool").fields[0].whole


def test_channels_last_maps_have_fields_like_others():
    layers = layers_of(network("convnext_tiny"), (224, 160))
    for path in ("features.1.0.block.3", "features.1.0", "features.7.2.block.2"):
        rows, columns = layers.resolve(path).fields
        assert rows == columns
    rows, columns = layers_of(network("swin_t"), (224, 224)).resolve("features.2").fields
    assert (rows.stride, rows.start) == (8, 4) and rows == columns


@pytest.mark.parametrize(
    "moved",
    [
        lambda x: x.flip(3),
        lambda x: x.roll((5, 7), (2, 3)),
        lambda x: x.rot90(1, (2, 3)),
        lambda x: x.transpose(2, 3),
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[2:]),
        lambda x: (
            x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 1, 4, 5, 2, 3).reshape(len(x), 48, 8, 8)
        ),
    ],
    ids=["flip", "roll", "rot90", "transposed", "fft", "patches"],
)
def test_where_places_move_the_field_is_the_whole_image(moved) -> None:
    fields = _field_of_last(moved)
    assert all(field.whole for field in fields)
    assert field_box(fields, (2, 3), (32, 32)) == (0, 0, 32, 32)


def test_channels_may_be_turned_and_a_smoothed_shrinking_sees_more() -> None:
    assert _field_of_last(lambda x: x.flip(1)) == _field_of_last(lambda x: x)
    shrunk = _field_of_last(lambda x: F.interpolate(x, size=13, mode="bilinear", antialias=True))
    assert shrunk[0].size >= 1 + 2 * 32 / 13


def _field_of_last(change):
    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(change(torch.zeros(1, 3, 32, 32)).shape[1], 4, 1)
            self.first = nn.Conv2d(3, 3, (1, 3), padding=(0, 1))
            self.out = nn.Identity()

        def forward(self, x):
            return self.out(self.conv(change(self.first(x)))).mean((2, 3))

    passed = trace(Changed().eval(), torch.rand(1, 3, 32, 32))
    value = next(call.value for call in passed.calls if call.path == "out")
    return receptive_fields(passed, (1, 3, 32, 32))[value]
