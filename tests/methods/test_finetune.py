"""What a training depends on, what it leaves alone, and what a notebook gets of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cnnlens
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.interpretable.finetune import weights_words
from cnnlens.methods.checkpoint_out import check_name, check_sources
from cnnlens.methods.finetune import Finetune
from cnnlens.methods.method import build, carry_out
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from cnnlens.model.zoo import ZOO
from cnnlens.settings.run import ModelSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from tests.cli.runner import cnnlens as command
from tests.cli.runner import warm_process
from tests.cli.together import end, start

SMALL = Preprocess((32, 32), (0.5,) * 3, (0.5,) * 3)
QUICK = {"method": "none", "epochs": 2, "batch_size": 8}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path)


def make_photos(place: Path) -> Path:
    """Two classes that differ in colour."""
    random = np.random.default_rng(0)
    for name, shift in (("red", 0), ("blue", 2)):
        folder = place / "photos" / name
        folder.mkdir(parents=True)
        for image in range(10):
            pixels = random.integers(0, 120, (40, 40, 3))
            pixels[..., shift] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{image}.png")
    return place / "photos"


def lens(folder: Path, model: object = "zoo:demo_net", **more: object) -> cnnlens.Investigation:
    size = {"image_size": 32} if isinstance(model, str) else {}
    return cnnlens.Investigation(model, folder / "ws", quiet=True, **size, **more)


def words(photos: Path, out: Path, *more: object) -> tuple[object, ...]:
    start = ("zoo:demo_net", "-d", photos, "--out", out, "--image-size", 32, "--epochs", 2)
    return ("finetune", *start, "--batch-size", 8, "-w", out.parent / "w", *more)


def test_a_notebook_gets_accuracy_history_and_dead_units(photos, tmp_path):
    out = tmp_path / "new.pt"
    found = lens(tmp_path).finetune(data=photos, out=out, **{**QUICK, "method": "icnn"})
    document = json.loads((tmp_path / "new.json").read_text())
    assert found.accuracy == document["accuracy"]["after"]
    assert found.accuracy_before is None  # nine outputs, two classes
    assert [row["epoch"] for row in found.table()] == [1, 2]
    assert found.history[1]["filter_loss"] == document["history"][1]["filter_loss"]
    assert found.path == out and cnnlens.open_model(str(out)).classes == ["blue", "red"]
    assert list(found.silent) == ["relu3.mask", "relu3.conv_mask"]
    assert found.dead_units == sum(dead for dead, _ in found.silent.values())
    html = found._repr_html_()
    assert f"{found.accuracy:.3f}" in html and "of 64" in html and "<img" in html


def test_silent_units_are_counted(photos, tmp_path):
    settings = {**QUICK, "method": "icnn", "lambda_filter": 3000.0, "lr": 0.05}
    found = lens(tmp_path).finetune(data=photos, out=tmp_path / "new.pt", **settings)
    assert found.dead_units > 32


def state(net: nn.Module) -> tuple[object, ...]:
    values = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    return values, modes, [p.requires_grad for p in net.parameters()]


def assert_as_it_came(net: nn.Module, before: tuple[object, ...]) -> None:
    values, modes, learning = state(net)
    assert all(torch.equal(value, before[0][name]) for name, value in values.items())
    assert values.keys() == before[0].keys() and (modes, learning) == before[1:]


def test_a_module_of_the_callers_is_refused_with_a_way_out_and_left_alone(photos, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.train()
    before = state(net)
    with pytest.raises(UsageError, match="a module in memory") as refused:
        lens(tmp_path, net, preprocess=SMALL).finetune(data=photos, **QUICK, out=tmp_path / "n.pt")
    assert "factory, file.py:make" in refused.value.hint
    assert_as_it_came(net, before)


def test_a_callers_network_that_can_be_named_is_trained_as_a_copy(photos, tmp_path):
    net = ZOO["demo_net"].make(2).train()
    model = wrap_module(net, SMALL, ["blue", "red"])
    model.arch = "zoo:demo_net"
    before, random = state(net), torch.get_rng_state()
    found = lens(tmp_path, model).finetune(data=photos, **QUICK, insert=True, out=tmp_path / "n.pt")
    assert_as_it_came(net, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert found.accuracy_before is not None  # its own two outputs served
    trained = torch.load(found.path, weights_only=True)["state_dict"]
    assert "relu3.conv.weight" in trained
    assert not torch.equal(trained["fc.weight"], before[0]["fc.weight"])


@pytest.mark.parametrize(
    ("how", "usual"),
    [
        ({"method": "icnn"}, ["relu3.mask", "relu3.conv_mask"]),
        ({"method": "none", "insert": True}, ["relu3.inner", "relu3.relu"]),
        ({"method": "cgl", "groups": 4, "layer": ["module:conv2"]}, ["conv2"]),
        ({"method": "none"}, ["last"]),
    ],
)
def test_what_was_trained_for_is_what_later_commands_look_at(photos, tmp_path, how, usual):
    out = tmp_path / "n.pt"
    lens(tmp_path).finetune(data=photos, **{**QUICK, **how, "epochs": 1}, out=out)
    study = Study(Workspace(tmp_path / "new"), str(out))
    assert [layer.name for layer in study.layers()] == usual
    assert study.layer().name == usual[-1] and study.layer("conv1").name == "conv1"
    study.layer("conv1")
    study.commit()
    again = Study(Workspace(tmp_path / "new"), str(out))
    assert [layer.name for layer in again.layers()] == ["conv1"]  # what was named last


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> dict[str, dict[str, object]]:
    """What was asked of two finished trainings, which lie beside their photos."""
    place = tmp_path_factory.mktemp("done")
    given = {"data": make_photos(place), **QUICK, "epochs": 1}
    asked = {
        name: {**given, "method": name, "out": place / f"{name}.pt"} for name in ("none", "cgl")
    }
    for one in asked.values():
        lens(place).finetune(**one)
    return asked


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.02}, {"seed": 1}, {"epochs": 3}, {"batch_size": 4},
        {"optimizer": "sgd"}, {"mirror": False}, {"validation": 0.4}, {"insert": True},
        {"method": "icnn"}, {"method": "cgl"}, {"method": "cgl", "groups": 4}, {"preset": "paper"},
        {"loss": "logistic"}, {"category": "red"},
    ],
    ids=str,
)  # fmt: skip
def test_another_training_does_not_take_a_checkpoint_for_its_own(done, tmp_path, change):
    asked = {**done["none"], "out": tmp_path / "new.pt"}
    earlier = done["cgl" if "groups" in change else "none"]["out"]
    before = shutil.copy2(earlier, asked["out"]).read_bytes()
    with pytest.raises(CnnlensError, match="not this training's"):
        lens(tmp_path).finetune(**{**asked, **change})
    assert asked["out"].read_bytes() == before


@pytest.mark.parametrize("by", ["itself", "link", "hard link", "document"])
def test_what_the_network_is_read_from_is_never_written_over(photos, tmp_path, by):
    model, out = tmp_path / "old.pt", tmp_path / "new.pt"
    torch.save(ZOO["demo_net"].make(2).state_dict(), model)
    if by == "link":
        out.symlink_to(model)
    elif by == "hard link":
        out.hardlink_to(model)
    elif by == "document":
        model.rename(tmp_path / "config.json")
        model = tmp_path / "config.json"
        out = tmp_path / "config.pt"
    else:
        out = model
    before = model.read_bytes()
    with pytest.raises(UsageError, match="would write over MODEL itself"):
        lens(tmp_path, str(model)).finetune(data=photos, out=out, force=True, **QUICK)
    assert model.read_bytes() == before


def test_code_and_folders_of_weights_are_not_written_over(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for spec, options in ((str(tmp_path), {}), ("zoo:x", {"arch": f"{tmp_path}/config.json:make"})):
        with pytest.raises(UsageError, match=r"config.json, which MODEL reads"):
            check_sources(tmp_path / "config.pt", spec, options)
        check_sources(tmp_path / "new.pt", spec, options)


@pytest.mark.parametrize("name", ["a.safetensors", "a.ONNX", "a.h5", "a.npz", "a.svg", "a.pt2"])
def test_a_name_that_says_another_kind_of_file_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="no place for a checkpoint"):
        check_name(tmp_path / name)
    for usual in ("a", "a.pt", "a.pth", "a.ckpt", "v1.2"):
        check_name(tmp_path / usual)


def test_the_same_training_is_not_done_again(done, tmp_path):
    for asked in done.values():
        out = shutil.copy2(asked["out"], tmp_path / "new.pt")
        before = out.read_bytes()
        lens(tmp_path).finetune(**{**asked, "out": out})
        assert out.read_bytes() == before


def test_other_images_are_another_training(photos, tmp_path):
    asked = {"data": photos, **QUICK, "epochs": 1, "out": tmp_path / "new.pt"}
    lens(tmp_path).finetune(**asked)
    Image.new("RGB", (40, 40), "red").save(photos / "red" / "0.png")
    with pytest.raises(CnnlensError, match="not this training's"):
        lens(tmp_path).finetune(**asked)


def test_the_workspace_is_left_as_it_is(photos, tmp_path):
    """It may hold another model's results, which a training has nothing to do with."""
    image = photos / "red" / "0.png"
    space = ("-w", tmp_path / "w")
    assert (
        command(
            "cam", "zoo:animal_net", "-i", image, "--method", "gradcam", "--no-page", *space
        ).code
        == 0
    )
    before = (tmp_path / "w" / "workspace.json").read_bytes()
    done = command(*words(photos, tmp_path / "new.pt", "--method", "none"))
    assert done.code == 0, done.err
    assert (tmp_path / "w" / "workspace.json").read_bytes() == before


def test_a_run_without_a_terminal_says_a_line_each_epoch(photos, tmp_path):
    done = warm_process(*words(photos, tmp_path / "new.pt", "--method", "none"))
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("training: ")]
    assert len(lines) == 2
    assert "2 of 4 steps, epoch 1, task loss " in lines[0]
    assert "validation accuracy " in lines[0] and "to go" in lines[0]
    assert "4 of 4 steps, epoch 2, task loss " in lines[1] and "to go" not in lines[1]
    assert "none: 20 images, 2 epochs" in done.err


def test_what_is_wrong_with_a_layer_is_said_before_images_are_read(photos, tmp_path, monkeypatch):
    from cnnlens.data import labelled

    def read(*given: object, **more: object) -> None:
        raise AssertionError("images were read")

    monkeypatch.setattr(labelled, "labelled_steps", read)
    for more in (("-l", "pool1"), ("--method", "cgl", "--groups", "900")):
        done = command(*words(photos, tmp_path / "new.pt", *more))
        assert done.code == 2 and "images were read" not in done.err, done.err


def test_an_interrupt_keeps_the_epoch_and_the_same_training_goes_on(photos, tmp_path):
    asked, settings = build(Finetune, {**QUICK, "data": photos, "out": tmp_path / "new.pt"})
    study = Study(Workspace(tmp_path / "w"), "zoo:demo_net")
    study.voice.quiet = True
    method = Finetune(study, asked, settings)
    whole = build(Finetune, {**QUICK, "data": photos, "out": tmp_path / "whole.pt"})
    method.resolve()
    for step in method.work():
        if step.milestone:
            break
    assert torch.load(tmp_path / "new.pt", weights_only=True)["training"]["state"]["epoch"] == 1
    assert not (tmp_path / "new.json").exists()
    carry_out(Finetune(study, asked, settings))
    carry_out(Finetune(study, *whole))
    new, once = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("new", "whole"))
    assert all(torch.equal(once["state_dict"][k], v) for k, v in new["state_dict"].items())
    assert (tmp_path / "new.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_epoch_is_kept_also_by_a_run_that_was_interrupted(photos, tmp_path):
    given = {**QUICK, "data": photos, "out": tmp_path / "new.pt", "keep_checkpoints": True}
    study = Study(Workspace(tmp_path / "w"), "zoo:demo_net", ModelSettings(image_size="32"))
    study.voice.quiet = True
    method = Finetune(study, *build(Finetune, given))
    method.resolve()
    for step in method.work():
        if step.milestone:
            break
    folder = tmp_path / "new-epochs"
    assert list(kept(folder)) == ["epoch-000.pt", "epoch-001.pt"]
    again = command(*words(photos, tmp_path / "new.pt", "--method", "none", "--keep-checkpoints"))
    assert again.code == 0 and "new-epochs: 3 checkpoints of 0.2" in again.err, again.err
    assert "MB in all" in again.err and "cnnlens evolve" in again.out
    whole = ("--method", "none", "--keep-checkpoints")
    once = command(*words(photos, tmp_path / "once.pt", *whole))
    assert once.code == 0 and kept(folder) == kept(tmp_path / "once-epochs")
    assert list(kept(folder)) == [f"epoch-00{number}.pt" for number in range(3)]
    epochs = [torch.load(path, weights_only=True) for path in sorted(folder.iterdir())]
    assert [one["epoch"] for one in epochs] == [0, 1, 2]
    last = torch.load(tmp_path / "new.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(v, last[k]) for k, v in epochs[2]["state_dict"].items())
    assert not torch.equal(epochs[0]["state_dict"]["fc.weight"], last["fc.weight"])
    found = cnnlens.Investigation(workspace=tmp_path / "e", quiet=True).evolve(
        *folder.glob("*.pt"), filter="conv1:0-1", data=photos
    )
    assert [one["epoch"] for one in found.checkpoints] == [0, 1, 2]


def test_kept_checkpoints_of_another_training_are_in_nobodys_way_unsaid(photos, tmp_path):
    given = {"data": photos, **QUICK, "epochs": 1, "out": tmp_path / "new.pt"}
    lens(tmp_path).finetune(**given, keep_checkpoints=True)
    before = kept(tmp_path / "new-epochs")
    (tmp_path / "new.pt").unlink()
    other = {**given, "seed": 1, "keep_checkpoints": True}
    with pytest.raises(CnnlensError, match=r"epoch-000.pt is there already, and is not this"):
        lens(tmp_path).finetune(**other)
    assert kept(tmp_path / "new-epochs") == before and not (tmp_path / "new.pt").exists()
    (tmp_path / "new-epochs" / "epoch-009.pt").write_bytes(before["epoch-001.pt"])
    lens(tmp_path).finetune(**other, force=True)
    assert list(kept(tmp_path / "new-epochs")) == ["epoch-000.pt", "epoch-001.pt"]
    assert kept(tmp_path / "new-epochs")["epoch-001.pt"] != before["epoch-001.pt"]


def test_what_was_trained_without_keeping_is_said(photos, tmp_path):
    given = words(photos, tmp_path / "new.pt", "--method", "none")
    assert command(*given).code == 0
    answer = command(*given, "--keep-checkpoints")
    assert answer.code == 0 and "2 earlier epochs were trained without" in answer.err
    assert not (tmp_path / "new-epochs").exists()


def test_with_patience_the_checkpoint_says_the_epoch_of_its_weights(photos, tmp_path):
    given = {**QUICK, "epochs": 4, "patience": 1, "lr": 0.3, "trunk": 1.0}
    call = {"data": photos, **given, "out": tmp_path / "n.pt", "keep_checkpoints": True}
    found = lens(tmp_path).finetune(**call)
    new = torch.load(tmp_path / "n.pt", weights_only=True)
    best = torch.load(tmp_path / "n-epochs" / f"epoch-{new['epoch']:03d}.pt", weights_only=True)
    assert new["epoch"] < len(new["training"]["history"])
    assert all(torch.equal(v, best["state_dict"][k]) for k, v in new["state_dict"].items())
    again = lens(tmp_path).finetune(**call)  # it is trained already
    assert found.document["epoch"] == again.document["epoch"] == new["epoch"]
    done = found.document["epochs"]
    said = f"the weights are those of epoch {new['epoch']}, whose loss on images held out is"
    shown = found._repr_html_()
    assert said in shown and (f"stopped after epoch {done} of 4" in shown) == (done < 4)
    after = found.history[new["epoch"] - 1]["validation_accuracy"]
    assert found.accuracy == pytest.approx(after)


def test_of_the_last_epochs_weights_nothing_is_said():
    document = {"epoch": 3, "epochs": 3, "settings": {"epochs": 3}}
    assert weights_words(document) == ""
    assert weights_words({**document, "settings": {"epochs": 9}, "epoch": 2}).startswith("stopped")


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_of_two_processes_one_speaks_and_writes(photos, tmp_path):
    (code, out, err), (other, *silent) = end(
        start(2, *words(photos, tmp_path / "new.pt", "--json"))
    )
    assert (code, other, silent) == (0, 0, ["", ""]), err
    document = json.loads(out)  # one document, not two
    assert document == json.loads((tmp_path / "new.json").read_text())
    assert err.count("icnn: 20 images, 2 epochs") == 1
    assert cnnlens.open_model(str(tmp_path / "new.pt")).classes == ["blue", "red"]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_processes_that_see_other_images_do_not_train_together(photos, tmp_path):
    fewer = Path(shutil.copytree(photos, tmp_path / "fewer"))
    sorted(fewer.glob("*/*"))[0].unlink()
    each = [words(data, tmp_path / "new.pt") for data in (photos, fewer)]
    found = end(start(2, each=each))
    assert [code for code, *_ in found] == [1, 1]
    assert sum("sees another" in err for *_, err in found) == 1
    assert not (tmp_path / "new.pt").exists()


def test_the_function_below_it_is_public(photos):
    model = cnnlens.open_model("zoo:demo_net", image_size=(32, 32), device="cpu")
    labelled = cnnlens.read_labelled(cnnlens.open_data(photos), model.preprocess)
    settings = cnnlens.FinetuneSettings(epochs=1, batch_size=8)
    run = cnnlens.finetune(model, labelled, "cgl", settings=settings)
    assert list(run)[-1].terms["group_loss"] >= 0
    assert run.document()["epochs"] == 1
