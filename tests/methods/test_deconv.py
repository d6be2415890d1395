"""``deconv``: what a picture depends on, what stays of an earlier one, what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens import Investigation, Preprocess
from cnnlens.attribution.projections import Projections
from cnnlens.model import device
from cnnlens.model.layers import find_layers
from cnnlens.model.open import open_model
from cnnlens.report.blocks import at_units
from cnnlens.report.sections import projections
from cnnlens.settings import DeconvSettings
from tests.cli.photos import write_nets, write_photos
from tests.cli.runner import Answer, cnnlens

SIZE = ["--image-size", "48"]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_nets(tmp_path)
    write_photos(tmp_path / "photos")
    return tmp_path


def run(world: Path, *words: object, net: str = "rgb", space: str = "space") -> Answer:
    model = f"{world / 'nets.py'}:{net}"
    return cnnlens("deconv", model, *SIZE, "-w", world / space, "--no-page", *words)


def read(world: Path, space: str = "space") -> dict[str, Any]:
    path = world / space / "deconv" / "conv2" / "deconv.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def shown(world: Path) -> list[int]:
    """How many images stand in each picture."""
    return [len(entry["images"]) for entry in read(world)["pictures"]]


@pytest.mark.parametrize("more", [[], ["--raw"]])
def test_a_smaller_request_does_not_replace_a_larger_sheet(world: Path, more: list[str]) -> None:
    data = ["-d", world / "photos"]
    assert run(world, "-f", "conv2:0,1", *data, "--top", 4).code == 0
    picture = world / "space" / "deconv" / "conv2" / "0.png"
    before = picture.read_bytes()
    answer = run(world, "-f", "conv2:0-2", *data, "--top", 1, *more)
    assert answer.code == 0
    assert shown(world) == [4, 4, 1]  # what is new is as it was asked for
    assert picture.read_bytes() == before
    raw = picture.with_suffix(".npz")
    assert not more or len(np.load(raw)["projections"]) == 4
    assert run(world, "-f", "conv2:0-2", *data, "--top", 6).code == 0
    assert shown(world) == [6, 6, 6]
    assert run(world, "-f", "conv2:0", *data, "--top", 1, "--force").code == 0
    assert shown(world) == [1, 6, 6]  # unless one insists


def captions(space: Path) -> dict[int | None, str]:
    """What the page says of every unit's projections, up to how high the unit was."""
    section = projections(space)
    assert section is not None
    shots = [shot for _, shot in at_units(section)]
    assert all(shot.caption.split(":")[0] in shot.words for shot in shots)
    return {shot.unit: shot.caption.split(": activation")[0] for shot in shots}


def test_the_page_says_of_every_unit_which_images_it_was_projected_on(world: Path) -> None:
    one, *others = sorted((world / "photos").rglob("*.*"))
    count = len(others) + 1
    few = world / "few"
    few.mkdir()
    for photo in others[:3]:
        shutil.copy(photo, few)
    assert run(world, "-f", "conv2:0-2", "-d", few, "--top", 2).code == 0
    assert run(world, "-f", "conv2:1", "-d", world / "photos", "--top", 4).code == 0
    assert run(world, "-f", "conv2:2", "-i", one).code == 0
    said = {
        0: "top 2 of 3 images in few",
        1: f"top 4 of {count} images in photos",
        2: "1 given image",
    }
    assert captions(world / "space") == said
    document = read(world)
    for entry in document["pictures"]:  # as an earlier version left them
        del entry["of"]
    (world / "space" / "deconv" / "conv2" / "deconv.json").write_text(json.dumps(document))
    assert captions(world / "space") == {0: "top 2 of few", 1: "top 4 of photos", 2: said[2]}


@pytest.mark.parametrize("more", [["--method", "guided"], ["--whole-map"]])
def test_a_larger_sheet_of_another_kind_does_not_serve(world: Path, more: list[str]) -> None:
    data = ["-f", "conv2:0", "-d", world / "photos"]
    assert run(world, *data, "--top", 4).code == 0
    assert run(world, *data, "--top", 2, *more).code == 0
    assert shown(world) == [2]


def test_what_was_met_stays_known_where_nothing_is_made(world: Path) -> None:
    words = ["-f", "conv2:0", "-d", world / "photos"]
    assert run(world, *words, net="smooth").code == 0
    first = read(world)
    assert first["skipped"] == [{"image": "b/bad.png", "reason": "truncated"}]
    assert first["undefined"] == ["SiLU"]
    assert "1 unit was made before" in run(world, *words, net="smooth").err
    assert read(world) == first


# ---- what a picture depends on


def spoil(world: Path, name: str) -> None:
    rows = np.random.default_rng(99).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(rows).save(world / "photos" / name)


CHANGES = {
    "method": ["--method", "guided"],
    "whole map": ["--whole-map"],
    "top": ["--top", 3],
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_make_the_picture_anew(world: Path, name: str) -> None:
    words = ["-f", "conv2:0", "-d", world / "photos", "--top", 2]
    assert run(world, *words).code == 0
    assert "made before" in run(world, *words).err
    assert "made before" not in run(world, *words, *CHANGES[name]).err


def test_other_pictures_in_the_data_make_it_anew(world: Path) -> None:
    words = ["-f", "conv2:0", "-d", world / "photos", "--top", 2]
    assert run(world, *words).code == 0
    spoil(world, "b/07.png")
    assert "made before" not in run(world, *words).err
    assert "made before" in run(world, *words).err
    spoil(world, "b/new.png")
    assert "made before" not in run(world, *words).err


def test_other_data_of_the_same_pictures_make_it_anew(world: Path) -> None:
    shutil.copytree(world / "photos", world / "copy")
    words = ["-f", "conv2:0", "--top", 2]
    assert run(world, *words, "-d", world / "photos").code == 0
    assert "made before" not in run(world, *words, "-d", world / "copy").err


def test_another_type_of_the_store_that_ranks_the_images_makes_it_anew(world: Path) -> None:
    """The last layer has no store: it is asked of the network, and its picture stays."""
    words = ["-f", "conv2:0", "-f", "conv1:0", "-d", world / "photos", "--top", 2]
    store = ["extract", f"{world / 'nets.py'}:rgb", *SIZE, "-w", world / "space"]
    store += ["-d", world / "photos", "-l", "conv2", "--no-units"]
    assert run(world, *words).code == 0
    assert cnnlens(*store, "--dtype", "float32").code == 0
    assert run(world, *words).err.count("made before") == 2  # the same numbers
    assert cnnlens(*store, "--dtype", "float16", "--force").code == 0
    answer = run(world, *words)
    assert answer.code == 0 and answer.err.count("made before") == 1
    assert read(world)["pictures"][0]["made_from"]["dtype"] == "float16"
    assert run(world, *words).err.count("made before") == 2


@pytest.mark.parametrize("turn", [1, -1])
def test_what_is_said_of_given_images_does_not_hang_on_their_order(world: Path, turn: int) -> None:
    files = [world / "photos" / one for one in ("a/cat.png", "b/cat.png", "b/00.png")][::turn]
    table = run(world, "-f", "conv2:0", *(w for file in files for w in ("-i", file))).out
    peaks = {one["activation"]: one["image"] for one in read(world)["pictures"][0]["images"]}
    best = peaks[max(peaks)]
    assert len(peaks) == 3
    assert [image for image in peaks.values() if image in table] == [best]
    section = projections(world / "space")
    assert section is not None
    ((_, shot),) = at_units(section)
    assert shot.caption.endswith(f"activation {max(peaks):.3g} to {min(peaks):.3g}")


@pytest.mark.parametrize("change", ["content", "another", "one more", "--top"])
def test_given_images_make_it_anew_where_they_differ(world: Path, change: str) -> None:
    words = ["-f", "conv2:0", "-i", world / "photos/a/cat.png"]
    assert run(world, *words).code == 0
    assert "made before" in run(world, *words).err
    if change == "content":
        spoil(world, "a/cat.png")
    if change == "another":
        words[-1] = world / "photos/b/cat.png"
    if change == "one more":
        words += ["-i", world / "photos/b/cat.png"]
    if change == "--top":  # plays no part on given images
        words += ["--top", "3"]
    assert ("made before" in run(world, *words).err) == (change == "--top")


def test_an_entry_that_says_nothing_of_how_it_was_made_is_made_anew(world: Path) -> None:
    words = ["-f", "conv2:0", "-i", world / "photos/a/cat.png"]
    assert run(world, *words).code == 0
    document = read(world)
    del document["pictures"][0]["made_from"]
    (world / "space" / "deconv" / "conv2" / "deconv.json").write_text(json.dumps(document))
    answer = run(world, *words)
    assert answer.code == 0 and "made before" not in answer.err


# ---- what is said


def test_what_will_be_done_is_said(world: Path) -> None:
    words = ["-f", "conv2:0-2", "-f", "conv1:0"]
    answer = run(world, *words, "-d", world / "photos", "--top", 2)
    assert "3 units of conv2, 1 unit of conv1, on the top 2 of 23 images in photos" in answer.err
    answer = run(world, *words, "-i", world / "photos/a/cat.png")
    assert "3 units of conv2, 1 unit of conv1, on 1 given image" in answer.err


@pytest.mark.parametrize("words", [["-d", "gone"], ["-i", "gone.png"]])
def test_what_is_missing_is_said_before_the_model_is_opened(world: Path, words: list[str]) -> None:
    answer = cnnlens("deconv", world / "no.pt", "-f", "conv2:0", *words, "-w", world / "space")
    assert answer.code == 2 and "gone" in answer.error


def test_nothing_that_is_shared_names_the_machine(world: Path) -> None:
    assert run(world, "-f", "conv2:0", "-i", world / "photos", "--raw").code == 0
    folder = world / "space" / "deconv" / "conv2"
    assert str(world.parent) not in (folder / "deconv.json").read_text()
    assert str(world.parent) not in " ".join(np.load(folder / "0.npz")["paths"])


# ---- projections in batches


def test_projections_do_not_depend_on_the_batch(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(f"{world / 'nets.py'}:rgb", image_size=(48, 48), device="cpu")
    layer = find_layers(model).resolve("conv2")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 48, 48), dtype=np.uint8)

    def projected(limit: int) -> tuple[Projections, np.ndarray]:
        found = Projections(model, layer, pixels.__getitem__, str, DeconvSettings(), limit)
        return found, np.stack([one.projection for one in found.of(0, range(5))])

    _, whole = projected(5)
    assert np.abs(projected(2)[1] - whole).max() <= 1e-6 * np.abs(whole).max()
    forward = model.net.forward
    sizes = []

    def small(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 2:
            raise MemoryError
        return forward(x)  # type: ignore[no-any-return]

    monkeypatch.setattr(model.net, "forward", small)
    found, halved = projected(5)
    assert found.limit == 2 and sizes == [5, 2, 2, 1]
    assert np.abs(halved - whole).max() <= 1e-6 * np.abs(whole).max()
    assert device.is_memory_error(MemoryError())


def test_images_of_floats_are_projected_as_the_network_sees_them(tmp_path: Path) -> None:
    """Rounded to 8 bits, the faint pattern would be gone, and with it the activation."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3, padding=1, bias=False), torch.nn.ReLU())
    torch.nn.init.constant_(net[0].weight, 1 / 27)
    faint = torch.full((3, 8, 8), 0.5 + 0.3 / 255)  # between two steps of 8 bits
    lens = Investigation(
        net, tmp_path / "ws", preprocess=Preprocess((8, 8), (0.5,) * 3, (1.0,) * 3), quiet=True
    )
    found = lens.deconv(filter="0:0", data=[faint], method="gradient")
    (entry,) = found.entries
    by_hand = float(net((faint - 0.5)[None]).detach().max())
    assert entry["images"][0]["activation"] == pytest.approx(by_hand, rel=1e-4)
