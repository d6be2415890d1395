"""Results on an archive are those on the folder that unpacking it leaves, byte by byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cnnlens.data import answers
from cnnlens.data.synthetic import make_shapes
from cnnlens.errors import CnnlensError
from cnnlens.methods.dissect import Dissect
from cnnlens.methods.extract import Extract
from cnnlens.methods.method import build, carry_out
from cnnlens.methods.units import Units
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice
from tests.data.packed import PACKS, files_of, zipped

from .test_measurement import save_net

TABLES = ("units/conv2/units.csv", "dissect/conv2/units.csv", "dissect/conv2/concepts.csv")


def method(
    kind: Any, world: Path, data: Path | None, space: str, page: bool = False, batch_size: int = 32
) -> Any:
    run = RunSettings(batch_size=batch_size)
    study = Study(
        Workspace(world / space), str(world / "net.pt"), ModelSettings(), run, Voice(quiet=True)
    )
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


class Leaving(MemoryFileSystem):
    """Memory that answers so many reads, and then nothing."""

    protocol = "leaving"
    left = 10**9

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("leaving://", "memory://"))

    def _answer(self) -> None:
        Leaving.left -= 1
        if Leaving.left < 0:
            raise ConnectionRefusedError("connection refused")

    def cat_file(self, *args: Any, **more: Any) -> bytes:
        self._answer()
        return super().cat_file(*args, **more)

    def exists(self, *args: Any, **more: Any) -> bool:
        self._answer()
        return super().exists(*args, **more)


def test_a_server_that_goes_away_and_comes_back_costs_nothing(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "FIRST_WAIT", 0.001)
    fsspec.register_implementation("leaving", Leaving, clobber=True)
    for file in files_of(world / "shapes"):
        name = file.relative_to(world / "shapes").as_posix()
        Leaving().pipe_file(f"/shapes/{name}", file.read_bytes())
    address = Path("leaving://shapes")
    first = method(Extract, world, address, "left", batch_size=2)
    committed = first.study.committed

    @contextmanager
    def committed_and_left() -> Iterator[None]:  # once it is known which images there are
        with committed():
            monkeypatch.setattr(Leaving, "left", 8)
            yield

    monkeypatch.setattr(first.study, "committed", committed_and_left)
    with pytest.raises(CnnlensError, match=r"leaving://shapes is gone since the command began"):
        carry_out(first)
    monkeypatch.setattr(Leaving, "left", 10**9)
    carry_out(method(Extract, world, address, "left", batch_size=2))
    stores = [world / space / "activations" / "shapes" / "conv2.h5" for space in ("left", "plain")]
    with h5py.File(stores[0]) as one, h5py.File(stores[1]) as two:
        assert np.array_equal(one["activations"][()], two["activations"][()])
        assert one["images"][()].tolist() == two["images"][()].tolist()


def test_pictures_are_drawn_from_an_archive(world: Path) -> None:
    one = method(Units, world, zipped(world / "shapes", world / "drawn"), "drawn", page=True)
    carry_out(one)
    drawn, plain = world / "drawn", world / "plain"
    pictures = [p.relative_to(drawn) for p in (drawn / "images").rglob("*") if p.is_file()]
    assert pictures
    for picture in pictures:
        assert (drawn / picture).read_bytes() == (plain / picture).read_bytes()
