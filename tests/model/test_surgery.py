import pytest
import torch

import cnnlens
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.rectified import RectifiedLayers
from cnnlens.model.surgery import Plan, head_of, operate

NETS = {
    "torchvision:squeezenet1_0": ("features.12", "features.12"),
    "torchvision:resnet18": ("layer4.1", "layer4.1"),
    "torchvision:alexnet": ("conv5", "features.11"),
    "zoo:demo_net": ("conv3", "relu3"),
}


def opened(spec, **more):
    return cnnlens.open_model(spec, device="cpu", **more)


def plan_for(model, layer, **more):
    found = RectifiedLayers(model).named(layer)
    head, _ = head_of(model)
    return Plan(found.place.path, found.shape[0], head=head, classes=3, **more)


@pytest.mark.parametrize("spec", NETS)
def test_the_result_opens_again_as_it_was(spec, tmp_path):
    model = opened(spec, image_size=(64, 64))
    name, path = NETS[spec]
    plan = plan_for(model, name, insert=True, mask=True, position="centroid")
    assert plan.at == path
    net = operate(model.net, plan).eval()
    file = tmp_path / "new.pt"
    save_checkpoint(
        file, net, model.arch, model.preprocess, ["a", "b", "c"],
        interpretable={"method": "icnn", "layers": plan.maps}, surgery=[plan.as_dict()],
    )  # fmt: skip
    assert torch.load(file, weights_only=True)["interpretable"]["layers"] == plan.maps
    again = opened(str(file))
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(again.net(x), net(x)) and again.net(x).shape == (2, 3)
    layers = cnnlens.find_layers(again)
    for place in plan.maps:
        assert layers.resolve(place).shape[0] == plan.units
    plain = opened(spec, image_size=(64, 64))
    assert again.fingerprint != plain.fingerprint


@pytest.mark.parametrize("position", ["argmax", "centroid"])
def test_exports(position):
    model = opened("zoo:demo_net")
    net = operate(model.net, plan_for(model, "conv3", insert=True, mask=True, position=position))
    x = torch.rand(2, 3, 64, 64)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(net.eval(), (x,), dynamic_shapes=({0: batch},))
    y = torch.rand(5, 3, 64, 64)
    assert torch.allclose(program.module()(y), net(y), atol=1e-5)


def test_an_inserted_convolution_alone_is_the_baseline_of_masks():
    one, other = opened("zoo:demo_net"), opened("zoo:demo_net")
    plain = operate(one.net, plan_for(one, "conv3", insert=True), seed=4)
    masked = operate(other.net, plan_for(other, "conv3", insert=True, mask=True), seed=4)
    assert torch.equal(plain.relu3.conv.weight, masked.relu3.conv.weight)
    assert plain.relu3.conv.weight.detach().std() == pytest.approx(0.01, rel=0.05)


def test_what_fine_tuning_made_can_be_operated_on_again(tmp_path):
    model = opened("zoo:demo_net")
    first = plan_for(model, "conv3", insert=True)
    net = operate(model.net, first)
    second = Plan("relu2", 64, mask=True)
    operate(net, second).eval()
    file = tmp_path / "twice.pt"
    plans = [first.as_dict(), second.as_dict()]
    save_checkpoint(file, net, model.arch, model.preprocess, surgery=plans)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(opened(str(file)).net(x), net(x))


def test_a_checkpoint_whose_masks_run_again_and_again_says_so(tmp_path):
    model = opened("torchvision:resnet18", image_size=(32, 32))
    plans = [Plan("layer4.1.relu", 512, mask=True), Plan("layer3.1", 256, mask=True)]
    for plan in plans:
        operate(model.net, plan)
    file, surgery = tmp_path / "old.pt", [plan.as_dict() for plan in plans]
    save_checkpoint(file, model.net.eval(), model.arch, model.preprocess, surgery=surgery)
    (note,) = [note for note in opened(str(file)).notes if "times in a pass" in note]
    assert "layer4.1.relu runs 2 times" in note
