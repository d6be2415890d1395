"""units: what its results depend on, and what is kept when something fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from cnnlens.activations.store import Store
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.errors import CnnlensError
from cnnlens.methods.extract import Extract
from cnnlens.methods.method import build, carry_out
from cnnlens.methods.units import Units
from cnnlens.progress import Step
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Lines, Voice
from tests.cli.photos import write_photos

from .test_measurement import after, blank, save_net, touch

MADE = {"top": 3, "bins": 3, "per_bin": 2, "neighbours": 2}


def method(kind: Any, world: Path, page: bool = True, **values: Any) -> Any:
    opening = ModelSettings(mean=values.pop("mean", None))
    run = RunSettings(batch_size=values.pop("batch_size", 32))
    study = Study(
        Workspace(world / "ws"), str(world / values.pop("net", "net.pt")), opening, run,
        Voice(quiet=True),
    )  # fmt: skip
    given = {"data": world / values.pop("photos", "photos"), "layer": ("conv2",), **values}
    return kind(study, *build(kind, given), page)


def todo(world: Path, page: bool = True, **values: Any) -> list[str]:
    one = method(Units, world, page, **{**MADE, **values})
    one.resolve()
    one.study.commit()
    return [layer.name for layer in one.todo]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("made")
    save_net(world / "net.pt", 0)
    write_photos(world / "photos", damaged=False)
    carry_out(method(Units, world, **MADE))
    return world


def other_class(world: Path) -> None:
    """One photo stands in another class."""
    (world / "photos" / "b" / "00.png").rename(world / "photos" / "a" / "00.png")


def another_store(world: Path) -> None:
    carry_out(method(Extract, world, layer=("conv3",)))


CHANGES: dict[str, Mapping[str, Any] | Callable[[Path], None]] = {
    "seed": {"seed": 1},
    "bins": {"bins": 4},
    "per bin": {"per_bin": 1},
    "top": {"top": 2},
    "neighbours": {"neighbours": 3},
    "another layer beside": {"layer": ("conv2", "conv3")},
    "another store": another_store,
    "image": blank("photos/b/00.png"),
    "image's time": touch("photos/b/00.png"),
    "class": other_class,
    "one image less": lambda world: (world / "photos" / "b" / "00.png").unlink(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_changes_an_input_gets_new_results(world: Path, name: str) -> None:
    assert todo(world) == []
    assert "conv2" in todo(world, **after(CHANGES[name], world))


def test_classes_count_where_nothing_else_changes(world: Path) -> None:
    from cnnlens.data.dataset import ImageSet

    one = method(Units, world, **MADE)
    one.resolve()
    one.study.commit()
    photos = one.images
    kinds = tuple(reversed(photos.image_categories))
    one.images = ImageSet(photos.root, photos.paths, photos.kind, kinds)
    assert [layer.name for layer in one.todo] == ["conv2"]


def test_what_changes_no_number_redoes_nothing(world: Path) -> None:
    assert todo(world, page=False) == []  # without pictures, a result with them serves
    assert todo(world, batch_size=4) == []
    carry_out(method(Units, world, layer=("conv2", "conv3"), **MADE))
    for names in (("conv2",), ("conv3",), ("conv3", "conv2")):
        assert todo(world, layer=names) == []


def test_pictures_that_are_wanted_later_are_drawn_later(world: Path) -> None:
    shutil.rmtree(world / "ws" / "units")
    shutil.rmtree(world / "ws" / "images", ignore_errors=True)
    carry_out(method(Units, world, page=False, **MADE))
    folder = world / "ws" / "units" / "conv2"
    assert not (folder / "pictures.h5").exists() and not (world / "ws" / "images").exists()
    numbers = (folder / "units.csv").read_bytes(), (folder / "units.h5").read_bytes()
    carry_out(method(Units, world, **MADE))
    assert (folder / "pictures.h5").exists() and list((world / "ws" / "images").iterdir())
    assert numbers == ((folder / "units.csv").read_bytes(), (folder / "units.h5").read_bytes())


def test_another_model_needs_a_workspace_of_its_own_and_clears_this_one(world: Path) -> None:
    save_net(world / "other.pt", 1)
    one = method(Units, world, net="other.pt", **MADE)
    one.study.force = True
    one.resolve()
    one.study.commit()
    assert not (world / "ws" / "units").exists()


def test_who_measures_a_layer_later_finds_the_same(world: Path) -> None:
    shutil.rmtree(world / "ws")
    carry_out(method(Units, world, layer=("conv2",), **MADE))
    carry_out(method(Units, world, layer=("conv3",), **MADE))
    late = (world / "ws" / "units" / "conv3" / "units.h5").read_bytes()
    shutil.rmtree(world / "ws" / "units")
    carry_out(method(Units, world, layer=("conv2", "conv3"), **MADE))
    assert (world / "ws" / "units" / "conv3" / "units.h5").read_bytes() == late


def test_layers_that_were_finished_before_an_interrupt_are_kept(world: Path) -> None:
    shutil.rmtree(world / "ws" / "units")
    names = ("conv1", "conv3")
    real = Lines.show

    def show(self: Lines, step: Step) -> None:
        real(self, step)
        if step.stage.startswith("conv3: pictures"):
            raise KeyboardInterrupt

    stopped = method(Units, world, layer=names, **MADE)
    with mock.patch.object(Lines, "show", show), pytest.raises(KeyboardInterrupt):
        carry_out(stopped)
    assert list(stopped.summaries) == ["conv1"]
    assert todo(world, layer=names) == ["conv3"]
    again = method(Units, world, layer=names, **MADE)
    carry_out(again)
    assert list(again.summaries) == list(again.result()) == list(names)
    left = [path.name for path in (world / "ws" / "units").iterdir()]
    assert sorted(left) == ["conv1", "conv3"]


def test_a_store_that_is_gone_is_made_again_for_the_others(world: Path) -> None:
    carry_out(method(Units, world, layer=("conv2", "conv3"), **MADE))
    (world / "ws" / "activations" / "photos" / "conv2.h5").unlink()
    one = method(Units, world, layer=("conv2", "conv3"), **{**MADE, "seed": 5})
    carry_out(one)
    assert one.summaries["conv3"]["compared_with"] == ["conv3", "conv2"]


def test_stores_that_lack_different_images_are_not_measured_as_one(world: Path) -> None:
    """As a disk that failed for a moment once left them."""
    real = ImageSet.pixels

    def lost(images: ImageSet, index: int, *args: Any) -> np.ndarray:
        if index == 1:
            raise DamagedImage(images.file(index), "input/output error")
        return real(images, index, *args)

    with mock.patch.object(ImageSet, "pixels", lost):
        carry_out(method(Units, world, **{**MADE, "layer": ("conv1",)}))
    both = {**MADE, "layer": ("conv1", "conv2"), "top": 4}
    with pytest.raises(CnnlensError, match=r"conv1.* and .*conv2.* are not of the same") as caught:
        carry_out(method(Units, world, **both))
    assert "--force" in caught.value.hint
    one = method(Units, world, **both)
    one.study.force = True
    carry_out(one)
    counts = {len(Store(path)) for path in world.glob("ws/activations/*/*.h5")}
    assert len(counts) == 1


def test_python_measures_a_network_and_images_in_memory(tmp_path: Path) -> None:
    import numpy as np

    import cnnlens
    from cnnlens.model.zoo import ZOO

    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (30, 30, 3), np.uint8) for _ in range(6)]
    half = (0.5, 0.5, 0.5)
    lens = cnnlens.Investigation(
        ZOO["demo_net"].make(3).eval(), tmp_path / "ws", quiet=True,
        preprocess=cnnlens.Preprocess((24, 24), half, half),
    )  # fmt: skip
    found = lens.units(data=photos, labels=list("aabbab"), layer="conv2", top=4)
    assert found.name == "conv2" and len(found) == 64 and found.arrays["top"].shape == (64, 4)
    assert {unit.category for unit in found.units} <= {"a", "b"}
    unit = found.best()[0]
    html = found[unit.unit]._repr_html_()
    assert f"Unit {unit.unit} of conv2" in html
    assert html.count("<img") == len([*unit.top, *unit.bottom, *unit.neighbours]) + sum(
        len(one.examples) for one in unit.bins
    )
    assert found._repr_html_().count("<img") == min(48, len(found.best()))
    both = lens.units(data=photos, labels=list("aabbab"), layer=["conv2", "conv3"], top=4)
    assert list(both) == ["conv2", "conv3"]
    assert both["conv3"].summary["compared_with"] == ["conv3", "conv2"]


@pytest.mark.parametrize("command", ["units", "cluster"])
def test_blocks_of_a_store_that_is_there_are_cleared(world, command):
    """A run was killed between the store's last rename and the removal of its blocks."""
    carry_out(made := method(Extract, world))
    parts = made.study.workspace.stores(made.images) / ".conv2.h5.parts"
    parts.mkdir()
    (parts / "000000.h5").write_bytes(b"a block")
    shutil.rmtree(world / "ws" / "units")
    one = method(Units, world, **MADE)
    if command == "units":
        carry_out(one)
    else:  # and whatever else looks at one layer
        one.resolve()
        one.study.commit()
        assert [*one.study.stored(one.images, one.layers[0]).fill(one.study.run)] == []
    assert not parts.exists()
