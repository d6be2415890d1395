"""No step of a loop waits for its device, but for a look every few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cnnlens.activations.passes import Forward, Pass, passes
from cnnlens.attribution.projections import Projections
from cnnlens.data.open import open_data
from cnnlens.interpretable.concept_groups import ConceptGroups, Grouped, grouped_layers
from cnnlens.interpretable.method import split
from cnnlens.interpretable.trainer import Trainer
from cnnlens.model import streams
from cnnlens.model.layers import find_layers
from cnnlens.model.open import open_model
from cnnlens.settings import DeconvSettings, InvertSettings, VisualizeSettings
from cnnlens.settings.finetune import CglSettings
from cnnlens.settings.synthesize import StyleSettings
from cnnlens.synthesize import boundary, generator_training
from cnnlens.synthesize.answers import Answers
from cnnlens.synthesize.boundary import Aim
from cnnlens.synthesize.fool import Ascent, ascend, noise_flips
from cnnlens.synthesize.invert import features, invert
from cnnlens.synthesize.objective import along, channel, logit, response
from cnnlens.synthesize.style import transfer
from cnnlens.synthesize.visualize import visualize
from tests.activations.little import layers_of, little_model, write_pictures
from tests.interpretable import test_cgl_training as cgl
from tests.interpretable import test_trainer as training
from tests.model.reads import Reads
from tests.synthesize import test_generator as generators
from tests.synthesize import test_invert as inverting
from tests.synthesize import test_training as upconv
from tests.synthesize.nets import Small, model_of

LOOPS = (
    "synthesize.slope",
    "synthesize.invert",
    "synthesize.style",
    "synthesize.generator_training",
    "interpretable.trainer",
)


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look as seldom as at a GPU."""
    for name in LOOPS:
        monkeypatch.setattr(f"cnnlens.{name}.look_every", lambda device: streams.LOOK)


def waits(steps: Iterator[object], skip: int, count: int, *but: str) -> list[str]:
    """What the next `count` steps read, after `skip`."""
    for _ in range(skip):
        next(steps)
    with Reads(*but) as reads:
        for _ in range(count):
            next(steps)
    return reads.found


def test_the_counter_sees_what_waits() -> None:
    x = torch.arange(4.0)
    with Reads() as reads:
        _ = float(x.sum()), bool(x.any()), x.tolist(), x[x > 1], x.sum().item(), x.numpy(), x.cpu()
        x[x > 2] = 0
        assert x[1:2] + x[torch.tensor([1])] is not None
    assert len(reads.found) == 8
    assert set(reads.found) == {"test_streams.py:test_the_counter_sees_what_waits"}


@pytest.mark.parametrize(
    "settings",
    [
        VisualizeSettings(steps=20),
        VisualizeSettings(steps=20, l2=0.01, blur=0.5, blur_every=2),
        VisualizeSettings(steps=20, views=3, tv=0.1, alpha=0.1),
        VisualizeSettings(steps=20, method="maco"),
    ],
    ids=["default", "edits", "views", "maco"],
)
def test_a_step_of_visualize_waits_for_nothing(seldom: None, settings: VisualizeSettings) -> None:
    model = model_of(Small())
    layer = find_layers(model).resolve("last")
    direction = torch.randn(layer.units).numpy()
    goals = [response(layer, 0), channel(layer, 1), along(layer, direction, "a")]
    assert waits(visualize(model, goals, settings), 2, 6) == []
    looks = waits(visualize(model, goals, settings), 2, 8)  # one look among them
    assert 1 <= len(looks) <= 2
    if settings.method != "maco":
        assert waits(visualize(model, [logit(1, rivals=0.5)], settings), 2, 6) == []


def test_a_step_of_invert_waits_for_nothing(seldom: None) -> None:
    model = inverting.model_of(inverting.small_net())
    layer, photo = inverting.place(model), inverting.photo()
    target = features(model, layer, photo)
    for settings in (InvertSettings(steps=40), InvertSettings(steps=40, tv=0, alpha=0)):
        # drawn-back trials among them
        assert waits(invert(model, layer, target, photo, settings), 17, 6) == []
        assert waits(invert(model, layer, target, photo, settings), 1, 6) == []


def test_a_step_of_style_waits_for_nothing(seldom: None) -> None:
    model = inverting.model_of(inverting.small_net())
    layer = inverting.place(model)
    pictures = inverting.photo(0), inverting.photo(1)
    steps = transfer(model, *pictures, [layer], [layer], StyleSettings(steps=20))
    assert waits(steps, 1, 6) == []


def test_a_step_of_an_upconvolutional_network_waits_for_nothing() -> None:
    model = upconv.small()
    steps = upconv.begun(model, epochs=3).steps()
    assert waits(steps, 1, 5) == []


def test_a_step_of_a_generators_training_waits_for_nothing(
    seldom: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator_training, "WIDTH", 8)
    monkeypatch.setattr(generator_training, "_CHECKS", 1)
    model = model_of(Small(), size=(16, 16))
    run = generators.begun(model, generators.answers_of(model), learn_steps=20)
    host = "generator_training.py:_batch"  # an order of photos, drawn on the host
    assert waits(run.run(), 1, 6, host) == []
    looked = waits(run.run(), 0, 8, host)  # two looks of the critic and of the losses
    assert set(looked) == {"generator_training.py:_check", "generator_training.py:_criticize"}
    assert len(looked) == 2


def test_a_climb_waits_only_to_look_and_ends_where_every_step_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = Answers(model_of(Small(), size=(16, 16)))
    start = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    target = (answers.of(start).number + 1) % answers.count

    def climbed(until: float) -> list[Ascent]:
        return list(ascend(answers, start, target, 0.01, 30, until))

    at_once = climbed(2.0)
    until = at_once[20].share  # in the midst of those that are looked at together
    ends = next(k for k, one in enumerate(at_once) if one.flipped_at and one.share >= until)
    monkeypatch.setattr("cnnlens.synthesize.fool.look_every", lambda device: streams.LOOK)
    for late, expected in ((climbed(2.0), at_once), (climbed(until), at_once[: ends + 1])):
        assert len(late) == len(expected)
        for one, other in zip(late, expected, strict=True):
            assert torch.equal(one.image, other.image)
            assert (one.steps, one.share, one.flipped_at) == (
                other.steps, other.share, other.flipped_at
            )  # fmt: skip
    assert waits(ascend(answers, start, target, 0.01, 30, 2.0), 1, 16) == ["fool.py:ascend"] * 2


def test_a_step_of_deepfool_waits_once_and_so_does_the_way_back() -> None:
    answers = Answers(model_of(Small(), size=(16, 16)))
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    aim = Aim(answers.of(image).number)
    with Reads() as reads:
        change = boundary.deepfool(answers, image, aim)
    assert change is not None and change.steps > 0
    assert reads.found == ["answers.py:numbers"] * (change.steps + 1)  # the last looks alone
    with Reads() as reads:
        boundary.to_boundary(answers, image, change.image, aim)
    assert reads.found == ["answers.py:numbers"]
    with Reads() as reads:
        noise_flips(answers, image, [0.1, 1.0, 10.0], 0, aim)
    assert len(reads.found) == 2  # whether all are finite, and the answers


def test_the_way_back_ends_where_every_halving_is_looked_at() -> None:
    answers = Answers(model_of(Small(), size=(16, 16)))
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    aim = Aim(answers.of(image).number)
    change = boundary.deepfool(answers, image, aim)
    assert change is not None
    beyond = (image + 5 * (change.image - image)).clamp(0, 1)
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        between = (image + middle * (beyond - image)).clamp(0, 1)
        reached = answers.of(between).number != aim.first
        low, high = (low, middle) if reached else (middle, high)
    expected = (image + high * (beyond - image)).clamp(0, 1)
    found = boundary.to_boundary(answers, image, beyond, aim)
    assert high < 1 and torch.equal(found, expected)
    assert torch.equal(boundary.to_boundary(answers, image, image, aim), image)  # never reached


@pytest.mark.parametrize("at", [None, (1, 2)])
def test_projections_of_a_batch_are_waited_for_once(at: tuple[int, int] | None) -> None:
    model = model_of(Small(), size=(16, 16))
    layer = find_layers(model).resolve("conv2")
    photos = generators.photos()[:5].numpy()
    for settings in (DeconvSettings(), DeconvSettings(whole_map=True)):
        made = Projections(model, layer, photos.__getitem__, str, settings, 5)
        with Reads() as reads:
            found = made.of(1, range(5), at)
        assert {place.partition(":")[0] for place in reads.found} == {"streams.py"}
        assert len(reads.found) == 6 and len(found) == 5  # of three arrays, copied and looked at


@pytest.mark.parametrize("method", ["icnn", "none"])
@pytest.mark.parametrize("loss", ["softmax", "logistic"])
def test_a_step_of_training_waits_for_nothing(seldom: None, method: str, loss: str) -> None:
    trainer = training.build(method, epochs=1, loss=loss, batch_size=2)
    steps = trainer.run()
    assert waits(steps, 1, 6) == []
    assert len(waits(steps, 0, 1)) == 1  # the last step of all is looked at, and so is every eighth


def test_a_step_of_concept_groups_waits_for_nothing(seldom: None) -> None:
    model = open_model("zoo:demo_net", image_size=(32, 32))
    examples = cgl.shapes(model)
    settings = CglSettings(groups=2)
    method = Grouped(ConceptGroups(grouped_layers(model, (), 2), settings, 0))
    parts = split(examples.labels, 0.25, 0)
    often = replace(cgl.SETTINGS, batch_size=4)
    assert waits(Trainer(model.net, examples, *parts, method, often).run(), 1, 4) == []


def test_numbers_read_late_are_those_read_at_once(
    seldom: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched() -> list[tuple[float, float]]:
        model = inverting.model_of(inverting.small_net())
        layer, photo = inverting.place(model), inverting.photo()
        target = features(model, layer, photo)
        steps = list(invert(model, layer, target, photo, InvertSettings(steps=40)))
        return [(step.error, step.objective) for step in steps]

    late = searched()
    monkeypatch.setattr("cnnlens.synthesize.invert.look_every", lambda device: 1)
    monkeypatch.setattr("cnnlens.synthesize.slope.look_every", lambda device: 1)
    at_once = searched()
    assert late[: len(at_once)] == at_once
    assert set(late[len(at_once) :]) <= {at_once[-1]}


def test_results_come_back_while_the_next_pass_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake device: what is fetched is copied only when somebody waits for it."""
    images = open_data(write_pictures(tmp_path / "data", 12))
    model = little_model()
    forward = Forward(model, layers_of(model), logits=True, limit=5)

    def swept() -> list[Pass]:
        return list(passes(forward, images, batch_size=5, workers=0))

    expected, events = swept(), []

    def late(values: list[Tensor]) -> Callable[[], list[np.ndarray]]:
        events.append("begun")

        def wait() -> list[np.ndarray]:
            events.append("awaited")
            return [value.float().numpy() for value in values]

        return wait

    monkeypatch.setattr("cnnlens.activations.passes.fetched", late)
    monkeypatch.setattr("cnnlens.activations.passes.overlaps", lambda device: True)
    found = swept()
    assert events == ["begun", "begun", "awaited", "begun", "awaited", "awaited"]
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.batch.indices, other.batch.indices)
        assert one.logits is not None and np.array_equal(one.logits, other.logits)
        assert all(np.array_equal(a, b) for a, b in zip(one.maps, other.maps, strict=True))


def test_only_what_goes_to_cuda_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []

    def pin(tensor: Tensor) -> Tensor:
        calls.append(("pinned", None))
        return tensor

    def to(tensor: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        calls.append((str(device), non_blocking))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: False)
    monkeypatch.setattr(Tensor, "to", to)
    x = torch.zeros(2)
    streams.sent(x, torch.device("cuda", 0))
    streams.sent(x, torch.device("cpu"))
    assert calls == [("pinned", None), ("cuda:0", True), ("cpu", False)]
