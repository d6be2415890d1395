from __future__ import annotations

import argparse
import datetime
import fractions
import gzip
import io
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model import zoo
from cnnlens.model.from_file import open_file


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.write_text, (self.path, "caught")


def spring(path: Path) -> str:
    path.write_text("caught")
    return "sprung"


class Function(Trap):
    """Calls a function when it is unpickled."""

    def __reduce__(self) -> object:
        return spring, (self.path,)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3))


def refusal(path: Path, **options: bool) -> CnnlensError:
    with pytest.raises(CnnlensError) as caught:
        open_file(path, **options)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def zipped(*members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in members:
            archive.writestr(name, "content")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"epoch 1: loss 0.3\n" * 9, "is a text file"),
        ("größe\n".encode() * 2000, "is a text file"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"\n <HTML lang='en'>404</HTML>", "is a web page or message"),
        (b"<?xml version='1.0'?><Error/>", "is a web page or message"),
        (b'{"error": "not found"}', "is a web page or message"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not a model"),
        (image("PNG"), "is a PNG image"),
        (image("JPEG"), "is a JPEG image"),
        (image("WEBP"), "is a WebP image"),
        (zipped("a.txt"), "is a zip archive"),
        (zipped("config.json", "model.weights.h5"), "is a Keras model"),
        (zipped("a.npy"), "is a NumPy archive"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.0.0", "is an ONNX model"),
        (b"\x08\x01\x12\x80\x01graph", "is a TensorFlow SavedModel"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "is a TensorFlow Lite model"),
        (np.random.default_rng(0).bytes(5000), "is no file format known"),
        (saved(small().state_dict())[:-300], "truncated or damaged zip"),
        (saved(small().state_dict())[:400], "truncated or damaged zip"),
        (saved({}), "holds an empty dict, but no state dict"),
        (saved({"epoch": 3, "loss": 0.5}), "holds a dict of epoch, loss, but no state dict"),
        (saved(torch.ones(3)), "holds one Tensor, but no state dict"),
        (saved([torch.ones(3)]), "holds one list, but no state dict"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert message in refusal(path).message


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"<!DOCTYPE html><html></html>", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (saved(small().state_dict())[:-300], "download it again"),
        (zipped("w.pt"), "name the file of weights in it"),
        (gzip.compress(b"w.pt"), "name the file of weights in it"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "build it in PyTorch"),
        (b"epoch 1: loss 0.3\n", "cnnlens opens PyTorch checkpoints"),
    ],
    ids=["page", "pointer", "truncated", "archive", "packed", "tflite", "log"],
)
def test_what_is_no_model_says_the_way_out(tmp_path: Path, content: bytes, hint: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert hint in refusal(path).hint


def test_keras_weights_torchscript_and_folders_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.pt", "w") as file:
        file["layer"] = np.zeros(3)
    assert "HDF5" in refusal(tmp_path / "w.pt").message
    torch.jit.trace(small(), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "script.pt"))
    error = refusal(tmp_path / "script.pt")
    assert "TorchScript" in error.message
    assert "torch.export" in error.hint
    assert "is a folder" in refusal(tmp_path).message


def test_a_package_is_left_by_the_way_that_its_hint_names(tmp_path: Path) -> None:
    net = zoo.shapes_net()
    with torch.package.PackageExporter(tmp_path / "net.pt") as exporter:
        exporter.extern(["torch.**", "cnnlens.**"])
        exporter.save_pickle("model", "model.pkl", net)
    error = refusal(tmp_path / "net.pt")
    assert "torch.package" in error.message
    assert "PackageImporter(FILE).load_pickle(PACKAGE, NAME).state_dict()" in error.hint
    found = torch.package.PackageImporter(tmp_path / "net.pt").load_pickle("model", "model.pkl")
    torch.save(found.state_dict(), tmp_path / "weights.pt")
    assert open_file(tmp_path / "weights.pt").arch == "zoo:shapes_net"


def test_torchscript_is_left_by_the_way_that_its_hint_names(tmp_path: Path) -> None:
    net = zoo.shapes_net()
    torch.jit.script(net).save(str(tmp_path / "script.pt"))
    assert "torch.jit.load(FILE).state_dict()" in refusal(tmp_path / "script.pt").hint
    torch.save(torch.jit.load(tmp_path / "script.pt").state_dict(), tmp_path / "weights.pt")
    assert open_file(tmp_path / "weights.pt").arch == "zoo:shapes_net"


def test_python_code_gets_the_factory_form_as_a_hint(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\n")
    assert "file.py:factory" in refusal(tmp_path / "net.py").hint


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_hostile_pickle_is_refused_and_never_run(
    tmp_path: Path, legacy: bool, inside: bool
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "model.pt"
    trap = Trap(mark)
    content = {"state_dict": small().state_dict(), "extra": trap} if inside else trap
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    error = refusal(path)
    assert "unpickling can run any code" in error.message
    assert "--allow-pickle" in error.hint
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # the trap works: it was the refusal that held


@pytest.mark.parametrize("legacy", [True, False])
def test_weights_beside_a_hostile_object_are_read_without_running_it(
    tmp_path: Path, legacy: bool
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "model.pt"
    net = zoo.shapes_net()
    content = {"state_dict": net.state_dict(), "extra": [Function(mark)]}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    opened = open_file(path)
    assert not mark.exists()
    for name, value in opened.net.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])
    torch.load(path, weights_only=False)
    assert mark.exists()  # the trap works


def test_newer_pickle_protocols_are_refused_too(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "model.pt"
    torch.save(Trap(mark), path, pickle_protocol=4)
    assert "--allow-pickle" in refusal(path).hint
    assert not mark.exists()


def test_a_hostile_plain_pickle_is_never_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Trap(mark)))
    assert "--allow-pickle" in refusal(path).hint
    assert not mark.exists()


def test_a_pickled_network_is_refused_by_name_and_opens_when_trusted(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    net = small()
    torch.save(net, path)
    error = refusal(path)
    assert "torch.nn.modules.container.Sequential" in error.message
    assert "save net.state_dict() instead" in error.hint
    opened = open_file(path, allow_pickle=True)
    assert torch.equal(opened.net[0].weight, net[0].weight)
    torch.save({"model": nn.DataParallel(net), "epoch": 1}, path)
    assert torch.equal(open_file(path, allow_pickle=True).net[0].weight, net[0].weight)


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1),
        np.float64(0.5),
        np.int64(3),
        np.arange(4.0),
        datetime.timedelta(days=1),
        Path("runs"),
        {"history": [np.float32(0.1)], "scheduler": fractions.Fraction(1, 3)},
    ],
    ids=lambda beside: type(beside).__name__,
)
@pytest.mark.parametrize("allowed", [False, True])
def test_objects_beside_the_weights_are_no_obstacle(
    tmp_path: Path, beside: object, allowed: bool
) -> None:
    path = tmp_path / "checkpoint.pth"
    net = zoo.shapes_net()
    torch.save({"args": beside, "state_dict": net.state_dict(), "best": beside}, path)
    opened = open_file(path, allow_pickle=allowed)
    assert opened.arch == "zoo:shapes_net"
    for name, value in opened.net.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])


def test_a_network_beside_the_optimizers_tensors_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    net = small()
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3, 8, 8)).sum().backward()
    adam.step()
    torch.save({"model": net, "optimizer": adam.state_dict()}, path)
    assert "torch.nn.modules.container.Sequential" in refusal(path).message


def test_a_pickled_class_whose_code_is_gone_gets_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vanishing_nets.py").write_text(
        "from torch import nn\nclass Net(nn.Conv2d):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import sys

    import vanishing_nets  # type: ignore[import-not-found]

    path = tmp_path / "model.pt"
    torch.save(vanishing_nets.Net(3, 4, 3), path)
    monkeypatch.delitem(sys.modules, "vanishing_nets")
    (tmp_path / "vanishing_nets.py").unlink()
    error = refusal(path, allow_pickle=True)
    assert "whose code is not here" in error.message
    assert "vanishing_nets" in error.message


def test_damaged_safetensors_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file(small().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-40])
    assert "damaged or incomplete" in refusal(path).message


def test_an_old_truncated_checkpoint_is_damaged_and_not_hostile(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(small().state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(40, len(whole), 41):
        path.write_bytes(whole[:length])
        assert "damaged or incomplete" in refusal(path).message
