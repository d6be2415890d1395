"""``cnnlens visualize`` on a small untrained network."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.cli import app
from cnnlens.files.ledger import Ledger
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.open import open_model
from cnnlens.model.zoo import ZOO
from tests.synthesize.nets import Small

STEPS = ["--steps", "4", "--no-page"]


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["cnnlens", *arguments])
    with pytest.raises(SystemExit) as ended:
        app.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    def call(*arguments: str, where: Path = tmp_path):
        return run(capsys, monkeypatch, "visualize", "zoo:demo_net", "-w", str(where), *arguments)

    return call


def listed(folder: Path) -> dict:
    return json.loads((folder / "visualize.json").read_text())


def test_pictures_sheet_and_json(cli, tmp_path):
    code, out, _ = cli("-f", "conv2:1,3", "-f", "conv2:0@2,3", "-f", "conv3", *STEPS, "--json")
    assert code == 0
    folder = tmp_path / "visualize" / "conv2"
    names = {path.name for path in folder.glob("*.png")}
    assert names == {"1.png", "3.png", "0@2,3.png", "sheet.png"}
    assert (tmp_path / "visualize" / "conv3" / "layer.png").exists()
    document = json.loads(out)
    assert document["layers"]["conv2"] == listed(folder)
    for entry in listed(folder)["pictures"]:
        assert {"file", "layer", "unit", "initial", "final", "trace"} <= entry.keys()
        assert len(entry["trace"]) == 4
    assert listed(folder)["settings"]["steps"] == 4


def test_the_sheet_shows_what_another_process_has_listed_meanwhile(cli, tmp_path, monkeypatch):
    cli("-f", "conv1:1", *STEPS, where=tmp_path / "other")
    cli("-f", "conv1:1,3", *STEPS, where=tmp_path / "both")
    mine, other = (tmp_path / name / "visualize" / "conv1" for name in ("mine", "other"))
    real = Ledger.close

    def close(ledger, summary):
        for name in ("1.png", "visualize.json"):
            shutil.copy(other / name, mine / name)
        return real(ledger, summary)

    monkeypatch.setattr(Ledger, "close", close)
    cli("-f", "conv1:3", *STEPS, where=tmp_path / "mine")
    assert [entry["unit"] for entry in listed(mine)["pictures"]] == [1, 3]
    both = tmp_path / "both" / "visualize" / "conv1" / "sheet.png"
    assert Image.open(mine / "sheet.png").size == Image.open(both).size


def test_final_is_what_the_network_says_of_the_png(cli, tmp_path):
    cli("-f", "conv2:1", "--logit", "2", *STEPS)
    model = open_model("zoo:demo_net", device="cpu")
    folder = tmp_path / "visualize"
    from cnnlens.model.hooks import read
    from cnnlens.model.layers import find_layers

    def seen(path: Path) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None]
        return model.preprocess.normalize(pixels)

    place = find_layers(model).resolve("conv2").place
    with torch.no_grad():
        maps = read(model.net, seen(folder / "conv2" / "1.png"), [place])[0]
        (logit,) = (folder / "logits").glob("logit-*.png")
        score = model.net(seen(logit))[0, 2]
    (entry,) = listed(folder / "conv2")["pictures"]
    assert entry["final"] == pytest.approx(float(maps[0, 1].max()), rel=1e-4)
    (entry,) = listed(folder / "logits")["pictures"]
    assert entry["final"] == pytest.approx(float(score), rel=1e-4)


def test_what_is_there_is_not_redone(cli, tmp_path):
    cli("-f", "conv2:1", *STEPS)
    picture = tmp_path / "visualize" / "conv2" / "1.png"
    picture.write_bytes(picture.read_bytes() + b"mine")
    marked = picture.read_bytes()
    _, _, err = cli("-f", "conv2:1,2", *STEPS)
    assert picture.read_bytes() == marked
    assert "1 picture was made before" in err
    assert (picture.parent / "2.png").exists()
    cli("-f", "conv2:1", *STEPS, "--seed", "3")
    assert picture.read_bytes() != marked
    assert {e["file"] for e in listed(picture.parent)["pictures"]} == {"1.png", "2.png"}


def test_an_interrupt_keeps_what_is_finished(cli, tmp_path, monkeypatch):
    from cnnlens.methods.visualize import Visualize

    keep, kept = Visualize._keep, []

    def interrupted(self, folder, item, picture):
        if kept:
            raise KeyboardInterrupt
        kept.append(item.name)
        keep(self, folder, item, picture)

    monkeypatch.setattr(Visualize, "_keep", interrupted)
    code, _, _ = cli("-f", "conv2:0-3", "--batch-size", "1", *STEPS)
    assert code == 130
    folder = tmp_path / "visualize" / "conv2"
    assert [e["file"] for e in listed(folder)["pictures"]] == ["0.png"]
    monkeypatch.setattr(Visualize, "_keep", keep)
    _, _, err = cli("-f", "conv2:0-3", *STEPS)
    assert "1 picture was made before" in err


def test_equal_commands_give_equal_bytes_whatever_the_batch(cli, tmp_path):
    pictures = []
    for number, batch in enumerate(["32", "2"]):
        where = tmp_path / str(number)
        cli("-f", "conv2:0-3", "--batch-size", batch, *STEPS, where=where)
        pictures.append(np.array(Image.open(where / "visualize" / "conv2" / "2.png")).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    cli("-f", "conv2:0-3", *STEPS, where=tmp_path / "again")
    same = [(tmp_path / w / "visualize" / "conv2" / "2.png").read_bytes() for w in ("0", "again")]
    assert same[0] == same[1]


def test_raw_arrays_are_the_picture(cli, tmp_path):
    cli("-f", "conv2:1", *STEPS, "--raw")
    folder = tmp_path / "visualize" / "conv2"
    with np.load(folder / "1.npz") as arrays:
        image = arrays["image"]
    assert image.dtype == np.float32
    shown = np.array(Image.open(folder / "1.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(np.rint(image * 255), shown)


def test_every_preset_draws(cli, tmp_path):
    from cnnlens.settings import PRESETS

    for name in PRESETS:
        code, _, err = cli("-f", "conv2:1", "--preset", name, *STEPS, where=tmp_path / name)
        assert code == 0, err
    files = [tmp_path / name / "visualize" / "conv2" / "1.png" for name in PRESETS]
    assert len({file.read_bytes() for file in files}) == len(PRESETS)


def test_all_regularizers_together_from_a_photo(cli, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 90, 3), np.uint8)).save(photo)
    options = "--tv 0.1 --blur 0.5 --l2 0.01 --alpha 0.1 --jitter 2 --rotate 3 --scale 0.05"
    options += " --clip 0.1 --clip-contributions 0.1 --gradient-blur 1 --gradient-shift 1"
    options += f" --gradient-rotate 2 --init {photo} --lr 0.02 --size 48"
    code, _, err = cli("-f", "conv2:1", *options.split(), *STEPS)
    assert code == 0, err
    near = np.array(Image.open(tmp_path / "visualize" / "conv2" / "1.png")).astype(float)
    assert near.std() > 10  # the photo still shows


def test_first_layer_filters_stand_beside_their_image(cli, tmp_path):
    cli("-f", "conv1:0,1", "-f", "conv2:0", *STEPS)
    folder = tmp_path / "visualize"
    assert (folder / "conv1" / "beside" / "0.png").exists()
    assert not (folder / "conv2" / "beside").exists()
    assert listed(folder / "conv1")["pictures"][0]["beside"] == "beside/0.png"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-f", "conv2:999"], "its units are 0 to"),
        (["-f", "conv2:1@99,0"], "rows 0 to"),
        (["-f", "conv9:1"], "no layer 'conv9'"),
        (["-f", "conv2:a"], "names no units"),
        (["-f", "conv2:5-1"], "runs backwards"),
        (["--logit", "nothing like it"], "no class 'nothing like it'"),
        (["--logit", "12345"], "no class 12345"),
        (["-f", "conv2:1", "--preset", "none"], "no preset 'none'"),
        (["-f", "conv2:1", "--init", "nowhere.png"], "nowhere.png"),
        (["-f", "conv2:1", "--basis", "clay"], "--basis clay"),
        (["-f", "conv2:1", "--clip", "2"], "--clip"),
        ([], "nothing was named"),
    ],
)
def test_wrong_usage_is_named(cli, tmp_path, arguments, says):
    code, out, err = cli(*arguments, *STEPS)
    assert code == 2
    assert says in err
    assert not out
    assert not (tmp_path / "visualize").exists()


def test_classes_of_one_name_have_pictures_of_their_own(capsys, monkeypatch, tmp_path):
    entry = ZOO["demo_net"]
    path = tmp_path / "net.pt"
    names = ["crane", "heron", "crane"]
    save_checkpoint(path, entry.make(3), "zoo:demo_net", entry.preprocess, names)
    arguments = ("visualize", str(path), "-w", str(tmp_path), *STEPS)
    classes = [word for number in "012" for word in ("--logit", number)]
    assert run(capsys, monkeypatch, *arguments, *classes)[0] == 0
    found = {e["file"]: e["class_index"] for e in listed(tmp_path / "visualize/logits")["pictures"]}
    assert found == {"logit-crane-0.png": 0, "logit-heron.png": 1, "logit-crane-2.png": 2}
    code, _, err = run(capsys, monkeypatch, *arguments, "--logit", "crane")
    assert code == 2
    assert "give a number: 0, 2" in err


def photos(folder: Path) -> Path:
    folder.mkdir()
    for number in range(6):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        small.resize((48, 48)).save(folder / f"{number}.png")
    return folder


def dead() -> torch.nn.Module:
    net = Small()
    net.two.bias.data[0] = -1e3
    return net


def test_dead_units_are_named(capsys, monkeypatch, tmp_path):
    spec = "tests.cli.test_visualize:dead"
    arguments = (spec, "-w", str(tmp_path), "-f", "conv2:0,1", "--steps", "8", "--image-size", "32")
    code, _, err = run(capsys, monkeypatch, "visualize", *arguments)
    assert code == 0, err
    assert "conv2:0 stays at 0" in err
    assert "conv2:1" not in err
    folder = tmp_path / "visualize" / "conv2"
    assert [entry["unit"] for entry in listed(folder)["pictures"]] == [1]  # not listed as made
    assert listed(folder)["failed"] == {"0": "stays at 0"}
    assert not (folder / "0.png").exists()
    assert "No picture of 0: it stays at 0." in (tmp_path / "report.html").read_text()
    assert (
        "conv2:0 stays at 0" in run(capsys, monkeypatch, "visualize", *arguments)[2]
    )  # tried again


def test_where_no_picture_is_kept_that_is_the_error(capsys, monkeypatch, tmp_path):
    spec = "tests.cli.test_visualize:dead"
    arguments = (spec, "-w", str(tmp_path), "--steps", "8", "--image-size", "32")
    code, _, err = run(capsys, monkeypatch, "visualize", *arguments, "-f", "conv2:0")
    assert code == 1 and "error: conv2:0 stays at 0: no picture of it is kept" in err
    assert "more --steps" in err and "no results yet" not in err and "activations alone" not in err
    assert run(capsys, monkeypatch, "visualize", *arguments, "-f", "conv2:1")[0] == 0
    code, _, err = run(capsys, monkeypatch, "visualize", *arguments, "-f", "conv2:0")
    assert code == 1 and "no picture of it is kept" in err  # beside others, too
    assert [entry["unit"] for entry in listed(tmp_path / "visualize" / "conv2")["pictures"]] == [1]


def test_a_picture_below_the_best_photo_is_named_and_not_listed(capsys, monkeypatch, tmp_path):
    data = photos(tmp_path / "photos")
    space = ("-w", str(tmp_path), "-q")
    extract = ("extract", "zoo:demo_net", "-d", str(data), "-l", "conv2", *space)
    assert run(capsys, monkeypatch, *extract)[0] == 0
    arguments = ("visualize", "zoo:demo_net", "-w", str(tmp_path), "-f", "conv2:0-3")
    weak = run(capsys, monkeypatch, *arguments, "--steps", "1", "--noise", "0")
    folder = tmp_path / "visualize" / "conv2"
    failed = listed(folder)["failed"] if folder.exists() else {}
    assert failed
    for name, reason in failed.items():
        assert not (folder / f"{name}.png").exists()
        assert f"conv2:{name} {reason}" in weak[2]
    assert run(capsys, monkeypatch, *arguments, "--steps", "60")[0] == 0
    found = listed(folder)
    assert {e["unit"] for e in found["pictures"]} | set(map(int, found["failed"])) == {0, 1, 2, 3}
    assert all(entry["times_best"] >= 1 for entry in found["pictures"])
    assert len(found["pictures"]) >= 3


def broken() -> torch.nn.Module:
    net = Small()
    net.two.weight.data[1, 0, 0, 0] = float("nan")
    return net


def test_activations_that_are_not_finite_are_named(capsys, monkeypatch, tmp_path):
    spec = "tests.cli.test_visualize:broken"
    code, _, err = run(
        *(capsys, monkeypatch, "visualize", spec, "-w", str(tmp_path), "-f", "conv2:1", *STEPS)
    )
    assert code == 1
    assert "conv2:1 is not finite" in err
    assert not list((tmp_path / "visualize").rglob("*.png"))


def grey() -> torch.nn.Module:
    return Small(1)


def six() -> torch.nn.Module:
    return Small(6)


def lost() -> torch.nn.Module:
    net = Small()
    torch.nn.init.zeros_(net.two.weight)
    return net


@pytest.mark.parametrize(("name", "mode"), [("grey", "L"), ("six", "RGB")])
def test_other_numbers_of_channels(capsys, monkeypatch, tmp_path, name, mode):
    spec = f"tests.cli.test_visualize:{name}"
    code, _, err = run(
        *(capsys, monkeypatch, "visualize", spec, "-w", str(tmp_path), "--image-size", "24x40"),
        *("-f", "conv2:0", "--raw", *STEPS),
    )
    assert code == 0, err
    photo = tmp_path / "photo.png"
    Image.new("RGB", (50, 50), "teal").save(photo)
    code, _, err = run(
        *(capsys, monkeypatch, "visualize", "-w", str(tmp_path), "--init", str(photo)),
        *("-f", "conv2:0", "--force", *STEPS),
    )
    assert code == 0, err
    with Image.open(tmp_path / "visualize" / "conv2" / "0.png") as picture:
        assert picture.mode == mode
        assert picture.size == ((40, 24) if mode == "L" else (80, 24))


def test_units_out_of_reach_are_named(capsys, monkeypatch, tmp_path):
    spec = "tests.cli.test_visualize:lost"
    arguments = (spec, "-w", str(tmp_path), "-f", "conv2:0,1", *STEPS)
    code, _, err = run(capsys, monkeypatch, "visualize", *arguments)
    assert code == 1
    assert "conv2:0, conv2:1 cannot be reached from the input" in err
