"""``cnnlens evolve`` as a user meets it."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

import cnnlens as package
from cnnlens.data.synthetic import make_shapes
from cnnlens.errors import UsageError
from cnnlens.methods.evolve import Evolve
from cnnlens.methods.method import build, carry_out
from cnnlens.model.checkpoint import save_checkpoint
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.zoo import ZOO
from cnnlens.report.unit_facts import attached_of
from cnnlens.settings.run import ModelSettings
from cnnlens.study.session import Study
from cnnlens.study.workspace import Workspace
from cnnlens.voice import Bars, Voice
from tests.cli.runner import cnnlens, files, leftovers

SIDE, UNITS = 24, [3, 0, 5]
FED = Preprocess((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3)
NAMES = ("a.pt", "b.pt", "c.pt")


def save(path, net, epoch=None):
    more = {} if epoch is None else {"epoch": epoch}
    save_checkpoint(path, net, "zoo:demo_net", FED, list("abc"), **more)


def trained(folder, epochs=(2, 0, 1)):
    """Three checkpoints, a to c: after the first epoch, conv2's unit 3 becomes another one, and
    after the last its unit 5 is switched off.
    """
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    net = ZOO["demo_net"].make(3).eval()
    states = {}
    for stage in range(3):
        if stage == 1:
            with torch.no_grad():
                net.conv2.weight[3] = torch.randn(net.conv2.weight[3].shape)
        if stage == 2:
            torch.nn.init.zeros_(net.conv2.weight[5])
            torch.nn.init.constant_(net.conv2.bias[5], -1.0)
        states[stage] = {k: v.clone() for k, v in net.state_dict().items()}
    for name, epoch, stage in zip(NAMES, epochs, (2, 0, 1), strict=True):
        net.load_state_dict(states[stage])
        save(folder / name, net, epoch)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = trained(tmp_path_factory.mktemp("evolve"))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(5):
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    make_shapes(folder / "shapes", 12, SIDE)
    return folder


def words(place, *more, names=NAMES, data="photos", units="conv2:3,0,5"):
    return ("evolve", *(place / n for n in names), "-f", units, "-d", place / data, *more)


@pytest.fixture(scope="module")
def made(place):
    """A workspace that nobody changes."""
    answer = cnnlens(*words(place, "-w", place / "ws", "--json"))
    assert answer.code == 0, answer.err
    return place / "ws", answer


def test_planted_changes_are_found_in_the_order_of_the_epochs(made, place):
    _, answer = made
    found = answer.json
    assert "3 checkpoints, in order by the epoch in each file" in answer.err
    assert found["order"] == "epoch"
    assert [(one["file"], one["epoch"]) for one in found["checkpoints"]] == [
        ("b.pt", 0), ("c.pt", 1), ("a.pt", 2)
    ]  # fmt: skip
    replaced, same, killed = zip(*(one["units"] for one in found["checkpoints"]), strict=True)
    assert [one["unit"] for one in (replaced[0], same[0], killed[0])] == UNITS
    assert replaced[1]["correlation_with_last"] == pytest.approx(1)
    assert replaced[0]["correlation_with_last"] < 0.9
    assert [one["jumped"] for one in replaced] == [False, True, False]
    assert replaced[0]["top_image"] != replaced[1]["top_image"]
    assert [one["correlation_with_last"] for one in same] == pytest.approx([1, 1, 1])
    assert len({one["top_image"] for one in same}) == 1
    assert killed[2]["top_image"] is None and killed[2]["peak"] <= 0
    assert all(one["correlation_with_last"] is None for one in killed)
    assert "r is not defined 3 times (unit 5)" in answer.err
    dead = [one["dead_units"] for one in found["checkpoints"]]
    assert dead[1] <= dead[0] + 1 and dead[2] == dead[1] + 1


def test_raw_adds_the_image_and_the_projection_of_every_unit(made, place, tmp_path):
    space = shutil.copytree(made[0], tmp_path / "ws")
    answer = cnnlens(*words(place, "-w", space, "--raw", "--json"))
    assert answer.code == 0 and "made before" not in answer.err
    for one in answer.json["checkpoints"]:
        with np.load((space / "evolve/conv2" / one["picture"]).with_suffix(".npz")) as arrays:
            assert arrays["image"].shape == arrays["projection"].shape == (3, 3, SIDE, SIDE)
            for row, unit in enumerate(one["units"]):
                if unit["top_image"] is None:
                    assert np.isnan(arrays["image"][row]).all()
                    continue
                photo = np.asarray(Image.open(place / "photos" / unit["top_image"]))
                np.testing.assert_allclose(
                    arrays["image"][row], photo.transpose(2, 0, 1) / 255, atol=1e-6
                )
                assert abs(arrays["projection"][row]).max() > 0
    for more in ((), ("--raw",)):
        assert "3 checkpoints were made before" in cnnlens(*words(place, "-w", space, *more)).err


def test_top_images_are_those_that_a_look_at_each_network_gives(made, place):
    images = package.open_data(place / "photos")
    for one in made[1].json["checkpoints"]:
        model = package.open_model(str(place / one["file"]))
        layer = package.find_layers(model).resolve("conv2")
        maps = []
        run = package.RunSettings(device="cpu")
        source = package.ModelSource(model, images, [layer], run)
        for _ in source.sweep([lambda _, some, kept=maps: kept.append(some)]):
            pass
        peaks = np.concatenate(maps).max(axis=(2, 3))  # (N, C)
        assert one["dead_units"] == (peaks.max(axis=0) <= 0).sum()
        for unit in one["units"]:
            mine = peaks[:, unit["unit"]]
            assert unit["peak"] == pytest.approx(float(mine.max()), rel=1e-5)
            if unit["top_image"] is not None:
                assert unit["top_image"] == images.paths[int(mine.argmax())]
                y, x = unit["position"]
                assert maps[0][mine.argmax(), unit["unit"], y, x] == pytest.approx(mine.max())
                assert len(unit["box"]) == 4


def test_files_sheet_and_page_name_nothing_of_this_machine(made, place):
    space, answer = made
    folder = space / "evolve" / "conv2"
    assert json.loads((folder / "evolve.json").read_text()) == answer.json
    pictures = {one["picture"] for one in answer.json["checkpoints"]}
    assert pictures == {"a.webp", "b.webp", "c.webp"}
    with Image.open(folder / "a.webp") as column:
        assert column.size == (2 * 96, 3 * 96)
        assert np.ptp(np.asarray(column)[-90:], axis=(0, 1)).max() < 8  # the dead unit: grey
        assert np.ptp(np.asarray(column)[:90], axis=(0, 1)).min() > 60
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 3 * 2 * 96 and sheet.height > 3 * 96
    page = (space / "report.html").read_text()
    assert "How its units came about" in page and "(DeconvNet; grey is zero)" in page
    assert page.count('data-moment="') == 3 and "epoch 1" in page
    entries = json.loads(page.partition('id="at-unit">')[2].partition("</script>")[0])
    assert {(one["layer"], one["unit"]) for one in entries} == {("conv2", unit) for unit in UNITS}
    (attached,) = attached_of(space)["conv2"][3]
    assert attached.heading == "How it came about" and attached.picture == folder / "3.png"
    for text in (page, answer.out, (folder / "columns.json").read_text()):
        assert str(place) not in text
    assert leftovers(space) == []


def todo(place, **values):
    """Checkpoints that would be looked at now."""
    names = values.pop("names", NAMES)
    opening = ModelSettings(**values.pop("opening", {}))
    space = Workspace(values.pop("space", place / "ws"))
    study = Study(space, str(place / names[0]), opening, voice=Voice(quiet=True))
    given = {"data": place / "photos", "filter": ("conv2:3,0,5",), **values}
    others = tuple(str(place / name) for name in names[1:])
    one = Evolve(study, *build(Evolve, {"checkpoints": others, **given}))
    one.resolve()
    return [item.name for part in one.parts for item in part.todo]


def test_nothing_is_made_twice_in_any_order(made, place):
    assert todo(place) == []
    assert todo(place, names=("c.pt", "a.pt")) == []
    assert todo(place, quantile=0.1) == []  # there are no label maps here
    later = cnnlens(*words(place, "-w", made[0], "--json", "--no-page"))
    assert later.json == made[1].json
    assert "3 checkpoints were made before" in later.err


CHANGES = {
    "units": {"filter": ("conv2:3,0",)},
    "layer": {"filter": ("conv1:3,0,5",)},
    "rule": {"method": "guided"},
    "data": {"data": "shapes"},
    "mean": {"opening": {"mean": "0.4,0.5,0.5"}},
    "size": {"opening": {"image_size": "20"}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_numbers_is_made_again(made, place, change):
    values = dict(CHANGES[change])
    if "data" in values:
        values["data"] = place / values["data"]
    assert len(todo(place, **values)) == 3


def test_another_network_of_the_same_name_is_looked_at_and_the_others_are_not(
    made, place, tmp_path
):
    trained(tmp_path)
    torch.manual_seed(7)
    save(tmp_path / "c.pt", ZOO["demo_net"].make(3), 1)
    given = {"space": made[0], "data": place / "photos"}
    assert todo(tmp_path, **given) == ["c.webp"]


def test_without_all_epochs_they_stay_as_given(place, tmp_path):
    trained(tmp_path, (2, None, 1))
    answer = cnnlens(
        *words(tmp_path, "-w", tmp_path / "ws", "--json", "--no-page", data=place / "photos")
    )
    assert answer.code == 0, answer.err
    assert [one["file"] for one in answer.json["checkpoints"]] == list(NAMES)
    assert "in order as given (b.pt says no epoch)" in answer.err
    assert answer.json["order"] == "given"


def test_an_interrupted_run_goes_on_and_ends_as_an_unbroken_one(made, place, tmp_path):
    asked = {
        "checkpoints": tuple(str(place / name) for name in NAMES[1:]),
        "data": place / "photos", "filter": ("conv2:3,0,5",),
    }  # fmt: skip
    study = Study(Workspace(tmp_path), str(place / "a.pt"), voice=Voice(quiet=True))
    method = Evolve(study, *build(Evolve, asked))
    method.resolve()
    study.commit()
    for step in method.work():
        if step.stage.startswith("c.pt"):
            break
    method.close()
    folder = tmp_path / "evolve" / "conv2"
    assert sorted(path.name for path in folder.iterdir()) == ["b.npz", "b.webp", "columns.json"]
    answer = cnnlens(*words(place, "-w", tmp_path, "--no-page"))
    assert "1 checkpoint was made before" in answer.err
    assert files(tmp_path / "evolve") == files(made[0] / "evolve")


def test_pictures_that_are_others_now_are_listed_by_no_old_document(place, tmp_path):
    first = words(place, "-w", tmp_path, "--no-page")
    assert cnnlens(*first).code == 0
    study = Study(Workspace(tmp_path), voice=Voice(quiet=True), spec=str(place / "a.pt"))
    asked = {"checkpoints": (str(place / "b.pt"),), "filter": ("conv2:1",)}
    method = Evolve(study, *build(Evolve, asked))
    method.resolve()
    steps = method.work()
    for step in steps:
        if step.stage.startswith("a.pt"):
            break
    method.close()
    assert not (tmp_path / "evolve" / "conv2" / "evolve.json").exists()


def test_label_maps_name_units_as_dissection_names_them(place, tmp_path):
    ours, names = shutil.copytree(place / "shapes", tmp_path / "shapes"), ("b.pt", "a.pt")
    space = ("-w", tmp_path / "ws", "--min-iou", 0.1)
    answer = cnnlens(*words(place, *space, "--json", names=names, data=ours))
    assert answer.code == 0, answer.err
    data = package.open_data(ours)
    before = None
    for one in answer.json["checkpoints"]:
        model = package.open_model(str(place / one["file"]))
        layer = package.find_layers(model).resolve("conv2")
        source = package.ModelSource(model, data, [layer], package.RunSettings(device="cpu"))
        (found,) = package.dissect(source, data, package.DissectSettings(chance=0, top=0))
        for unit in one["units"]:
            best = found.best[unit["unit"]]
            name = found.concepts.names[best].label if best >= 0 else ""
            assert unit["label"] == name
            assert unit["iou"] == pytest.approx(found.best_iou[unit["unit"]])
            assert unit["is_detector"] == (unit["iou"] >= 0.1)
        labels = [unit["label"] for unit in one["units"]]
        wanted = [bool(a and b and a != b) for a, b in zip(before or labels, labels, strict=True)]
        assert [unit["flipped"] for unit in one["units"]] == wanted
        assert one["flips"] == sum(wanted)
        assert one["detectors"] == sum(unit["is_detector"] for unit in one["units"])
        before = labels
    same = {"space": tmp_path / "ws", "names": names, "data": ours, "min_iou": 0.1}
    assert todo(place, **same) == []
    assert len(todo(place, **{**same, "quantile": 0.1})) == 2
    assert len(todo(place, **{**same, "min_iou": 0.2})) == 2
    mask = next((ours / "images").rglob("*color*"))
    Image.new("RGB", (SIDE, SIDE)).save(mask)
    assert len(todo(place, **same)) == 2


def test_one_checkpoint_alone_is_shown_and_said_and_one_image_suffices(place, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    Image.open(place / "photos" / "cat" / "0.png").save(one / "0.png")
    named = {"names": ("b.pt", "b.pt"), "data": one, "units": "conv2:0-48"}
    more = ("-w", tmp_path / "ws", "--json", "--method", "guided")
    answer = cnnlens(*words(place, *more, **named))
    assert answer.code == 0, answer.err
    assert "a file that is named more than once is taken once" in answer.err
    assert "one checkpoint: there is nothing" in answer.err
    (moment,) = answer.json["checkpoints"]
    assert all(unit["correlation_with_last"] is None for unit in moment["units"])
    assert len(moment["units"]) == 49
    page = (tmp_path / "ws" / "report.html").read_text()
    assert "The first 48 of 49 units stand here" in page and "--shown: 48" in page
    assert "drove it (guided backpropagation; grey is zero)" in page


BAD = {
    "another architecture": "a.pt and other.pt are no checkpoints of one training: zoo:demo_net "
    "against zoo:animal_net",
    "another width": "a.pt and wide.pt are no checkpoints of one training: fc.weight is ",
    "other pixels": "a.pt and size.pt are no checkpoints of one training: they are fed ",
    "no checkpoint": "text.pt is a text file, not a model",
    "cut short": "cut.pt is a truncated",
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_belong_is_named_and_nothing_is_written(place, tmp_path, kind):
    file = (
        tmp_path / BAD[kind].partition(" and ")[2].partition(" ")[0]
        if " and " in BAD[kind]
        else None
    )
    file = file or tmp_path / BAD[kind].partition(" ")[0]
    if kind == "another architecture":
        save_checkpoint(file, ZOO["animal_net"].make(num_classes=3), "zoo:animal_net", FED)
    elif kind == "another width":
        save_checkpoint(file, ZOO["demo_net"].make(4), "zoo:demo_net", FED)
    elif kind == "other pixels":
        other = Preprocess((32, 32), FED.mean, FED.std)
        save_checkpoint(file, ZOO["demo_net"].make(3), "zoo:demo_net", other)
    elif kind == "no checkpoint":
        file.write_text("hello")
    else:
        file.write_bytes((place / "a.pt").read_bytes()[:4000])
    answer = cnnlens(*words(place, "-w", tmp_path / "ws", names=("a.pt", file)))
    assert answer.code == 1 and BAD[kind] in answer.error, answer.err
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("units", "said"),
    [("conv9:0", "no layer 'conv9'"), ("conv2:900", "no unit 900"),
     ("conv2:0@1,1", "conv2:0@1,1 is one position"), ("conv2", "names no units")],
)  # fmt: skip
def test_units_that_there_are_not_are_wrong_usage(place, tmp_path, units, said):
    answer = cnnlens(*words(place, "-w", tmp_path / "ws", units=units))
    assert answer.code == 2 and said in answer.error


def test_the_workspace_is_about_the_one_that_it_knows_else_about_the_last(made, place, tmp_path):
    known = json.loads((made[0] / "workspace.json").read_text())["model"]
    assert known["spec"].endswith("/a.pt")  # epoch 2
    photo = place / "photos" / "cat" / "0.png"
    cam = ("cam", place / "b.pt", "-i", photo, "--method", "gradcam", "--no-page", "-w", tmp_path)
    assert cnnlens(*cam).code == 0
    assert cnnlens(*words(place, "-w", tmp_path, "--no-page")).code == 0
    assert json.loads((tmp_path / "workspace.json").read_text())["model"]["spec"].endswith("/b.pt")
    assert (tmp_path / "cam" / "cam.json").exists()
    refused = cnnlens(*words(place, "-w", tmp_path, names=("a.pt", "c.pt")))
    assert refused.code == 1 and "holds results of another model" in refused.error


def test_checkpoints_of_plain_training_scripts_are_ordered_by_their_epochs(place, tmp_path):
    state = torch.load(place / "a.pt", weights_only=True)["state_dict"]
    saved = {
        "plain.pth": {"epoch": 7, "state_dict": state, "optimizer": {"lr": 0.1}},
        "tensor.pt": {"epoch": torch.tensor(2), "model": {k: v + 0.01 for k, v in state.items()}},
        "light.ckpt": {
            "epoch": 3, "global_step": 90, "pytorch-lightning_version": "2.0",
            "state_dict": {f"model.{k}": v * 0.9 for k, v in state.items()},
        },
    }  # fmt: skip
    for name, content in saved.items():
        torch.save(content, tmp_path / name)
    names = [tmp_path / name for name in saved]
    said = ("--arch", "zoo:demo_net", "--image-size", SIDE, "-w", tmp_path / "ws")
    answer = cnnlens(*words(place, *said, "--json", "--no-page", names=names))
    assert answer.code == 0, answer.err
    found = [(one["file"], one["epoch"]) for one in answer.json["checkpoints"]]
    assert found == [("tensor.pt", 2), ("light.ckpt", 3), ("plain.pth", 7)]


def test_in_python_all_checkpoints_are_named_and_a_table_comes_back(place, tmp_path):
    lens = package.Investigation(workspace=tmp_path, quiet=True)
    found = lens.evolve(
        *(str(place / name) for name in NAMES), filter="conv2:3,0", data=place / "photos"
    )
    table = found.table()
    assert [(row["epoch"], row["unit"]) for row in table[:3]] == [(0, 3), (0, 0), (1, 3)]
    assert len(table) == 6 and "<img" in found._repr_html_()
    assert lens.model.epoch == 2  # the last is what the workspace is about
    again = lens.evolve(str(place / "b.pt"), str(place / "a.pt"), filter="conv2:3,0")
    assert [one["file"] for one in again.checkpoints] == ["b.pt", "a.pt"]
    with pytest.raises(UsageError, match="no checkpoints were named"):
        lens.evolve(filter="conv2:3")


def test_in_python_the_own_file_is_one_of_the_checkpoints(place, tmp_path):
    lens = package.Investigation(place / "b.pt", tmp_path, quiet=True)
    named = {"filter": "conv2:3", "data": place / "photos"}
    for _ in range(2):  # the last one is what it is about then
        found = lens.evolve(str(place / "a.pt"), **named)
        assert [one["file"] for one in found.checkpoints] == ["b.pt", "a.pt"]


def test_equal_names_are_told_apart_by_their_folders(place, tmp_path):
    for run in ("one", "two"):
        trained(tmp_path / run)
    torch.manual_seed(3)
    save(tmp_path / "two" / "a.pt", ZOO["demo_net"].make(3), 5)
    names = [tmp_path / "one" / "a.pt", tmp_path / "two" / "a.pt", tmp_path / "two" / "b.pt",
             tmp_path / "one" / "b.pt"]  # fmt: skip
    answer = cnnlens(*words(place, "-w", tmp_path / "ws", "--json", "--no-page", names=names))
    assert answer.code == 0, answer.err
    listed = [(one["file"], one["picture"]) for one in answer.json["checkpoints"]]
    assert listed == [
        ("two/b.pt", "two_b.webp"), ("one/a.pt", "one_a.webp"), ("two/a.pt", "two_a.webp")
    ]  # fmt: skip
    assert "one/b.pt is the same network as two/b.pt: it is taken once" in answer.err


def test_how_many_checkpoints_are_open_is_said_meanwhile(place, tmp_path, monkeypatch):
    seen = []

    class Seen(Bars):
        def show(self, step):
            seen.append((step.stage, step.done, step.total, step.unit))

    monkeypatch.setattr(Voice, "progress", lambda self: nullcontext(Seen()))
    assert cnnlens(*words(place, "-w", tmp_path, "--no-page")).code == 0
    assert seen[:4] == [("opening", done, 3, "checkpoints") for done in range(3)] + [seen[3]]
    assert seen[3][0] != "opening"


def test_carrying_it_out_leaves_the_callers_folder_as_it_was(place, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in place.glob("*.pt")}
    study = Study(Workspace(tmp_path), str(place / "a.pt"), voice=Voice(quiet=True))
    asked = {"data": place / "photos", "filter": ("conv1:0", "conv2:1")}
    method = Evolve(study, *build(Evolve, asked))
    carry_out(method)
    assert set(method.document()["layers"]) == {"conv1", "conv2"}
    assert {path.name: path.stat().st_mtime_ns for path in place.glob("*.pt")} == before


def test_what_was_skipped_is_said_when_nothing_is_left_to_do(place, tmp_path):
    photos = shutil.copytree(place / "photos", tmp_path / "photos")
    for number in range(30):  # one in twenty may be damaged
        shutil.copy(photos / "cat" / "0.png", photos / "cat" / f"more{number}.png")
    (photos / "dog" / "2.png").write_bytes(b"no image")
    command = words(place, "-w", tmp_path / "ws", "--json", data=photos)
    first, second = cnnlens(*command), cnnlens(*command)
    assert (first.code, second.code) == (0, 0), second.err
    assert [one["image"] for one in first.json["skipped"]] == ["dog/2.png"]
    assert second.json["skipped"] == first.json["skipped"]
    assert "skipped dog/2.png" in second.err
    assert all("skipped" not in one for one in second.json["checkpoints"])


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("epoch1.pt", "epoch10.pt", "epoch2.pt"), "epoch1.pt, epoch2.pt, epoch10.pt"),
        (("epoch1.pt", "epoch2.pt", "epoch10.pt"), ""),
        (("epoch10.pt", "best.pt", "epoch2.pt"), ""),  # who knows where the best one stands
    ],
)
def test_an_order_that_numbers_in_names_contradict_is_said(place, tmp_path, names, ordered):
    for name, given in zip(names, NAMES, strict=True):
        state = torch.load(place / given, weights_only=True)["state_dict"]
        torch.save(state, tmp_path / name)
    opening = ("--arch", "zoo:demo_net", "--image-size", SIDE, "-w", tmp_path / "ws", "--no-page")
    command = words(place, *opening, names=[tmp_path / name for name in names], units="conv2:3")
    answer = cnnlens(*command, "--json")
    assert answer.code == 0, answer.err
    assert [one["file"] for one in answer.json["checkpoints"]] == list(names)
    said = f"the numbers in their names say another order: {ordered}; name them so"
    assert (said in answer.err) is bool(ordered)
    assert ("another order" in answer.err) is bool(ordered)
