"""Checkpoints as other libraries write them: self-supervision, segmentation, timm, accelerate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from cnnlens.errors import CnnlensError
from cnnlens.model import from_file
from cnnlens.model.classes import gives_scores
from cnnlens.model.entries import find_views
from cnnlens.model.fit import replace_module
from cnnlens.model.heads import MaximumAndMean, other_head
from cnnlens.model.open import open_model
from cnnlens.model.outline import skeleton
from cnnlens.model.recognise import recognise
from cnnlens.model.wrap import wrap_module

from .nets import filled, network

pytestmark = pytest.mark.usefixtures("home")


def test_networks_that_learn_by_contrast_have_features_not_classes(tmp_path):
    for head in (nn.Linear(512, 8), nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 8))):
        net = network("resnet18")
        net.fc = head
        state = {f"module.encoder_q.{k}": v for k, v in net.state_dict().items()}
        torch.save({"state_dict": {**state, "module.queue": torch.zeros(8, 4)}}, tmp_path / "m.pt")
        model = open_model(str(tmp_path / "m.pt"), device="cpu")
        assert model.headless and model.classes is None
        assert any("learned by contrast, without classes" in note for note in model.notes)
        x = torch.rand(2, 3, 64, 64)
        assert torch.equal(model.net(x)[0], net(x))
        state = {k.removeprefix("module.encoder_q."): v for k, v in state.items()}
        torch.save({**state, "n_averaged": torch.tensor(1)}, tmp_path / "m.pt")
        assert not open_model(str(tmp_path / "m.pt"), device="cpu").headless


def test_a_predictor_beside_it_tells_a_projection_from_classes(tmp_path):
    net = network("resnet18")
    net.fc = nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 8))  # SimSiam's
    state = {f"module.encoder.{k}": v for k, v in net.state_dict().items()}
    torch.save({"state_dict": {**state, "module.predictor.0.weight": torch.zeros(4, 8)}},
               tmp_path / "m.pt")  # fmt: skip
    model = open_model(str(tmp_path / "m.pt"), device="cpu")
    assert model.headless and not gives_scores(model)
    assert any("predictor beside it: it learned by contrast" in line for line in model.assumed)


def test_a_second_network_in_a_sequence_is_named_as_one(tmp_path):
    children = nn.Sequential(*list(network("resnet18").children())[:-1])
    both = {f"backbone.{k}": v for k, v in children.state_dict().items()}
    both |= {f"backbone_momentum.{k}": v for k, v in children.state_dict().items()}
    torch.save(both, tmp_path / "m.pt")
    notes = open_model(str(tmp_path / "m.pt"), device="cpu").notes
    assert any("it also holds backbone_momentum: --weights opens it" in note for note in notes)


LINEAR = ("linear0", "linear1", "last_linear")
CADENE = {
    "resnet18": {"fc": "last_linear"},
    "squeezenet1_1": {"classifier.1": "last_conv"},
    "alexnet": {"features": "_features"}
    | {f"classifier.{n}": name for n, name in zip((1, 4, 6), LINEAR, strict=True)},
    "vgg11": {"features": "_features"}
    | {f"classifier.{n}": name for n, name in zip((0, 3, 6), LINEAR, strict=True)},
}


@pytest.mark.parametrize("name", CADENE)
def test_every_layer_of_pretrainedmodels_is_found_by_its_name(name):
    with torch.device("meta"):
        state = torchvision.models.get_model(name, num_classes=7).state_dict()
    written = {}
    for key, tensor in state.items():
        start = next((old for old in CADENE[name] if key.startswith(f"{old}.")), "")
        written[CADENE[name].get(start, "") + key.removeprefix(start)] = tensor
    view, found = recognise(find_views(written), "the file")
    assert found.architecture.name == f"torchvision:{name}" and found.exact and not found.headless
    assert view.state.keys() == state.keys()
    assert all(view.state[key] is tensor for key, tensor in state.items())


@pytest.mark.parametrize("arch", [None, "torchvision:resnet101"])
def test_caffes_resnet_of_the_same_tensors_is_named_where_it_may_be_one(
    tmp_path, monkeypatch, arch
):
    # what is said of it needs no weights
    monkeypatch.setattr(from_file, "build", lambda f, _: skeleton(f.architecture, f.options))
    with torch.device("meta"):
        shapes = torchvision.models.resnet101().state_dict()
    state = {k.replace("fc.", "last_linear."): torch.zeros((), dtype=t.dtype).expand(t.shape)
             for k, t in shapes.items()}  # fmt: skip
    torch.save(state, tmp_path / "m.pt")  # cafferesnet101's names and shapes
    opened = from_file.open_file(tmp_path / "m.pt", arch)
    assert opened.arch == "torchvision:resnet101"
    for lines in (opened.notes, opened.assumed):
        assert sum("cafferesnet101" in line for line in lines) == (arch is None)


def fastais_head(wide: int) -> nn.Sequential:
    """As ``create_head`` of fastai 2 builds it."""
    layers = [nn.BatchNorm1d(2 * wide), nn.Dropout(), nn.Linear(2 * wide, 9, bias=False),
              nn.ReLU(), nn.BatchNorm1d(9), nn.Dropout(), nn.Linear(9, 5, bias=False)]  # fmt: skip
    return nn.Sequential(MaximumAndMean(), nn.Flatten(), *layers)


def test_a_fastai_learner_of_another_network_than_a_resnet_opens_with_its_head(tmp_path):
    with torch.device("meta"):
        body = torchvision.models.alexnet().features
        net = nn.Sequential(nn.Sequential(body), fastais_head(256))
    net = filled(net.to_empty(device="cpu"))
    torch.save({"model": net.state_dict(), "opt": {}}, tmp_path / "m.pth")
    model = open_model(str(tmp_path / "m.pth"), device="cpu")
    x = torch.rand(2, 3, 96, 96)
    assert (model.arch, model.headless) == ("torchvision:alexnet", False)
    assert torch.equal(model.net(x), net(x))
    assert any("fastai's: the maximum beside the mean" in line for line in model.assumed)


@pytest.mark.parametrize(
    ("name", "wide", "headless"),
    [("vgg11", 512, False), ("squeezenet1_1", 512, True), ("mobilenet_v2", 1280, True)],
)
def test_fastais_learners_have_their_head_where_the_pooling_is_a_module(name, wide, headless):
    with torch.device("meta"):
        body = nn.Sequential(torchvision.models.get_model(name).features)
        state = nn.Sequential(body, fastais_head(wide)).state_dict()
    _, found = recognise(find_views(state), "the file")
    assert (found.architecture.name, found.headless) == (f"torchvision:{name}", headless)


@pytest.mark.parametrize("norm", [True, False])
def test_what_flattens_maps_within_a_head_stays_before_one_of_its_own(norm):
    net = nn.Sequential()  # ends as ConvNeXt does
    own = [LayerNorm2d(6), nn.Flatten(), nn.Linear(6, 9)]
    net.add_module("body", nn.Conv2d(3, 6, 3))
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("classifier", nn.Sequential(*own))
    new = nn.Sequential(*own[not norm : 2], nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    names = [f"classifier.{k}" for k in {*net.classifier.state_dict(), *new.state_dict()}]
    shapes = {f"classifier.{k}": tuple(v.shape) for k, v in new.state_dict().items()}
    (change,) = other_head(net, names, shapes)
    built = change.make()
    built.load_state_dict(new.state_dict())
    x = torch.rand(2, 6, 1, 1)
    assert torch.equal(built(x), new(x))


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet"])
def test_timms_networks_with_heads_of_their_own(tmp_path, name):
    timm = pytest.importorskip("timm")
    net = filled(timm.create_model(name, num_classes=3))
    at = "head.fc" if name == "test_convnext" else "classifier"
    wide = net.get_classifier().in_features
    replace_module(net, at, nn.Sequential(nn.Linear(wide, 6), nn.ReLU(), nn.Linear(6, 4)))
    torch.save(net.state_dict(), tmp_path / "m.pt")
    model = open_model(str(tmp_path / "m.pt"), device="cpu", arch=f"timm:{name}")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(model.net(x), net(x)) and not model.headless
    assert any("2 linear layers, 4 outputs" in note for note in model.notes)


@pytest.mark.parametrize("name", ["dla34", "tresnet_m"])
def test_a_network_opens_of_which_a_part_alone_begins_as_known_ones_do(tmp_path, name):
    timm = pytest.importorskip("timm")
    net = filled(timm.create_model(name, num_classes=3))
    torch.save(net.state_dict(), tmp_path / "m.pt")
    model = open_model(str(tmp_path / "m.pt"), device="cpu")
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    assert model.arch == f"timm:{name}"
    assert torch.equal(model.net(x), net(x))


def test_timms_networks_without_classes_have_features(tmp_path):
    timm = pytest.importorskip("timm")
    net = filled(timm.create_model("test_resnet", num_classes=0))
    torch.save(net.state_dict(), tmp_path / "m.pt")
    model = open_model(str(tmp_path / "m.pt"), device="cpu", arch="timm:test_resnet")
    for one in (model, wrap_module(net)):
        assert one.headless and one.classes is None and not gives_scores(one)
    assert any("its outputs are features" in note for note in model.notes)
    net.fc = nn.Linear(net.num_features, 3)  # given one after all
    assert not wrap_module(net).headless


def test_a_transformer_for_images_of_another_size_is_built_for_it(tmp_path):
    timm = pytest.importorskip("timm")
    net = filled(timm.create_model("vit_tiny_patch16_224", img_size=48, num_classes=3))
    torch.save(net.state_dict(), tmp_path / "m.pt")
    model = open_model(str(tmp_path / "m.pt"), device="cpu", arch="timm:vit_tiny_patch16_224")
    x = torch.rand(1, 3, 48, 48)
    assert torch.equal(model.net(x), net(x)) and model.preprocess.size == (48, 48)


def test_weights_in_several_files_are_put_together(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    net = network("resnet18")
    names, state = list(net.state_dict()), net.state_dict()
    files = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for file, part in zip(files, (names[:60], names[60:]), strict=True):
        save_file({k: state[k].contiguous() for k in part}, tmp_path / file)
    index = {k: files[k not in names[:60]] for k in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    x = torch.rand(1, 3, 64, 64)
    for place in ("", "model.safetensors.index.json", *files):
        model = open_model(str(tmp_path / place), device="cpu")
        assert torch.equal(model.net(x), net(x)), place
    (tmp_path / files[1]).unlink()
    with pytest.raises(CnnlensError, match="one of 2 files of weights, of which 1 are there"):
        open_model(str(tmp_path / files[0]), device="cpu")


class Blocks(nn.Module):
    """Makes channels of the image's blocks of pixels before it convolves."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.conv = nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.blocks(x)).mean((2, 3))


def test_a_first_convolution_of_blocks_of_the_image_is_no_image_of_twelve_channels():
    model = open_model("tests.model.test_libraries:Blocks", device="cpu")
    assert model.preprocess.channels == 3
    assert wrap_module(Blocks()).preprocess.channels == 3


@pytest.mark.parametrize("says", ["its name", "what is in it", "nothing"])
def test_twins_of_the_same_tensors_are_told_by_what_is_in_the_file_and_named_by_its_name(
    tmp_path: Path, says: str
) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnetblur18").eval()
    path = tmp_path / ("resnetblur18.bt_in1k.pt" if says == "its name" else "net.pt")
    content = {"arch": "resnetblur18" if says == "what is in it" else "", "state_dict": None}
    state = dict(net.state_dict())  # which no longer lists modules
    torch.save({**content, "state_dict": state}, path)
    found = open_model(str(path), device="cpu")
    said = any("--arch timm:resnetblur18" in note for note in found.notes)
    assert said == (says == "its name")
    x, is_told = torch.rand(1, 3, 64, 64), says == "what is in it"
    assert found.arch == ("timm:resnetblur18" if is_told else "torchvision:resnet18")
    assert torch.equal(found.net(x), net(x)) == is_told
    right = open_model(str(path), arch="timm:resnetblur18", device="cpu")
    assert torch.equal(right.net(x), net(x))
