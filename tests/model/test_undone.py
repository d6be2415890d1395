"""Surgery on networks that register a module under several names, and their checkpoints."""

from pathlib import Path

import pytest
import torch
from torch import nn

from cnnlens.model.checkpoint import open_checkpoint, save_checkpoint
from cnnlens.model.mask import Mask
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.surgery import Plan, operate

CODE = """
from torch import nn

def block(inside, outside):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU())

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.stem, self.model.top = block(3, 4), nn.Sequential(block(4, 4), block(4, 4))
        self.model.fc = nn.Linear(4, 5)
        self.features = nn.Sequential(self.model.stem, self.model.top)  # the same modules again
        self.last = self.model.fc

    def forward(self, x):
        return self.last(self.features(x).mean((2, 3)))

class Split(nn.Module):
    def __init__(self):
        super().__init__()
        self.whole = nn.Sequential(block(3, 4), block(4, 4))
        self.first, self.second = self.whole[:1], self.whole[1:]
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.second(self.first(x)).mean((2, 3)))

class Headed(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.fc = block(3, 4), nn.Linear(4, 5)
        self.classifier = self.fc

    def forward(self, x):
        return self.fc(self.stem(x).mean((2, 3)))
"""
PLANS = {
    "Net": [Plan("model.top.1", 4, insert=True, mask=True), Plan(head="model.fc", classes=3)],
    "Split": [Plan("whole.1", 4, insert=True), Plan("whole.1.relu", 4, mask=True)],
}


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(CODE)
    return f"{tmp_path / 'nets.py'}:"


@pytest.mark.parametrize("name", PLANS)
def test_a_module_of_several_names_is_replaced_under_all_and_opens_again(tmp_path, code, name):
    arch = f"{code}{name}"
    net = open_model(arch, image_size=(16, 16), device="cpu").net
    x = torch.rand(2, 3, 16, 16)
    for plan in PLANS[name]:
        operate(net, plan)
    found = net.eval()(x)
    masks = [module for module in net.modules() if isinstance(module, Mask)]
    ran: list[nn.Module] = []
    for module in masks:
        module.register_forward_hook(lambda one, *_: ran.append(one))
    net(x)
    assert ran == masks != []
    assert found.shape == (2, 3 if name == "Net" else 5)
    surgery = [plan.as_dict() for plan in PLANS[name]]
    file = tmp_path / "new.pt"
    save_checkpoint(file, net, arch, Preprocess((16, 16)), surgery=surgery)
    again = open_model(str(file), arch=arch, device="cpu").net
    assert torch.equal(again(x), found)


def opened_as_before(folder: Path, arch: str, plan: Plan) -> nn.Module:
    """Open what an earlier version wrote, a module replaced under one name alone: it answers so."""
    net = open_model(arch, image_size=(16, 16), device="cpu").net
    operate(net, plan, alone=True)
    content = {
        "format_version": 1, "arch": arch, "state_dict": net.state_dict(),
        "preprocess": Preprocess((16, 16)).as_dict(), "surgery": [plan.as_dict()],
    }  # fmt: skip
    again = open_checkpoint(folder / "old.pt", content, arch).net
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(again.eval()(x), net.eval()(x))
    return again


def test_a_file_of_an_earlier_version_that_replaced_one_of_the_names_still_opens(tmp_path, code):
    arch, plan = f"{code}Net", Plan("model.stem", 4, mask=True)
    again = opened_as_before(tmp_path, arch, plan)
    assert "model.stem.mask.beta" in again.state_dict()
    assert "features.0.mask.beta" not in again.state_dict()


def test_an_earlier_version_s_head_of_as_many_classes_under_one_of_its_names_is_not_lost(
    tmp_path, code
):
    """The network calls its head by the name that it was replaced under; the other has the old."""
    arch, plan = f"{code}Headed", Plan(head="fc", classes=5)
    opened_as_before(tmp_path, arch, plan)
