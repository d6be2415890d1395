"""``cnnlens invert --method upconv``: trained once, kept, used again, and never half written."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.cli import app
from cnnlens.data.given import GivenImage
from cnnlens.errors import CnnlensError
from cnnlens.methods.invert import Invert, InvertInputs
from cnnlens.methods.upconv import Trained
from cnnlens.model.checkpoint import write_torch
from cnnlens.model.layer import Layer
from cnnlens.report.blocks import Note
from cnnlens.report.inverted import inversions
from cnnlens.settings import DataSettings, InvertSettings, ModelSettings, UpconvSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Voice

SETTINGS = UpconvSettings(epochs=2, width=4)
WORDS = ["--method", "upconv", "--epochs", "2", "--width", "4"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(8):
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(
            folder / f"{seed}.png"
        )
    return folder


def run(workspace: Path, *words: object, model: str = "zoo:demo_net") -> int:
    return app._run(["invert", model, *map(str, words), "-w", str(workspace), "--no-page"])


@pytest.fixture(scope="module")
def first(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which conv2's network was trained."""
    workspace = tmp_path_factory.mktemp("first")
    assert run(workspace, "-l", "conv2", "-i", photos / "0.png", "-d", photos, *WORDS) == 0
    return workspace


@pytest.fixture
def made(first: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first, tmp_path / "made"))


def asked(
    workspace: Path,
    photos: Path,
    data: Path | None = None,
    opening: ModelSettings | None = None,
    reading: DataSettings | None = None,
    **settings: Any,
) -> Invert:
    """The method, resolved: it knows what is to be trained and to be made."""
    study = Study(Workspace(workspace), "zoo:demo_net", voice=Voice(quiet=True))
    study.opening, study.reading = opening or ModelSettings(), reading or DataSettings()
    inputs = InvertInputs(image=(photos / "0.png",), layer=("conv2",), data=data)
    training = UpconvSettings(**{**SETTINGS.as_dict(), **settings})
    method = Invert(study, inputs, (InvertSettings(method="upconv"), training))
    method.resolve()
    return method


def document(workspace: Path) -> dict[str, Any]:
    path = workspace / "invert" / "conv2" / "invert.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def weights(workspace: Path) -> torch.Tensor:
    content = torch.load(workspace / "invert" / "conv2" / "upconv.pt", weights_only=True)
    return torch.cat([v.flatten() for v in content["state_dict"].values()])


def test_it_is_trained_once_and_inverts_later_images_without_the_data(
    made: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = made / "invert" / "conv2" / "upconv.pt"
    before = kept.stat().st_mtime_ns
    assert run(made, "-l", "conv2", "-i", photos / "7.png", "--method", "upconv") == 0
    assert kept.stat().st_mtime_ns == before and "to train" not in capsys.readouterr().err
    entries = document(made)["pictures"]
    assert [entry["file"] for entry in entries] == ["upconv/0.png", "upconv/7.png"]
    for entry in entries:
        assert (entry["method"], entry["perturb"]) == ("upconv", "none")
        assert set(entry["errors"]) == set(entry["mean_image"]) == {"features", "pairs", "pixels"}
        assert entry["initial"] == entry["mean_image"]["features"]
        assert entry["final"] == entry["errors"]["features"]
    told = document(made)["upconv"]
    assert told["images"] + told["held_out"] == 8 and 1 <= told["held_out"] <= 5
    assert 0 < told["held_out_rmse"] <= told["mean_image_rmse"]
    with Image.open(made / "invert" / "conv2" / "upconv" / "pictures" / "7.png") as picture:
        assert picture.size == (64, 64)


def test_it_stands_beside_no_search_of_another_state_of_the_photo(
    made: Path, photos: Path, tmp_path: Path
) -> None:
    photo, shown = tmp_path / "x.png", made / "invert" / "conv2" / "upconv" / "x.png"
    words, widths = ["-l", "conv2", "-i", photo], []
    photo.write_bytes((photos / "0.png").read_bytes())
    assert run(made, *words, "--steps", 2) == 0
    for later in ("", "1.png"):
        if later:
            photo.write_bytes((photos / later).read_bytes())
        assert run(made, *words, "--method", "upconv") == 0
        with Image.open(shown) as drawn:
            widths.append(drawn.width)
    assert widths[1] < widths[0]


def test_an_image_that_was_learned_from_is_said_to_flatter(
    made: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.open(photos / "0.png").rotate(90).save(tmp_path / "new.png")
    assert run(made, "-l", "conv2", "-i", photos, "-i", tmp_path / "new.png", *WORDS[:2]) == 0
    learned = [e["name"] for e in document(made)["pictures"] if e.get("learned_from")]
    assert len(learned) == document(made)["upconv"]["images"] and "new" not in learned
    assert capsys.readouterr().err.count("learned from: its errors flatter") >= len(learned) - 1
    table = inversions(made).parts[0]  # type: ignore[union-attr]
    said = {row[0].title: row[0].caption for row in table.rows}
    assert said["new"] == "by a trained network"
    assert said[learned[0]] == "by a trained network that learned from it"


def test_an_image_is_known_as_learned_from_wherever_it_lies(
    made: Path, photos: Path, tmp_path: Path
) -> None:
    path = made / "invert" / "conv2" / "upconv.pt"
    content = torch.load(path, weights_only=True)
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    there, away = ([GivenImage(f, "") for f in sorted(at.iterdir())] for at in (photos, moved))

    def learned(images: list[GivenImage], known: dict[str, Any]) -> list[bool]:
        return [Trained(cast("Layer", None), path, {}, known).has_learned(one) for one in images]

    assert learned(away, content) == learned(there, content)
    assert sum(learned(away, content)) == document(made)["upconv"]["images"]
    before = {**content, "learned": [m.partition("@")[0] for m in content["learned"]]}
    assert learned(there, before) == learned(there, content)  # of a file that knows places alone
    assert not any(learned(away, before))
    Image.new("RGB", (8, 8)).save(away[0].path)
    assert not learned(away, content)[0]


def test_a_finished_picture_and_its_network_are_not_made_again(made: Path, photos: Path) -> None:
    for data in (None, photos):
        again = asked(made, photos, data)
        assert not again.parts[0].todo and not again.plan()


@pytest.mark.parametrize(
    "changed",
    [{"epochs": 3}, {"lr": 0.01}, {"width": 5}, {"validation": 0.5}, {"amp": False}, {"seed": 1}],
)
def test_other_settings_train_it_anew(made: Path, photos: Path, changed: dict[str, Any]) -> None:
    again = asked(made, photos, photos, **changed)
    assert again.parts[0].todo and again.plan().startswith("to train: conv2 on ")


def test_other_data_or_preprocessing_train_it_anew(
    made: Path, photos: Path, tmp_path: Path
) -> None:
    fewer = Path(shutil.copytree(photos, tmp_path / "fewer"))
    (fewer / "7.png").unlink()
    assert "to train" in asked(made, photos, fewer).plan()
    bright = ModelSettings(mean="0.4,0.4,0.4")
    assert "to train" in asked(made, photos, photos, opening=bright).plan()


def test_a_perturbed_answer_is_inverted_beside_the_whole_one(made: Path, photos: Path) -> None:
    words = ["--method", "upconv", "--perturb", "drop-least"]
    assert run(made, "-l", "conv2", "-i", photos / "0.png", *words) == 0
    assert [e["file"] for e in document(made)["pictures"]] == [
        "upconv/0.png",
        "upconv-drop-least/0.png",
    ]


def test_the_page_sets_it_below_the_search_with_what_it_learned(made: Path, photos: Path) -> None:
    assert run(made, "-l", "conv2", "-i", photos / "0.png", "--steps", "3") == 0
    section = inversions(made)
    assert section is not None
    table, trained = section.parts[0], section.parts[1]
    learned = document(made)["pictures"][0].get("learned_from")
    said = "by a trained network" + (" that learned from it" if learned else "")
    assert [row[0].caption for row in table.rows] == ["", said]
    assert [name for name, _ in table.rows[1][1].facts][-2:] == ["pixel RMSE", "mean image’s"]
    told = document(made)["upconv"]  # a search's own list leaves it there
    assert trained.rows[0][0] == "conv2"
    assert trained.rows[0][1].text == f"{told['held_out_rmse']:.3f}"
    assert isinstance(section.note, Note)
    assert section.note.told["searched"] and section.note.told["trained"]


def test_an_interrupted_training_goes_on_and_ends_as_an_unbroken_one(
    first: Path, photos: Path, tmp_path: Path
) -> None:
    cut = asked(tmp_path, photos, photos)
    cut.study.commit()
    steps = cut.work()
    assert any(step.milestone for step in steps)  # left after the first epoch
    steps.close()
    folder = tmp_path / "invert" / "conv2"
    assert [path.name for path in folder.iterdir()] == [".upconv.unfinished.pt"]
    goes_on = asked(tmp_path, photos, photos)
    assert sum(step.milestone for step in goes_on.work()) == 1
    assert torch.equal(weights(tmp_path), weights(first))
    assert not (folder / ".upconv.unfinished.pt").exists()


def test_the_state_of_a_training_that_is_through_is_removed(
    first: Path, photos: Path, tmp_path: Path
) -> None:
    """A run was killed when the network was just written; another training's state stays."""
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "invert" / "conv2"
    state = folder / ".upconv.unfinished.pt"
    content = torch.load(folder / "upconv.pt", weights_only=True)
    for data, stays in (["others"], True), (content["made_from"]["data"], False):
        write_torch(state, {**content, "made_from": {**content["made_from"], "data": data}})
        again = asked(tmp_path, photos, photos)
        again.study.commit()
        for _ in again.work():
            pass
        assert state.exists() is stays


def test_a_cut_state_of_a_training_counts_as_none(
    first: Path, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "invert" / "conv2"
    folder.mkdir(parents=True)
    whole = (first / "invert" / "conv2" / "upconv.pt").read_bytes()
    (folder / ".upconv.unfinished.pt").write_bytes(whole[: len(whole) // 2])
    again = asked(tmp_path, photos, photos)
    assert sum(step.milestone for step in again.work()) == 2


def test_a_damaged_network_is_named_and_left_as_it_is(
    made: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = made / "invert" / "conv2" / "upconv.pt"
    kept.write_bytes(kept.read_bytes()[:1000])
    for data in ([], ["-d", photos]):
        assert run(made, "-l", "conv2", "-i", photos / "1.png", *WORDS, *data) == 1
        said = capsys.readouterr().err
        assert "upconv.pt" in said and "damaged" in said and "-d DIR --force" in said
    assert kept.stat().st_size == 1000
    torch.save({"weights": 1}, kept)
    with pytest.raises(CnnlensError, match="is no up-convolutional network"):
        asked(made, photos)


def test_another_networks_is_refused(made: Path, photos: Path) -> None:
    with pytest.raises(CnnlensError, match="inverts another network or layer") as caught:
        asked(made, photos, opening=ModelSettings(mean="0.4,0.4,0.4"))
    assert "-d DIR" in caught.value.hint


def test_without_data_the_way_out_is_named(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(CnnlensError, match="no trained network for this layer yet") as caught:
        asked(tmp_path, photos)
    assert "-d DIR" in caught.value.hint


def test_one_image_cannot_be_learned_from_and_held_out(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(photos / "0.png", tmp_path / "one")
    with pytest.raises(CnnlensError, match="one has 1 image: some are learned from, others"):
        asked(tmp_path / "ws", photos, tmp_path / "one")


def test_a_split_to_test_on_beside_the_one_to_train_on_is_held_out(
    tmp_path: Path, photos: Path
) -> None:
    for split, count in (("train", 6), ("test", 2)):
        for number in range(count):
            (folder := tmp_path / "data" / split / "cat").mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / f"{number}.png", folder)
    told = "on 6 images, 2 epochs at most, 2 held out (its split 'test')"
    data = tmp_path / "data"
    named = asked(tmp_path / "ws", photos, data, reading=DataSettings(split="train"))
    for method in (named, *(asked(tmp_path / "ws", photos, one) for one in (data, data / "train"))):
        assert told in method.plan()


def test_options_of_the_other_method_are_refused() -> None:
    with pytest.raises(CnnlensError, match="--method upconv does not take --steps"):
        InvertSettings(method="upconv", steps=5)
    with pytest.raises(CnnlensError, match="--method regularized does not take --epochs"):
        SETTINGS.check_used("regularized")


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: Any) -> int:
        path.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    method = asked(tmp_path, photos, photos)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CnnlensError, match="the disk is full"):
        [*method.work()]
    assert not [*(tmp_path / "invert" / "conv2").iterdir()]


def test_what_options_of_a_training_do_without_data_is_said(
    made: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--method", "upconv", "--epochs", "9"]
    assert run(made, "-l", "conv2", "-i", photos / "1.png", *words) == 0
    assert "--epochs: conv2/upconv.pt is trained already" in capsys.readouterr().err
