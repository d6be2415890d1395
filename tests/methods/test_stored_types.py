"""Stores of another number type than the usual one: read as they are where none is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest

from cnnlens.data.animals import make_animals
from cnnlens.data.synthetic import make_kinds, make_shapes
from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.methods.dissect import Dissect
from cnnlens.methods.exam import Exam
from cnnlens.methods.extract import Extract
from cnnlens.methods.label import Label
from cnnlens.methods.method import carry_out
from cnnlens.methods.net2vec import Net2Vec
from cnnlens.methods.stability import Stability
from cnnlens.voice import Voice

from .test_measurement import method, save_net

GIVEN: dict[type, dict[str, Any]] = {
    Dissect: {"chance": 0, "top": 0, "data": "shapes"},
    Net2Vec: {"data": "shapes", "epochs": 1, "filters": "1", "limit": 2},
    Label: {"chance": 0, "data": "kinds"},
    Stability: {"chance": 0, "top": 0, "data": "animals"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0)
    make_kinds(world / "kinds", 6, 24), make_shapes(world / "shapes", 20, 24)
    make_animals(world / "animals", 45, 24)
    shutil.move(world / "animals" / "negatives", world / "others")
    return world


def one(kind: type, world: Path, **more: Any) -> Any:
    given = {**GIVEN.get(kind, {}), **more}
    found = method(kind, world, **{**given, "data": given["data"] and world / given["data"]})
    found.study.voice = Voice()
    return found


def summary(found: Any) -> dict[str, Any]:
    carry_out(found)
    read: dict[str, Any] = read_json(found.folder(found.layers[0]) / "summary.json")
    return read


def types(world: Path) -> list[str]:
    found = []
    for store in (world / "ws" / "activations").rglob("*.h5"):
        with h5py.File(store) as file:
            found.append(str(file["activations"].dtype))
    return found


@pytest.mark.parametrize("kind", GIVEN)
def test_what_is_stored_is_read_as_it_is_and_that_is_said(
    kind: Any, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = shutil.copytree(world, world.with_name("wide"))
    data = GIVEN[kind]["data"]
    carry_out(one(Extract, world, data=data, dtype="float16", units=False))
    capsys.readouterr()
    found = summary(one(kind, world))
    said = f"conv2: its activations of {data} stay float16"
    assert capsys.readouterr().err.count(said) == 1
    assert types(world) == ["float16"] and found["made_from"]["dtype"] == "float16"
    again = one(kind, world)
    again.resolve()
    assert again.todo == [] and said in capsys.readouterr().err
    plain = summary(one(kind, wide))["made_from"]
    assert types(wide) == ["float32"] and plain.get("dtype", "float32") == "float32"
    assert said not in capsys.readouterr().err


def test_it_is_what_asking_for_it_gives(world: Path) -> None:
    other = shutil.copytree(world, world.with_name("other"))
    carry_out(one(Extract, world, data="shapes", dtype="float16", units=False))
    carry_out(one(Dissect, world))
    carry_out(one(Dissect, other, dtype="float16"))
    tables = [(of / "ws/dissect/conv2/units.csv").read_bytes() for of in (world, other)]
    assert tables[0] == tables[1]


def test_a_type_that_is_asked_for_is_not_said_to_stay(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    carry_out(one(Extract, world, data="shapes", dtype="float16"))
    assert "stay float16" not in capsys.readouterr().err
    carry_out(one(Extract, world, data="shapes"))
    assert "stay float16" in capsys.readouterr().err


def test_labels_from_half_precision_are_examined_in_it(world: Path) -> None:
    carry_out(one(Dissect, world, dtype="float16"))
    found = summary(one(Exam, world, data=None, chance=2, resamples=20))
    assert types(world) == ["float16"]
    assert found["made_from"]["methods"]["dissect"]["dtype"] == "float16"


def test_to_ask_for_another_stays_a_mistake_with_the_way_out(world: Path) -> None:
    carry_out(one(Extract, world, data="shapes", dtype="float16", units=False))
    for kind in (Dissect, Extract):
        with pytest.raises(CnnlensError, match="another --dtype") as caught:
            carry_out(one(kind, world, data="shapes", dtype="float32"))
        assert "leave --dtype out" in caught.value.hint
    carry_out(one(Extract, world, data="shapes", units=False))  # none asked for
    assert types(world) == ["float16"]
