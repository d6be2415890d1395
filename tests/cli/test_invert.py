from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnlens.cli import app

STEPS = ["--steps", "6"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(("cat.png", "dog.png", "more/cat.png")):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(coarse).resize((70, 64), Image.Resampling.BICUBIC).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "cat.png").read_bytes()[:200])
    return folder


def run(workspace: Path, *words: object, model: str = "zoo:demo_net") -> int:
    arguments = ["invert", model, *map(str, words), "-w", str(workspace), "--no-page"]
    return app._run([*arguments, *STEPS] if "--steps" not in words else arguments)


def listed(workspace: Path, layer: str = "conv2") -> list[dict[str, Any]]:
    document = json.loads((workspace / "invert" / layer / "invert.json").read_text())
    pictures: list[dict[str, Any]] = document["pictures"]
    return pictures


def test_layers_and_images_in_one_call(photos: Path, tmp_path: Path) -> None:
    images = ["-i", photos / "cat.png", "-i", photos / "dog.png"]
    assert run(tmp_path, "-l", "conv1", "-l", "conv2", *images) == 0
    for layer in ("conv1", "conv2"):
        for entry, name in zip(listed(tmp_path, layer), ("cat", "dog"), strict=True):
            assert entry["file"] == f"{name}.png"
            assert (entry["layer"], entry["perturb"]) == (layer, "none")
            assert Path(entry["image"]) == photos / f"{name}.png"
            assert entry["initial"] == entry["trace"][0] > entry["trace"][-1] == entry["final"]
            assert len(entry["trace"]) == 6
            assert entry["final"] == pytest.approx(entry["errors"]["features"], rel=1e-4)
            assert 0 < entry["errors"]["pixels"] < 0.5
            assert entry["errors"]["pairs"] > 0
            with Image.open(tmp_path / "invert" / layer / entry["file"]) as picture:
                assert picture.width > 2 * 64
    with Image.open(tmp_path / "invert" / "sheet.png") as sheet:
        assert sheet.width > 3 * 224 and sheet.height > 2 * 224


def test_json_is_the_summary_file_and_nothing_else(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "-l", "conv2", "-i", photos / "cat.png", "--json") == 0
    text = (tmp_path / "invert" / "conv2" / "invert.json").read_text()
    assert capsys.readouterr().out == text
    assert json.loads(text)["settings"]["steps"] == 6


def test_finished_pictures_are_not_made_again(photos: Path, tmp_path: Path) -> None:
    cat, dog = photos / "cat.png", photos / "dog.png"
    assert run(tmp_path, "-l", "conv2", "-i", cat) == 0
    picture = tmp_path / "invert/conv2/pictures/cat.png"
    made = picture.stat().st_mtime_ns
    assert listed(tmp_path)[0]["errors"]["pairs"] is None
    assert run(tmp_path, "-l", "conv2", "-i", cat, "-i", dog) == 0
    assert picture.stat().st_mtime_ns == made
    assert [e["file"] for e in listed(tmp_path)] == ["cat.png", "dog.png"]
    assert run(tmp_path, "-l", "conv2", "-i", cat, "--steps", 3) == 0
    assert picture.stat().st_mtime_ns != made
    assert len(listed(tmp_path)[0]["trace"]) == 3


def test_errors_are_held_against_the_images_of_the_last_run(photos: Path, tmp_path: Path) -> None:
    images = ["-i", photos / "cat.png", "-i", photos / "dog.png"]
    assert run(tmp_path / "a", "-l", "conv2", *images) == 0
    assert run(tmp_path / "b", "-l", "conv2", *images[:2]) == 0
    assert run(tmp_path / "b", "-l", "conv2", *images) == 0
    at_once, later = ([e["errors"]["pairs"] for e in listed(tmp_path / w)] for w in ("a", "b"))
    assert later == pytest.approx(at_once, rel=1e-9)
    figures = [(tmp_path / w / "invert/conv2/cat.png").read_bytes() for w in ("a", "b")]
    assert figures[0] == figures[1]


def test_errors_are_held_against_the_data_where_there_is_some(photos: Path, tmp_path: Path) -> None:
    image = ["-l", "conv2", "-i", photos / "cat.png"]
    assert run(tmp_path, *image, "-d", photos / "more") == 0  # one image: no pair
    assert listed(tmp_path)[0]["errors"]["pairs"] is None
    assert run(tmp_path, *image, "-d", photos) == 0
    assert listed(tmp_path)[0]["errors"]["pairs"] > 0


def test_an_interrupt_keeps_what_is_finished(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnlens.synthesize import invert as arithmetic

    plain, begun = arithmetic.invert, []

    def interrupted(*arguments: Any) -> Any:
        begun.append(1)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(arithmetic, "invert", interrupted)
    images = ["-i", photos / "cat.png", "-i", photos / "dog.png"]
    assert run(tmp_path, "-l", "conv2", *images) == 130
    assert [e["file"] for e in listed(tmp_path)] == ["cat.png"]
    assert (tmp_path / "invert/sheet.png").exists()
    assert run(tmp_path, "-l", "conv2", *images) == 0
    assert len(begun) == 3  # the cat was not inverted again
    assert [e["file"] for e in listed(tmp_path)] == ["cat.png", "dog.png"]


@pytest.mark.parametrize("perturb", ["binarize", "dropout", "drop-least"])
def test_a_perturbed_inversion_stands_beside_the_clean_one(
    photos: Path, tmp_path: Path, perturb: str
) -> None:
    assert run(tmp_path, "-l", "conv2", "-i", photos / "cat.png", "--perturb", perturb) == 0
    clean, changed = listed(tmp_path)
    assert (clean["file"], clean["perturb"]) == ("cat.png", "none")
    assert (changed["file"], changed["perturb"]) == (f"{perturb}/cat.png", perturb)
    assert changed["trace"] != clean["trace"]
    sizes = []
    for entry in (clean, changed):
        with Image.open(tmp_path / "invert/conv2" / entry["file"]) as picture:
            sizes.append(picture.width)
    assert sizes[1] - sizes[0] >= 224  # a third picture


def test_a_clean_inversion_is_the_same_beside_a_perturbed_one(photos: Path, tmp_path: Path) -> None:
    image = ["-l", "conv2", "-i", photos / "cat.png"]
    assert run(tmp_path / "a", *image) == 0
    assert run(tmp_path / "b", *image, "--perturb", "dropout", "--raw") == 0
    first, second = (
        (tmp_path / w / "invert/conv2/pictures/cat.png").read_bytes() for w in ("a", "b")
    )
    assert first == second


def test_a_clean_inversion_serves_every_perturbation(photos: Path, tmp_path: Path) -> None:
    image = ["-l", "conv2", "-i", photos / "cat.png"]
    clean, made = tmp_path / "invert/conv2/pictures/cat.png", set()
    for perturb in ("none", "dropout", "binarize"):
        arguments = ["invert", "zoo:demo_net", *map(str, image), "-w", str(tmp_path), *STEPS]
        assert app._run([*arguments, "--perturb", perturb]) == 0
        made.add(clean.stat().st_mtime_ns)
    assert len(made) == 1
    page = (tmp_path / "report.html").read_text()
    assert 0 < page.index("binarized") < page.index("half its values dropped")


def test_the_least_important_maps_are_those_the_clean_inversion_would_miss_least(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from cnnlens.model.layers import find_layers
    from cnnlens.model.open import open_model
    from cnnlens.synthesize import perturb
    from cnnlens.synthesize.invert import features

    plain, seen = perturb.drop_least, []

    def watched(answer: torch.Tensor, effect: torch.Tensor) -> torch.Tensor:
        seen.append((answer, effect))
        return plain(answer, effect)

    monkeypatch.setattr(perturb, "drop_least", watched)
    image = ["-l", "conv2", "-i", photos / "cat.png", "--raw", "--perturb", "drop-least"]
    assert run(tmp_path, *image) == 0
    ((answer, effect),) = seen
    model = open_model("zoo:demo_net")
    with np.load(tmp_path / "invert/conv2/cat.npz") as arrays:
        reached = features(
            model, find_layers(model).resolve("conv2"), torch.tensor(arrays["input"])
        )
    for k in range(len(answer)):
        grown = float(reached[k].square().sum() - (reached[k] - answer[k]).square().sum())
        assert float(effect[k]) == pytest.approx(grown, rel=1e-3, abs=1e-3)


def test_raw_arrays_are_what_the_picture_shows(photos: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "-l", "conv2", "-i", photos / "cat.png", "--raw") == 0
    with np.load(tmp_path / "invert/conv2/cat.npz") as arrays:
        image = arrays["image"]
    assert image.shape == (3, 64, 64) and image.dtype == np.float32
    with Image.open(tmp_path / "invert/conv2/pictures/cat.png") as picture:
        shown = np.asarray(picture).transpose(2, 0, 1)
    np.testing.assert_array_equal(np.rint(image * 255), shown)


def test_raw_asked_for_later_is_made(photos: Path, tmp_path: Path) -> None:
    image = ["-l", "conv2", "-i", photos / "cat.png"]
    assert run(tmp_path, *image) == 0
    assert run(tmp_path, *image, "--raw") == 0
    assert (tmp_path / "invert/conv2/cat.npz").exists()


def test_equal_stems_get_their_folders(photos: Path, tmp_path: Path) -> None:
    images = ["-i", photos / "cat.png", "-i", photos / "more/cat.png"]
    assert run(tmp_path, "-l", "conv2", *images) == 0
    files = [e["file"] for e in listed(tmp_path)]
    assert files == [f"{photos.name}__cat.png", "more__cat.png"]


def test_an_image_of_an_earlier_run_keeps_its_name(photos: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "-l", "conv2", "-i", photos / "cat.png") == 0
    assert run(tmp_path, "-l", "conv2", "-i", photos / "more/cat.png") == 0
    assert [e["file"] for e in listed(tmp_path)] == ["cat.png", "more__cat.png"]


def test_a_damaged_image_is_passed_over_and_named(photos: Path, tmp_path: Path) -> None:
    images = ["-i", photos / "broken.png", "-i", photos / "dog.png"]
    assert run(tmp_path, "-l", "conv2", *images) == 0
    document = json.loads((tmp_path / "invert/conv2/invert.json").read_text())
    assert [e["file"] for e in document["pictures"]] == ["dog.png"]
    assert [Path(s["image"]).name for s in document["skipped"]] == ["broken.png"]
    assert document["pictures"][0]["errors"]["pairs"] is None  # one image makes no pair


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["-i", "broken.png"], 1, "broken.png cannot be read"),
        (["-i", "catt.png"], 2, "did you mean cat.png"),
        ([], 2, "no images were named"),
        (["-i", "cat.png", "-l", "conv9"], 2, "conv9"),
        (["-i", "cat.png", "--perturb", "halve"], 2, "--perturb halve is not known"),
        (["-i", "cat.png", "--method", "magic"], 2, "--method magic is not known"),
        (["-i", "cat.png", "--tv", "-1"], 2, "--tv -1.0 is no factor"),
        (["-i", "cat.png", "--steps", "0"], 2, "--steps 0"),
        (["-i", "cat.png", "--lr", "nan"], 2, "--lr nan"),
    ],
)
def test_mistakes_are_one_clear_line(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    says: str,
) -> None:
    words = [str(photos / w) if w.endswith(".png") else w for w in words]
    assert run(tmp_path, *words) == status
    assert says in capsys.readouterr().err
    assert not (tmp_path / "invert").exists()


def test_the_page_shows_them(photos: Path, tmp_path: Path) -> None:
    arguments = ["invert", "zoo:demo_net", "-l", "conv2", "-i", str(photos / "cat.png")]
    assert app._run([*arguments, "-w", str(tmp_path), *STEPS, "--perturb", "binarize"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "still know of a photo" in page and "binarized" in page
    assert f"{listed(tmp_path)[0]['errors']['features']:.3f}" in page


def test_a_dead_layer_is_named(tmp_path: Path, photos: Path, capsys: Any) -> None:
    (tmp_path / "dead.py").write_text(
        "import torch\n"
        "def make():\n"
        "    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())\n"
        "    torch.nn.init.constant_(net[0].weight, 0.01)\n"
        "    torch.nn.init.constant_(net[0].bias, -1)\n"
        "    return net\n"
    )
    model = f"{tmp_path / 'dead.py'}:make"
    image = ["-i", photos / "cat.png", "--image-size", "32"]
    assert run(tmp_path / "w", *image, "-l", "1", model=model) == 1
    said = capsys.readouterr().err
    assert "every activation of 1 is 0" in said and "cat.png" in said
    assert (
        run(tmp_path / "w", *image, "-l", "0", model=model) == 0
    )  # before the rectifier it speaks
