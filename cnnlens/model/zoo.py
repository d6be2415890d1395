"""Networks that no registry has: VGG-M, VGG-S, CaffeNet, Places365's, CIFAR's, and small ones.

The three of the Caffe era take values in [0, 255] less the mean of ImageNet, blue first. Their
poolings round sizes up, as Caffe's and the padded ones of MatConvNet do. The zoo has no weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from cnnlens.errors import UsageError, did_you_mean
from cnnlens.model import cifar
from cnnlens.model.architectures import Architecture, Options, Shapes
from cnnlens.model.compiler_later import imported
from cnnlens.model.preprocess import Preprocess

PREFIX = "zoo:"
# the pixel mean of ImageNet in Caffe's order and range: blue, green, red
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_DEVIL = 'Chatfield et al., "Return of the Devil in the Details", BMVC 2014, Table 1'


def _lrn(k: float, alpha: float) -> nn.LocalResponseNorm:
    # Caffe and PyTorch both divide alpha by the size; MatConvNet's files hold it divided
    return nn.LocalResponseNorm(5, alpha=alpha, beta=0.75, k=k)


def _pool(size: int, stride: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(size, stride, ceil_mode=True)


class ConvNet(nn.Module):
    """Convolutional features, then a classifier, named as torchvision names them."""

    def __init__(self, features: nn.Sequential, channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        # does nothing at the published input size; lets other sizes through
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 36, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, num_classes),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) to logits (N, classes)."""
        x = self.avgpool(self.features(x))  # (N, C, 6, 6)
        return self.classifier(x.flatten(1))


def vgg_m(num_classes: int = 1000) -> nn.Module:
    """CNN-M, the medium network of Chatfield et al."""
    features = nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(), _lrn(2.0, 5e-4), _pool(3, 2),
        nn.Conv2d(96, 256, 5, stride=2, padding=1), nn.ReLU(), _lrn(2.0, 5e-4), _pool(3, 2),
        nn.Conv2d(256, 512, 3, padding=1), nn.ReLU(),
        nn.Conv2d(512, 512, 3, padding=1), nn.ReLU(),
        nn.Conv2d(512, 512, 3, padding=1), nn.ReLU(), _pool(3, 2),
    )  # fmt: skip
    return ConvNet(features, 512, num_classes)


def vgg_s(num_classes: int = 1000) -> nn.Module:
    """CNN-S, the slow network of Chatfield et al."""
    features = nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(), _lrn(2.0, 5e-4), _pool(3, 3),
        nn.Conv2d(96, 256, 5, padding=1), nn.ReLU(), _pool(2, 2),
        nn.Conv2d(256, 512, 3, padding=1), nn.ReLU(),
        nn.Conv2d(512, 512, 3, padding=1), nn.ReLU(),
        nn.Conv2d(512, 512, 3, padding=1), nn.ReLU(), _pool(3, 3),
    )  # fmt: skip
    return ConvNet(features, 512, num_classes)


def caffenet(num_classes: int = 1000) -> nn.Module:
    """AlexNet as Caffe ships it: pooling before normalization, convolutions in two groups."""
    features = nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), _pool(3, 2), _lrn(1.0, 1e-4),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), _pool(3, 2), _lrn(1.0, 1e-4),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), _pool(3, 2),
    )  # fmt: skip
    return ConvNet(features, 256, num_classes)


def wideresnet18(num_classes: int = 365) -> nn.Module:
    """ResNet-18 of Places365 with wider maps: no pooling behind its first convolution."""
    net = imported("torchvision.models").resnet18(weights=None, num_classes=num_classes)
    net.maxpool = nn.Identity()
    return net


def shapes_net(num_classes: int = 2) -> nn.Module:
    """Build the network of the synthetic experiment of concept group learning: two convolutions."""
    layers = {
        "conv1": nn.Conv2d(3, 128, 3, padding=1),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(128, 256, 3, padding=1),
        "relu2": nn.ReLU(),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(256, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


def demo_net(num_classes: int = 9) -> nn.Module:
    """Build the network of ``cnnlens demo``: three convolutions, quick to train on two cores."""
    layers = {
        "conv1": nn.Conv2d(3, 32, 5, padding=2),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(32, 64, 3, padding=1),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(2),
        "conv3": nn.Conv2d(64, 64, 3, padding=1),
        "relu3": nn.ReLU(),
        "maxpool": nn.AdaptiveMaxPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(64, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


def animal_net(num_classes: int = 3) -> nn.Module:
    """Build a network for the synthetic animals: four convolutions, the last on maps of 16×16."""
    layers: dict[str, nn.Module] = {}
    shapes = ((3, 32, 5, 2), (32, 48, 3, 1), (48, 64, 3, 2), (64, 64, 3, 1))
    for number, (inside, outside, kernel, stride) in enumerate(shapes, 1):
        conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
        layers[f"conv{number}"] = conv
        layers[f"norm{number}"] = nn.BatchNorm2d(outside)
        layers[f"relu{number}"] = nn.ReLU()
    layers["avgpool"] = nn.AvgPool2d(4)  # keeps where things are
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(64 * 16, num_classes)
    return nn.Sequential(OrderedDict(layers))


def _only_classes(_: Shapes) -> Iterable[Options]:
    return ({},)


def _says_all(_: nn.Module) -> list[str]:
    return []


@dataclass(frozen=True)
class Entry:
    """A network of the zoo: how to build it, its input, where it is from.

    `options` reads keyword arguments of `make` off a state dict, `blocks` are the residual blocks
    that such a one must have, and `assumed` says what it does not tell of the network. One that is
    `by_name` has the tensors of another one, better known, and is never inferred from them.
    """

    make: Callable[..., nn.Module]
    preprocess: Preprocess
    reference: str
    classes: int = 1000
    options: Callable[[Shapes], Iterable[Options]] = _only_classes
    assumed: Callable[[nn.Module], list[str]] = _says_all
    blocks: tuple[int, ...] = ()
    by_name: bool = False


def _caffe(size: int) -> Preprocess:
    return Preprocess(
        size=(size, size), mean=_CAFFE_MEAN, std=(1.0, 1.0, 1.0), resize=256,
        scale=255.0, bgr=True, source="zoo",
    )  # fmt: skip


_CIFAR = Preprocess(
    size=(32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), source="assumed"
)
_HE = 'He et al., "Deep Residual Learning for Image Recognition", CVPR 2016'


def _cifar(make: Callable[..., nn.Module], reference: str, options: Any, **more: Any) -> Entry:
    return Entry(make, _CIFAR, reference, 10, options, cifar.assumptions, **more)


def _resnet(blocks: tuple[int, ...], deep: bool = False, **more: Any) -> Entry:
    make = partial(cifar.resnet, blocks, deep, **more)
    return _cifar(make, _HE, cifar.resnet_options, blocks=blocks)


_CIFAR_NETS = {
    "resnet18_cifar": _resnet((2, 2, 2, 2)),
    "resnet34_cifar": _resnet((3, 4, 6, 3)),
    "resnet50_cifar": _resnet((3, 4, 6, 3), deep=True),
    "resnet101_cifar": _resnet((3, 4, 23, 3), deep=True),
    "resnet152_cifar": _resnet((3, 8, 36, 3), deep=True),
    **{
        f"resnet{6 * n + 2}": _resnet((n, n, n), width=16, shortcut=None, head="linear")
        for n in (1, 2, 3, 5, 7, 9, 18, 200)
    },
    **{
        f"vgg{depth}_cifar": _cifar(
            partial(cifar.VGG, depth),
            "Simonyan and Zisserman, ICLR 2015, with batch norms, as kuangliu/pytorch-cifar has it",
            cifar.vgg_options,
        )
        for depth in (11, 13, 16, 19)
    },
    **{
        f"wide_resnet{depth}": _cifar(
            partial(cifar.WideResNet, depth),
            'Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016',
            cifar.wide_options,
        )
        for depth in (10, 16, 22, 28, 34, 40)
    },
}

ZOO = {
    "vgg_m": Entry(vgg_m, _caffe(224), _DEVIL),
    "vgg_s": Entry(vgg_s, _caffe(224), _DEVIL),
    "caffenet": Entry(
        caffenet,
        _caffe(227),
        'Jia et al., "Caffe: Convolutional Architecture for Fast Feature Embedding", 2014',
    ),
    "wideresnet18": Entry(
        wideresnet18,
        Preprocess(resize=256, source="assumed"),
        "CSAILVision/places365, wideresnet.py",
        classes=365,
        by_name=True,
    ),
    "shapes_net": Entry(
        shapes_net,
        Preprocess(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3, source="zoo"),
        "the concept group paper's synthetic experiment, §4.1",
        classes=2,
    ),
    "demo_net": Entry(
        demo_net,
        Preprocess(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3, source="zoo"),
        "cnnlens demo",
        classes=9,
    ),
    "animal_net": Entry(
        animal_net,
        Preprocess(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3, source="zoo"),
        "cnnlens data make animals",
        classes=3,
    ),
    **_CIFAR_NETS,
}


def likely(shapes: Shapes) -> list[str]:
    """Names of the networks that a state dict may belong to, by its residual blocks."""
    blocks = tuple(cifar.resnet_blocks(shapes))
    known = ((name, entry) for name, entry in ZOO.items() if not entry.by_name)
    return [name for name, entry in known if entry.blocks in ((), blocks)]


def architecture(name: str) -> Architecture:
    """Look up a network of the zoo.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    if name not in ZOO:
        raise UsageError(
            f"the zoo has no '{name}'", did_you_mean(name, ZOO) or f"it has {', '.join(ZOO)}"
        )
    entry = ZOO[name]
    return Architecture(
        name=PREFIX + name,
        make=entry.make,
        outputs=entry.classes,
        options=entry.options,
        preprocess=lambda net: entry.preprocess,
        finish=entry.assumed,
        lazy=True,
        builder=entry.make,
    )
