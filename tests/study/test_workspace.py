"""The workspace as Python code meets it (what commands make of it: tests/cli)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError
from cnnlens.methods import methods
from cnnlens.model.preprocess import Preprocess
from cnnlens.settings.place import portable
from cnnlens.study.workspace import RESULTS, Workspace, needs_model


def model(fingerprint: str = "a", size: int = 8, spec: str = "zoo:net") -> SimpleNamespace:
    used = Preprocess((size, size), (0.5,) * 3, (0.5,) * 3)
    return SimpleNamespace(
        spec=spec,
        arch="zoo:net",
        fingerprint=fingerprint,
        code="",
        unsteady=[],
        has_random_weights=False,
        preprocess=used,
        classes=["x"],
        classes_source="given",
    )


@dataclass(frozen=True)
class Layer:
    name: str
    key: str
    alias: str = ""
    is_vector: bool = False

    @property
    def place(self) -> SimpleNamespace:
        return SimpleNamespace(key=self.key)


def images(root: Path, kind: str = "broden") -> ImageSet:
    root.mkdir(parents=True, exist_ok=True)
    (root / "a.png").write_bytes(str(root).encode())
    os.utime(root / "a.png", (1e9, 1e9))
    return ImageSet(root, ("a.png",), kind)


def data_path(space: Workspace, kinds: tuple[str, ...]) -> Path | None:
    """Folder of the data that commands use without being told."""
    entry = space.data_entry(kinds)
    return Path(entry["path"]) if entry else None


def test_a_new_workspace_writes_nothing_until_it_is_saved(tmp_path):
    space = Workspace(tmp_path / "ws")
    space.use_model(model(), {})
    assert (space.last_layer, data_path(space, ("broden",))) == (None, None)
    assert not (tmp_path / "ws").exists()
    with space.editing():
        space.add_command("cnnlens dissect")
    assert Workspace(tmp_path / "ws").document["commands"] == ["cnnlens dissect"]


def test_what_is_saved_is_read_back(tmp_path):
    space = Workspace(tmp_path / "ws")
    with space.editing():
        space.use_model(model(), {"arch": "zoo:net", "image_size": (8, 9), "mean": None})
        space.use_data(images(tmp_path / "data"))
        space.use_layer(Layer("conv1", "relu#0"))
    again = Workspace(tmp_path / "ws")
    assert again.model_options == {"spec": "zoo:net", "arch": "zoo:net", "image_size": [8, 9]}
    assert data_path(again, ("classes", "broden")) == (tmp_path / "data").resolve()
    assert again.last_layer == "conv1"
    assert again.knows(model()) and not again.knows(model("b"))


def test_unknown_keys_survive(tmp_path):
    (tmp_path / "workspace.json").write_text('{"format": 1, "later": {"a": 1}}')
    with Workspace(tmp_path).editing():
        pass
    assert json.loads((tmp_path / "workspace.json").read_text())["later"] == {"a": 1}


def test_fully_connected_layers_are_no_default_for_what_looks_at_maps(tmp_path):
    space = Workspace(tmp_path / "ws")
    space.use_layer(Layer("conv1", "relu#0"))
    space.use_layer(Layer("fc", "fc#0", is_vector=True))
    assert space.last_layer == "conv1"


def test_empty_workspaces_share_nothing(tmp_path):
    first = Workspace(tmp_path / "a")
    first.use_layer(Layer("conv1", "x"))
    first.use_data(images(tmp_path / "data"))
    assert Workspace(tmp_path / "b").last_layer is None
    assert Workspace(tmp_path / "b").document["data"] == []


def test_results_of_every_command_are_among_what_force_clears():
    writing = [m.name for m in methods().values() if m.opens_model and m.remembers]
    assert "fool" in writing and "extract" in writing  # which fills activations
    assert {*writing} - {"extract"} <= {*RESULTS}


@pytest.mark.parametrize("name", RESULTS)
def test_every_kind_of_result_is_guarded_and_cleared(tmp_path, name):
    space = Workspace(tmp_path)
    space.use_model(model(), {})
    result = tmp_path / name
    if result.suffix:
        result.write_text("page")
    else:
        result.mkdir()
        (result / "file").write_text("")
    with pytest.raises(CnnlensError, match="another model"):
        space.use_model(model("b"), {})
    with pytest.raises(CnnlensError, match="another preprocessing"):
        space.use_model(model(size=9), {})
    space.use_model(model(), {})  # the same one
    assert result.exists()
    space.use_model(model("b"), {}, force=True)
    assert not result.exists()


def test_names_of_data_sets_are_kept_apart(tmp_path):
    space = Workspace(tmp_path / "ws")
    first, second = images(tmp_path / "a" / "data"), images(tmp_path / "b" / "data")
    for data in (first, second, first):
        space.use_data(data)
    assert space.stores(first).name == "data"
    assert space.stores(second).name == "data-2"
    assert data_path(space, ("broden",)) == first.root.resolve()  # named last
    space.use_data(second, named=False)
    assert data_path(space, ("broden",)) == first.root.resolve()


def test_only_fitting_data_is_the_default(tmp_path):
    space = Workspace(tmp_path / "ws")
    space.use_data(images(tmp_path / "maps"))
    space.use_data(images(tmp_path / "photos", "images"))
    assert data_path(space, ("broden",)).name == "maps"
    assert data_path(space, ("images", "broden")).name == "photos"
    assert data_path(space, ("parts",)) is None


def test_models_in_files_are_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "net.pt").write_text("")
    (tmp_path / "nets.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert portable("net.pt") == str(tmp_path.resolve() / "net.pt")
    assert portable("nets.py:small") == f"{tmp_path.resolve() / 'nets.py'}:small"
    for spec in ("torchvision:resnet18", "package.module:net", "gone.pt", "gone.py:net"):
        assert portable(spec) == spec


def test_needing_a_model_is_wrong_usage(tmp_path):
    error = needs_model(Workspace(tmp_path / "ws"))
    assert error.exit_code == 2 and str(tmp_path / "ws") in error.message


def test_two_processes_at_once_erase_nothing_of_each_other(tmp_path):
    """Each reads what the other wrote before it adds its own."""
    script = (
        "import sys; from pathlib import Path; from cnnlens.study.workspace import Workspace\n"
        "w = Workspace(Path(sys.argv[1]))\n"
        "for i in range(15):\n"
        "    with w.editing() as now: now.add_command(f'{sys.argv[2]} {i}')\n"
    )
    here = Path(__file__).parents[2]
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "ws"), name], cwd=here)
        for name in "ab"
    ]
    assert [one.wait(120) for one in running] == [0, 0]
    commands = Workspace(tmp_path / "ws").document["commands"]
    assert sorted(commands) == sorted(f"{name} {i}" for name in "ab" for i in range(15))


def test_what_was_opened_before_another_wrote_does_not_erase_it(tmp_path):
    early, late = Workspace(tmp_path), Workspace(tmp_path)
    with late.editing() as now:
        now.add_command("first")
    with early.editing() as now:
        now.add_command("second")
    assert Workspace(tmp_path).document["commands"] == ["first", "second"]


def test_another_model_clears_the_results_of_other_packages_methods_too(tmp_path):
    space = Workspace(tmp_path)
    with space.editing() as now:
        now.use_model(model("a"), {})
        now.add_command("cnnlens names", "names")
        for hostile in ("..", ".", "../elsewhere", "/etc", ""):
            now.add_command("cnnlens odd", hostile)
    (tmp_path / "names").mkdir()
    with pytest.raises(CnnlensError, match="results of another model"), space.editing() as now:
        now.use_model(model("b"), {})
    with space.editing() as now:
        now.use_model(model("b"), {}, force=True)
    assert not (tmp_path / "names").exists()
    assert (tmp_path / "workspace.json").is_file()


@pytest.mark.parametrize(
    "part",
    [
        {"folders": 5},
        {"data": [{"path": "/x", "name": "../../evil", "kind": "images"}]},
        {"data": [{"path": "/x", "name": "..", "kind": "images"}]},
        {"layers": [{"name": "..", "place": "conv1#0"}]},
    ],
)
def test_a_hostile_one_is_refused(tmp_path, part):
    (tmp_path / "workspace.json").write_text(json.dumps(part))
    with pytest.raises(CnnlensError, match="damaged"):
        Workspace(tmp_path)


def test_a_linked_folder_is_unlinked_and_what_it_leads_to_stays(tmp_path):
    elsewhere = tmp_path / "scratch"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    space = Workspace(tmp_path / "ws")
    with space.editing() as now:
        now.use_model(model("a"), {})
    (tmp_path / "ws/activations").symlink_to(elsewhere)
    with space.editing() as now:
        now.use_model(model("b"), {}, force=True)
    assert not (tmp_path / "ws/activations").exists()
    assert (elsewhere / "kept").exists()


def test_a_folder_cannot_give_leave_to_unpickle(tmp_path):
    space = Workspace(tmp_path)
    with space.editing() as now:
        now.use_model(model("a"), {"allow_pickle": True, "arch": "zoo:net"})
    assert "allow_pickle" not in (tmp_path / "workspace.json").read_text()
    document = json.loads((tmp_path / "workspace.json").read_text())
    document["model"]["options"]["allow_pickle"] = True  # as a stranger's may say
    (tmp_path / "workspace.json").write_text(json.dumps(document))
    assert Workspace(tmp_path).model_options == {"spec": "zoo:net", "arch": "zoo:net"}


def test_a_file_that_vanished_meanwhile_comes_back_as_the_same_bytes(tmp_path):
    written = []
    for vanishes in (False, True):
        folder = tmp_path / str(vanishes)
        with Workspace(folder).editing() as workspace:
            workspace.document["data"] = []
        if vanishes:
            (folder / "workspace.json").unlink()
        with Workspace(folder).editing() as workspace:
            workspace.add_command("cnnlens dissect", "dissect")
        written.append((folder / "workspace.json").read_bytes())
    assert written[0] == written[1]


def test_images_are_moved_where_their_old_place_cannot_be_reached(tmp_path, monkeypatch):
    space = Workspace(tmp_path / "ws")
    before = images(tmp_path / "mount" / "photos")
    with space.editing() as known:
        known.use_data(before)
    (tmp_path / "copy").mkdir()
    shutil.copytree(before.root, tmp_path / "copy" / "photos")
    after, is_dir = ImageSet(tmp_path / "copy" / "photos", ("a.png",), "broden"), Path.is_dir

    def refuse(self: Path) -> bool:
        if "mount" in self.parts:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))
        return is_dir(self)

    monkeypatch.setattr(Path, "is_dir", refuse)
    with space.editing() as known:
        known.use_data(after)
    (entry,) = space.document["data"]
    assert (entry["path"], entry["name"]) == (str(after.root), "photos")
