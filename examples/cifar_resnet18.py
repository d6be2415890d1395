"""A factory for a network that no registry has: a ResNet-18 for 32×32 pictures, widths 32 to 256.

    cnnlens layers weights.pt --arch examples/cifar_resnet18.py:make --image-size 32

Basic blocks 2-2-2-2, a 3×3 stem with stride 1, no max-pool; torchvision's parameter names.
"""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


def make() -> nn.Module:
    net = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=10)
    net.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
    net.bn1 = nn.BatchNorm2d(32)
    net.maxpool = nn.Identity()
    net.inplanes = 32
    for number, (width, stride) in enumerate([(32, 1), (64, 2), (128, 2), (256, 2)], 1):
        setattr(net, f"layer{number}", net._make_layer(BasicBlock, width, 2, stride))
    net.fc = nn.Linear(256, 10)
    return net
