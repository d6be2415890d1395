from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.attribution.deconv import project
from cnnlens.cli import app
from cnnlens.model.layers import find_layers
from cnnlens.model.open import open_model
from cnnlens.report.figures import attribution
from cnnlens.report.sheet import read_apart

from .photos import write_world

SIZE = ["--image-size", "48"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def run(world: Path, space: Path, net: str, *words: object) -> int:
    model = f"{world / 'nets.py'}:{net}"
    return app._run(["deconv", model, *SIZE, *map(str, words), "-w", str(space), "--no-page"])


def read(space: Path, layer: str = "conv2") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((space / "deconv" / layer / "deconv.json").read_text())
    return document


def by_hand(
    world: Path, net: str, unit: int, top: int, squash: bool = False
) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Top images of a unit of conv2, their peaks and their projections, one image at a time."""
    model = open_model(f"{world / 'nets.py'}:{net}", image_size=(48, 48), device="cpu")
    layer = find_layers(model).resolve("conv2")
    found = []
    for path in sorted((world / "photos").rglob("*.png")):
        if path.name == "bad.png":
            continue
        with Image.open(path) as image:
            mode = "L" if model.preprocess.channels == 1 else "RGB"
            pixels = model.preprocess.pixels(image.convert(mode), squash)
        x = model.preprocess.normalize(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
        with torch.no_grad():
            peak = model.net[:4](x)[0, unit].max()
        found.append((float(peak), path.relative_to(world / "photos").as_posix(), x))
    found.sort(key=lambda one: -one[0])
    best = found[:top]
    arrays = [project(model.net, x, layer.place, unit)[0] for _, _, x in best]
    return [p for _, p, _ in best], torch.tensor([a for a, _, _ in best]), torch.stack(arrays)


@pytest.mark.parametrize("net", ["rgb", "grey", "six"])
def test_top_images_of_the_data_with_their_projections(
    world: Path, tmp_path: Path, net: str
) -> None:
    words = ["-f", "conv2:0-2", "-d", world / "photos", "--top", 4, "--raw"]
    assert run(world, tmp_path, net, *words, "--batch-size", 3) == 0
    document = read(tmp_path)
    assert [p["file"] for p in document["pictures"]] == ["0.png", "1.png", "2.png"]
    assert document["skipped"] == [{"image": "b/bad.png", "reason": "truncated"}]
    for entry in document["pictures"]:
        names, peaks, arrays = by_hand(world, net, entry["unit"], 4)
        assert [i["image"] for i in entry["images"]] == names
        assert [i["activation"] for i in entry["images"]] == pytest.approx(peaks.tolist(), rel=1e-4)
        assert entry["final"] == entry["images"][0]["activation"] and entry["dead"] is None
        raw = np.load(tmp_path / "deconv" / "conv2" / f"{entry['unit']}.npz")
        assert raw["image"].shape == (3, 48, 48) and raw["image"].dtype == np.float32
        assert 0 <= raw["image"].min() < 0.3 and 0.7 < raw["image"].max() <= 1
        scale = float(arrays.abs().max())
        assert np.abs(raw["projections"] - arrays.numpy()).max() <= 1e-4 * scale
        assert np.array_equal(raw["projection"], raw["projections"][0])


def test_nothing_of_a_projection_lies_outside_its_box(world: Path, tmp_path: Path) -> None:
    words = ["-f", "conv2:0-2", "-d", world / "photos", "--raw"]
    assert run(world, tmp_path, "rgb", *words) == 0
    for entry in read(tmp_path)["pictures"]:
        raw = np.load(tmp_path / "deconv" / "conv2" / f"{entry['unit']}.npz")
        for one, array in zip(entry["images"], raw["projections"], strict=True):
            top, left, bottom, right = one["box"]
            assert 0 <= top < bottom <= 48 and 0 <= left < right <= 48
            assert (bottom - top, right - left) == (13, 13)  # nothing is padded here
            inside = np.abs(array[:, top:bottom, left:right]).sum()
            assert inside > 0 and np.abs(array).sum() == pytest.approx(inside)


def test_dead_units_are_named(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(world, tmp_path, "rgb", "-f", "conv2:all", "-d", world / "photos") == 0
    document = read(tmp_path)
    assert document["dead_units"] == [3]
    assert document["pictures"][3]["dead"] == "never above 0 on 22 images"
    assert "dead: never above 0 on 22 images" in capsys.readouterr().out
    assert (tmp_path / "deconv" / "conv2" / "3.png").is_file()


def test_given_images_are_all_projected_in_their_order(world: Path, tmp_path: Path) -> None:
    photos = [world / "photos" / name for name in ("b/05.png", "a/cat.png", "b/cat.png")]
    words = [w for photo in photos for w in ("-i", photo)]
    assert run(world, tmp_path, "rgb", "-f", "conv2:1@2,3", *words, "--raw", "--top", 1) == 0
    (entry,) = read(tmp_path)["pictures"]
    assert entry["file"] == "1@2,3.png" and entry["position"] == [2, 3]
    assert [i["image"] for i in entry["images"]] == ["b/05.png", "a/cat.png", "b/cat.png"]
    assert all(i["position"] == [2, 3] for i in entry["images"])
    raw = np.load(tmp_path / "deconv" / "conv2" / "1@2,3.npz")
    assert raw["projections"].shape == (3, 3, 48, 48)


def test_a_store_ranks_as_the_model_does(world: Path, tmp_path: Path) -> None:
    words = ["-f", "conv2:0-2", "-d", world / "photos", "--top", 3]
    assert run(world, tmp_path / "plain", "rgb", *words) == 0
    model = f"{world / 'nets.py'}:rgb"
    place = ["-w", str(tmp_path / "stored")]
    data = ["-d", str(world / "photos"), "-l", "conv2"]
    assert app._run(["extract", model, *SIZE, *data, *place, "-q"]) == 0
    assert run(world, tmp_path / "stored", "rgb", *words) == 0
    assert read(tmp_path / "stored") == read(tmp_path / "plain")


def test_methods_give_different_arrays_and_the_gradient_is_autograds(
    world: Path, tmp_path: Path
) -> None:
    photo = world / "photos" / "a" / "cat.png"
    arrays, words_of = {}, {}
    for method in ("deconvnet", "guided", "gradient"):
        words = ["-f", "conv2:0", "-i", photo, "--raw", "--method", method]
        assert run(world, tmp_path, "rgb", *words) == 0
        arrays[method] = np.load(tmp_path / "deconv" / "conv2" / "0.npz")["projection"]
        words_of[method] = read_apart(tmp_path / "deconv" / "conv2" / "0.png")[1][0]
    assert words_of == {
        "deconvnet": "what drove the unit",
        "guided": "what drove the unit",
        "gradient": "what would change the unit",
    }
    model = open_model(f"{world / 'nets.py'}:rgb", image_size=(48, 48), device="cpu")
    with Image.open(photo) as image:
        pixels = torch.from_numpy(model.preprocess.pixels(image, False).copy())
    x = model.preprocess.normalize(pixels.permute(2, 0, 1)[None]).requires_grad_()
    peak = model.net[:4](x)[0, 0].max()
    (gradient,) = torch.autograd.grad(peak, x)
    assert np.allclose(arrays["gradient"], float(peak.detach()) * gradient[0].numpy(), atol=1e-6)
    assert len({a.tobytes() for a in arrays.values()}) == 3


def test_an_interrupted_run_keeps_its_pictures_and_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-f", "conv2:0-2", "-d", world / "photos", "--top", 2]
    drawn: list[str] = []
    draw = attribution.draw_unit

    def interrupted(patches: Any, title: str, *more: Any) -> Any:
        drawn.append(title)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(patches, title, *more)

    monkeypatch.setattr(attribution, "draw_unit", interrupted)
    assert run(world, tmp_path, "rgb", *words) == 130
    folder = tmp_path / "deconv" / "conv2"
    assert sorted(p.name for p in folder.iterdir()) == ["0.png", "deconv.json"]
    assert [p["file"] for p in read(tmp_path)["pictures"]] == ["0.png"]
    before = (folder / "0.png").stat().st_mtime_ns
    assert run(world, tmp_path, "rgb", *words) == 0
    assert [title.split("unit ")[1] for title in drawn] == ["0", "1", "1", "2"]
    assert (folder / "0.png").stat().st_mtime_ns == before
    assert run(world, tmp_path, "rgb", *words, "--method", "guided") == 0
    assert len(drawn) == 7 and {p["method"] for p in read(tmp_path)["pictures"]} == {"guided"}


def test_nonlinearities_without_a_rule_are_warned_of(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = world / "photos" / "a" / "cat.png"
    assert run(world, tmp_path, "smooth", "-f", "conv2:0", "-i", photo) == 0
    assert "deconvnet defines no rule for SiLU" in capsys.readouterr().err
    assert read(tmp_path)["undefined"] == ["SiLU"]


def test_json_is_the_summary_file(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = world / "photos" / "a" / "cat.png"
    assert run(world, tmp_path, "rgb", "-f", "conv2:0", "-i", photo, "--json") == 0
    assert json.loads(capsys.readouterr().out) == read(tmp_path)
    assert run(world, tmp_path, "rgb", "-f", "conv1:0", "-f", "conv2:0", "-i", photo, "--json") == 0
    both = json.loads(capsys.readouterr().out)["layers"]
    assert both == {layer: read(tmp_path, layer) for layer in ("conv1", "conv2")}


def test_equal_runs_give_equal_bytes(world: Path, tmp_path: Path) -> None:
    words = ["-f", "conv2:1", "-d", world / "photos", "--raw"]
    for space in ("one", "two"):
        assert run(world, tmp_path / space, "rgb", *words) == 0
    one, two = (tmp_path / space / "deconv" / "conv2" for space in ("one", "two"))
    assert (one / "1.png").read_bytes() == (two / "1.png").read_bytes()
    assert (one / "deconv.json").read_bytes() == (two / "deconv.json").read_bytes()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "no units were named"),
        (["-f", "conv2"], 2, "names no units"),
        (["-f", "conv2:9"], 2, "no unit 9 in conv2"),
        (["-f", "conv7:0"], 2, "no layer 'conv7'"),
        (["-f", "conv2:0"], 2, "no data given"),
        (["-f", "conv2:0", "-i", "gone.png"], 2, "no image gone.png"),
        (["-f", "conv2:0", "-d", "gone"], 2, "no folder gone"),
        (["-f", "conv2:0", "-i", "PHOTOS/b/bad.png"], 1, "bad.png cannot be read: truncated"),
        (["-f", "conv2:0", "-i", "PHOTOS/a/cat.png", "-d", "PHOTOS"], 2, "-i and -d both"),
        (["-f", "conv2:0", "--method", "lrp"], 2, "--method lrp is not known"),
    ],
)
def test_mistakes_are_one_clear_line(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    said: str,
) -> None:
    words = [word.replace("PHOTOS", str(world / "photos")) for word in words]
    assert run(world, tmp_path, "rgb", *words) == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("source", ["-i", "-d"])
def test_activations_that_are_not_finite_name_the_image(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    given = world / "photos" / ("a/cat.png" if source == "-i" else "")
    assert run(world, tmp_path, "broken", "-f", "conv2:1", source, given) == 1
    error = capsys.readouterr().err
    assert "not finite on" in error and "a/cat.png" in error


def test_a_damaged_json_is_left_as_it_is_until_forced(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-f", "conv2:0", "-i", world / "photos" / "a" / "cat.png"]
    assert run(world, tmp_path, "rgb", *words) == 0
    path = tmp_path / "deconv" / "conv2" / "deconv.json"
    path.write_text('{"pictures": 3')
    assert run(world, tmp_path, "rgb", *words) == 1
    assert "deconv.json is damaged" in capsys.readouterr().err
    assert path.read_text() == '{"pictures": 3'
    assert run(world, tmp_path, "rgb", *words, "--force") == 0
    assert len(read(tmp_path)["pictures"]) == 1
