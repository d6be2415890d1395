import copy
import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.icnn import Icnn
from cnnlens.interpretable.method import Plain, is_right, split, task_losses
from cnnlens.interpretable.optimizer import Rates, learning_rate
from cnnlens.interpretable.trainer import Epoch, Step, Trainer
from cnnlens.model.mask import Mask
from cnnlens.settings.finetune import FinetuneSettings, IcnnSettings


class Pictures:
    """Class 0 has a bright upper half, class 1 a bright lower half."""

    def __init__(self, number=22):
        generator = torch.Generator().manual_seed(5)
        self.labels = torch.arange(number) % 2
        self.x = torch.rand(number, 3, 8, 8, generator=generator)
        for image, label in zip(self.x, self.labels, strict=True):
            image[:, 4 * label : 4 * label + 4] += 1

    def inputs(self, indices, mirrored):
        x = self.x[indices]
        return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def build(method="icnn", dropout=0.0, **settings):
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), Mask(6), nn.AvgPool2d(4)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(24, 2))
    known = Pictures()
    given = FinetuneSettings(**{"epochs": 4, "batch_size": 5, "trunk": 1.0, "lr": 0.01} | settings)
    training, validation = split(known.labels, 0.25, 0)
    icnn = Icnn(["2"], [6], torch.tensor([0.5, 0.5]), IcnnSettings(ramp=0.0, filter_weight=0.5))
    chosen = icnn if method == "icnn" else Plain()
    return Trainer(net, known, training, validation, chosen, given)


def finished(trainer):
    return [event for event in trainer.run() if isinstance(event, Epoch)]


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.net.parameters()])


@pytest.mark.parametrize("method", ["icnn", "none"])
def test_it_learns(method):
    trainer = build(method, epochs=12)
    epochs = finished(trainer)
    assert epochs[-1].terms["validation_accuracy"] == 1.0
    assert epochs[-1].terms["task_loss"] < epochs[0].terms["task_loss"] * 0.6
    assert ("filter_loss" in epochs[0].terms) == (method == "icnn")


def test_steps_count_all_images_and_carry_their_terms():
    trainer = build(epochs=1)
    steps = [event for event in trainer.run() if isinstance(event, Step)]
    assert [s.step for s in steps] == [1, 2, 3, 4] and steps[0].steps == 4  # 16 images, 5 at most
    assert set(steps[0].terms) == {"task_loss", "filter_loss", "mutual_information", "accuracy"}


def test_a_run_that_was_stopped_ends_as_an_unbroken_one():
    whole = build(dropout=0.5, patience=9)
    finished(whole)
    broken = build(dropout=0.5, patience=9)
    run = broken.run()
    while not isinstance(event := next(run), Epoch) or event.epoch < 2:
        pass
    kept = copy.deepcopy((broken.net.state_dict(), broken.state_dict()))
    next(run)  # killed within the third epoch
    again = build(dropout=0.5, patience=9)
    torch.rand(17)  # whatever happened in between
    again.net.load_state_dict(kept[0])
    again.load_state_dict(kept[1])
    finished(again)
    assert torch.equal(weights(again), weights(whole))


def test_what_is_frozen_stays_and_the_new_part_learns():
    trainer = build(trunk=0.0)
    trainer = Trainer(
        trainer.net, trainer.examples, trainer.training, trainer.validation, Plain(),
        trainer.settings, Rates(["6"]),
    )  # fmt: skip
    before = copy.deepcopy(trainer.net.state_dict())
    finished(trainer)
    after = trainer.net.state_dict()
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["6.weight"], after["6.weight"])


def test_divergence_is_named():
    trainer = build("none", lr=1e20, optimizer="sgd", schedule="constant")
    with pytest.raises(CnnlensError, match=r"diverged in epoch 1, step [23]: task_loss"):
        finished(trainer)


def test_patience_keeps_the_best():
    trainer = build("none", lr=0.5, optimizer="sgd", schedule="constant", patience=2, epochs=40)
    epochs = finished(trainer)
    losses = [e.terms["validation_loss"] for e in epochs]
    assert len(epochs) < 40 and epochs[-1].stopped
    assert trainer.evaluate(trainer.validation)[0] == pytest.approx(min(losses))


def test_mixed_precision_learns():
    assert finished(build(amp=True, epochs=12))[-1].terms["validation_accuracy"] == 1.0


def _one_of_two(rank, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    trainer = build(optimizer="sgd")  # Adam makes steps of what is but rounding
    epochs = finished(trainer)
    torch.save(
        (weights(trainer), epochs[-1].terms, trainer.method.state_dict()), f"{folder}/{rank}"
    )
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_one_of_two, (port, str(tmp_path)), nprocs=2)
    alone = build(optimizer="sgd")
    epochs = finished(alone)
    for rank in (0, 1):
        found, terms, state = torch.load(tmp_path / str(rank))
        assert torch.allclose(found, weights(alone), atol=2e-5)
        assert terms == pytest.approx(epochs[-1].terms, abs=1e-4)
        for name, value in alone.method.state_dict().items():
            assert torch.allclose(state[name], value, atol=1e-4)


def test_splits_hold_out_a_share_of_every_class():
    labels = torch.tensor([0] * 20 + [1] * 8 + [-1] * 4)
    training, validation = split(labels, 0.25, 1)
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(32))
    assert torch.bincount(labels[validation] + 1).tolist() == [1, 5, 2]
    assert not torch.equal(validation, split(labels, 0.25, 2)[1])


def test_the_logistic_loss_knows_no_class():
    logits, labels = torch.tensor([[2.0, -1.0], [-3.0, -1.0]]), torch.tensor([0, -1])
    found = task_losses(logits, labels, "logistic")
    s = torch.sigmoid(logits)
    assert found[0] == pytest.approx(float(-s[0, 0].log() - (1 - s[0, 1]).log()), rel=1e-5)
    assert found[1] == pytest.approx(float(-(1 - s[1]).log().sum()), rel=1e-5)
    assert is_right(logits, labels, "logistic").tolist() == [True, True]
    assert is_right(-logits, labels, "logistic").tolist() == [False, False]


@pytest.mark.parametrize("schedule", ["onecycle", "steps", "constant"])
def test_rates_stay_between_0_and_the_highest(schedule):
    rates = [learning_rate(schedule, i / 100) for i in range(101)]
    assert max(rates) == 1.0 and min(rates) >= 0
    assert schedule == "constant" or rates[-1] < 0.02


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": 0}, {"validation": 1}, {"trunk": 2}, {"optimizer": "lbfgs"}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="--"):
        FinetuneSettings(**wrong)
