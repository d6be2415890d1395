"""Code that a file names runs only where the user has named it before."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.architectures import trusted
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from cnnlens.settings import ModelSettings
from cnnlens.study.network import Network
from cnnlens.study.workspace import Workspace

CODE = """
from pathlib import Path
from torch import nn

(Path(__file__).parent / "ran").touch()

def net():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 30 * 30, 2))
"""


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(trusted, "_NAMED", set())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A folder with code, and a checkpoint beside it that names it as `arch`."""
    folder = tmp_path / "strangers"
    folder.mkdir()
    (folder / "code_of_net.py").write_text(CODE)
    return folder


def checkpoint(folder: Path, arch: str) -> Path:
    scope: dict[str, object] = {"__file__": str(folder / "code_of_net.py")}
    exec(CODE, scope)
    (folder / "ran").unlink()
    out = folder / "net.pt"
    save_checkpoint(out, scope["net"](), arch, Preprocess(size=(32, 32)))  # type: ignore[operator]
    return out


def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(trusted, "_NAMED", set())


@pytest.mark.parametrize("by_module", [False, True])
def test_a_checkpoint_runs_no_code_until_it_is_named(
    strangers: Path, monkeypatch: pytest.MonkeyPatch, by_module: bool
) -> None:
    monkeypatch.chdir(strangers)
    arch = "code_of_net:net" if by_module else f"{strangers / 'code_of_net.py'}:net"
    file = str(checkpoint(strangers, arch))
    with pytest.raises(UsageError) as refused:
        open_model(file)
    assert f"{file} is built by {arch}, code that was not named" in refused.value.message
    assert refused.value.hint.endswith(f"--arch {arch}")
    assert not (strangers / "ran").exists()
    assert open_model(file, arch=arch).arch == arch
    forgotten(monkeypatch)
    assert open_model(file).arch == arch and (strangers / "ran").exists()


def test_the_same_name_elsewhere_is_other_code(
    strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "code_of_net.py").write_text(CODE)
    monkeypatch.chdir(mine)
    assert open_model("code_of_net:net").arch == "code_of_net:net"
    file = str(checkpoint(strangers, "code_of_net:net"))
    monkeypatch.chdir(strangers)
    with pytest.raises(UsageError, match="not named"):
        open_model(file)
    assert not (strangers / "ran").exists()


def test_a_librarys_callables_are_code_too(strangers: Path) -> None:
    with pytest.raises(UsageError, match="os:getcwd, code that was not named"):
        open_model(str(checkpoint(strangers, "os:getcwd")))


def test_code_that_is_gone_is_asked_for(strangers: Path) -> None:
    gone = strangers / "gone.py"
    file = str(checkpoint(strangers, f"{gone}:net"))
    with pytest.raises(CnnlensError, match="is not to be had"):
        open_model(file)
    gone.write_text(CODE)  # nobody has named it: it was only asked for
    with pytest.raises(UsageError, match="not named"):
        open_model(file)
    assert not (strangers / "ran").exists()


@pytest.mark.parametrize("where", ["spec", "arch"])
def test_a_workspace_runs_no_code_until_it_is_named(
    strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    code = f"{strangers / 'code_of_net.py'}:net"
    weights = str(checkpoint(strangers, code))
    spec, opening = (code, {}) if where == "spec" else (weights, {"arch": code})
    space = Workspace(tmp_path / "w")
    mine = Network(space, spec, ModelSettings(**opening))
    with space.editing() as edited:
        edited.use_model(mine.model, mine.options)
    (strangers / "ran").unlink()

    forgotten(monkeypatch)
    assert Network(Workspace(tmp_path / "w")).model.arch == code  # it is mine, as is the home
    (strangers / "ran").unlink()

    forgotten(monkeypatch)
    monkeypatch.setenv("CNNLENS_HOME", str(tmp_path / "other"))
    for again in (None, weights if where == "arch" else None):
        with pytest.raises(UsageError, match=r"is about .*, code that was not named"):
            _ = Network(Workspace(tmp_path / "w"), again).model
        assert not (strangers / "ran").exists()
    named = Network(Workspace(tmp_path / "w"), spec, ModelSettings(**opening))
    assert named.model.arch == code


def test_a_home_that_cannot_be_written_remembers_for_the_process(
    strangers: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text("a file is in the way")
    code = f"{strangers / 'code_of_net.py'}:net"
    file = str(checkpoint(strangers, code))
    assert open_model(file, arch=code) and open_model(file)
    forgotten(monkeypatch)
    with pytest.raises(UsageError, match="not named"):
        open_model(file)


def test_what_is_kept_may_be_damaged(
    strangers: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "named-code.txt").write_bytes(b'\xff\xfe\n"cut off')
    code = f"{strangers / 'code_of_net.py'}:net"
    file = str(checkpoint(strangers, code))
    assert open_model(file, arch=code).arch == code
    forgotten(monkeypatch)
    assert open_model(file).arch == code
