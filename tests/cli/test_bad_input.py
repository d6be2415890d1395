"""Bad input: one clear line, the right exit status, nothing half-written, nothing destroyed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnnlens.data.synthetic import make_shapes

from .conftest import SIDE
from .runner import Answer, cnnlens, files, leftovers


def refused(answer: Answer, code: int, *words: str) -> None:
    assert answer.code == code, answer.err
    assert answer.out == ""
    for word in words:
        assert word in answer.error, answer.err


# ---- models


def foreign(path: Path, kind: str, model: Path) -> Path:
    whole = model.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "random":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "text":
        path.write_text("weights: none\n")
    elif kind == "picture":
        Image.new("RGB", (8, 8)).save(path, "PNG")
    elif kind == "numbers":
        torch.save([1, 2, 3], path)
    elif kind == "unknown keys":
        torch.save({"some.weight": torch.zeros(3, 3)}, path)
    elif kind == "folder":
        path.mkdir()
    return path


KINDS = ("empty", "truncated", "random", "text", "picture", "numbers", "unknown keys", "folder")


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".pt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_model_in_it(tmp_path, model, shapes, kind, ending):
    path = foreign(tmp_path / f"bad{ending}", kind, model)
    ws = tmp_path / "ws"
    refused(cnnlens("dissect", path, "-d", shapes, "-w", ws), 1, "bad" + ending)
    assert not ws.exists()


def test_missing_model(tmp_path, shapes):
    answer = cnnlens("dissect", tmp_path / "gone.pt", "-d", shapes, "-w", tmp_path / "ws")
    refused(answer, 2, "gone.pt", "does not exist")
    assert not (tmp_path / "ws").exists()


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_hostile_pickle_is_never_executed(tmp_path, shapes, how):
    mark, path = tmp_path / "executed", tmp_path / "model.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Hostile(mark)))
    else:
        content = {"state_dict": {"a": torch.zeros(1)}, "more": Hostile(mark)}
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    refused(cnnlens("dissect", path, "-d", shapes, "-w", tmp_path / "ws"), 1, "model.pt")
    assert not mark.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(
        pickle.dumps(Hostile(mark))
    )
    assert mark.exists()  # it would have been


def test_unknown_model_names(tmp_path):
    refused(cnnlens("layers", "torchvision:resnet81", "-w", tmp_path), 2, "resnet81")
    assert "resnet18" in cnnlens("layers", "torchvision:resnet81", "-w", tmp_path).err
    refused(cnnlens("layers", "zoo:vgg_n", "-w", tmp_path), 2, "vgg_n")
    refused(cnnlens("layers", "no.such.module:factory", "-w", tmp_path), 2)


def test_factory_that_fails_is_named(tmp_path):
    (tmp_path / "nets.py").write_text(
        "def bad():\n    raise OSError('gone')\n\ndef no(): return 3\n"
    )
    refused(cnnlens("layers", f"{tmp_path / 'nets.py'}:bad", "-w", tmp_path / "ws"), 1, "bad")
    refused(cnnlens("layers", f"{tmp_path / 'nets.py'}:no", "-w", tmp_path / "ws"), 1)
    refused(cnnlens("layers", f"{tmp_path / 'nets.py'}:none", "-w", tmp_path / "ws"), 2)


# ---- layers, options


def test_unknown_layer_offers_the_nearest(workspace):
    before = files(workspace)
    answer = cnnlens("dissect", "-l", "convv2", "-w", workspace)
    refused(answer, 2, "convv2", "did you mean conv2")
    answer = cnnlens("dissect", "-l", "conv2", "-l", "relu9", "-w", workspace)
    refused(answer, 2, "relu9", "relu3")
    assert files(workspace) == before


def test_layer_without_a_map(tmp_path, shapes):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 22 * 22, 2))\n"
    )
    given = [f"{tmp_path / 'nets.py'}:net", "-d", shapes, "--image-size", 24]
    answer = cnnlens("dissect", *given, "-l", "2", "-w", tmp_path / "ws")
    refused(answer, 2, "'2'")
    assert "map" in answer.error
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--quantile", "0"], "--quantile"),
        (["--quantile", "2"], "--quantile"),
        (["--quantile", "nan"], "--quantile"),
        (["--quantile", "much"], "--quantile"),
        (["--min-iou", "1.5"], "--min-iou"),
        (["--chance", "-1"], "--chance"),
        (["--top", "-1"], "--top"),
        (["--compat", "matlab"], "--compat"),
        (["--dtype", "int8"], "--dtype"),
        (["--batch-size", "0"], "--batch-size"),
        (["--workers", "-1"], "--workers"),
        (["--seed", "-1"], "--seed"),
        (["--image-size", "0"], "--image-size"),
        (["--image-size", "12x"], "--image-size"),
        (["--image-size", "1x2x3"], "--image-size"),
        (["--mean", "1,2"], "--mean"),
        (["--mean", "red"], "--mean"),
        (["--mean", "nan,0,0"], "--mean"),
        (["--std", "0,1,1"], "--std"),
        (["--std", "-1,1,1"], "--std"),
        (["--device", "abacus"], "abacus"),
        (["--broden", "-d", "x"], "--broden"),
        (["--no-such-option"], "--no-such-option"),
        (["-l"], "-l"),
    ],
)
def test_wrong_options(workspace, given, word):
    before = files(workspace)
    refused(cnnlens("dissect", "-w", workspace, *given), 2, word)
    assert files(workspace) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_device_that_is_not_there(workspace):
    for device in ("cuda", "cuda:3"):  # the machine is at fault: elsewhere the words are right
        refused(cnnlens("dissect", "-w", workspace, "--device", device), 1, device)
    refused(cnnlens("dissect", "-w", workspace, "--device", "gpu"), 2, "gpu")


def test_input_too_small_for_the_network(tmp_path, model, shapes):
    answer = cnnlens("dissect", model, "-d", shapes, "--image-size", 2, "-w", tmp_path / "ws")
    assert answer.code in (1, 2)
    assert answer.error
    assert not list(tmp_path.glob("ws/**/*.h5"))


def test_mistyped_commands_and_options_offer_the_nearest():
    answer = cnnlens("disect")
    refused(answer, 2, "disect", "dissect")
    answer = cnnlens("dissect", "--quantil", "0.1")
    refused(answer, 2, "--quantil", "--quantile")
    refused(cnnlens("data", "chekc", "x"), 2, "chekc")
    refused(cnnlens("data", "make", "shape"), 2, "shape")
    refused(cnnlens("data", "download", "brodn"), 2, "brodn")


def test_no_command_shows_the_help_and_is_wrong_usage():
    for words in ([], ["data"]):
        answer = cnnlens(*words)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("Usage: cnnlens")


# ---- data


def broken(tmp_path: Path) -> Path:
    return make_shapes(tmp_path / "data", 12, SIDE)


def index(data: Path) -> list[str]:
    return (data / "index.csv").read_text(encoding="utf-8").splitlines()


def test_missing_empty_or_plain_data(tmp_path, model):
    ws = tmp_path / "ws"
    (tmp_path / "empty").mkdir()
    refused(cnnlens("dissect", model, "-d", tmp_path / "empty", "-w", ws), 1, "empty")
    refused(cnnlens("extract", model, "-d", tmp_path / "empty", "-w", ws), 1, "empty")
    answer = cnnlens("extract", model, "-d", tmp_path / "gone", "-w", ws)
    refused(answer, 2, "gone")
    Image.new("RGB", (9, 9)).save(tmp_path / "empty" / "photo.png")
    answer = cnnlens("dissect", model, "-d", tmp_path / "empty", "-w", ws)
    refused(answer, 2, "no label maps")
    assert not ws.exists()


def test_broden_that_was_not_downloaded(tmp_path, model, monkeypatch):
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
    answer = cnnlens("dissect", model, "--broden", "-w", tmp_path / "ws")
    refused(answer, 1, "Broden is not in")
    assert "data download broden" in answer.err


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: (d / "label.csv").unlink(), ["label.csv"]),
        (lambda d: (d / "label.csv").write_text("number,name\n"), ["label.csv"]),
        (lambda d: (d / "index.csv").write_text(""), ["index.csv"]),
        (lambda d: (d / "index.csv").write_text("\n".join(index(d)[:1]) + "\n"), ["index.csv"]),
        (
            lambda d: (d / "index.csv").write_text("\n".join([*index(d)[:3], "a,b,c"]) + "\n"),
            ["index.csv"],
        ),
        (lambda d: (d / "index.csv").write_bytes(b"\xff\xfe\x00\x01"), ["index.csv"]),
    ],
    ids=["no labels", "bad header", "empty index", "no rows", "short row", "bytes"],
)
def test_malformed_broden(tmp_path, model, spoil, words):
    data = broken(tmp_path)
    spoil(data)
    refused(cnnlens("dissect", model, "-d", data, "-w", tmp_path / "ws"), 1, *words)
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize("kind", ["size", "number", "missing", "no image"])
def test_planes_that_do_not_fit(tmp_path, model, kind):
    data = broken(tmp_path)
    for plane in sorted((data / "images" / "shapes").glob("*_color.png")):
        if kind == "size":
            Image.new("RGB", (SIDE + 1, SIDE)).save(plane)
        elif kind == "number":
            Image.new("RGB", (SIDE, SIDE), (250, 250, 0)).save(plane)
        elif kind == "missing":
            plane.unlink()
        else:
            plane.write_text("no image")
    answer = cnnlens(
        "dissect", "--no-page", model, "-d", data, "-w", tmp_path / "ws", "--chance", 1
    )
    refused(answer, 1, "_color.png")
    assert not (tmp_path / "ws" / "dissect").exists()  # the store is sound and stays
    assert leftovers(tmp_path) == []
    assert "color" in cnnlens("data", "check", data).out


def test_too_many_damaged_images(tmp_path, model):
    data = broken(tmp_path)
    for number in range(4):
        (data / "images" / "shapes" / f"0000{number}.png").write_bytes(b"")
    answer = cnnlens("dissect", model, "-d", data, "-w", tmp_path / "ws")
    refused(answer, 1, "00000.png")
    assert "data check" in answer.err
    assert not list(tmp_path.glob("ws/**/*.h5"))


# ---- stores


def store(workspace: Path) -> Path:
    return workspace / "activations" / "shapes" / "conv2.h5"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    with h5py.File(path) as file:
        offset = file["activations"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset + 50)
        raw.write(b"\xa5" * 20)


def replace(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)


@pytest.mark.parametrize(
    "spoil",
    [truncate, flip, replace, lambda p: p.write_text("no"), lambda p: p.write_bytes(b"")],
    ids=["truncated", "flipped", "foreign HDF5", "text", "empty"],
)
def test_damaged_store_is_reported_and_left(workspace, spoil):
    spoil(store(workspace))
    before = store(workspace).read_bytes()
    results = files(workspace / "dissect")
    answer = cnnlens("dissect", "-w", workspace, "--chance", 1)
    refused(answer, 1, "conv2.h5")
    assert "--force" in answer.err
    assert store(workspace).read_bytes() == before
    assert files(workspace / "dissect") == results
    assert leftovers(workspace) == []
    assert cnnlens("dissect", "-w", workspace, "--chance", 2, "--force", "--no-page").code == 0
    again = files(workspace / "dissect")
    for name in ("units.csv", "concepts.csv", "scores.h5"):
        assert again[f"conv2/{name}"] == results[f"conv2/{name}"]


def test_folder_in_the_place_of_a_store(workspace):
    store(workspace).unlink()
    store(workspace).mkdir()
    refused(cnnlens("dissect", "-w", workspace, "--chance", 1), 1, "conv2.h5")


def test_store_that_somebody_else_writes(workspace):
    import filelock

    store(workspace).unlink()
    with filelock.FileLock(store(workspace).with_name(".conv2.h5.lock")):
        answer = cnnlens("extract", "-w", workspace)
    refused(answer, 1, "being written by another process")
    assert cnnlens("extract", "-w", workspace).code == 0


# ---- results


@pytest.mark.parametrize("name", ["summary.json", "units.csv", "scores.h5", "concepts.csv"])
@pytest.mark.parametrize(
    "content, given", [("", []), ("{", []), ("unit,label\n1", []), ("{", ["--no-page"])]
)
def test_damaged_results_are_reported_and_left(workspace, name, content, given):
    path = workspace / "dissect" / "conv2" / name
    whole = path.read_bytes()
    path.write_text(content)
    before = files(workspace)
    refused(cnnlens("dissect", "-w", workspace, "--chance", 2, *given), 1, name)
    assert files(workspace) == before  # even the list of commands: this one made nothing
    assert cnnlens("report", "-w", workspace).code == 0
    assert f"Left out: dissect/conv2/{name}" in (workspace / "report.html").read_text()
    drawn = (name, content, given) == ("summary.json", "{", [])  # only that says what is drawn
    given = [] if drawn else ["--no-page"]
    assert cnnlens("dissect", "-w", workspace, "--chance", 2, "--force", *given).code == 0
    if name == "summary.json" and given:  # it says that there are no pictures
        whole = whole.replace(b'"top": 8', b'"top": 0')
    assert path.read_bytes() == whole


WORKSPACES = [
    "",
    "{",
    "[]",
    '{"model": 3}',
    '{"model": {}}',
    '{"data": [3]}',
    '{"data": null}',
    '{"layers": ["conv1"]}',
    '{"commands": 1}',
    '{"format": "new"}',
]


@pytest.mark.parametrize("content", WORKSPACES)
def test_damaged_workspace_is_reported_and_left(workspace, model, shapes, content):
    (workspace / "workspace.json").write_text(content)
    before = files(workspace)
    given = [
        "dissect",
        "--no-page",
        model,
        "-d",
        shapes,
        "-l",
        "conv2",
        "-w",
        workspace,
        "--chance",
        0,
    ]
    refused(cnnlens(*given), 1, "workspace.json")
    refused(cnnlens("layers", "-w", workspace), 1, "workspace.json")
    assert files(workspace) == before
    assert cnnlens(*given, "--force").code == 0
    known = json.loads((workspace / "workspace.json").read_text(encoding="utf-8"))
    assert known["model"]["spec"] == str(model.resolve())


def test_forcing_a_damaged_workspace_does_not_keep_results_of_who_knows_what(
    workspace, other, shapes
):
    (workspace / "workspace.json").write_text("{")
    given = ["-d", shapes, "-l", "conv1", "-w", workspace, "--chance", 0, "--force"]
    assert cnnlens("dissect", "--no-page", other, *given).code == 0
    assert [p.name for p in (workspace / "dissect").iterdir() if p.is_dir()] == ["conv1"]


@pytest.mark.parametrize("left", ["{", None])
def test_results_of_the_same_network_outlive_a_lost_workspace_json(workspace, model, shapes, left):
    document, before = workspace / "workspace.json", files(workspace / "dissect" / "conv2")
    document.unlink() if left is None else document.write_text(left)
    given = ["dissect", model, "-d", shapes, "-l", "conv1", "-w", workspace, "--chance", 0]
    if left is not None:
        refused(cnnlens(*given), 1, "workspace.json is damaged")
        given += ["--force"]
    assert cnnlens(*given).code == 0
    assert before == files(workspace / "dissect" / "conv2")


def test_results_of_a_lost_workspace_json_do_not_mix_with_another_network_s(
    workspace, other, shapes
):
    (workspace / "workspace.json").unlink()
    before = files(workspace)
    given = ["extract", other, "-d", shapes, "-l", "conv1", "-w", workspace]
    refused(cnnlens(*given), 1, "holds results of another model")
    assert files(workspace) == before
    assert cnnlens(*given, "--force").code == 0
    assert not (workspace / "dissect").exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_what_cannot_be_read_is_not_called_damaged_nor_cleared(
    workspace, other, shapes, monkeypatch, number
):
    before, read = files(workspace), Path.read_text

    def refuse(path: Path, *words: object, **more: object) -> str:
        if path.name == "workspace.json":
            raise OSError(number, os.strerror(number), str(path))
        return read(path, *words, **more)

    monkeypatch.setattr(Path, "read_text", refuse)
    given = ["dissect", other, "-d", shapes, "-l", "conv1", "-w", workspace, "--force"]
    answer = cnnlens(*given)
    refused(answer, 1, "cannot read", "workspace.json: " + os.strerror(number).lower())
    assert "damaged" not in answer.err and "--force" not in answer.err
    monkeypatch.undo()
    assert files(workspace) == before


def test_a_folder_in_the_place_of_workspace_json_is_said(workspace, other, shapes):
    (workspace / "workspace.json").unlink()
    (workspace / "workspace.json").mkdir()
    before = files(workspace)
    answer = cnnlens("extract", other, "-d", shapes, "-l", "conv1", "-w", workspace, "--force")
    refused(answer, 1, "workspace.json: a folder is in its place")
    assert files(workspace) == before


def test_workspace_of_a_newer_version(workspace, other):
    (workspace / "workspace.json").write_text('{"format": 99}')
    refused(cnnlens("report", "-w", workspace), 1, "newer cnnlens")
    before = files(workspace)
    refused(cnnlens("extract", other, "-w", workspace, "--force"), 1, "newer cnnlens")
    assert files(workspace) == before


def test_report_without_results(tmp_path):
    refused(cnnlens("report", "-w", tmp_path / "none"), 1, "no results")
    assert not (tmp_path / "none").exists()


def test_what_a_killed_run_left_is_no_layer(workspace):
    mine = workspace / "dissect" / "conv2"
    shutil.copytree(mine, workspace / "dissect" / ".conv2.999999-abcdef.tmp")
    page = (workspace / "report.html").read_bytes()
    assert cnnlens("report", "-w", workspace).code == 0
    assert (workspace / "report.html").read_bytes() == page
    assert cnnlens("dissect", "--no-page", "-w", workspace, "--chance", 1).code == 0
    assert leftovers(workspace) == []  # and the next run sweeps it away


# ---- places that cannot be written


def test_file_in_the_way_of_the_workspace(tmp_path, model, shapes):
    (tmp_path / "ws").write_text("mine")
    given = ["dissect", model, "-d", shapes]
    refused(cnnlens(*given, "-w", tmp_path / "ws"), 1, "is a file")
    refused(cnnlens(*given, "-w", tmp_path / "ws" / "deeper"), 1, "ws")
    assert (tmp_path / "ws").read_text() == "mine"


@pytest.mark.parametrize("name", ["activations", "dissect", "report.html"])
def test_something_in_the_way_inside_the_workspace(tmp_path, model, shapes, name):
    ws = tmp_path / "ws"
    ws.mkdir()
    (ws / name).mkdir() if name == "report.html" else (ws / name).write_text("mine")
    answer = cnnlens("dissect", model, "-d", shapes, "-l", "conv3", "-w", ws, "--chance", 0)
    assert answer.code == 1 and name in answer.error
    assert ("best units" in answer.out) == (name == "report.html")  # the page comes last
    assert leftovers(ws) == []
    assert not (ws / name).is_file() or (ws / name).read_text() == "mine"


def test_model_that_prints_does_not_spoil_the_answer(tmp_path, shapes):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        print('shape', x.shape)\n"
        "        return super().forward(x)\n"
        "def chatty():\n"
        "    print('building')\n"
        "    return Net(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    given = [f"{tmp_path / 'nets.py'}:chatty", "-d", shapes, "--image-size", 24]
    answer = cnnlens("dissect", "--no-page", *given, "-w", tmp_path / "ws", "--chance", 0, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["units"] == 4
    assert "building" in answer.err


def test_network_whose_answer_is_no_tensor(tmp_path, shapes):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        return {'out': super().forward(x)}\n"
        "def net():\n"
        "    return Net(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    given = [f"{tmp_path / 'nets.py'}:net", "-d", shapes, "--image-size", 24]
    answer = cnnlens("extract", *given, "-w", tmp_path / "ws", "--json")
    assert answer.code == 0, answer.err  # it has no classes: no logits are kept
    with h5py.File(answer.json["store"]) as file:
        assert "logits" not in file and file["activations"].shape[1] == 4


def test_activations_that_are_not_finite(tmp_path, model, shapes):
    answer = cnnlens("dissect", model, "-d", shapes, "--std", "1e-42,1,1", "-w", tmp_path / "ws")
    refused(answer, 1, "not finite")
    assert not list(tmp_path.glob("ws/**/*.h5"))


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path, model):
    data = broken(tmp_path)
    text = (data / "label.csv").read_text(encoding="utf-8")
    (data / "label.csv").write_text(text.replace("red", "re\x1b[31md"), encoding="utf-8")
    answer = cnnlens("dissect", model, "-d", data, "-w", tmp_path / "ws", "-l", "conv2")
    assert answer.code == 0, answer.err
    assert "\x1b" not in answer.out + answer.err


def test_names_that_are_no_unicode(tmp_path, model, shapes):
    import os

    folder = tmp_path / "photos"
    folder.mkdir()
    source = shapes / "images" / "shapes" / "00000.png"
    try:
        shutil.copy(source, folder / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system takes Unicode only")
    (folder / os.fsdecode(b"bad\xe9.png")).write_bytes(b"no image")
    for number in range(30):
        shutil.copy(source, folder / f"{number}.png")
    answer = cnnlens("extract", model, "-d", folder, "-w", tmp_path / "ws", "--json")
    assert answer.code == 0, answer.err
    assert [bad["image"] for bad in answer.json["skipped"]] == [os.fsdecode(b"bad\xe9.png")]


def test_net_with_one_output_keeps_it(tmp_path, shapes):
    net = nn.Conv2d(3, 2, 3)
    torch.save(net, tmp_path / "whole.pt")
    refused(cnnlens("layers", tmp_path / "whole.pt", "-w", tmp_path / "ws"), 1, "whole.pt")
    answer = cnnlens("layers", tmp_path / "whole.pt", "--allow-pickle", "-w", tmp_path / "ws")
    assert answer.code == 0, answer.err
