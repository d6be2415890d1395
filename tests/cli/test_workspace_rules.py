"""One model, several data sets, layers by any of their names: what a workspace remembers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from cnnlens.data.synthetic import make_shapes
from cnnlens.errors import CnnlensError
from cnnlens.files import locks
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice

from .conftest import SIDE
from .runner import cnnlens, files, warm_process


def document(workspace: Path) -> dict:
    return json.loads((workspace / "workspace.json").read_text(encoding="utf-8"))


def test_model_data_and_layer_are_remembered(workspace, model, shapes):
    answer = cnnlens("dissect", "-w", workspace, "--chance", 2, "--json")
    assert answer.code == 0
    assert answer.json["layer"] == "conv2"
    known = document(workspace)
    assert known["model"]["spec"] == str(model.resolve())
    assert known["model"]["preprocess"]["size"] == [SIDE, SIDE]
    assert [entry["path"] for entry in known["data"]] == [str(shapes.resolve())]
    assert len(known["model"]["fingerprint"]) >= 16
    assert "torch" in known["versions"] and "cnnlens" in known["versions"]
    assert any("dissect" in line for line in known["commands"])


def test_layers_names_the_model_for_later_commands(tmp_path, model, shapes):
    assert cnnlens("layers", model, "-w", tmp_path / "ws").code == 0
    answer = cnnlens("extract", "-d", shapes, "-w", tmp_path / "ws", "-l", "conv1", "--json")
    assert answer.code == 0
    assert answer.json["layer"] == "conv1"


def test_listing_another_model_leaves_the_workspace_alone(workspace, other):
    before = files(workspace)
    answer = cnnlens("layers", other, "-w", workspace)
    assert answer.code == 0
    assert "conv3" in answer.out
    assert files(workspace) == before


def test_no_model_names_both_ways_to_give_one(tmp_path):
    answer = cnnlens("dissect", "-w", tmp_path / "nothing")
    assert answer.code == 2
    assert "no model" in answer.error
    assert "model.pt" in answer.err and "-w DIR" in answer.err
    assert not (tmp_path / "nothing").exists()


def test_no_data_is_a_usage_error(tmp_path, model):
    answer = cnnlens("dissect", model, "-w", tmp_path / "ws")
    assert answer.code == 2
    assert "no data" in answer.error and "-d DIR" in answer.err


@pytest.mark.parametrize("command", ["dissect", "extract"])
def test_another_model_is_refused_and_nothing_changes(workspace, other, command):
    before = files(workspace)
    answer = cnnlens(command, other, "-w", workspace)
    assert answer.code == 1
    assert "another model" in answer.error and "--force" in answer.err
    assert files(workspace) == before


def test_another_preprocessing_is_another_model(workspace):
    answer = cnnlens("dissect", "-w", workspace, "--mean", "0.1,0.2,0.3")
    assert answer.code == 1
    assert "preprocessing" in answer.error


def test_force_clears_what_belonged_to_the_earlier_model(workspace, other):
    (workspace / "notes.txt").write_text("mine")
    cnnlens("dissect", "--no-page", "-w", workspace, "-l", "conv1", "--chance", 0)
    answer = cnnlens(
        "dissect", "--no-page", other, "-w", workspace, "--chance", 0, "--force", "--json"
    )
    assert answer.code == 0, answer.err
    assert answer.json["layer"] == "last"  # the earlier model's layers are forgotten
    assert [p.name for p in (workspace / "dissect").iterdir() if p.is_dir()] == ["last"]
    assert [p.name for p in workspace.glob("activations/*/*.h5")] == ["last.h5"]
    assert (workspace / "notes.txt").read_text() == "mine"
    assert document(workspace)["model"]["spec"] == str(other.resolve())


def test_another_model_takes_a_workspace_without_results(tmp_path, model, other, shapes):
    cnnlens("layers", model, "-w", tmp_path / "ws")
    answer = cnnlens("extract", other, "-d", shapes, "-w", tmp_path / "ws", "-l", "conv1")
    assert answer.code == 0
    assert document(tmp_path / "ws")["model"]["spec"] == str(other.resolve())


def test_new_weights_in_the_same_file_are_another_model(tmp_path, model, other, shapes):
    mine = Path(shutil.copy(model, tmp_path / "mine.pt"))
    cnnlens("extract", mine, "-d", shapes, "-l", "conv1", "-w", tmp_path / "ws")
    shutil.copy(other, mine)
    answer = cnnlens("extract", "-w", tmp_path / "ws")
    assert answer.code == 1
    assert "another model" in answer.error


def test_workspace_from_the_environment_and_by_default(tmp_path, monkeypatch, model, shapes):
    monkeypatch.chdir(tmp_path)
    assert cnnlens("extract", model, "-d", shapes, "-l", "conv1").code == 0
    assert (tmp_path / "cnnlens-out" / "workspace.json").exists()
    monkeypatch.setenv("CNNLENS_WORKSPACE", str(tmp_path / "env"))
    assert cnnlens("extract", model, "-d", shapes, "-l", "conv1").code == 0
    assert (tmp_path / "env" / "workspace.json").exists()
    assert cnnlens("layers", model, "-w", tmp_path / "opt").code == 0
    assert (tmp_path / "opt" / "workspace.json").exists()  # the option wins


def test_relative_paths_still_hold_from_another_folder(tmp_path, monkeypatch, model, shapes):
    monkeypatch.chdir(model.parent)
    ws = tmp_path / "mit Räumen" / "工作"
    answer = cnnlens("extract", model.name, "-d", shapes.name, "-l", "conv1", "-w", ws)
    assert answer.code == 0
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(ws, tmp_path)
    answer = cnnlens("dissect", "-w", relative, "--chance", 0, "--json")
    assert answer.code == 0
    assert answer.json["layer"] == "conv1"
    assert (ws / "report.html").exists()


def test_last_data_of_a_fitting_kind_is_the_default(workspace, shapes, tmp_path):
    second = make_shapes(tmp_path / "second" / "shapes", 12, SIDE, seed=5)
    assert cnnlens("dissect", "--no-page", "-d", second, "-w", workspace, "--chance", 0).code == 0
    photos = shapes / "images" / "shapes"
    assert cnnlens("extract", "-d", photos, "-w", workspace, "-l", "conv2").code == 0
    answer = cnnlens("dissect", "--no-page", "-w", workspace, "--chance", 0, "--json")
    assert answer.json["images"] == 12  # photos have no labels: the last set that has
    names = sorted(p.parent.name for p in workspace.glob("activations/*/conv2.h5"))
    assert names == ["shapes", "shapes-2", "shapes-3"]  # each data set has its own stores
    answer = cnnlens("extract", "-w", workspace, "--json")
    assert answer.json["store"].endswith("shapes-3/conv2.h5")  # any images fit: the last named


def test_images_that_were_moved_are_known_by_their_fingerprint(model, shapes, tmp_path):
    first, second = tmp_path / "first" / "shapes", tmp_path / "second" / "pictures"
    shutil.copytree(shapes, first)
    given = ["extract", model, "-l", "conv2", "-w", tmp_path / "ws", "--no-units"]
    assert cnnlens(*given, "-d", first).code == 0
    (store,) = (tmp_path / "ws").glob("activations/*/conv2.h5")
    before = store.stat()
    second.parent.mkdir()
    shutil.move(first, second)
    answer = cnnlens("extract", "--no-units", "-d", second, "-w", tmp_path / "ws", "--json")
    assert answer.code == 0 and answer.json["store"] == str(store)
    assert [*(tmp_path / "ws").glob("activations/*/*.h5")] == [store]
    assert store.stat().st_mtime_ns == before.st_mtime_ns
    (entry,) = document(tmp_path / "ws")["data"]
    assert entry["path"] == str(second.resolve()) and entry["name"] == "shapes"
    # others in the old place are others; and so is a copy beside
    make_shapes(first, 12, SIDE, seed=5)
    shutil.copytree(second, tmp_path / "third" / "pictures")
    for folder, name in (first, "shapes-2"), (tmp_path / "third" / "pictures", "pictures"):
        answer = cnnlens("extract", "--no-units", "-d", folder, "-w", tmp_path / "ws", "--json")
        assert Path(answer.json["store"]).parent.name == name


def test_alias_and_path_share_one_store_and_the_first_name(workspace):
    before = files(workspace / "dissect" / "conv2")
    answer = cnnlens(
        "dissect", "--no-page", "-l", "relu2", "-w", workspace, "--chance", 2, "--json"
    )
    assert answer.json["layer"] == "conv2"
    assert files(workspace / "dissect" / "conv2") == before
    assert [p.name for p in (workspace / "dissect").iterdir() if p.is_dir()] == ["conv2"]
    assert [p.name for p in workspace.glob("activations/shapes/*.h5")] == ["conv2.h5"]


def test_one_place_by_two_names_in_one_command_is_one_layer(tmp_path, model, shapes):
    names = ["-l", "conv1", "-l", "relu1", "-l", "conv1"]
    answer = cnnlens("extract", model, "-d", shapes, *names, "-w", tmp_path / "ws", "--json")
    assert answer.json["layer"] == "conv1"
    assert [p.name for p in tmp_path.glob("ws/activations/shapes/*.h5")] == ["conv1.h5"]


def test_module_bearing_an_alias_has_its_own_store(tmp_path, model, shapes):
    ws = tmp_path / "ws"
    names = ["-l", "conv1", "-l", "module:conv1"]
    answer = cnnlens(
        "dissect", "--no-page", model, "-d", shapes, *names, "-w", ws, "--chance", 0, "--json"
    )
    assert answer.code == 0, answer.err
    assert list(answer.json["layers"]) == ["conv1", "module:conv1"]
    for name, summary in answer.json["layers"].items():
        folder = ws / "dissect" / name.replace(":", "_")
        assert json.loads((folder / "summary.json").read_text()) == summary
        assert summary["layer"] == name


def test_default_layer_is_the_last_used_else_last(tmp_path, model, shapes):
    ws = tmp_path / "ws"
    assert cnnlens("extract", model, "-d", shapes, "-w", ws, "--json").json["layer"] == "last"
    cnnlens("extract", "-l", "conv1", "-l", "conv2", "-w", ws)
    assert cnnlens("extract", "-w", ws, "--json").json["layer"] == "conv2"
    cnnlens("extract", "-l", "conv1", "-w", ws)
    assert cnnlens("extract", "-w", ws, "--json").json["layer"] == "conv1"


def test_options_of_the_model_are_remembered(tmp_path, model, shapes):
    ws = tmp_path / "ws"
    given = ["--image-size", "30x28", "--mean", "0.1,0.2,0.3", "--std", "1,2,3"]
    first = cnnlens("extract", model, "-d", shapes, "-l", "conv1", "-w", ws, *given, "--json")
    assert first.code == 0 and first.json["shape"][2:] == [30, 28]
    assert "input 30×28, mean 0.1,0.2,0.3, std 1,2,3" in first.err
    used = document(ws)["model"]["preprocess"]
    assert (used["size"], used["mean"], used["std"]) == ([30, 28], [0.1, 0.2, 0.3], [1, 2, 3])
    for again in ([], [model]):  # left out, or the same one named again
        answer = cnnlens("extract", *again, "-l", "conv2", "-w", ws, "--json")
        assert answer.code == 0, answer.err
        assert answer.json["shape"][2:] == [15, 14]


def test_architecture_is_remembered(tmp_path, shapes):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def little():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    import torch
    from torch import nn

    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).state_dict(), tmp_path / "w.pt")
    given = ["--arch", f"{tmp_path / 'nets.py'}:little", "--image-size", "24"]
    ws = tmp_path / "ws"
    first = cnnlens("extract", tmp_path / "w.pt", "-d", shapes, "-w", ws, *given)
    assert first.code == 0, first.err
    answer = cnnlens("dissect", "--no-page", "-w", ws, "--chance", 0, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["units"] == 4


def test_results_are_not_made_twice_and_force_makes_them_anew(workspace):
    marks = {p: p.stat().st_mtime_ns for p in workspace.rglob("*") if p.suffix in (".h5", ".csv")}
    answer = cnnlens("dissect", "-w", workspace, "--chance", 2)
    assert "done before" in answer.err
    assert {p: p.stat().st_mtime_ns for p in marks} == marks
    before = files(workspace / "dissect" / "conv2")
    assert cnnlens("dissect", "-w", workspace, "--chance", 2, "--force").code == 0
    assert all(p.stat().st_mtime_ns > t for p, t in marks.items())
    assert files(workspace / "dissect" / "conv2") == before  # equal settings, equal bytes


def test_other_settings_are_counted_anew_from_the_same_store(workspace):
    store = next(workspace.glob("activations/*/conv2.h5"))
    made = store.stat().st_mtime_ns
    answer = cnnlens(
        "dissect", "--no-page", "-w", workspace, "--chance", 0, "--quantile", 0.02, "--json"
    )
    assert answer.json["quantile"] == 0.02
    assert store.stat().st_mtime_ns == made


def test_changed_data_is_noticed(tmp_path, model, shapes):
    data = Path(shutil.copytree(shapes, tmp_path / "mine"))
    ws = tmp_path / "ws"
    assert cnnlens("extract", model, "-d", data, "-l", "conv1", "-w", ws).code == 0
    (data / "images" / "shapes" / "00001.png").write_bytes(b"shorter")
    answer = cnnlens("extract", "-w", ws)
    assert answer.code == 1
    assert "other images" in answer.error


def test_a_factory_by_another_path_is_the_same_model(tmp_path, monkeypatch, shapes):
    (tmp_path / "nets.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    monkeypatch.chdir(tmp_path)
    given = ["-d", shapes, "--image-size", SIDE, "-w", "ws", "--chance", 0]
    assert cnnlens("dissect", "--no-page", "nets.py:net", *given).code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for named in ([], ["../nets.py:net"]):
        answer = cnnlens("dissect", "--no-page", *named, "-w", "../ws", "--chance", 0)
        assert answer.code == 0, answer.err
        assert "done before" in answer.err


def test_random_weights_of_a_registry_are_the_same_every_time(tmp_path, shapes):
    given = ["-d", shapes, "-l", "conv1", "-w", tmp_path, "--image-size", 32]
    assert cnnlens("extract", "torchvision:squeezenet1_1", *given, "--no-logits").code == 0
    answer = cnnlens("extract", "-w", tmp_path, "--no-logits", "--json")
    assert answer.code == 0, answer.err
    assert "random" in answer.err  # and it is said that they are


def test_two_models_that_begin_at_once_do_not_mix(tmp_path, model, other, shapes):
    """Neither has results yet when the other one looks for some."""
    ws = tmp_path / "ws"
    words = ("extract", other, "-d", shapes, "-l", "conv1", "-w", ws)
    study = Study(Workspace(ws), str(model), voice=Voice(quiet=True))
    study.images(shapes)
    with study.committed():
        for more in ((), ("--force",)):
            answer = warm_process(*words, *more)
            assert answer.code == 1, answer.out
            assert "another process works in the workspace" in answer.error
            assert f"another model ({model.resolve()})" in answer.error and "-w DIR" in answer.err
        assert not (ws / "activations").exists()
        alike = warm_process("layers", model, "-w", ws)  # any number of the same one
        assert alike.code == 0 and "not remembered" not in alike.err
        assert warm_process("extract", "-l", "conv1", "-w", ws).code == 0
    assert warm_process(*words, "--force").code == 0
    assert document(ws)["model"]["spec"] == str(other.resolve())


def test_without_locks_a_mix_of_two_models_is_told(tmp_path, model, other, shapes, monkeypatch):
    monkeypatch.setattr(locks, "is_lockless", lambda folder: True)
    ws = tmp_path / "ws"
    study = Study(Workspace(ws), str(model), voice=Voice(quiet=True))
    with study.committed():
        assert cnnlens("extract", other, "-d", shapes, "-l", "conv1", "-w", ws).code == 0
        with pytest.raises(CnnlensError, match="it has results of both"):
            study.record("cnnlens visualize", "visualize")
    assert "cnnlens visualize" not in document(ws)["commands"]
