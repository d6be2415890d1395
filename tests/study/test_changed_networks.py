"""A network in memory that is changed between two calls: results are of what it is now."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import cnnlens
from cnnlens.errors import CnnlensError
from cnnlens.model.steady import CHANCE
from tests.model.in_memory import Net, net

PREPROCESS = cnnlens.Preprocess((8, 8), (0.5,) * 3, (0.5,) * 3)
IMAGES = list((torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255).byte())


def peaks(lens: cnnlens.Investigation, **more: object) -> np.ndarray:
    """The highest activation of each unit."""
    return np.asarray(lens.units(data=IMAGES, layer="c2", **more).arrays["top_peak"])[:, 0]


@torch.no_grad()
def truth(one: Net) -> np.ndarray:
    """The same in plain PyTorch."""
    found: list[torch.Tensor] = []
    handle = one.c2.register_forward_hook(lambda m, i, o: found.append(o.clone()))
    one((torch.stack(IMAGES) / 255 - 0.5) / 0.5)
    handle.remove()
    return found[0].amax((0, 2, 3)).numpy()


CHANGES: dict[str, Callable[[Net], object]] = {
    "attribute": lambda n: setattr(n, "gain", 5),
    "hook": lambda n: n.c1.register_forward_hook(lambda m, i, o: o * 0.5),
    "weight": lambda n: n.c1.weight.data.mul_(2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_results_are_of_what_the_network_is_now(
    change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = net().eval()
    lens = cnnlens.Investigation(one, preprocess=PREPROCESS)
    before, first = peaks(lens), lens.workspace.path
    np.testing.assert_allclose(before, truth(one), rtol=1e-5)
    CHANGES[change](one)
    capsys.readouterr()
    now = peaks(lens)
    np.testing.assert_allclose(now, truth(one), rtol=1e-5)
    assert not np.allclose(now, before)
    assert capsys.readouterr().err.count("the network has changed") == 1
    assert lens.workspace.path != first and (first / "units").is_dir()
    lens.units(layer="c2")  # the data is known in the new folder, too
    assert "done before" in capsys.readouterr().err


def test_what_is_taken_back_finds_its_results_again(capsys: pytest.CaptureFixture[str]) -> None:
    one = net().eval()
    lens = cnnlens.Investigation(one, preprocess=PREPROCESS)
    before = peaks(lens)
    handle = one.c1.register_forward_hook(lambda m, i, o: o * 0.5)
    peaks(lens)
    handle.remove()
    capsys.readouterr()
    assert np.array_equal(peaks(lens), before)
    said = capsys.readouterr().err
    assert "done before" in said and "has changed" not in said


def test_a_folder_that_was_named_keeps_its_results_until_they_are_let_go(tmp_path: Path) -> None:
    one = net().eval()
    lens = cnnlens.Investigation(one, tmp_path, preprocess=PREPROCESS, quiet=True)
    before = peaks(lens)
    one.gain = 5
    with pytest.raises(CnnlensError, match=r"Net as it was: its weights, code or hooks") as error:
        peaks(lens)
    assert "force=True" in error.value.hint and "Investigation(net," in error.value.hint
    assert "-w" not in error.value.hint and "--force" not in error.value.hint
    one.gain = 1.0
    assert np.array_equal(peaks(lens), before)
    one.gain = 5
    np.testing.assert_allclose(peaks(lens, force=True), truth(one), rtol=1e-5)


def test_a_wrapped_network_is_looked_at_anew_and_so_is_its_twin(tmp_path: Path) -> None:
    from cnnlens.model.twin import untrained

    one = net().eval()
    model = cnnlens.wrap_module(one, PREPROCESS)
    lens = cnnlens.Investigation(model, quiet=True)
    peaks(lens)
    twin = untrained(lens.model).fingerprint
    one.gain = 5
    np.testing.assert_allclose(peaks(lens), truth(one), rtol=1e-5)
    assert untrained(lens.model).fingerprint != twin


def test_a_cam_is_of_what_the_network_is_now() -> None:
    one = net().eval()
    lens = cnnlens.Investigation(one, preprocess=PREPROCESS, quiet=True)
    options = {"image": IMAGES[0].permute(1, 2, 0).numpy(), "layer": "c2", "method": "gradcam"}
    before = lens.cam(**options)
    one.mask[:, 2:] = 0
    now = lens.cam(**options)
    assert not np.array_equal(*(np.asarray(next(iter(one))) for one in (before, now)))


def test_what_is_drawn_at_random_is_said_once_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = net().eval()
    one.act = lambda x: F.dropout(x, 0.5)  # type: ignore[method-assign]
    lens = cnnlens.Investigation(one, tmp_path, preprocess=PREPROCESS)
    peaks(lens)
    peaks(lens)
    assert capsys.readouterr().err.count(CHANCE) == 1
    assert json.loads((tmp_path / "workspace.json").read_text())["model"]["unsteady"] == [CHANCE]


def test_notes_and_errors_have_python_s_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lens = cnnlens.Investigation(net().eval(), tmp_path, preprocess=PREPROCESS)
    peaks(lens)
    peaks(lens)
    said = capsys.readouterr().err
    assert "(force=True redoes it)" in said and "--force" not in said
    (tmp_path / "units" / "c2" / "summary.json").write_text("{")
    with pytest.raises(CnnlensError) as error:
        peaks(lens)
    assert "force=True" in error.value.hint and "--force" not in error.value.hint


FACTORY = """
import torch
import part

def make():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), part.Scaled())
    net.load_state_dict(torch.load("weights.pt", weights_only=True))
    return net
"""
PART = "from torch import nn\n\nclass Scaled(nn.Module):\n    def forward(self, x):\n"


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).state_dict(), "weights.pt")
    (tmp_path / "part.py").write_text(f"{PART}        return x\n")
    (tmp_path / "net.py").write_text(FACTORY)
    return tmp_path / "net.py"


def of_file(spec: str, workspace: str, **more: object) -> cnnlens.Investigation:
    return cnnlens.Investigation(spec, workspace, image_size=8, **more)


def activations(lens: cnnlens.Investigation, **more: object) -> np.ndarray:
    return np.array(lens.extract(data=IMAGES, layer="2", **more)[:])


def other_weights() -> None:
    state = torch.load("weights.pt", weights_only=True)
    torch.save({name: 2 * value for name, value in state.items()}, "weights.pt")


FILE_CHANGES: dict[str, Callable[[], object]] = {
    "weights": other_weights,
    "code": lambda: Path("part.py").write_text(f"{PART}        return 2 * x\n"),
}


@pytest.mark.parametrize("change", FILE_CHANGES)
def test_files_that_have_changed_are_opened_anew(
    change: str, factory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lens = of_file(f"{factory}:make", "out")
    before = activations(lens)
    capsys.readouterr()
    activations(lens)
    assert "anew" not in capsys.readouterr().err
    FILE_CHANGES[change]()
    with pytest.raises(CnnlensError, match="has other code or weights since"):
        activations(lens)
    assert f"{factory}:make has changed since it was opened" in capsys.readouterr().err
    now = activations(lens, force=True)
    assert not np.allclose(now, before)
    np.testing.assert_array_equal(now, activations(of_file(f"{factory}:make", "other")))
    np.testing.assert_array_equal(now, activations(lens))


def test_a_checkpoint_that_is_gone_stays_what_it_was(factory: Path) -> None:
    lens = of_file("weights.pt", "out", arch=f"{factory}:make")
    before = activations(lens)
    Path("weights.pt").unlink()
    np.testing.assert_array_equal(activations(lens), before)


def test_what_cnnlens_keeps_is_no_part_of_a_network(
    factory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CNNLENS_HOME", str(factory.parent / "home"))
    of_file("net.py:make", "first").layers()
    lens = of_file(f"{factory.parent / 'copy.py'}:make", "out")
    (factory.parent / "copy.py").write_text(FACTORY)
    activations(lens)
    (factory.parent / "more.py").write_text(FACTORY)
    of_file("more.py:make", "third").layers()  # another network's code is named meanwhile
    capsys.readouterr()
    activations(lens)
    assert "opened anew" not in capsys.readouterr().err
