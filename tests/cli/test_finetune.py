import json
import re
import resource
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnnlens
from cnnlens.data.animals import make_animals
from cnnlens.data.dataset import open_folder
from tests.cli.runner import cnnlens as run


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Two classes that differ in colour, and some pictures of neither."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, shift, number in (("red", 0, 12), ("blue", 2, 12), ("other", 1, 8)):
        folder = root / ("negatives" if name == "other" else f"classes/{name}")
        folder.mkdir(parents=True)
        for image in range(number):
            pixels = random.integers(0, 120, (40, 40, 3))
            pixels[..., shift] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{image}.png")
    return root


def finetune(tmp_path, classes, *more, data="classes", out="new.pt"):
    arguments = ["finetune", "zoo:demo_net", "-d", classes / data, "--out", tmp_path / out]
    arguments += ["--image-size", "32", "--epochs", "2", "--batch-size", "8", "-w", tmp_path / "w"]
    return run(*map(str, [*arguments, *more]))


@pytest.mark.parametrize("method", ["icnn", "cgl", "none"])
def test_methods_leave_what_every_command_opens(tmp_path, classes, method):
    done = finetune(tmp_path, classes, "--method", method, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document == json.loads((tmp_path / "new.json").read_text())
    assert document["method"] == method and document["epochs"] == 2
    assert document["accuracy"]["before"] is None  # nine outputs, two classes
    names = open_folder(classes / "classes").image_categories
    held = Counter(names[row] for row in document["held_out"]["images"])
    assert document["accuracy"]["chance"] == max(held.values()) / held.total()
    own = {"icnn": {"filter_loss"}, "cgl": {"group_loss", "spatial_loss", "block_norm"}}
    assert {"epoch", "task_loss", "accuracy", "validation_accuracy"} <= set(document["history"][0])
    assert own.get(method, set()) <= set(document["history"][0])
    assert Image.open(tmp_path / "new.png").size[0] > 500
    model = cnnlens.open_model(str(tmp_path / "new.pt"), device="cpu")
    assert model.classes == ["blue", "red"] and model.preprocess.size == (32, 32)
    content = torch.load(tmp_path / "new.pt", weights_only=True)
    layers = cnnlens.find_layers(model)
    for name in content["interpretable"]["layers"]:
        layers.resolve(name)
    if method == "icnn":
        assert content["interpretable"]["layers"] == ["relu3.mask", "relu3.conv_mask"]


def test_a_stopped_run_is_taken_up_and_ends_alike(tmp_path, classes, monkeypatch):
    finetune(tmp_path, classes, out="whole.pt")
    from cnnlens.report import trained

    def dies(*arguments, **more):
        raise KeyboardInterrupt

    save = trained.save
    with monkeypatch.context() as patch:
        saves = []
        patch.setattr(
            trained, "save", lambda *a, **k: dies() if saves else saves.append(save(*a, **k))
        )
        assert finetune(tmp_path, classes, out="new.pt").code == 130
    again = finetune(tmp_path, classes, out="new.pt")
    assert again.code == 0 and "going on after epoch 1" in again.err
    whole, new = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("whole", "new"))
    assert all(torch.equal(whole["state_dict"][k], v) for k, v in new["state_dict"].items())
    assert "trained already" in finetune(tmp_path, classes, out="new.pt").err
    other = finetune(tmp_path, classes, "--lr", "0.5", out="new.pt")
    assert other.code == 1 and "not this training's" in other.err


def test_one_category_against_negatives(tmp_path, classes):
    alone = classes / "alone"
    if not alone.exists():
        alone.mkdir()
        (alone / "red").symlink_to(classes / "classes" / "red")
    refused = finetune(tmp_path, classes, data="alone")
    assert refused.code == 2 and "--negatives" in refused.err
    done = finetune(tmp_path, classes, "--negatives", classes / "negatives", "--json", data="alone")
    assert done.code == 0, done.err
    assert json.loads(done.out)["settings"]["loss"] == "logistic"
    model = cnnlens.open_model(str(tmp_path / "new.pt"), device="cpu")
    assert model.net(torch.rand(1, 3, 32, 32)).shape == (1, 1)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["-l", "pool1"], 2, "'pool1' is no convolution"),
        (["-l", "fc"], 2, "gives no map"),
        (["--method", "icnm"], 2, "--method icnm is not known"),
        (["--method", "cgl", "--groups", "900"], 2, "--groups 900"),
        (["--category", "green"], 2, "no category 'green'"),
        (["--lr", "1e30", "--optimizer", "sgd", "--schedule", "constant"], 1, "diverged"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, classes, more, code, said):
    done = finetune(tmp_path, classes, *more)
    assert done.code == code and said in done.err
    assert not (tmp_path / "new.json").exists()


def test_presets_give_way_to_what_is_said(tmp_path, classes):
    more = ["--preset", "paper", "--lr", "0.02", "--lambda-filter", "0.1", "--json"]
    done = finetune(tmp_path, classes, *more)
    assert done.code == 0, done.err
    used = json.loads(done.out)["settings"]
    assert (used["optimizer"], used["lr"], used["trunk"]) == ("sgd", 0.02, 1.0)
    assert (used["icnn"]["filter_loss"], used["icnn"]["filter_weight"]) == ("mi", 0.1)
    wrong = finetune(tmp_path, classes, "--preset", "papers", "--force")
    assert wrong.code == 2 and "no preset 'papers'" in wrong.err


def test_objects_of_a_parts_data_set_are_cut_out(tmp_path, classes):
    animals = make_animals(tmp_path / "animals", 24, 32)
    done = finetune(tmp_path, classes, "--json", data=animals)
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["classes"] == ["beak", "long neck", "trunk"]
    assert document["images"] == {"training": 18, "validation": 6}


def test_filters_that_went_silent_are_counted(tmp_path, classes):
    done = finetune(tmp_path, classes, "--lambda-filter", "3000", "--lr", "0.05")
    assert done.code == 0 and "went silent" in done.err
    silent, of = map(
        int, re.search(r"(\d+) of (\d+) filters of \S+ went silent", done.err).groups()
    )
    assert of == 64 and 32 < silent <= 64
    assert "went silent" not in finetune(tmp_path, classes, "--lambda-filter", "0", "--force").err


def test_too_few_images_of_a_category_are_named(tmp_path, classes):
    few = tmp_path / "few"
    for name, number in (("red", 12), ("blue", 2)):
        (few / name).mkdir(parents=True)
        for image in range(number):
            source = classes / "classes" / name / f"{image}.png"
            (few / name / f"{image}.png").symlink_to(source)
    done = finetune(tmp_path, classes, data=few)
    assert done.code == 1 and "category 'blue'" in done.err and "2 images" in done.err


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, classes, monkeypatch):
    from cnnlens.report import trained

    save, saves = trained.save, []

    def limited(*arguments, **more):
        saves.append(1)
        if len(saves) == 1:
            return save(*arguments, **more)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            return save(*arguments, **more)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, heard)

    monkeypatch.setattr(trained, "save", limited)
    done = finetune(tmp_path, classes)
    assert done.code == 1 and "cannot write" in done.err
    kept = torch.load(tmp_path / "new.pt", weights_only=True)
    assert kept["training"]["state"]["epoch"] == 1
    assert sorted(p.name for p in Path(tmp_path).iterdir() if p.name.startswith(".new")) == []
