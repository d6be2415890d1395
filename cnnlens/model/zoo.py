"""Networks of the papers that no registry has: VGG-M, VGG-S, CaffeNet and a small one.

The three of the Caffe era take values in [0, 255] less the mean of ImageNet, blue first. Their
poolings round sizes up, as Caffe's and the padded ones of MatConvNet do. The zoo has no weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from cnnlens.errors import UsageError, did_you_mean
from cnnlens.model.architectures import Architecture
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


@dataclass(frozen=True)
class Entry:
    """A network of the zoo: how to build it, its input, where it is from."""

    make: Callable[..., nn.Module]
    preprocess: Preprocess
    reference: str
    classes: int = 1000


def _caffe(size: int) -> Preprocess:
    return Preprocess(
        size=(size, size), mean=_CAFFE_MEAN, std=(1.0, 1.0, 1.0), resize=256,
        scale=255.0, bgr=True, source="zoo",
    )  # fmt: skip


ZOO = {
    "vgg_m": Entry(vgg_m, _caffe(224), _DEVIL),
    "vgg_s": Entry(vgg_s, _caffe(224), _DEVIL),
    "caffenet": Entry(
        caffenet,
        _caffe(227),
        'Jia et al., "Caffe: Convolutional Architecture for Fast Feature Embedding", 2014',
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
}


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
        preprocess=lambda net: entry.preprocess,
        lazy=True,
    )
