from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cnnlens.data.shapes import paint, scenes, shows_square
from cnnlens.errors import CnnlensError
from cnnlens.interpretable.concept_groups import ConceptGroups, Grouped, grouped_layers
from cnnlens.interpretable.method import Plain, split
from cnnlens.interpretable.trainer import Epoch, Trainer
from cnnlens.model.model import Model
from cnnlens.model.open import open_model
from cnnlens.settings.finetune import CglSettings, FinetuneSettings

SETTINGS = FinetuneSettings(epochs=3, batch_size=16, lr=0.003, trunk=1.0)


@dataclass
class Shapes:
    """Pictures in memory."""

    model: Model
    x: Tensor
    labels: Tensor

    def inputs(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        x = self.model.preprocess.normalize(self.x[indices])
        return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def shapes(model: Model, number: int = 48) -> Shapes:
    drawn = list(scenes(number, 32, 0))
    pixels = torch.stack([torch.from_numpy(paint(scene, 32)) for scene in drawn])
    labels = torch.tensor([int(shows_square(scene)) for scene in drawn])
    return Shapes(model, pixels.permute(0, 3, 1, 2), labels)


def trainer(cgl: CglSettings | None = None, layers: tuple[str, ...] = ()) -> Trainer:
    model = open_model("zoo:demo_net", image_size=(32, 32))
    examples = shapes(model)
    method = Plain()
    if cgl is not None:
        method = Grouped(ConceptGroups(grouped_layers(model, layers, cgl.groups), cgl, 0))
    training, validation = split(examples.labels, 0.25, 0)
    return Trainer(model.net, examples, training, validation, method, SETTINGS)


def history(run: Trainer) -> list[dict[str, float]]:
    return [one.terms for one in run.run() if isinstance(one, Epoch)]


def test_training_logs_the_terms_and_makes_them_fall():
    found = history(trainer(CglSettings(group_weight=0.05, block_weight=0.3)))
    assert len(found) == 3
    for name in ("group_loss", "block_norm"):
        assert found[-1][name] < found[0][name]
    assert {"task_loss", "accuracy", "spatial_loss", "validation_accuracy"} <= set(found[0])


def test_the_same_training_without_the_method_has_no_terms_and_other_weights():
    plain, cgl = trainer(), trainer(CglSettings())
    assert not {"group_loss", "block_norm"} & set(history(plain)[0])
    history(cgl)
    assert not torch.equal(plain.net.conv2.weight, cgl.net.conv2.weight)


def test_weights_in_groups_are_not_decayed_and_others_are():
    run = trainer(CglSettings(), ("conv1", "conv3"))
    decay = {
        id(p): group["weight_decay"] for group in run._optimizer.param_groups
        for p in group["params"]
    }  # fmt: skip
    net = run.net
    assert decay[id(net.conv1.weight)] == decay[id(net.conv3.weight)] == 0
    assert decay[id(net.conv2.weight)] == decay[id(net.fc.weight)] == SETTINGS.weight_decay
    assert [decay[id(p)] for p in run.method.parameters()] == [0, 0]


def test_a_run_that_goes_on_ends_as_an_unbroken_one():
    whole = trainer(CglSettings())
    steps = whole.run()
    for one in steps:
        if isinstance(one, Epoch) and one.epoch == 2:
            state = copy.deepcopy((whole.state_dict(), whole.net.state_dict()))
            break
    list(steps)
    again = trainer(CglSettings())
    again.net.load_state_dict(state[1])
    again.load_state_dict(state[0])
    assert len(history(again)) == 1
    for name, value in whole.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], value), name
    assert again.method.record() == whole.method.record()


def test_a_loss_that_diverges_stops_the_training():
    with pytest.raises(CnnlensError, match=r"training diverged in epoch 1, step \d+"):
        history(trainer(CglSettings(block_weight=1e39)))
