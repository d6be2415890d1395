from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.from_file import open_file
from cnnlens.model.open import open_model
from cnnlens.model.surgery import Plan, operate
from cnnlens.model.zoo import ZOO
from tests.model.nets import filled, pictures
from tests.reference.cifar import (
    Akamaster,
    Kuangliu,
    KuangliuBlock,
    KuangliuBottleneck,
    KuangliuVGG,
    Xternalz,
)


def torchvision_named(width: int) -> nn.Module:
    """Make torchvision's own ResNet-18 as narrow and as fit for small pictures as people do."""
    net = torchvision.models.resnet18(num_classes=10)
    narrow(net, width)
    net.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
    net.maxpool = nn.Identity()
    return net


def narrow(net: nn.Module, width: int) -> None:
    for name, module in list(net.named_modules()):
        parent = net.get_submodule(name.rpartition(".")[0])
        last = name.rpartition(".")[2]
        if isinstance(module, nn.Conv2d):
            inside, outside = (
                max(n * width // 64, 1) for n in (module.in_channels, module.out_channels)
            )
            setattr(
                parent,
                last,
                nn.Conv2d(
                    inside, outside, module.kernel_size, module.stride, module.padding, bias=False
                ),
            )
        if isinstance(module, nn.BatchNorm2d):
            setattr(parent, last, nn.BatchNorm2d(module.num_features * width // 64))
        if isinstance(module, nn.Linear):
            setattr(parent, last, nn.Linear(512 * width // 64, module.out_features))


def chenyaofo(width: int) -> nn.Module:
    net = Akamaster(3, width, "B")
    renamed = {
        k.replace("shortcut", "downsample").replace("linear", "fc"): v
        for k, v in filled(net).state_dict().items()
    }
    net.state_dict = lambda: renamed  # type: ignore[method-assign]
    return net


def vgg_with(*layers: nn.Module) -> nn.Module:
    net = KuangliuVGG(4)
    net.classifier = nn.Sequential(*layers)
    return net


NETS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "kuangliu 18": ("resnet18_cifar", lambda: Kuangliu(KuangliuBlock, [2, 2, 2, 2], 4)),
    "kuangliu 34": ("resnet34_cifar", lambda: Kuangliu(KuangliuBlock, [3, 4, 6, 3], 2)),
    "kuangliu 50": ("resnet50_cifar", lambda: Kuangliu(KuangliuBottleneck, [3, 4, 6, 3], 2)),
    "torchvision's names": ("resnet18_cifar", lambda: torchvision_named(8)),
    "option A": ("resnet20", lambda: Akamaster(3, 16, "A")),
    "option A, narrow, deep": ("resnet32", lambda: Akamaster(5, 4, "A")),
    "option B": ("resnet20", lambda: Akamaster(3, 8, "B")),
    "chenyaofo": ("resnet20", lambda: chenyaofo(8)),
    "vgg": ("vgg16_cifar", lambda: KuangliuVGG(4)),
    "vgg, deeper head": (
        "vgg16_cifar",
        lambda: vgg_with(
            nn.Dropout(), nn.Linear(32, 24), nn.ReLU(),
            nn.Dropout(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10),
        ),
    ),
    "vgg, dropout behind": (
        "vgg16_cifar",
        lambda: vgg_with(
            nn.Linear(32, 24), nn.ReLU(), nn.Dropout(),
            nn.Linear(24, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 10),
        ),
    ),
    "wide": ("wide_resnet16", lambda: Xternalz(16, 1)),
    "wide, narrow stem": ("wide_resnet10", lambda: Xternalz(10, 2, stem=4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETS)
def test_networks_under_their_popular_names_compute_the_same(kind: str, tmp_path: Path) -> None:
    name, make = NETS[kind]
    net = filled(make())
    torch.save(net.state_dict(), tmp_path / "net.pth")
    opened = open_file(tmp_path / "net.pth")
    assert opened.arch == f"zoo:{name}"
    x = pictures(3, (32, 32))
    with torch.no_grad():
        assert torch.allclose(opened.net.eval()(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [1, 2, 100])
def test_other_numbers_of_classes_are_followed(classes: int, tmp_path: Path) -> None:
    net = Kuangliu(KuangliuBlock, [2, 2, 2, 2], 4, classes)
    torch.save({"net": net.state_dict(), "acc": 93.0, "epoch": 5}, tmp_path / "ckpt.pth")
    assert open_file(tmp_path / "ckpt.pth").net(torch.zeros(2, 3, 32, 32)).shape == (2, classes)


def test_what_the_state_dict_does_not_say_is_said(tmp_path: Path) -> None:
    torch.save(Akamaster(3, 4, "A").state_dict(), tmp_path / "net.th")
    model = open_model(str(tmp_path / "net.th"), device="cpu")
    assert model.preprocess.size == (32, 32)
    assert model.preprocess.source == "assumed"
    notes = " ".join(model.notes)
    assert "CIFAR-10's usual mean and std are assumed" in notes
    assert "option A" in notes
    assert "stride 1 and no pooling" in notes


def test_names_open_without_a_file() -> None:
    model = open_model("zoo:resnet20", device="cpu")
    assert sum(p.numel() for p in model.net.parameters()) == 269_722  # akamaster's own table: 0.27M
    assert model.net(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert ZOO["resnet110"].make(num_classes=3).layer3[17].conv2.out_channels == 64


def test_a_checkpoint_of_ours_keeps_width_and_names(tmp_path: Path) -> None:
    torch.save(Kuangliu(KuangliuBlock, [2, 2, 2, 2], 4).state_dict(), tmp_path / "net.pth")
    model = open_model(str(tmp_path / "net.pth"), device="cpu")
    save_checkpoint(tmp_path / "new.pt", model.net, model.arch, model.preprocess)
    again = open_model(str(tmp_path / "new.pt"), device="cpu")
    assert again.fingerprint == model.fingerprint


def test_a_narrow_network_with_a_new_head_opens_again(tmp_path: Path) -> None:
    torch.save(Kuangliu(KuangliuBlock, [2, 2, 2, 2], 4).state_dict(), tmp_path / "net.pth")
    model = open_model(str(tmp_path / "net.pth"), device="cpu")
    net = operate(model.net, Plan("layer4.1", 32, head="linear", classes=3))
    plan = Plan("layer4.1", 32, head="linear", classes=3).as_dict()
    save_checkpoint(tmp_path / "new.pt", net, model.arch, model.preprocess, surgery=[plan])
    again = open_model(str(tmp_path / "new.pt"), device="cpu")
    x = pictures(2, (32, 32))
    assert torch.equal(again.net(x), net.eval()(x))
    assert again.net(x).shape == (2, 3)
