"""The key of a network of a user's own code: everything of the code, and nothing but that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model.architectures import importing, own_code
from cnnlens.model.model import fingerprint
from cnnlens.model.open import open_model
from cnnlens.study.workspace import Workspace

NET = """
import json
from pathlib import Path
import torch
from torch import nn
{imports}
class Net(nn.Module):
    def __init__(self, act, pad):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 2, 3, padding=pad, dilation=pad), act
    def forward(self, x):
        return self.act(self.conv(x))
def make():
    {lazily}
    return Net(act, json.loads(Path(__file__).with_name("cfg.json").read_text()))
"""
# functions, which the printed network does not show
RELU, TANH = "import torch\nact = torch.relu\n", "import torch\nact = torch.tanh\n"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no module of a test to the next one."""
    before = set(sys.modules)
    monkeypatch.setattr(importing, "_BROUGHT", {})
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").endswith(("act_of.py", "y.py")):
            del sys.modules[name]


def written(folder: Path, imports: str = "", lazily: str = "pass", name: str = "net.py") -> str:
    (folder / "cfg.json").write_text("1")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(NET.format(imports=imports, lazily=lazily))
    return f"{folder / name}:make"


def key(spec: str) -> str:
    with torch.random.fork_rng():
        return open_model(spec, device="cpu").fingerprint


def activation(spec: str) -> str:
    """Tell by what it computes: one of them is never below 0."""
    found = open_model(spec, device="cpu").net(torch.randn(1, 3, 16, 16))
    return "ReLU" if found.min() == 0 else "Tanh"


WAYS = {
    "from": ("from act_of import act", "pass"),
    "as a whole": ("import act_of", "act = act_of.act"),
    "in the factory": ("", "from act_of import act"),
    "by a text": ("from importlib import import_module\nact = import_module('act_of').act", "pass"),
    "by another": ("from through_y import act", "pass"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_factory_imports_counts_and_is_what_its_file_says_now(
    tmp_path: Path, way: str
) -> None:
    (tmp_path / "through_y.py").write_text("from act_of import act\n")
    (tmp_path / "act_of.py").write_text(RELU)
    spec = written(tmp_path, *WAYS[way])
    first = key(spec)
    assert activation(spec) == "ReLU" and key(spec) == first
    (tmp_path / "act_of.py").write_text(f'"""Activations."""\n\n# the usual one\n{RELU}')
    assert key(spec) == first
    (tmp_path / "act_of.py").write_text(TANH)  # as long, within the same second
    assert key(spec) != first and activation(spec) == "Tanh"
    (tmp_path / "beside.py").write_text("nobody imports this")
    (tmp_path / "act_of.py").write_text(RELU)
    assert key(spec) == first


def test_a_package_s_relative_imports_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pkg_of_y"
    written(tmp_path, "from .parts.act_of import act", name="pkg_of_y/net_y.py")
    (folder / "cfg.json").write_text("1")
    (folder / "parts").mkdir()
    for package in (folder, folder / "parts"):
        (package / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    marks = []
    for text in (RELU, TANH):
        (folder / "parts" / "act_of.py").write_text(text)
        marks.append(key("pkg_of_y.net_y:make"))
        assert activation("pkg_of_y.net_y:make") == ("ReLU" if text == RELU else "Tanh")
    (folder / "__init__.py").write_text("# its package\n")
    assert key("pkg_of_y.net_y:make") == marks[1] != marks[0]


def test_neighbours_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    specs = []
    for name, text in (("a", RELU), ("b", TANH)):
        (tmp_path / name).mkdir()
        specs.append(written(tmp_path / name, "from act_of import act"))
        (tmp_path / name / "act_of.py").write_text(text)
    assert [activation(spec) for spec in specs] == ["ReLU", "Tanh"]
    assert key(specs[0]) != key(specs[1])


def test_what_code_reads_counts_where_it_shows_in_the_network(tmp_path: Path) -> None:
    spec = written(tmp_path, "act = torch.relu")
    first = key(spec)
    (tmp_path / "cfg.json").write_text("4")
    assert key(spec) != first


HOLDS = """
import json
from pathlib import Path
import torch
from torch import nn

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.home = nn.Conv2d(3, 2, 3), __file__
        {line}
    def forward(self, x):
        return self.conv(x)

def make():
    return Scaled()

HERE = json.loads(Path(__file__).with_name("cfg.json").read_text())
"""


@pytest.mark.parametrize(
    "line",
    [
        "self.gain = HERE",
        "self.of = dict(gain=[1, (HERE,)])",
        "self.scale = torch.full((2,), float(HERE))",
        "self.scale = torch.full((2,), float(HERE)).numpy()",
        "self.register_buffer('scale', torch.full((2,), float(HERE)), persistent=False)",
    ],
)
def test_what_a_network_holds_beside_its_weights_counts(tmp_path: Path, line: str) -> None:
    """A factor that only `forward` uses; where the file lies does not count."""
    marks = []
    for folder, value in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cfg.json").write_text(str(value))
        (tmp_path / folder / "net.py").write_text(HOLDS.replace("{line}", line))
        marks.append(key(f"{tmp_path / folder / 'net.py'}:make"))
    assert marks[0] == marks[1] != marks[2]


def test_installed_libraries_and_python_s_own_are_nobody_s_code(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    assert not own_code.is_own("library", site / "library.py")
    assert not own_code.is_own("torch.nn", tmp_path / "torch" / "nn.py")
    assert not own_code.is_own("json", Path(__import__("json").__file__))
    assert own_code.is_own("library", tmp_path / "library.py")


def test_an_unpickled_network_s_classes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "from torch import nn\nclass N(nn.Module):\n    def __init__(self):\n"
    body += "        super().__init__()\n        self.c = nn.Conv2d(3, 2, 3)\n"
    body += "    def forward(self, x):\n        return self.c(x).{}()\n"
    monkeypatch.syspath_prepend(tmp_path)
    marks = []
    for name in ("relu", "tanh", "relu"):
        (tmp_path / "own_y.py").write_text(body.format(name))
        sys.modules.pop("own_y", None)
        if not marks:
            torch.manual_seed(0)
            torch.save(__import__("own_y").N(), tmp_path / "n.pt")
            del sys.modules["own_y"]
        marks.append(open_model(str(tmp_path / "n.pt"), allow_pickle=True, device="cpu"))
    first, other, again = (model.fingerprint for model in marks)
    assert first == again != other


def test_results_under_an_earlier_fingerprint_stay_until_the_code_changes(tmp_path: Path) -> None:
    """An earlier version hashed the file's whole text."""
    spec = written(tmp_path, "act = torch.relu  # as usual")
    model = open_model(spec, device="cpu")
    text = (tmp_path / "net.py").read_text()
    old = fingerprint("net.py:make", model.net, text)
    assert old != model.fingerprint
    space = Workspace(tmp_path / "ws")
    with space.editing():
        space.use_model(replace(model, fingerprint=old, fingerprint_before=None), {})
    (tmp_path / "ws" / "units").mkdir()
    with space.editing():
        space.use_model(space.known_as(model), {})
    assert space.document["model"]["fingerprint"] == old
    torch.save(model.net.state_dict(), tmp_path / "w.pt")  # the same weights from now on

    def opened() -> object:
        again = open_model(str(tmp_path / "w.pt"), arch=spec, device="cpu")
        return space.known_as(replace(again, spec=model.spec))

    (tmp_path / "net.py").write_text(text.replace("# as usual", ""))
    with space.editing():
        space.use_model(opened(), {})  # a comment
    (tmp_path / "cfg.json").write_text("4")  # which the earlier fingerprint did not see
    with (
        pytest.raises(CnnlensError, match=r"net.py:make has other code or weights"),
        space.editing(),
    ):
        space.use_model(opened(), {})


def test_results_under_an_earlier_fingerprint_are_nobody_s_where_imports_were_not_in_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "act_of.py").write_text(RELU)
    model = open_model(written(tmp_path, "from act_of import act"), device="cpu")
    assert model.fingerprint_before is None


def test_networks_of_the_registries_have_the_keys_they_had() -> None:
    model = open_model("zoo:resnet20", device="cpu")
    assert model.fingerprint == fingerprint(model.arch, model.net)
    assert model.fingerprint_before is None
    assert isinstance(model.net, nn.Module)
