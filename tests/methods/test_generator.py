"""``visualize --method generator``: what learns, what is kept and used again, what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.methods import generated
from cnnlens.synthesize import generator_training
from tests.cli.runner import Answer, cnnlens
from tests.methods.test_visualize import photo, save_net

LEARN = ["--method", "generator", "--learn-steps", 4, "--learn-batch", 4, "--steps", 3]


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Generators of few weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator_training, "WIDTH", 4)
        yield


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_net(tmp_path_factory.mktemp("net") / "net.pt")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(8):
        photo(folder / f"{seed}.png", seed)
    return folder


@pytest.fixture(scope="module")
def learned(net: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose generator has learned, and a picture of a class."""
    space = tmp_path_factory.mktemp("space")
    answer = run(net, space, "-d", photos, "--logit", "b")
    assert answer.code == 0, answer.err
    assert "a generator learns first, 4 steps of 4 of the 8 photos of photos" in answer.err
    assert "codes of relu3 (--code)" in answer.err and "8 photos are few" in answer.err
    return space


def run(net: Path, space: Path, *words: object) -> Answer:
    return cnnlens("visualize", net, "-w", space, "--no-page", *LEARN, *words)


def test_the_picture_stands_beside_the_photos_that_it_comes_nearest_to(learned, photos):
    folder = learned / "visualize" / "logits"
    (entry,) = json.loads((folder / "visualize.json").read_text())["pictures"]
    for kind in ("pixels", "code"):
        assert (photos / entry["nearest"][kind]["photo"]).is_file()
        assert entry["nearest"][kind]["distance"] > 0
    assert (folder / entry["beside"]).is_file()
    planes = [np.asarray(Image.open(path).convert("RGB"), float) / 255
              for path in (folder / "logit-b.png", folder / "nearest" / "logit-b.png")]  # fmt: skip
    rmse = float(np.sqrt(np.mean((planes[0] - planes[1]) ** 2)))
    assert rmse == pytest.approx(entry["nearest"]["pixels"]["distance"], abs=0.01)
    assert Image.open(folder / "sheet.png").width > 2 * 176  # the photo beside it


def test_it_is_used_again_without_data(net, learned):
    kept = (learned / "visualize" / "generator.pt").read_bytes()
    answer = run(net, learned, "--logit", "b")
    assert "1 picture was made before" in answer.err and "learns" not in answer.err
    answer = run(net, learned, "-f", "conv2:1")
    assert answer.code == 0
    assert "visualize/generator.pt, codes of relu3, learned from 7 photos of photos" in answer.err
    assert (learned / "visualize" / "conv2" / "1.png").is_file()
    assert (learned / "visualize" / "generator.pt").read_bytes() == kept


CHANGES: dict[str, list[object]] = {
    "code": ["--code", "flatten"],
    "comparator": ["--comparator", "conv1"],
    "image_loss": ["--image-loss", 0.5],
    "feature_loss": ["--feature-loss", 0],
    "adversarial_loss": ["--adversarial-loss", 0],
    "learn_steps": ["--learn-steps", 3],
    "learn_batch": ["--learn-batch", 3],
    "learn_rate": ["--learn-rate", 0.01],
    "learn_seed": ["--learn-seed", 1],
    "amp": ["--no-amp"],
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_it_learns_by_makes_it_learn_anew(net, learned, monkeypatch, name):
    """Also the pictures: their keys hold the generator's."""
    made: list[Any] = []

    def training(*given: Any) -> Any:
        made.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(generator_training, "Training", training)
    answer = run(net, learned, "--logit", "b", *CHANGES[name])
    assert made and "made before" not in answer.err
    assert "the kept visualize/generator.pt learned otherwise" in answer.err
    from cnnlens.settings.generator import GeneratorSettings

    others = {"generator", "generator_range"}
    assert set(GeneratorSettings().as_dict()) == CHANGES.keys() | others


def test_other_photos_and_another_decay_change_pictures(net, learned, photos, tmp_path):
    answer = run(net, learned, "--logit", "b", "--code-decay", 0.9)
    assert answer.code == 0 and "made before" not in answer.err and "learns" not in answer.err
    photo(tmp_path / "1.png", 1), photo(tmp_path / "2.png", 2)
    answer = run(net, learned, "--logit", "b", "-d", tmp_path, "--steps", 1)
    assert "a generator learns first, 4 steps of 4 of the 2 photos" in answer.err
    assert run(net, learned, "--logit", "b", "-d", photos).code == 0  # as it was


def test_an_interrupted_training_goes_on_to_the_same_file(
    net, learned, photos, tmp_path, monkeypatch
):
    real, done = generator_training.Training._learn, []

    def learn(self: Any, places: Any) -> Any:
        if len(done) == 2:
            done.append(None)
            raise KeyboardInterrupt
        done.append(places)
        return real(self, places)

    monkeypatch.setattr(generator_training.Training, "_learn", learn)
    run(net, tmp_path, "-d", photos, "--logit", "b")
    folder = tmp_path / "visualize"
    assert len(done) == 3 and (folder / ".generator.unfinished.pt").is_file()
    assert not (folder / "generator.pt").exists()
    state = (folder / ".generator.unfinished.pt").read_bytes()
    assert run(net, tmp_path, "-d", photos, "--logit", "b").code == 0
    assert len(done) == 5 and not (folder / ".generator.unfinished.pt").exists()
    (folder / ".generator.unfinished.pt").write_bytes(state)  # killed when it was just through
    assert run(net, tmp_path, "-d", photos, "--logit", "a").code == 0
    assert len(done) == 5 and not (folder / ".generator.unfinished.pt").exists()
    one, other = (generated.read_learned(space / "visualize" / "generator.pt")
                  for space in (learned, tmp_path))  # fmt: skip
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(one.weights[k], other.weights[k]) for k in one.weights)
    assert (folder / "logits" / "logit-b.png").read_bytes() == (
        learned / "visualize" / "logits" / "logit-b.png"
    ).read_bytes()


@pytest.mark.parametrize("amid", [5, 6])
def test_an_interrupt_amid_a_step_goes_on_from_the_step_before(
    net, learned, photos, tmp_path, monkeypatch, amid
):
    """Each step moves the critic, then the generator; here one of the third is the last move."""
    real, moves = torch.optim.Adam.step, []

    def move(self: Any, *given: Any) -> Any:
        moves.append(self)
        if len(moves) == amid:
            real(self, *given)
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(generated, "KEPT_EVERY", 0.0)
    monkeypatch.setattr(torch.optim.Adam, "step", move)
    assert run(net, tmp_path, "-d", photos, "--logit", "b").code == 130
    assert run(net, tmp_path, "-d", photos, "--logit", "b").code == 0
    assert len(moves) - amid == 4  # two steps: the third and the fourth
    one, other = (
        generated.read_learned(space / "visualize" / "generator.pt")
        for space in (learned, tmp_path)
    )
    assert all(torch.equal(one.weights[k], other.weights[k]) for k in one.weights)


# ---- what cannot be used


def test_no_data_and_no_generator_name_both_ways_out(net, tmp_path):
    answer = run(net, tmp_path / "space", "--logit", "b")
    assert answer.code == 2 and "no generator: none is kept" in answer.error
    assert "-d DIR" in answer.err and "--generator FILE|file.py:factory" in answer.err
    assert not (tmp_path / "space").exists()


def test_one_image_is_not_enough(net, tmp_path):
    photo(tmp_path / "one.png", 1)
    answer = run(net, tmp_path / "space", "--logit", "b", "-d", tmp_path)
    assert answer.code == 1 and "has one image: a generator learns from many" in answer.error


def test_a_generator_of_another_workspace_may_lie_in_the_home_folder(
    net, learned, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(learned))
    words = ["--logit", "b", "--generator", "~/visualize/generator.pt"]
    answer = run(net, tmp_path / "space", *words)
    assert answer.code == 0, answer.err


def test_a_file_cut_short_of_another_network_or_of_something_else(net, learned, tmp_path):
    kept = learned / "visualize" / "generator.pt"
    cut, other = tmp_path / "cut.pt", save_net(tmp_path / "other.pt", seed=1)
    cut.write_bytes(kept.read_bytes()[:5000])
    for model, file, words in (
        (net, cut, "cut.pt is damaged"),
        (net, net, "net.pt is no generator that cnnlens kept"),
        (other, kept, "learned from the answers of another network"),
        (net, tmp_path / "none.pt", "none.pt does not exist"),
    ):
        answer = run(model, tmp_path / "space", "--logit", "b", "--generator", file)
        assert answer.code == 1 and words in answer.error
        assert not (tmp_path / "space").exists()
    answer = run(net, tmp_path / "space", "--logit", "b", "--generator", kept)
    assert answer.code == 0 and "learned from 7 photos" in answer.err


FACTORIES = """
import torch
from torch import nn

def good():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 300), nn.Sigmoid(), nn.Unflatten(1, (3, 10, 10)))

def longer():
    return nn.Sequential(nn.Linear(7, 300), nn.Unflatten(1, (3, 10, 10)))

def raises():
    raise ValueError("no weights here")
"""


def test_factories(net, photos, tmp_path):
    file, space = tmp_path / "their.py", tmp_path / "space"
    file.write_text(FACTORIES)
    words = ["--logit", "b", "--generator"]
    answer = run(net, space, *words, f"{file}:good")
    assert answer.code == 2 and "not known without photos" in answer.error
    for name, said in (
        ("raises", "failed: ValueError: no weights here"),
        ("longer", "takes codes of 7 units, flatten answers with 64×1×1"),
    ):
        answer = run(net, space, *words, f"{file}:{name}", "-d", photos)
        assert answer.code == 1 and said in answer.error
    answer = run(net, space, *words, f"{file}:good", "-d", photos)
    assert answer.code == 0, answer.err
    assert "draws 10×10 pixels, which are resized to 24×24" in answer.err
    assert "taken to lie between 0 and 1; --generator-range" in answer.err
    assert "keep within those of 8 photos of photos" in answer.err
    assert "made before" in run(net, space, *words, f"{file}:good", "-d", photos).err
    answer = run(net, space, *words, f"{file}:good", "-d", photos, "--generator-range", "-1,1")
    assert "made before" not in answer.err and "taken to lie" not in answer.err
    assert not (space / "visualize" / "generator.pt").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tv", 1], "--method generator does not take --tv: the generator does their work"),
        (["--generator-range", "1,0"], "--generator-range 1,0 is no range"),
        (["--image-loss", 0, "--feature-loss", 0], "cannot learn without"),
        (["--method", "pixels", "--code", "conv3"], "--method pixels has no generator"),
    ],
)
def test_what_makes_no_sense_is_refused(net, tmp_path, words, said):
    answer = run(net, tmp_path / "space", "--logit", "b", *words)
    assert answer.code == 2 and said in answer.error
    assert not (tmp_path / "space").exists()


def test_of_a_folder_of_splits_it_learns_from_those_to_train_on(net, tmp_path):
    for split, seeds in (("train", range(4)), ("test", range(4, 6))):
        for seed in seeds:
            (tmp_path / "set" / split / "a").mkdir(parents=True, exist_ok=True)
            photo(tmp_path / "set" / split / "a" / f"{seed}.png", seed)
    words = ["-d", tmp_path / "set", "--logit", "b", "--learn-steps", 1]
    answer = run(net, tmp_path / "space", *words)
    assert answer.code == 0, answer.err
    assert "of the 4 photos of" in answer.err
    learned = generated.read_learned(tmp_path / "space" / "visualize" / "generator.pt")
    assert len(learned.photos.names) == 4 and "pixel RMSE" in learned.errors
