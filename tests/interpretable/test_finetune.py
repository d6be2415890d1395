from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from cnnlens.data.labelled import Labelled
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.finetune import Epoch, finetune
from cnnlens.interpretable.method import is_right
from cnnlens.interpretable.prepare import check
from cnnlens.interpretable.request import Request
from cnnlens.model.open import open_model
from cnnlens.settings.finetune import CglSettings, FinetuneSettings, IcnnSettings, TaskSettings

SETTINGS = FinetuneSettings(epochs=3, batch_size=16, seed=1)


@pytest.fixture
def model():
    return open_model("zoo:demo_net", image_size=(16, 16), device="cpu")


def pictures(preprocess, number=48, size=16, side=6, classes=("red", "green", "blue")):
    """A bright square of each class's colour, somewhere in noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(number) % len(classes)
    pixels = torch.randint(0, 120, (number, 3, size, size), generator=generator)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        row, column = torch.randint(0, size - side, (2,), generator=generator).tolist()
        image[label % 3, row : row + side, column : column + side] += 135
    return Labelled(pixels.to(torch.uint8), labels, list(classes), [], preprocess)


def trained(*arguments, **more):
    run = finetune(*arguments, **more)
    list(run)
    return run


def three_times(data):
    return replace(data, pixels=data.pixels.repeat(3, 1, 1, 1), labels=data.labels.repeat(3))


def test_copies_of_images_are_held_out_together(model):
    data = pictures(model.preprocess)
    run, once = (finetune(model, some, settings=SETTINGS) for some in (three_times(data), data))
    held, alone = (one.trainer.validation for one in (run, once))
    assert (held % 48).unique().tolist() == alone.tolist() and len(held) == 3 * len(alone)
    assert "96 images equal to others: all on one side, to learn or held out" in run.notes
    assert not any("equal" in note for note in once.notes)


def test_categories_of_one_image_again_and_again_are_refused(model):
    data = pictures(model.preprocess)
    data.pixels[data.labels == 1] = data.pixels[1].clone()
    with pytest.raises(CnnlensError, match="'green' has too few images that differ"):
        finetune(model, data, settings=SETTINGS)


@pytest.mark.parametrize("layers", [("layer3.2", "layer3"), ("layer3", "layer3.2")])
def test_a_layer_within_another_is_refused(layers):
    net = open_model("zoo:resnet20", device="cpu")
    for method, insert in (("icnn", False), ("icnn", True), ("none", True)):
        request = Request(method, layers, insert=insert)
        with pytest.raises(UsageError, match=r"'layer3\.2' is a part of layer 'layer3'"):
            check(net, request)
    check(net, Request("icnn", ("layer2", "layer3.2")))


def maps_of(net, layers, x):
    found = {}
    for name in layers:
        net.get_submodule(name).register_forward_hook(
            lambda *a, name=name: found.update({name: a[2]})
        )
    net(x)
    return [found[name] for name in layers]


@pytest.mark.parametrize("insert", [False, True])
def test_without_masks_the_loss_is_of_every_layer_that_was_named(model, insert):
    data = pictures(model.preprocess)
    settings = replace(SETTINGS, mirror=False, epochs=1, batch_size=100)
    loss = IcnnSettings(mask=False, ramp=0.0)
    run = finetune(
        model, data, "icnn", ("relu2", "relu3"), insert=insert, settings=settings, icnn=loss
    )
    net, learned = copy.deepcopy(run.net).eval(), run.trainer.training
    layers = ["relu2", "relu3.inner", "relu3.relu"] if insert else ["relu2", "relu3"]
    labels, expected = run.trainer.examples.labels[learned], 0.0
    inputs = run.trainer.examples.inputs(learned, torch.zeros(len(learned), dtype=torch.bool))
    for x in maps_of(net, layers, inputs):  # the first step: running means are the batch's
        peak, strength = x.amax((0, 2, 3)), x.amax((2, 3)) / (x.amax((2, 3)).mean(0) + 1e-6)
        strength = strength.clamp(0.1, 3)
        strength /= strength.mean(0)
        means = torch.stack([x[labels == k].mean((0, 2, 3)) for k in range(3)])
        side = x.shape[2]
        for unit, kind in enumerate(means.argmax(0).tolist()):
            share = (labels == kind).float().mean().clamp(0.01, 0.99)
            for n, one in enumerate(x[:, unit]):
                row, column = divmod(int(one.argmax()), side)
                away = (torch.arange(side)[:, None] - row).abs() + (
                    torch.arange(side) - column
                ).abs()
                sign = -(1 - 4 * away / side).clamp(min=-1) if labels[n] == kind else 1.0
                weight = strength[n, unit] * 0.5 / (share if labels[n] == kind else 1 - share)
                expected += (
                    weight * (one * sign).sum() / ((peak[unit] + 1e-6) * side**2) / len(x) / 64
                )
    first = next(iter(run))
    assert first.terms["filter_loss"] == pytest.approx(float(expected), rel=1e-3)
    assert run.trainer.method.record()["layers"] == layers
    assert any(plan["at"] for plan in run.surgery) == insert  # nothing else is put in


def test_without_masks_convolution_and_weight_it_is_the_plain_training(model):
    data, none = pictures(model.preprocess), IcnnSettings(mask=False, filter_weight=0.0)
    listened = trained(model, data, "icnn", insert=False, settings=SETTINGS, icnn=none)
    plain = trained(model, data, settings=SETTINGS)
    one, other = listened.net.state_dict(), plain.net.state_dict()
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


IN_PARTS = """
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

class Net(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        last = nn.Conv2d(8, 8, 3)
        self.body = nn.Sequential(wrap(nn.Conv2d(3, 8, 3)), nn.ReLU(), last, nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

def old():
    return Net(weight_norm)

def new():
    return Net(parametrizations.weight_norm)

def spectral():
    return Net(parametrizations.spectral_norm)
"""


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("made", ["old", "new", "spectral"])
def test_groups_are_of_weights_that_are_computed_from_parts_too(tmp_path, made):
    (tmp_path / "net.py").write_text(IN_PARTS)
    net = open_model(f"{tmp_path / 'net.py'}:{made}", image_size=(16, 16), device="cpu")
    cgl = CglSettings(groups=2, block_weight=0.1)
    run = finetune(net, pictures(net.preprocess), "cgl", settings=SETTINGS, cgl=cgl)
    weights = [run.trained.net.body[n].weight for n in (0, 2)]
    expected = sum(w[half].norm() for w in weights for half in (slice(0, 4), slice(4, 8)))
    assert next(iter(run)).terms["block_norm"] == pytest.approx(float(expected), rel=1e-2)
    decayed = [
        p for g in run.trainer._optimizer.param_groups if g["weight_decay"] for p in g["params"]
    ]
    assert [p.shape for p in decayed] == [(3, 8)]  # the head's: the others are held small already
    list(run)
    x = torch.rand(2, 3, 16, 16)
    assert torch.allclose(run.trained.net(x), run.net(x), atol=1e-6)


@pytest.mark.parametrize("method", ["icnn", "none"])
def test_where_nothing_learns_that_is_said(tmp_path, method):
    (tmp_path / "net.py").write_text(IN_PARTS)
    net = open_model(f"{tmp_path / 'net.py'}:new", image_size=(16, 16), device="cpu")
    net = replace(net, notes=[])  # as of trained weights, whose layers may be frozen
    data, frozen = pictures(net.preprocess), replace(SETTINGS, trunk=0.0)
    with pytest.raises(UsageError, match="nothing is left to train"):
        finetune(net, data, method, insert=False, settings=frozen)
    if method == "icnn":
        beta = IcnnSettings(learn_beta=True)
        finetune(net, data, "icnn", insert=False, settings=frozen, icnn=beta)


TWICE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, twice):
        super().__init__()
        self.body, self.fc = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Linear(8, 4)
        if twice:
            self.last = self.fc

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))

def once():
    return Net(False)

def twice():
    return Net(True)
"""


@pytest.mark.parametrize("name", ["once", "twice"])
def test_a_training_that_an_earlier_version_began_with_one_name_of_a_new_head_is_another(
    tmp_path, monkeypatch, name
):
    (tmp_path / "net.py").write_text(TWICE)
    net = open_model(f"{tmp_path / 'net.py'}:{name}", image_size=(16, 16), device="cpu")
    data = pictures(net.preprocess)  # three classes, of a network of four
    now = finetune(net, data, settings=SETTINGS)
    assert [plan.head for plan in now.prepared.plans] == ["fc"]
    monkeypatch.setattr("cnnlens.interpretable.prepare.places_of", lambda *_: [])  # as it did
    assert (finetune(net, data, settings=SETTINGS).mark == now.mark) == (name == "once")


CLASSIFIER = """
from torch import nn

def net():
    head = nn.Conv2d(8, 3, 1)
    body = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU()
    return nn.Sequential(*body, head, nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def test_class_scores_are_put_into_groups_only_where_they_are_named(tmp_path):
    (tmp_path / "net.py").write_text(CLASSIFIER)
    net = open_model(f"{tmp_path / 'net.py'}:net", image_size=(16, 16), device="cpu")
    check(net, Request("cgl", cgl=CglSettings(groups=4)))  # more than there are classes
    data, cgl = pictures(net.preprocess), CglSettings(groups=2)
    run = finetune(net, data, "cgl", settings=SETTINGS, cgl=cgl)
    assert run.trainer.method.record()["layers"] == ["0", "2"]
    named = finetune(net, data, "cgl", ("conv2", "conv3"), settings=SETTINGS, cgl=cgl)
    assert named.trainer.method.record()["layers"] == ["2", "4"]


IN_A_LIST = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 5)
        self.heads = HEADS

    def forward(self, x):
        return self.heads[0](self.body(x).mean((2, 3)))
"""


@pytest.mark.parametrize(
    ("heads", "runs"), [("[self.head]", False), ("nn.ModuleList([self.head])", True)]
)
def test_what_the_code_never_runs_is_not_trained_without_a_word(tmp_path, heads, runs):
    (tmp_path / "net.py").write_text(IN_A_LIST.replace("HEADS", heads))
    net = open_model(f"{tmp_path / 'net.py'}:Net", image_size=(16, 16), device="cpu")
    data = pictures(net.preprocess)  # of three classes: it takes another head
    if runs:
        assert finetune(net, data, settings=SETTINGS).net(torch.rand(1, 3, 16, 16)).shape == (1, 3)
        return
    with pytest.raises(UsageError, match="never runs what was put at head"):
        finetune(net, data, settings=SETTINGS)


@pytest.mark.parametrize("method", ["none", "icnn", "cgl"])
def test_a_notebook_trains_without_files_and_keeps_its_model(model, method):
    data = pictures(model.preprocess)
    before = copy.deepcopy(model.net.state_dict())
    modules, gradients = str(model.net), [p.requires_grad for p in model.net.parameters()]
    state = torch.get_rng_state()
    run = finetune(model, data, method, settings=SETTINGS, cgl=CglSettings(groups=4))
    events = list(run)
    assert sum(isinstance(e, Epoch) for e in events) == 3 and run.done
    assert torch.equal(torch.get_rng_state(), state)
    assert str(model.net) == modules and not any(m.training for m in model.net.modules())
    assert [p.requires_grad for p in model.net.parameters()] == gradients
    assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
    document = run.document()
    assert document["method"] == method and document["epochs"] == 3
    assert document["images"] == {"training": 36, "validation": 12}
    assert ("groups" in document) == (method == "cgl")
    other = run.trained
    held = run.trainer.validation
    with torch.no_grad():
        logits = other.net(data.inputs(held, torch.zeros(len(held), dtype=torch.bool)))
    right = is_right(logits, data.labels[held], "softmax", False).float().mean()
    assert float(right) == pytest.approx(document["accuracy"]["after"])
    assert other.classes == data.classes and other.fingerprint != model.fingerprint


def test_preparing_leaves_the_callers_labels_and_trains_a_second_time_alike(model):
    model.classes = ["blue", "green", "red", *"abcdef"]  # its own order of outputs
    data = pictures(model.preprocess)
    before = data.labels.clone()
    first = trained(model, data, settings=SETTINGS)
    assert torch.equal(data.labels, before) and data.device is None
    second = trained(model, data, settings=SETTINGS)
    assert second.before == first.before is not None
    assert second.document() == first.document() and second.mark == first.mark
    held = first.trainer.validation
    numbers = [first.classes.index(data.classes[k]) for k in before[held].tolist()]
    assert first.trainer.examples.labels[held].tolist() == numbers


def test_a_network_that_ends_in_a_softmax_learns_by_its_scores_and_that_is_said(model):
    data = pictures(model.preprocess)
    plain = finetune(model, data, settings=SETTINGS)
    model.net.add_module("end", nn.Softmax(1))
    run = finetune(model, data, settings=SETTINGS)
    assert run.trainer.link == "softmax" and run.mark != plain.mark
    assert "ends in a softmax: it learns by the scores before that" in " ".join(run.notes)
    want, found = ([e.terms["task_loss"] for e in r if isinstance(e, Epoch)] for r in (plain, run))
    assert found == pytest.approx(want, rel=1e-3)
    with pytest.raises(UsageError, match="always takes one class for true"):
        finetune(model, data, settings=replace(SETTINGS, loss="logistic"))


def test_by_which_output_it_learns_is_said_and_recorded(model):
    data = pictures(model.preprocess)
    plain = finetune(model, data, settings=SETTINGS)
    assert "outputs" not in plain.document()
    model.net.register_forward_hook(lambda net, _, out: (out * 0, out) if net.training else out)
    run = finetune(model, data, settings=SETTINGS)
    assert "in training it returns 1 and 0: it learns by 1 alone" in run.notes
    list(run)
    assert run.document()["outputs"] == {"learned": "1", "unused": ["0"]}
    assert run.checkpoint()["training"]["outputs"]["learned"] == "1" and run.mark != plain.mark
    list(plain)
    assert run.history == plain.history


def test_behind_a_sigmoid_what_is_held_out_is_asked_by_the_scores_too(model):
    model.net.add_module("end", nn.Sigmoid())
    data = pictures(model.preprocess, classes=("red", "green"))
    data.labels = torch.where(data.labels == 0, 0, -1)  # green ones are of no category
    data.classes = ["red"]
    run = trained(model, data, settings=replace(SETTINGS, loss="logistic", epochs=8))
    assert run.history[-1]["validation_accuracy"] > 0.7
    assert run.document()["accuracy"]["after"] == run.history[-1]["validation_accuracy"]


@pytest.mark.parametrize("number", [3, 1])
def test_a_category_told_from_others_gets_a_head_of_its_own(model, number):
    model.net.fc = nn.Linear(64, number)
    model.classes = ["red", "green", "blue"][:number]
    data = pictures(model.preprocess)
    data = replace(data, labels=torch.where(data.labels == 0, 0, -1), classes=["red"])
    logistic = replace(SETTINGS, loss="logistic")
    of_the_data = replace(data, positions=np.arange(len(data.labels)))
    run = trained(model, of_the_data, settings=logistic)
    assert run.classes == run.trained.classes == ["red"]
    x = torch.rand(2, 3, 16, 16)
    assert run.trained.net(x).shape == (2, 1)
    said = "red is told from all else: a new head of one output" in run.notes
    assert said == (number > 1) == (run.before is None)  # a head of it alone goes on
    none = finetune(model, replace(data, positions=data.labels.numpy() * 1), settings=logistic)
    assert none.classes == model.classes  # negatives are none of the network's classes


@pytest.mark.parametrize("method", ["icnn", "cgl"])
def test_a_run_goes_on_from_a_state_and_ends_as_an_unbroken_one(model, method):
    data = pictures(model.preprocess)
    asked = {"settings": SETTINGS, "cgl": CglSettings(groups=4)}
    whole = trained(model, data, method, **asked)
    broken = finetune(model, data, method, **asked)
    kept = next(broken.state() for event in broken if isinstance(event, Epoch))
    for _ in islice(broken, 2):  # whatever it does after that, the state stays
        pass
    again = finetune(model, data, method, **asked, resume=kept)
    assert sum(isinstance(event, Epoch) for event in again) == 2
    assert again.document() == whole.document()
    ended = finetune(model, data, method, **asked, resume=whole.state())
    assert ended.done and list(ended) == [] and ended.document() == whole.document()


def test_a_state_of_another_training_is_refused(model):
    data = pictures(model.preprocess)
    state = finetune(model, data, settings=SETTINGS).state()
    other = pictures(model.preprocess)
    other.pixels[0, 0, 0, 0] += 1
    for changed in (
        {"labelled": other, "settings": SETTINGS},
        {"labelled": data, "settings": FinetuneSettings(epochs=4, batch_size=16, seed=1)},
    ):
        with pytest.raises(ValueError, match="not of this training"):
            finetune(model, resume=state, **changed)


def test_a_training_that_diverges_is_named_and_leaves_the_mode(model):
    wild = FinetuneSettings(lr=1e30, optimizer="sgd", schedule="constant")
    run = finetune(model, pictures(model.preprocess), settings=wild)
    with pytest.raises(CnnlensError, match="diverged"):
        list(run)
    assert not any(module.training for module in run.net.modules())


STRONG = """
import torch
from torch import nn


def make(num_classes=4):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 192, 3, stride=2, padding=1)
    with torch.no_grad():
        conv.weight *= 100
    head = nn.Sequential(nn.Conv2d(192, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(nn.Sequential(conv, nn.ReLU()), head, nn.Flatten())
"""


@pytest.fixture
def strong(tmp_path):
    """As SqueezeNet: maps far above 1, class convolution, rectifier, global pooling."""
    (tmp_path / "strong.py").write_text(STRONG)
    return open_model(f"{tmp_path}/strong.py:make", image_size=(8, 8), device="cpu")


def frozen(model, seed, **more):
    """Train the new layers alone; return the accuracy after, and the run."""
    data = pictures(model.preprocess, 90, 8, 3)
    insert, start = more.get("insert", False), more.get("start", "scaled")
    settings = FinetuneSettings(epochs=5, trunk=0.0, seed=seed, start=start)
    run = trained(model, data, insert=insert, settings=settings)
    return run.document()["accuracy"]["after"], run


def test_an_inserted_layer_does_not_collapse_where_maps_are_strong(strong):
    plain = [frozen(strong, seed)[0] for seed in range(3)]
    inserted = [frozen(strong, seed, insert=True) for seed in range(3)]
    assert sum(a for a, _ in inserted) / 3 > sum(plain) / 3 - 0.03
    assert not any("silent" in line for _, run in inserted for line in run.warnings)


def test_when_it_is_done_what_is_held_out_is_shown_once_for_all_who_ask(model):
    data = pictures(model.preprocess)
    run = finetune(model, data, "icnn", settings=SETTINGS)
    shown = []
    with run.net.register_forward_hook(lambda net, x, y: shown.append(len(y))):
        first = run.document()  # it is not done: what is said now does not hold later
        list(run)
        shown.clear()
        last, warnings, silent = run.document(), run.warnings, run.silent()
    assert sum(shown) == len(run.trainer.validation) == 12
    assert last["accuracy"]["after"] == last["history"][-1]["validation_accuracy"]
    assert (first["epochs"], last["epochs"]) == (0, 3)
    assert last.get("notes", []) == warnings and list(silent) == run.prepared.plans[0].maps


def test_a_run_that_ends_at_chance_says_so(strong):
    accuracy, run = frozen(strong, 2, insert=True, start="normal")
    assert accuracy == pytest.approx(1 / 3, abs=0.05)
    assert any("scores of" in line for line in run.warnings)
    assert any("what chance gives" in line for line in run.warnings)
    assert run.document()["notes"] == run.warnings


def test_dead_layers_are_named_without_a_method_too(model):
    data = pictures(model.preprocess)
    run = trained(model, data, insert=True, settings=SETTINGS)
    assert run.warnings == [] and "notes" not in run.document()
    with torch.no_grad():
        run.net.get_submodule("relu3.conv").bias.fill_(-1e6)
    run._last = None
    assert any("64 of 64 filters of relu3.relu went silent" in line for line in run.warnings)


@pytest.mark.parametrize(
    ("task", "alone", "loss", "insert"),
    [
        (TaskSettings(), False, "softmax", True),
        (TaskSettings(method="none"), True, "logistic", False),
        (TaskSettings(method="cgl", insert=True, loss="logistic"), False, "logistic", True),
    ],
)
def test_a_request_is_completed_by_what_is_usual(task, alone, loss, insert):
    own = FinetuneSettings(epochs=3), IcnnSettings(), CglSettings()
    request = Request.of(["conv1"], alone, *own, task)
    assert (request.method, request.layers, request.insert) == (task.method, ("conv1",), insert)
    assert (request.settings.loss, request.settings.epochs) == (loss, 3)
    if alone:
        with pytest.raises(UsageError, match="no place for negatives"):
            Request.of([], True, *own, TaskSettings(loss="softmax"))
