from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.prepare import check
from cnnlens.interpretable.request import Request
from cnnlens.model import zoo
from cnnlens.model.checkpoint import save_checkpoint, write_torch
from cnnlens.model.classes import class_scores, gives_scores
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.surgery import Plan, operate

SETTINGS = Preprocess(size=(48, 64), mean=(0.1, 0.2, 0.3), std=(0.5,) * 3, resize=70)


def test_a_checkpoint_opens_as_it_was_saved(tmp_path: Path) -> None:
    net = zoo.shapes_net(3).eval()
    save_checkpoint(tmp_path / "new.pt", net, "zoo:shapes_net", SETTINGS, ["a", "b", "c"])
    model = open_model(str(tmp_path / "new.pt"), device="cpu")
    x = torch.rand(2, 3, 48, 64)
    assert torch.equal(model.net(x), net(x))
    assert (model.arch, model.classes) == ("zoo:shapes_net", ["a", "b", "c"])
    assert model.preprocess.size == (48, 64)
    assert model.preprocess.mean == SETTINGS.mean
    assert model.preprocess.source == "checkpoint"


def test_it_is_a_plain_dict_that_loads_without_trust(tmp_path: Path) -> None:
    training = {"epochs": 3, "history": [{"loss": 0.5}]}
    save_checkpoint(
        tmp_path / "new.pt", zoo.shapes_net(), "zoo:shapes_net", SETTINGS, training=training
    )
    content = torch.load(tmp_path / "new.pt", weights_only=True)
    assert set(content) == {
        "format_version", "arch", "state_dict", "preprocess", "classes", "interpretable",
        "training",
    }  # fmt: skip
    assert content["training"] == training


def test_concept_groups_leave_the_network_as_the_architecture_has_it(tmp_path: Path) -> None:
    net = zoo.shapes_net().eval()
    groups = {"method": "cgl", "layers": ["conv1"], "groups": {"conv1": {"number": 5, "size": 25}}}
    path = tmp_path / "new.pt"
    save_checkpoint(path, net, "zoo:shapes_net", SETTINGS, interpretable=groups)
    x = torch.rand(1, 3, 48, 64)
    assert torch.equal(open_model(str(path), device="cpu").net(x), net(x))
    assert torch.load(path, weights_only=True)["interpretable"] == groups


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"pickle|local object"):
        save_checkpoint(
            tmp_path / "new.pt", zoo.shapes_net(), "zoo:shapes_net", SETTINGS, bad=lambda: 0
        )
    assert not list(tmp_path.iterdir())


def test_googlenet_keeps_its_input_transform(tmp_path: Path) -> None:
    net = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    net.transform_input = True
    net.eval()
    save_checkpoint(tmp_path / "new.pt", net, "torchvision:googlenet", Preprocess())
    model = open_model(str(tmp_path / "new.pt"), device="cpu")
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.net(x), net(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "is a cnnlens checkpoint of format 99"),
        ({"interpretable": {"method": "tomorrow"}}, "holds an interpretable network"),
        ({"state_dict": {"fc.bias": torch.zeros(2)}}, "does not fit its own architecture"),
        ({"preprocess": None}, "is a damaged cnnlens checkpoint"),
        ({"preprocess": SETTINGS.as_dict() | {"mean": ["9", 0, 0]}}, "damaged cnnlens checkpoint"),
        ({"preprocess": SETTINGS.as_dict() | {"size": [0, 64]}}, "damaged cnnlens checkpoint"),
        ({"preprocess": SETTINGS.as_dict() | {"interpolation": {}}}, "damaged cnnlens checkpoint"),
        ({"state_dict": 3}, "is a damaged cnnlens checkpoint"),
    ],
)
def test_checkpoints_that_cannot_be_opened_are_named(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "new.pt"
    save_checkpoint(path, zoo.shapes_net(), "zoo:shapes_net", SETTINGS, **{})
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(CnnlensError, match=message):
        open_model(str(path), device="cpu")


def test_weights_without_numbers_are_refused_in_words(tmp_path: Path) -> None:
    state = zoo.demo_net(3).state_dict()
    state["fc.weight"] = state["fc.weight"].to("meta")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CnnlensError, match=r"cannot be copied into zoo:demo_net: .*meta tensor"):
        open_model(str(tmp_path / "w.pt"), arch="zoo:demo_net", device="cpu")


def test_equal_contents_are_equal_bytes_whatever_objects_they_are(tmp_path: Path) -> None:
    for name, apart in (("a", False), ("b", True)):
        term = "filter loss"
        other = "".join(["filter", " loss"]) if apart else term  # an equal text, another object
        entry = [term]
        training = {"history": [{term: 1.0}, {other: 2.0}], "terms": [entry, [*entry]]}
        training["again"] = training["terms"][0] if apart else [term]
        write_torch(tmp_path / name, training)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arch_beside_a_checkpoint_is_not_used_and_said(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "new.pt", zoo.shapes_net(), "zoo:shapes_net", SETTINGS)
    model = open_model(str(tmp_path / "new.pt"), arch="resnet18", device="cpu")
    assert model.arch == "zoo:shapes_net"
    assert any("--arch resnet18 is not used" in note for note in model.notes)


def test_arch_stands_for_code_that_a_checkpoint_names_which_is_not_run(tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    code = "from torch import nn\ndef make(k=3):\n    return nn.Sequential(nn.Conv2d(3, 4, k))\n"
    (moved / "net.py").write_text(code)
    old, new = f"{tmp_path}/net.py:make", f"{moved}/net.py:make"
    path, net = tmp_path / "new.pt", nn.Sequential(nn.Conv2d(3, 4, 3))
    save_checkpoint(path, net, old, SETTINGS)
    with pytest.raises(CnnlensError, match=r"net.py does not exist") as caught:
        open_model(str(path), device="cpu")
    assert "--arch file.py:factory" in caught.value.hint
    (tmp_path / "net.py").write_text("raise SystemExit('run')")
    model = open_model(str(path), arch=new, device="cpu")
    assert model.arch == new and model.preprocess.size == SETTINGS.size
    assert f"new.pt was {old}; its weights fit --arch {new}" in model.notes
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(model.net(x), net(x))
    (moved / "net.py").write_text(code.replace("k=3", "k=5"))
    with pytest.raises(CnnlensError, match=rf"does not fit {re.escape(new)}: "):
        open_model(str(path), arch=new, device="cpu")


def heads() -> dict[str, nn.Module]:
    return {
        "deeper": nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 5)),
        "a new one in a deeper": nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 5)),
        "behind dropout": nn.Sequential(nn.Dropout(), nn.Linear(512, 5)),
    }


@pytest.mark.parametrize("name", heads())
def test_a_network_with_a_head_of_its_own_is_saved_and_opened_again(
    tmp_path: Path, name: str
) -> None:
    torch.manual_seed(0)
    net = torchvision.models.resnet18()
    net.fc = heads()[name]
    torch.save(net.state_dict(), tmp_path / "wild.pt")
    model = open_model(str(tmp_path / "wild.pt"), device="cpu")
    plans = []
    if name.startswith("a new one"):
        plans = [Plan(head="fc.2", classes=3)]
        operate(model.net, plans[0])
    surgery = [plan.as_dict() for plan in plans]
    save_checkpoint(tmp_path / "new.pt", model.net, model.arch, SETTINGS, surgery=surgery)
    again = open_model(str(tmp_path / "new.pt"), device="cpu")
    x = torch.rand(1, 3, 48, 64)
    assert again.net(x).shape == (1, 3 if plans else 5)
    assert torch.equal(again.net(x), model.net(x))


def test_a_network_without_a_head_answers_with_no_classes(tmp_path: Path) -> None:
    net = torchvision.models.resnet18()
    net.fc = nn.Identity()
    torch.save(net.state_dict(), tmp_path / "body.pt")
    model = open_model(str(tmp_path / "body.pt"), device="cpu")
    x = torch.rand(1, 3, 48, 64)
    output = model.net(x)
    assert torch.equal(output.features, net.eval()(x)) and not gives_scores(model)
    with pytest.raises(CnnlensError, match="its outputs are features"):
        class_scores(output, 1)
    with pytest.raises(UsageError, match="no head of classes to train"):
        check(model, Request())
