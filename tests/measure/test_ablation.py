"""Ablation against the literal one, against captum, and on networks whose units' work is known."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerFeatureAblation
from torch import Tensor, nn

from cnnlens.data.open import open_data
from cnnlens.data.synthetic import make_kinds
from cnnlens.errors import CnnlensError
from cnnlens.measure import ranked_units, without
from cnnlens.measure.ablation import LayerAblation, ablate
from cnnlens.measure.changed_classes import Answers as Changed
from cnnlens.measure.changed_classes import Effect, Told
from cnnlens.measure.halves import halves
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.restart import Restart
from cnnlens.model.wrap import wrap_module
from cnnlens.settings import AblateSettings, RunSettings
from cnnlens.synthesize.answers import Answers
from tests.model.nets import filled

from ..reference.ablate import balanced, scores_without

SIDE = 24
KINDS = ["red circle", "green circle", "blue circle"]


class Net(nn.Module):
    """Three classes, by colour; unit 3 is never above 0, unit 4 is one value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()
        self.second, self.head = nn.Conv2d(6, 6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return self.head(self.second(x).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_kinds(tmp_path_factory.mktemp("kinds") / "kinds", 12, SIDE)
    for one in folder.iterdir():
        if one.is_dir() and one.name not in KINDS:
            for file in one.iterdir():
                file.unlink()
            one.rmdir()
    return folder


def opened(net: nn.Module, names: list[str] | None = None) -> Model:
    half = (0.5, 0.5, 0.5)
    return wrap_module(net, Preprocess((SIDE, SIDE), half, half), sorted(names or KINDS))


def by_colour() -> Net:
    """Units 0 to 2 of the first layer see one colour each, and so do the classes."""
    net = filled(Net())
    with torch.no_grad():
        for weight in (net.conv.weight, net.second.weight, net.head.weight, net.conv.bias):
            weight.zero_()
        net.second.bias.zero_()
        net.head.bias.zero_()
        for unit, colour in enumerate((2, 1, 0)):  # blue, green, red: the classes in their order
            net.conv.weight[unit, :, 1, 1] = -0.5
            net.conv.weight[unit, colour, 1, 1] = 1.0
            net.second.weight[unit, unit, 1, 1] = net.head.weight[unit, unit] = 1.0
        net.conv.bias[3], net.conv.bias[4] = -1.0, 0.7
        net.conv.weight[5, :, 0, 0] = 0.3
        net.head.weight *= 20
    return net


def run(model: Model, data: Path, layer: str = "act", **values: object) -> LayerAblation:
    more = {key: values.pop(key) for key in ("units", "directions", "scores_at") if key in values}
    settings = AblateSettings(**{"random": 2, "top_k": "1,2", **values})  # type: ignore[arg-type]
    where = find_layers(model)[layer]
    sizes = RunSettings(batch_size=8, workers=0)
    return ablate(model, open_data(data), where, settings=settings, run=sizes, **more)  # type: ignore[arg-type]


def pixels(model: Model, data: Path, rows: list[int]) -> Tensor:
    images = open_data(data)
    arrays = [images.pixels(row, model.preprocess) for row in rows]
    return model.preprocess.normalize(torch.from_numpy(np.stack(arrays)))


def test_effects_and_curves_are_those_of_whole_passes_one_by_one(data: Path) -> None:
    net = filled(Net(), seed=3)
    model, images = opened(net), open_data(data)
    found = run(model, data)
    categories = images.image_categories
    assert categories is not None
    every = pixels(model, data, [*range(len(images.paths))])
    with torch.no_grad():
        to = net.act(net.conv(every)).mean(0)  # over all images
    part = halves(images.paths, categories, 0)
    names = sorted(set(categories))
    wanted = {half: np.array([names.index(categories[r]) for r in getattr(part, half)])
              for half in ("rank", "held")}  # fmt: skip
    x = {half: every[getattr(part, half)] for half in wanted}
    before = {half: scores_without(net, "act", x[half], [], to).numpy() for half in wanted}
    effects = {(one.unit, one.cls): one for one in found.effects}
    falls = np.zeros((6, 3))
    for unit in range(6):
        after = {half: scores_without(net, "act", x[half], [unit], to).numpy() for half in wanted}
        for cls, name in enumerate(names):
            own = wanted["held"] == cls
            change = (after["held"] - before["held"])[own, cls].mean()
            said = [scores["held"].argmax(1) for scores in (before, after)]
            accuracy = [balanced(one, wanted["held"], cls) for one in said]
            one = effects[unit, name]
            assert one.logit_change == pytest.approx(change, abs=1e-5)
            assert one.accuracy_change == pytest.approx(accuracy[1] - accuracy[0], abs=1e-6)
            assert one.logit_low is not None and one.logit_high is not None
            assert one.logit_low - 1e-6 <= one.logit_change <= one.logit_high + 1e-6
            own = wanted["rank"] == cls
            falls[unit, cls] = (before["rank"] - after["rank"])[own, cls].mean()
    for curve in found.curves:
        cls = names.index(curve.cls)
        assert list(curve.units) == np.argsort(-falls[:, cls])[: curve.k].tolist()
        after_k = scores_without(net, "act", x["held"], curve.units, to).numpy().argmax(1)
        assert curve.accuracy == pytest.approx(balanced(after_k, wanted["held"], cls), abs=1e-6)
        assert curve.low is not None and curve.high is not None
        assert curve.low <= curve.accuracy + 1e-6 and curve.accuracy <= curve.high + 1e-6
        assert curve.random_low is not None and curve.random_high is not None
        assert curve.random_mean is not None
        assert curve.random_low <= curve.random_mean <= curve.random_high


def test_copies_of_images_are_not_on_both_sides(data: Path, tmp_path: Path) -> None:
    more = Path(shutil.copytree(data, tmp_path / "more"))
    for file in [*more.rglob("*.png")]:
        for copy in "abcd":
            shutil.copyfile(file, file.with_name(f"z{file.stem}{copy}.png"))
    model = opened(filled(Net(), seed=3))
    once, found = run(model, data), run(model, more)
    assert once.about["repeated_images"] == 0
    assert found.about["repeated_images"] == 4 * once.about["images"]
    assert found.about["images_held_out"] == once.about["images_held_out"]
    for one, other in zip(once.effects, found.effects, strict=True):
        assert vars(other) == pytest.approx(vars(one), abs=1e-5)


def test_a_unit_s_effect_is_captum_s(data: Path) -> None:
    net = filled(Net(), seed=4)
    model, images = opened(net), open_data(data)
    found = run(model, data, units=[2], to="zero", random=0)
    assert images.image_categories is not None
    held = halves(images.paths, images.image_categories, 0).held
    outputs = torch.tensor([sorted(KINDS).index(images.image_categories[row]) for row in held])
    x = pixels(model, data, held)
    mask = torch.arange(6)[None, :, None, None]
    ablation = LayerFeatureAblation(net, net.act)
    falls = ablation.attribute(x, layer_baselines=0, target=outputs, layer_mask=mask)
    for cls, name in enumerate(sorted(KINDS)):
        (one,) = [e for e in found.effects if e.cls == name]
        theirs = falls[outputs == cls, 2, 0, 0].mean()
        assert one.logit_change == pytest.approx(-float(theirs), abs=1e-5)


def test_planted_units_are_what_their_classes_lose(data: Path) -> None:
    found = run(opened(by_colour()), data, to="zero")
    assert found.about["silent_units"] == [3, 4]
    effects = {(one.unit, one.cls): one for one in found.effects}
    for unit, name in enumerate(sorted(KINDS)):
        mine = effects[unit, name]
        if unit:  # without anything to go by all is taken for the first class
            assert mine.is_loss and mine.accuracy_change < -0.3
        assert min(found.effects, key=lambda e, n=name: (e.cls != n, e.logit_change)) is mine
        assert effects[3, name].logit_change == effects[3, name].accuracy_change == 0
        (first,) = [curve for curve in found.curves if curve.cls == name and curve.k == 1]
        assert first.units == (unit,) and (first.accuracy < 0.7 or not unit)


def test_a_unit_of_one_value_is_no_loss_by_its_mean(data: Path) -> None:
    found = run(opened(by_colour()), data, units=[3, 4])
    assert all(abs(one.logit_change) < 1e-6 and one.accuracy_change == 0 for one in found.effects)


def test_many_units_are_ranked_by_gradient_first(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(by_colour())
    exact = run(model, data, to="zero", top_k="1")
    monkeypatch.setattr(ranked_units, "EXACT", 2)
    asked: list[int] = []
    falls = ranked_units._falls

    def counted(work: Any, rows: Any, units: list[int], to: Tensor) -> Any:
        asked.append(len(units))
        return falls(work, rows, units, to)

    monkeypatch.setattr(ranked_units, "_falls", counted)
    monkeypatch.setattr(ranked_units, "_MORE", 2)
    guessed = run(model, data, to="zero", top_k="1")
    assert asked == [2, 2, 2]  # of six, for each class
    assert [c.units for c in guessed.curves] == [c.units for c in exact.curves]


@pytest.mark.parametrize("exact", [2, 256])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_units_are_ranked_in_whatever_mode_the_caller_is(
    data: Path, monkeypatch: pytest.MonkeyPatch, exact: int, mode: Any
) -> None:
    monkeypatch.setattr(ranked_units, "EXACT", exact)
    model = opened(by_colour())
    wanted = run(model, data, units=[0, 1, 2], top_k="1").summary()
    with mode():
        assert run(model, data, units=[0, 1, 2], top_k="1").summary() == wanted


class Cut(Net):
    """The same, whose classes depend on the first layer by more than gradients tell."""

    def forward(self, x: Tensor) -> Tensor:
        """Let no gradient through."""
        return super().forward(x) if not torch.is_grad_enabled() else self._cut(x)

    def _cut(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x)).detach()
        return self.head(self.second(x).relu().mean((2, 3)))


def test_a_cut_gradient_is_not_taken_for_a_layer_that_does_not_matter(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Cut()
    net.load_state_dict(by_colour().state_dict())
    model = opened(net)
    wanted = run(opened(by_colour()), data, units=[0, 1, 2], top_k="1").summary()
    assert run(model, data, units=[0, 1, 2], top_k="1").summary() == wanted
    monkeypatch.setattr(ranked_units, "EXACT", 2)
    with pytest.raises(CnnlensError, match=r"no gradient leads .* to act: .* cuts the gradient"):
        run(model, data, units=[0, 1, 2], top_k="1")


def test_directions_are_projected_out(data: Path) -> None:
    net = by_colour()
    model = opened(net)
    one_unit, both = np.zeros(6, np.float32), np.zeros(6, np.float32)
    one_unit[1] = 1
    both[:2] = 2**-0.5
    found = run(model, data, units=[1], directions={"a": one_unit, "b": both})
    by_name = {name: [e for e in found.concepts if e.concept == name] for name in "ab"}
    for alone, unit in zip(by_name["a"], found.effects, strict=True):
        assert alone.logit_change == pytest.approx(unit.logit_change, abs=1e-5)
        assert alone.random_low is not None and alone.random_high is not None
    images = open_data(data)
    assert images.image_categories is not None
    part = halves(images.paths, images.image_categories, 0)
    every = pixels(model, data, [*range(len(images.paths))])
    with torch.no_grad():
        maps = net.act(net.conv(every))
        v = torch.from_numpy(both)
        apart = maps - maps.mean(0)
        cut = maps - torch.einsum("c,nhw->nchw", v, torch.einsum("c,nchw->nhw", v, apart))
        change = net.head(net.second(cut).relu().mean((2, 3))) - net(every)
    for cls, name in enumerate(sorted(KINDS)):
        rows = [row for row in part.held if images.image_categories[row] == name]
        (mine,) = [e for e in by_name["b"] if e.cls == name]
        assert mine.logit_change == pytest.approx(float(change[rows, cls].mean()), abs=1e-4)


def test_classes_of_three_images_have_intervals_where_two_are_held_out() -> None:
    paths = [f"{name}/{number}.png" for name in "ab" for number in range(3)]
    part = halves(paths, [path[0] for path in paths], 0)
    assert len(part.rank) == 2 and len(part.held) == 4
    assert sorted([*part.rank, *part.held]) == [*range(6)]
    assert halves(paths[::-1], [path[0] for path in paths[::-1]], 0).rank == sorted(
        5 - row for row in part.rank
    )  # an image's half is the same whatever stands before it


@pytest.mark.parametrize(
    ("categories", "words"),
    [("aaaa", "all images are of one class, a"), ("aab", "there is one image of b")],
)
def test_too_few_classes_and_images_are_refused(categories: str, words: str) -> None:
    with pytest.raises(CnnlensError, match=words):
        halves([f"{n}.png" for n in range(len(categories))], categories, 0)


def told(change: np.ndarray, said: np.ndarray, wanted: np.ndarray, seed: int = 0) -> Told:
    """Answers that were right before, with changes (units, images) of the right score."""
    answers = Changed(range(len(wanted)), wanted.tolist(), len(change))
    answers.change[:], answers.said[:], answers.before[:] = change, said, wanted
    return Told(answers, {cls: str(cls) for cls in set(wanted.tolist())}, seed)


@pytest.mark.parametrize("images", [2, 4, 25])
def test_intervals_hold_the_truth_as_often_as_they_say_however_few_the_images(images: int) -> None:
    wanted, random = np.repeat(np.arange(5), images), np.random.default_rng(images)
    change = random.normal(size=(300, len(wanted))).astype(np.float32)  # of no unit's removal
    found = told(change, wanted[None], wanted)
    ends = [(e.logit_low, e.logit_high) for u in range(300) for e in found.effects(u, u)]
    holds = [low is not None and high is not None and low <= 0 <= high for low, high in ends]
    assert 0.93 < np.mean(holds) < 0.97


def test_some_of_few_images_lost_is_no_sure_loss() -> None:
    wanted = np.repeat([0, 1], [5, 40])
    said = np.tile(wanted, (2, 1))
    said[0, :3] = 1  # three of five: none of five is within Student's interval, too
    said[1, :5] = 1
    found = told(np.zeros((2, 45), np.float32), said, wanted)
    some, every = (found.effects(number, number)[0] for number in range(2))
    assert some.accuracy_change < 0 < (some.accuracy_high or 0) and not some.is_loss
    assert every.is_loss
    low, high = found.interval(0, 0)
    assert low is not None and high is not None and 0 <= low < 0.65 < high <= 1


def test_a_lone_image_has_no_interval() -> None:
    one = Effect(0, "a", -1.0, -0.5, None, None, None, None)  # type: ignore[arg-type]
    assert not one.is_loss and one.weight == (0.0, -1.0)


def test_one_score_is_two_classes(data: Path, tmp_path: Path) -> None:
    net = filled(Net(), seed=5)
    net.head = nn.Linear(6, 1)
    less = tmp_path / "two"
    for name in KINDS[:2]:
        shutil.copytree(data / name, less / name)
    found = run(opened(filled(net, 5), ["red circle"]), less, units=[0, 1])
    assert {one.cls for one in found.effects} == set(KINDS[:2])
    assert len(found.curves) == 4


def test_less_goes_through_at_once_where_memory_runs_out(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(filled(Net(), seed=3))
    wanted = run(model, data)
    sizes = []

    class Small(Restart):
        def __init__(self, model: Model, place: Any, x: Tensor, *more: Any, **named: Any) -> None:
            sizes.append(len(x))
            if len(x) > 3:
                raise RuntimeError("out of memory")
            super().__init__(model, place, x, *more, **named)

    monkeypatch.setattr(without, "Restart", Small)
    found = run(model, data)
    assert max(sizes) == 8
    for mine, theirs in zip(found.effects, wanted.effects, strict=True):
        assert mine.logit_change == pytest.approx(theirs.logit_change, abs=1e-5)
        assert mine.accuracy_change == theirs.accuracy_change


@pytest.mark.parametrize("exact", [True, False])
def test_scores_are_those_before_a_softmax(
    data: Path, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    plain = filled(Net(), seed=3)
    wanted = run(opened(plain), data)
    model = opened(nn.Sequential(plain, nn.Softmax(1)).eval())
    at = Answers(model).place
    if not exact:
        monkeypatch.setattr(ranked_units, "EXACT", 2)
    found = run(model, data, layer="0.act", scores_at=at)
    for mine, theirs in zip(found.effects, wanted.effects, strict=True):
        assert mine.logit_change == pytest.approx(theirs.logit_change, abs=1e-5)
    assert [one.units for one in found.curves] == [one.units for one in wanted.curves]
    with pytest.raises(
        CnnlensError, match=r"do not depend on 1|scores to 1: they do not depend on it"
    ):
        run(model, data, layer="1", scores_at=at)
