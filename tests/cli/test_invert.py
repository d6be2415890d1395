from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.cli import app
from cnnlens.methods import carry_out
from cnnlens.methods.invert import Invert, InvertInputs
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.zoo import ZOO
from cnnlens.report.invert_files import read_inversions, rows, words_of
from cnnlens.report.inverted import inversions
from cnnlens.settings import InvertSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice

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
            assert entry["image"] == f"{photos.name}/{name}.png"  # nothing of the machine
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
    from cnnlens.synthesize import reconstruct as arithmetic

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
    assert [entry["raw"] for entry in listed(tmp_path)] == ["cat.npz", "drop-least/cat.npz"]
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
        (["-i", "cat.png", "--tv", "-1"], 2, "--tv -1.0 is not at least 0"),
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


def test_what_will_be_done_is_said_before_it_begins(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ["-l", "conv1", "-l", "conv2", "-i", photos / "cat.png", "-i", photos / "dog.png"]
    assert run(tmp_path, *images) == 0
    assert "2 photos × 2 layers, 6 steps each" in capsys.readouterr().err
    assert run(tmp_path, *images, "--perturb", "binarize") == 0
    said = capsys.readouterr().err
    assert "2 photos × 2 layers, 6 steps each" in said  # the clean ones are there
    assert "conv1: 2 pictures were made before" in said
    assert run(tmp_path, *images, "--force", "--perturb", "dropout") == 0
    assert "2 layers, whole and perturbed (dropout), 6 steps" in capsys.readouterr().err
    assert run(tmp_path, *images, "-i", photos / "more/cat.png", "-l", "conv3") == 0
    assert "5 pictures of 3 photos, 6 steps each" in capsys.readouterr().err


@pytest.fixture
def made(photos: Path, tmp_path: Path) -> Path:
    """A workspace with one inverted picture of an image that may be changed."""
    (tmp_path / "cat.png").write_bytes((photos / "cat.png").read_bytes())
    assert run(tmp_path / "w", "-l", "conv2", "-i", tmp_path / "cat.png") == 0
    return tmp_path / "w"


def is_redone(
    made: Path, *words: object, layer: str = "conv2", model: str = "zoo:demo_net"
) -> bool:
    picture = made / "invert" / layer / "pictures" / "cat.png"
    before = picture.stat().st_mtime_ns
    words = words if "--steps" in words else (*words, *STEPS)
    arguments = ["invert", model, "-l", layer, "-i", made.parent / "cat.png", *words, "-w", made]
    assert app._run([*map(str, arguments), "--no-page"]) == 0
    return picture.stat().st_mtime_ns != before


@pytest.mark.parametrize(
    "words",
    [["--steps", 5], ["--lr", 0.2], ["--tv", 2], ["--alpha", 0], ["--seed", 1], ["--force"]],
)
def test_other_settings_make_it_anew(made: Path, words: list[object]) -> None:
    assert not is_redone(made)
    assert is_redone(made, *words)


def test_another_image_of_the_same_name_makes_it_anew(made: Path, photos: Path) -> None:
    (made.parent / "cat.png").write_bytes((photos / "dog.png").read_bytes())
    assert is_redone(made)


def test_a_row_shows_one_state_of_a_photo_that_was_replaced(photos: Path, tmp_path: Path) -> None:
    """Every original is the very photo that was inverted beside it, as far as it can be seen."""
    photo, space = tmp_path / "x.png", tmp_path / "w"
    first, second = (photos / "cat.png").read_bytes(), (photos / "dog.png").read_bytes()
    photo.write_bytes(first)
    assert run(space, "-l", "conv2", "-i", photo, "--perturb", "binarize") == 0
    photo.write_bytes(second)
    assert run(space, "-l", "conv2", "-i", photo) == 0
    assert run(space, "-l", "conv1", "-i", photo) == 0
    found = rows(read_inversions(space))
    kinds = [(row.kind, sorted(layers)) for row, layers in found.items()]
    assert kinds == [("none", ["conv1", "conv2"]), ("binarize", ["conv2"])]
    (new, old) = dict.fromkeys(row.state for row in found)
    assert [words_of(row, found) for row in found] == [
        "one of 2 versions of this file",
        "binarized; one of 2 versions of this file",
    ]
    for row, layers in found.items():
        for one in layers.values():
            as_seen, other = (
                np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((32, 32)), float)
                for data in ((second, first) if row.state == new else (first, second))
            )
            small = np.asarray(Image.open(one.original).convert("RGB").resize((32, 32)), float)
            assert np.abs(small - as_seen).mean() < np.abs(small - other).mean() / 2
    assert {row.state for row in found if row.kind != "none"} == {old}
    text = str(inversions(space))
    assert text.count("one of 2 versions of this file") == 2
    before = (space / "invert/conv2/invert.json").read_bytes()
    assert run(space, "-l", "conv2", "-i", photo) == 0  # nothing is to be made
    assert (space / "invert/conv2/invert.json").read_bytes() == before


def given_to(made: Path, model: str, *words: object) -> None:
    """Have results lie in a workspace as if they were another network's, or fed otherwise."""
    elsewhere = made.parent / f"elsewhere{len(words)}"
    image = made.parent / "cat.png"
    assert run(elsewhere, "-l", "conv2", "-i", image, *words, model=model) == 0
    shutil.copy(elsewhere / "workspace.json", made / "workspace.json")


def test_another_network_or_preprocessing_or_place_makes_it_anew(made: Path) -> None:
    torch.manual_seed(5)
    entry = ZOO["demo_net"]
    other = made.parent / "other.pt"
    save_checkpoint(other, entry.make(9), "zoo:demo_net", entry.preprocess, list("abcdefghi"))
    given_to(made, str(other))
    assert is_redone(made, model=str(other))
    given_to(made, str(other), "--mean", "0.4,0.5,0.5")
    assert is_redone(made, "--mean", "0.4,0.5,0.5", model=str(other))
    (made / "invert/conv2").rename(made / "invert/conv1")
    assert is_redone(made, layer="conv1", model=str(other))


@pytest.mark.parametrize("gone", ["cat.png", "pictures/cat.png", "originals/cat.png"])
def test_a_lost_file_is_made_anew(made: Path, gone: str) -> None:
    (made / "invert/conv2" / gone).unlink()
    assert run(made, "-l", "conv2", "-i", made.parent / "cat.png") == 0
    assert (made / "invert/conv2" / gone).stat().st_size


def test_an_entry_that_does_not_say_what_it_was_made_from_is_made_anew(made: Path) -> None:
    file = made / "invert/conv2/invert.json"
    document = json.loads(file.read_text())
    del document["pictures"][0]["made_from"]
    file.write_text(json.dumps(document))
    assert is_redone(made)


def test_what_an_earlier_version_s_search_made_is_made_anew(made: Path) -> None:
    assert not is_redone(made)
    file = made / "invert/conv2/invert.json"
    document = json.loads(file.read_text())
    del document["pictures"][0]["made_from"]["search"]
    file.write_text(json.dumps(document))
    assert is_redone(made)


def test_changed_data_changes_the_measure_not_the_picture(photos: Path, made: Path) -> None:
    data = made.parent / "data"
    data.mkdir()
    for name in ("cat.png", "dog.png"):
        (data / name).write_bytes((photos / name).read_bytes())
    assert not is_redone(made, "-d", data)
    first = listed(made)[0]
    (data / "dog.png").write_bytes((photos / "more/cat.png").read_bytes())
    assert not is_redone(made)
    second = listed(made)[0]
    assert second["errors"]["pairs"] != first["errors"]["pairs"]
    ratio = second["mean_distance"] / first["mean_distance"]
    assert second["errors"]["pairs"] * ratio == pytest.approx(first["errors"]["pairs"])


def test_which_images_errors_are_held_against_is_said(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = ("-i", photos / "cat.png"), ("-i", photos / "dog.png")

    def said(*words: object) -> list[str]:
        assert run(tmp_path, "-l", "conv1", *words) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "held against" in line]

    (alone,) = said(*one)
    assert "no mean distance" in alone
    (given,) = said(*one, *two)
    assert "of the 2 given images" in given
    assert said(*one, *two) == []  # nothing is made, and nothing is measured anew
    (data,) = said(*one, "-d", photos)
    assert "of 4 images of photos" in data
    assert said(*one, *two) == [data]  # the other picture, made before there was data


def test_the_sheet_is_laid_out_while_no_other_process_lays_out_its_own(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    from cnnlens.report import invert_files

    drawn, draw = [], invert_files.draw_rows

    def watched(cells: Any, title: str) -> Image.Image:
        if title.endswith("a photo"):
            held = os.open(tmp_path / "invert", os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(held)
            drawn.append(title)
        return draw(cells, title)

    monkeypatch.setattr(invert_files, "draw_rows", watched)
    assert run(tmp_path, "-l", "conv1", "-i", photos / "cat.png") == 0
    assert len(drawn) == 1


def test_one_failure_stops_no_other_picture(tmp_path: Path, photos: Path, capsys: Any) -> None:
    (tmp_path / "half_dead.py").write_text(
        "import torch\n"
        "def make():\n"
        "    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())\n"
        "    torch.nn.init.constant_(net[0].weight, 0.01)\n"
        "    torch.nn.init.constant_(net[0].bias, -1)\n"
        "    return net\n"
    )
    model, space = f"{tmp_path / 'half_dead.py'}:make", tmp_path / "w"
    images = ["-i", photos / "cat.png", "-i", photos / "dog.png", "--image-size", "32"]
    assert run(space, *images, "-l", "1", "-l", "0", "--json", model=model) == 1
    said = capsys.readouterr()
    assert "every activation of 1 is 0" in said.err and "cat.png" in said.err
    assert json.loads(said.out)["layer"] == "0"
    assert [e["file"] for e in listed(space, "0")] == ["cat.png", "dog.png"]
    assert (space / "invert/sheet.png").exists()


def test_a_damaged_neighbour_costs_the_sheet_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "-l", "conv1", "-i", photos / "cat.png") == 0
    file = tmp_path / "invert/conv1/invert.json"
    file.write_text(file.read_text()[:100])
    capsys.readouterr()
    assert run(tmp_path, "-l", "conv2", "-i", photos / "cat.png", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["layer"] == "conv2"
    assert "sheet.png is not drawn" in said.err and "conv1/invert.json" in said.err


def test_nothing_says_which_machine_it_was_made_on(photos: Path, tmp_path: Path) -> None:
    images = ["-i", photos / "broken.png", "-i", photos / "dog.png"]
    assert run(tmp_path, "-l", "conv2", *images, "-d", photos) == 0
    text = (tmp_path / "invert/conv2/invert.json").read_text()
    assert "broken.png" in text and str(photos.parent) not in text


def test_steps_are_counted_in_pictures_and_results_are_pictures(
    photos: Path, tmp_path: Path
) -> None:
    images = (photos / "cat.png", photos / "dog.png")

    def method(*layers: str) -> Invert:
        study = Study(Workspace(tmp_path), "zoo:demo_net", voice=Voice(quiet=True))
        return Invert(study, InvertInputs(image=images, layer=layers), InvertSettings(steps=3))

    one = method("conv2")
    one.resolve()
    one.study.commit()
    steps = list(one.work())
    one.close()
    assert {step.unit for step in steps} == {"pictures"}
    assert [step.done for step in steps] == [0, 0, 0, 1, 1, 1, 1, 2]
    assert "step 2 of 3, error 0." in steps[1].note
    assert one.result()["dog"].size == Image.open(tmp_path / "invert/conv2/dog.png").size
    two = method("conv1", "conv2")
    carry_out(two)
    assert list(two.result()) == ["conv1", "conv2"]
    assert [len(found) for found in two.result().values()] == [2, 2]
