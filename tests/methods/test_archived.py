"""Results on an archive are those on the folder that unpacking it leaves, byte by byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cnnlens.data.synthetic import make_shapes
from cnnlens.methods.dissect import Dissect
from cnnlens.methods.method import build, carry_out
from cnnlens.methods.units import Units
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice
from tests.data.packed import PACKS, zipped

from .test_measurement import save_net

TABLES = ("units/conv2/units.csv", "dissect/conv2/units.csv", "dissect/conv2/concepts.csv")


def method(kind: Any, world: Path, data: Path | None, space: str, page: bool = False) -> Any:
    study = Study(
        Workspace(world / space), str(world / "net.pt"), ModelSettings(), RunSettings(),
        Voice(quiet=True),
    )  # fmt: skip
    more = {"bins": 3, "per_bin": 2} if kind is Units else {}
    return kind(study, *build(kind, {"data": data, "layer": ("conv2",), **more}), page)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    save_net(world / "net.pt", 0)
    make_shapes(world / "shapes", 16, 32)
    for kind in (Units, Dissect):
        carry_out(method(kind, world, world / "shapes", "plain", page=True))
    return world


@pytest.mark.parametrize("pack", PACKS)
def test_tables_and_stores_are_those_of_the_folder(world: Path, pack: Any) -> None:
    archive, space = pack(world / "shapes", world / pack.__name__), f"ws-{pack.__name__}"
    for kind in (Units, Dissect):
        carry_out(method(kind, world, archive, space))
    for table in TABLES:
        assert (world / space / table).read_bytes() == (world / "plain" / table).read_bytes()
    (mine,) = (world / space / "activations").glob("*/conv2.h5")
    (other,) = (world / "plain" / "activations").glob("*/conv2.h5")
    with h5py.File(mine) as one, h5py.File(other) as two:
        assert set(one) == set(two)
        for name in two:
            assert np.array_equal(one[name][()], two[name][()]), name
    known = json.loads((world / space / "workspace.json").read_text())["data"][-1]
    assert archive.name in known["path"] and known["kind"] == "broden"


def test_a_workspace_opens_its_archive_again_and_sees_that_it_changed(world: Path) -> None:
    folder = Path(shutil.copytree(world / "shapes", world / "changed"))
    archive = zipped(folder, world / "again")
    carry_out(method(Units, world, archive, "again"))
    later = method(Units, world, None, "again")
    later.resolve()
    assert later.images.paths and later.todo == []
    first, second = (folder / path for path in later.images.paths[:2])
    first.write_bytes(second.read_bytes())
    zipped(folder, world / "again")
    changed = method(Units, world, None, "again")
    changed.resolve()
    assert [layer.name for layer in changed.todo] == ["conv2"]


def test_pictures_are_drawn_from_an_archive(world: Path) -> None:
    one = method(Units, world, zipped(world / "shapes", world / "drawn"), "drawn", page=True)
    carry_out(one)
    drawn, plain = world / "drawn", world / "plain"
    pictures = [p.relative_to(drawn) for p in (drawn / "images").rglob("*") if p.is_file()]
    assert pictures
    for picture in pictures:
        assert (drawn / picture).read_bytes() == (plain / picture).read_bytes()
