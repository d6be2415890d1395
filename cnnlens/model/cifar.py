"""The usual networks for pictures of 32×32, under the names that popular repositories give them.

Parameters are named as in kuangliu/pytorch-cifar (``shortcut``, ``linear``), akamaster's
pytorch_resnet_cifar10 (the same, with shortcuts that have no parameters), chenyaofo's
pytorch-cifar-models and torchvision (``downsample``, ``fc``), and xternalz/WideResNet-pytorch.
What a state dict says of a network is read from it by the functions named ``*_options``: width,
names, depth of the classifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from cnnlens.model.architectures import Options, Shapes


class PaddedShortcut(nn.Module):
    """Option A of He et al.: every second position, and channels of zeros on both sides.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, §4.2.
    """

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C + more, H/stride, W/stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))


def _conv(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """A residual block: two convolutions, or three with a bottleneck, beside a shortcut."""

    def __init__(self, widths: Sequence[int], stride: int, shortcut: str | None) -> None:
        super().__init__()
        deep = len(widths) == 4
        for number, (inside, outside) in enumerate(pairwise(widths), 1):
            kernel = (1, 3, 1)[number - 1] if deep else 3
            step = stride if number == (2 if deep else 1) else 1
            self.add_module(f"conv{number}", _conv(inside, outside, kernel, step))
            self.add_module(f"bn{number}", nn.BatchNorm2d(outside))
        self.convolutions = len(widths) - 1
        self.shortcut_name = shortcut or "shortcut"
        self.relu = nn.ReLU()
        inside, outside = widths[0], widths[-1]
        self.plain = stride == 1 and inside == outside
        if not self.plain:
            convolved = nn.Sequential(_conv(inside, outside, 1, stride), nn.BatchNorm2d(outside))
            way = convolved if shortcut else PaddedShortcut(outside - inside, stride)
            self.add_module(self.shortcut_name, way)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H/stride, W/stride)."""
        y = x
        for number in range(1, self.convolutions + 1):
            y = self.get_submodule(f"conv{number}")(y)
            y = self.get_submodule(f"bn{number}")(y)
            y = self.relu(y) if number < self.convolutions else y
        beside = x if self.plain else self.get_submodule(self.shortcut_name)(x)
        return self.relu(y + beside)


class ResNet(nn.Module):
    """A residual network with a 3×3 stem of stride 1 and no pooling behind it.

    Parameters
    ----------
    blocks : sequence of int
        Residual blocks of each stage; from one stage to the next, maps halve and widths double.
    width : int
        Channels of the stem and of the first stage.
    deep : bool
        Bottleneck blocks, with four times as many outputs.
    shortcut : str or None
        What the convolutions beside blocks are called; None: shortcuts without parameters.
    head : str
        What the classifier is called.
    num_classes : int
        Number of its outputs.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        width: int,
        deep: bool,
        shortcut: str | None,
        head: str,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.stages = len(blocks)
        inside = width
        for stage, count in enumerate(blocks):
            inner = width * 2**stage
            outside = 4 * inner if deep else inner
            row = nn.Sequential()
            for number in range(count):
                widths = [inside, inner, inner, outside] if deep else [inside, inner, outside]
                row.append(Block(widths, 2 if stage and not number else 1, shortcut))
                inside = outside
            self.add_module(f"layer{stage + 1}", row)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head_name = head
        self.add_module(head, nn.Linear(inside, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.get_submodule(self.head_name)(self.avgpool(x).flatten(1))


_BLOCK = re.compile(r"layer(\d)\.(\d+)\.conv1\.weight")


def resnet_blocks(shapes: Shapes) -> list[int]:
    """Count the residual blocks of each stage in a state dict."""
    found: dict[int, int] = {}
    for name in shapes:
        if match := _BLOCK.search(name):
            stage = int(match[1])
            found[stage] = max(found.get(stage, 0), int(match[2]) + 1)
    return [found[stage] for stage in sorted(found)]


def resnet_options(shapes: Shapes) -> Iterable[Options]:
    """Read width and names of a residual network off a state dict."""
    names = " ".join(shapes)
    options: Options = {}
    if stem := shapes.get("conv1.weight"):
        options["width"] = stem[0]
    shortcut = next((n for n in ("downsample", "shortcut") if f".{n}." in names), None)
    if any(_BLOCK.search(name) for name in shapes):
        options["shortcut"] = shortcut
        ours = "fc" if "fc.weight" in shapes or shortcut == "downsample" else "linear"
        options["head"] = "linear" if "linear.weight" in shapes else ours
    return (options,)


def resnet(
    blocks: Sequence[int],
    deep: bool = False,
    width: int = 64,
    shortcut: str | None = "downsample",
    head: str = "fc",
    num_classes: int = 10,
) -> nn.Module:
    """Build a residual network, by default under torchvision's names."""
    return ResNet(blocks, width, deep, shortcut, head, num_classes)


# what is a number is a convolution of so many sixty-fourths of the width, m a pooling
_VGG = {
    11: "1 m 2 m 4 4 m 8 8 m 8 8 m",
    13: "1 1 m 2 2 m 4 4 m 8 8 m 8 8 m",
    16: "1 1 m 2 2 m 4 4 4 m 8 8 8 m 8 8 8 m",
    19: "1 1 m 2 2 m 4 4 4 4 m 8 8 8 8 m 8 8 8 8 m",
}


class VGG(nn.Module):
    """VGG for pictures of 32×32: its maps end as one position.

    Parameters
    ----------
    depth : {11, 13, 16, 19}
        Its name's number.
    width : int
        Channels of the first convolution.
    norm : bool
        Whether batch norms follow the convolutions.
    linear : sequence of int
        Positions of the linear layers in the classifier; none: it is one linear layer.
    hidden : int
        Units of its inner layers.
    num_classes : int
        Number of its outputs.
    """

    def __init__(
        self,
        depth: int,
        width: int = 64,
        norm: bool = True,
        linear: Sequence[int] = (),
        hidden: int = 512,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        inside = 3
        for word in _VGG[depth].split():
            if word == "m":
                self.features.append(nn.MaxPool2d(2))
                continue
            outside = int(word) * width
            self.features.append(nn.Conv2d(inside, outside, 3, padding=1))
            self.features.extend([nn.BatchNorm2d(outside)] if norm else [])
            self.features.append(nn.ReLU())
            inside = outside
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = (
            _classifier(linear, inside, hidden, num_classes)
            if linear
            else nn.Linear(inside, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _classifier(
    positions: Sequence[int], inside: int, hidden: int, num_classes: int
) -> nn.Sequential:
    """Linear layers at these positions, a rectifier behind each but the last, dropout between."""
    layers: list[nn.Module] = [nn.Dropout() for _ in range(positions[-1] + 1)]
    for position in positions[:-1]:
        layers[position : position + 2] = [nn.Linear(inside, hidden), nn.ReLU()]
        inside = hidden
    layers[positions[-1]] = nn.Linear(inside, num_classes)
    return nn.Sequential(*layers)


def vgg_options(shapes: Shapes) -> Iterable[Options]:
    """Read width, batch norms and the classifier's layers off a state dict."""
    options: Options = {}
    if stem := shapes.get("features.0.weight"):
        options = {"width": stem[0], "norm": "features.1.running_mean" in shapes}
    found = [re.fullmatch(r"classifier\.(\d+)\.weight", name) for name in shapes]
    positions = sorted(int(match[1]) for match in found if match)
    if positions and all(b - a > 1 for a, b in pairwise(positions)):  # rectifiers lie between
        options["linear"] = tuple(positions)
        options["hidden"] = shapes[f"classifier.{positions[0]}.weight"][0]
    return (options,)


class WideBlock(nn.Module):
    """A block of a wide residual network: norm and rectifier come before the convolutions."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(inside), nn.ReLU()
        self.conv1 = _conv(inside, outside, 3, stride)
        self.bn2, self.relu2 = nn.BatchNorm2d(outside), nn.ReLU()
        self.conv2 = _conv(outside, outside, 3)
        self.convShortcut = (
            None if inside == outside else nn.Conv2d(inside, outside, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H/stride, W/stride)."""
        y = self.relu1(self.bn1(x))
        beside = x if self.convShortcut is None else self.convShortcut(y)
        y = self.conv1(y)
        return beside + self.conv2(self.relu2(self.bn2(y)))


class _Group(nn.Module):
    def __init__(self, blocks: Sequence[WideBlock]) -> None:
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """A wide residual network.

    References
    ----------
    Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, Table 1.
    """

    def __init__(self, depth: int, width: int = 160, stem: int = 16, num_classes: int = 10) -> None:
        super().__init__()
        count = (depth - 4) // 6
        self.conv1 = _conv(3, stem, 3)
        inside = stem
        for stage in range(3):
            outside = width * 2**stage
            steps = [2 if stage else 1, *[1] * (count - 1)]
            ins = [inside, *[outside] * (count - 1)]
            row = [WideBlock(i, outside, s) for i, s in zip(ins, steps, strict=True)]
            self.add_module(f"block{stage + 1}", _Group(row))
            inside = outside
        self.bn1, self.relu = nn.BatchNorm2d(inside), nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inside, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, classes)."""
        x = self.conv1(x)
        for stage in (1, 2, 3):
            x = self.get_submodule(f"block{stage}")(x)
        return self.fc(self.avgpool(self.relu(self.bn1(x))).flatten(1))


def wide_options(shapes: Shapes) -> Iterable[Options]:
    """Read the widths of a wide residual network off a state dict."""
    stem, first = shapes.get("conv1.weight"), shapes.get("block1.layer.0.conv1.weight")
    return ({"stem": stem[0], "width": first[0]} if stem and first else {},)


# what none of a state dict's names and shapes says
SIZE = (
    "input 32×32 and CIFAR-10's usual mean and std are assumed; --image-size, --mean and --std say "
    "otherwise"
)
_STEM = (
    "its 3×3 stem is taken to have stride 1 and no pooling behind it; for another one give --arch "
    "file.py:factory"
)
_PADDED = (
    "shortcuts without parameters are taken for option A of He et al., zeros on both sides; for "
    "others give --arch file.py:factory"
)


def assumptions(net: nn.Module) -> list[str]:
    """Say what was assumed of a network that a state dict was fitted to."""
    notes = [SIZE, _STEM] if isinstance(net, ResNet) else [SIZE]
    padded = any(isinstance(module, PaddedShortcut) for module in net.modules())
    return [*notes, _PADDED] if padded else notes
