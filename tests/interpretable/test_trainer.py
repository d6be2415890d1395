import copy
import os
import socket
from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.held_out import ask
from cnnlens.interpretable.icnn import Icnn
from cnnlens.interpretable.method import (
    Plain,
    Rates,
    evaluate,
    is_right,
    learning_rate,
    split,
    task_losses,
)
from cnnlens.interpretable.trainer import Epoch, Step, Trainer
from cnnlens.model.in_training import Returned
from cnnlens.model.mask import Mask
from cnnlens.settings.finetune import FinetuneSettings, IcnnSettings
from tests import warm


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


def build(method="icnn", dropout=0.0, rates=None, examples=None, link="", **settings):
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), Mask(6), nn.AvgPool2d(4)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(24, 2))
    known = examples or Pictures()
    given = FinetuneSettings(**{"epochs": 4, "batch_size": 5, "trunk": 1.0, "lr": 0.01} | settings)
    training, validation = split(known.labels, 0.25, 0)
    icnn = Icnn(["2"], [6], torch.tensor([0.5, 0.5]), IcnnSettings(ramp=0.0, filter_weight=0.5))
    chosen = icnn if method == "icnn" else Plain()
    ends = {"": [], "softmax": [nn.Softmax(1)], "sigmoid": [nn.Sigmoid()]}
    net.extend(ends[link])
    return Trainer(net, known, training, validation, chosen, given, rates, link)


@pytest.mark.parametrize(("link", "loss"), [("softmax", "softmax"), ("sigmoid", "logistic")])
def test_behind_a_softmax_or_sigmoid_it_learns_as_a_network_without_it(link, loss):
    plain, ends = build(loss=loss), build(loss=loss, link=link)
    for one, other in zip(finished(plain), finished(ends), strict=True):
        for name, value in one.terms.items():
            assert other.terms[name] == value, name
    assert torch.equal(weights(plain), weights(ends))


class Aided(nn.Module):
    """The usual network, which in training mode returns an auxiliary head's answer first."""

    def __init__(self, net):
        super().__init__()
        self.net, self.side = net, nn.Linear(3, 2)

    def forward(self, x):
        answer = self.net(x)
        return {"side": self.side(x.mean((2, 3))), "main": answer} if self.training else answer


def aided():
    plain = build("none", mirror=False, optimizer="sgd", schedule="constant", weight_decay=0.1)
    net = Aided(plain.net)
    return Trainer(
        net, plain.examples, plain.training, plain.validation, Plain(), plain.settings,
        returned=Returned("main", unused=("side",)),
    )  # fmt: skip


def test_beside_auxiliary_heads_it_learns_as_a_plain_loop_by_the_main_output():
    trainer = aided()
    net, s, examples = copy.deepcopy(trainer.net), trainer.settings, trainer.examples
    losses = [epoch.terms["task_loss"] for epoch in finished(trainer)]
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=s.lr, momentum=0.9)
    wanted = []
    for epoch in range(s.epochs):
        generator = torch.Generator().manual_seed(s.seed * 100_003 + epoch)
        order = trainer.training[torch.randperm(len(trainer.training), generator=generator)]
        net.train()
        seen = []
        for part in order.tensor_split(4):
            loss = nn.functional.cross_entropy(net(examples.x[part])["main"], examples.labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        wanted.append(sum(seen) / len(seen))
    assert losses == pytest.approx(wanted, abs=1e-6)
    for (name, found), (_, value) in zip(
        trainer.net.state_dict().items(), net.state_dict().items(), strict=True
    ):
        assert torch.allclose(found, value, atol=1e-6), name


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


@pytest.mark.parametrize("patience", [0, 1])
def test_a_divergence_that_only_what_is_held_out_shows_is_named(patience):
    how = {"optimizer": "sgd", "schedule": "constant", "patience": patience}
    trainer = build("none", lr=1e37, epochs=1, batch_size=1000, **how)
    with pytest.raises(CnnlensError, match="diverged in epoch 1, step 1: validation_loss is no"):
        finished(trainer)
    assert trainer.best is None  # nor is it the best that there was


class Misled(Pictures):
    """What is held out has the wrong labels: the better the training, the higher their loss."""

    def __init__(self):
        super().__init__()
        held = split(self.labels, 0.25, 0)[1]
        self.labels[held] = 1 - self.labels[held]


def test_patience_keeps_the_best():
    trainer = build("none", patience=3, epochs=40, lr=0.03, schedule="constant", examples=Misled())
    epochs, kept = [], []
    for event in trainer.run():
        if isinstance(event, Epoch):
            epochs.append(event)
            kept.append(weights(trainer))
    losses = [e.terms["validation_loss"] for e in epochs]
    best = losses.index(min(losses))
    assert len(epochs) == best + 4 and epochs[-1].stopped and losses[-1] > losses[best] + 0.02
    assert torch.equal(weights(trainer), kept[best])
    assert not torch.equal(weights(trainer), kept[-1])


def test_what_was_killed_after_the_epoch_that_ends_it_has_ended():
    asked = {"patience": 3, "epochs": 40, "lr": 0.03, "schedule": "constant"}
    whole, again = (build("none", examples=Misled(), **asked) for _ in range(2))
    for event in whole.run():
        if isinstance(event, Epoch) and event.stopped:
            kept = copy.deepcopy((whole.net.state_dict(), whole.state_dict()))
    again.net.load_state_dict(kept[0])
    again.load_state_dict(kept[1])
    assert list(again.run()) == [] and again.epoch == whole.epoch
    assert torch.equal(weights(again), weights(whole))


class Mirrors(Pictures):
    """Remembers which images were shown mirrored."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def inputs(self, indices, mirrored):
        self.shown += list(zip(indices.tolist(), mirrored.tolist(), strict=True))
        return super().inputs(indices, mirrored)


@pytest.mark.parametrize("mirror", [True, False])
def test_images_are_shown_mirrored_half_of_the_time(mirror):
    examples = Mirrors()
    trainer = build("none", epochs=12, mirror=mirror, examples=examples)
    finished(trainer)
    training = set(trainer.training.tolist())
    shown = [flipped for index, flipped in examples.shown if index in training]
    assert len(shown) == 12 * len(training)
    assert 0.4 < sum(shown) / len(shown) < 0.6 if mirror else sum(shown) == 0
    held = [flipped for index, flipped in examples.shown if index not in training]
    assert held and not any(held)


def normed(method="none", rates=None, **settings):
    """The usual network with a batch norm in its trunk and one in its new part."""
    trainer = build(method, **settings)
    layers = list(trainer.net)
    net = nn.Sequential(layers[0], nn.BatchNorm2d(6), *layers[1:6], nn.BatchNorm1d(24), layers[6])
    return Trainer(
        net, trainer.examples, trainer.training, trainer.validation, Plain(), trainer.settings,
        rates,
    )  # fmt: skip


def test_batch_norms_of_a_frozen_trunk_keep_their_statistics():
    trainer = normed(trunk=0.0, rates=Rates(["7", "8"]))
    finished(trainer)
    frozen, new = trainer.net[1], trainer.net[7]
    assert torch.equal(frozen.running_mean, torch.zeros(6)) and frozen.num_batches_tracked == 0
    assert torch.equal(frozen.running_var, torch.ones(6))
    assert not torch.equal(new.running_mean, torch.zeros(24))


def test_old_layers_learn_at_the_trunks_share_of_the_rate():
    def step(trunk, rates):
        """How far one step moves the first and the last layer."""
        trainer = build(
            "none", epochs=1, batch_size=99, optimizer="sgd", schedule="constant", trunk=trunk,
            weight_decay=0.0, rates=rates,
        )  # fmt: skip
        before = copy.deepcopy(trainer.net.state_dict())
        finished(trainer)
        return [trainer.net.state_dict()[k] - before[k] for k in ("0.weight", "6.weight")]

    old, new = step(1.0, None)
    assert old.abs().max() > 1e-5
    for trunk, factor in ((0.1, 1.0), (0.1, 0.5), (1.0, 0.5)):
        found = step(trunk, Rates(["6"], {"6": factor}))
        assert torch.allclose(found[0], trunk * old, rtol=1e-3, atol=1e-8)
        assert torch.allclose(found[1], factor * new, rtol=1e-3, atol=1e-8)


def test_the_method_is_told_how_much_of_the_training_is_done():
    trainer, seen = build(epochs=2), []
    weighted = trainer.method.weighted
    trainer.method.weighted = lambda terms, progress: (
        seen.append(progress) or weighted(terms, progress)
    )
    finished(trainer)
    assert seen == [number / 8 for number in range(8)]


@pytest.mark.parametrize("ends", ["abandoned", "failed", "done"])
def test_a_run_leaves_the_mode_and_the_random_state_as_they_came(ends):
    trainer = build(dropout=0.5, epochs=2)
    trainer.net.eval()
    trainer.net[3].train()
    modes = [module.training for module in trainer.net.modules()]
    state = torch.get_rng_state()
    run = trainer.run()
    for _ in range(3):
        next(run)
        assert torch.equal(torch.get_rng_state(), state)
    if ends == "abandoned":
        run.close()
    elif ends == "failed":
        trainer.net[0].weight.data.fill_(float("nan"))
        with pytest.raises(CnnlensError, match="diverged"):
            list(run)
    else:
        list(run)
        modes = [False] * len(modes)
    assert [module.training for module in trainer.net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in trainer.net.modules())


def test_what_a_caller_draws_between_steps_does_not_change_the_training():
    quiet, disturbed = build(dropout=0.5), build(dropout=0.5)
    finished(quiet)
    for _ in disturbed.run():
        torch.rand(3)
    assert torch.equal(weights(quiet), weights(disturbed))


def test_mixed_precision_learns():
    assert finished(build(amp=True, epochs=12))[-1].terms["validation_accuracy"] == 1.0


def _one_of_two(rank, port, folder, trains):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(trains(), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def two_processes(folder, trains):
    """What `trains` returns on each of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (port, str(folder), trains)
    context = mp.start_processes(
        _one_of_two, arguments, nprocs=2, join=False, start_method=warm.method()
    )
    for process in context.processes:
        process.join(60)
    hung = [process for process in context.processes if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung, "a process waits for one that has gone"
    while not context.join():  # of both, which have ended; raises what one of them raised
        pass
    return [torch.load(folder / str(rank)) for rank in (0, 1)]


def _trains():
    trainer = build(optimizer="sgd")  # Adam makes steps of what is but rounding
    epochs = finished(trainer)
    return weights(trainer), epochs[-1].terms, trainer.method.state_dict()


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path):
    whole, terms, state = _trains()
    for found, its_terms, its_state in two_processes(tmp_path, _trains):
        assert torch.allclose(found, whole, atol=2e-5)
        assert its_terms == pytest.approx(terms, abs=1e-4)
        for name, value in state.items():
            assert torch.allclose(its_state[name], value, atol=1e-4)


def _trains_aided():
    trainer = aided()
    finished(trainer)
    return weights(trainer)


def test_on_two_processes_what_does_not_learn_does_not_decay_either(tmp_path):
    whole = _trains_aided()
    for found in two_processes(tmp_path, _trains_aided):
        assert torch.allclose(found, whole, atol=2e-5)


@pytest.mark.parametrize(
    ("number", "size", "hint"), [(22, 1, "--batch-size 2"), (4, 2, "--batch-size 3")]
)
def test_a_batch_norm_with_one_image_is_named_with_a_size_that_works(number, size, hint):
    def trained(size):
        trainer = build("none", examples=Pictures(number), batch_size=size)
        net = nn.Sequential(*trainer.net[:5], nn.BatchNorm1d(24), trainer.net[6])
        training = trainer.training if size == 1 or number > 4 else torch.arange(3)
        rest = (training, trainer.validation, Plain(), trainer.settings)
        return finished(Trainer(net, trainer.examples, *rest))

    with pytest.raises(UsageError, match="cannot learn from a batch of one image") as caught:
        trained(size)
    assert caught.value.hint == f"use {hint}"
    trained(int(hint.split()[1]))


def _trains_norms(**more):
    trainer = normed(optimizer="sgd", batch_size=8, epochs=12, patience=1, lr=0.3, **more)
    losses = [epoch.terms["validation_loss"] for epoch in finished(trainer)]
    return losses, trainer.net.state_dict()


def test_processes_share_the_statistics_of_norms_and_stop_together(tmp_path):
    (losses, state), (others, its_state) = two_processes(tmp_path, _trains_norms)
    assert losses == others and len(losses) < 12  # and it was patience that ended it
    assert all(torch.equal(value, its_state[name]) for name, value in state.items())


def test_splits_hold_out_a_share_of_every_class():
    labels = torch.tensor([0] * 20 + [1] * 8 + [-1] * 4)
    training, validation = split(labels, 0.25, 1)
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(32))
    assert torch.bincount(labels[validation] + 1).tolist() == [1, 5, 2]
    assert not torch.equal(validation, split(labels, 0.25, 2)[1])


def test_equal_images_stand_on_one_side_of_a_split():
    labels = torch.tensor([0] * 20 + [1] * 8)
    alone, held = split(labels, 0.25, 1)
    again = torch.arange(28).repeat(3)  # every image three times
    training, validation = split(labels.repeat(3), 0.25, 1, again)
    assert again[validation].tolist() == held.tolist() * 3
    assert again[training].tolist() == alone.tolist() * 3


def test_the_logistic_loss_knows_no_class():
    logits, labels = torch.tensor([[2.0, -1.0], [-3.0, -1.0]]), torch.tensor([0, -1])
    found = task_losses(logits, labels, "logistic")
    s = torch.sigmoid(logits)
    assert found[0] == pytest.approx(float(-s[0, 0].log() - (1 - s[0, 1]).log()), rel=1e-5)
    assert found[1] == pytest.approx(float(-(1 - s[1]).log().sum()), rel=1e-5)
    assert is_right(logits, labels, "logistic", True).tolist() == [True, True]
    assert is_right(-logits, labels, "logistic", True).tolist() == [False, False]


class WithNegatives(Pictures):
    """The last third is of no class: batches before them hold none of these."""

    def __init__(self):
        super().__init__(30)
        self.labels[20:] = -1


def test_no_class_is_an_answer_to_every_image_whatever_is_in_its_batch():
    trainer = build(
        "none", examples=WithNegatives(), loss="logistic", mirror=False, epochs=1, batch_size=6,
        optimizer="sgd", lr=1e-9,
    )  # fmt: skip
    with torch.no_grad():  # mostly the right class, and often below 0
        trainer.net[-1].weight.copy_(trainer.net[-1].weight.flip(0))
        trainer.net[-1].bias -= trainer.net.eval()(trainer.examples.x).mean(dim=0) + 0.012
        logits = trainer.net(trainer.examples.x)

    def rightly(images):
        """The share, image by image."""
        right = 0
        for image in images.tolist():
            scores = logits[image].tolist()
            answer = scores.index(max(scores)) if max(scores) > 0 else -1
            right += answer == trainer.examples.labels[image]
        return float(right) / len(images)

    held = rightly(trainer.validation)
    for size in (1, 2, 3, 6):
        s = replace(trainer.settings, batch_size=size)
        found = evaluate(trainer.net, trainer.examples, trainer.validation, s)[1]
        assert found == pytest.approx(held), size
    assert ask(trainer, []).accuracy == pytest.approx(held)
    terms = finished(trainer)[0].terms
    assert terms["validation_accuracy"] == pytest.approx(held)
    assert terms["accuracy"] == pytest.approx(rightly(trainer.training))


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
