"""The Python face: the commands' names and defaults, over files and memory; nothing of the
caller's is changed."""

from __future__ import annotations

import inspect
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cnnlens
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods import methods
from cnnlens.methods.method import inputs_of, settings_of


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    net[0].bias.requires_grad_(False)
    net[1].eval()  # a mixture of modes, as a training script may have it
    return net


PREPROCESS = cnnlens.Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def photos() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(9)]


@pytest.fixture
def lens(tmp_path: Path) -> cnnlens.Investigation:
    return cnnlens.Investigation(
        small_net(), tmp_path / "ws", preprocess=PREPROCESS, classes=["a", "b", "c"], quiet=True
    )


def state_of(net: nn.Module) -> dict[str, object]:
    return {
        "modes": [m.training for m in net.modules()],
        "gradients": [(p.requires_grad, p.grad) for p in net.parameters()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()],
        "weights": [p.detach().clone() for p in net.parameters()],
        "buffers": [b.clone() for b in net.buffers()],
        "devices": [p.device for p in net.parameters()],
    }


def assert_same(before: dict[str, object], after: dict[str, object]) -> None:
    torch.testing.assert_close(before.pop("weights"), after.pop("weights"), rtol=0, atol=0)
    torch.testing.assert_close(before.pop("buffers"), after.pop("buffers"), rtol=0, atol=0)
    assert before == after


def random_numbers() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


CALLS = {
    "cam": lambda lens, photos: lens.cam(image=photos[:2], method="gradcam", layer="conv1"),
    "visualize": lambda lens, photos: lens.visualize(filter="conv1:0", steps=2),
    "deconv": lambda lens, photos: lens.deconv(filter="conv1:1", data=photos, top=2),
    "extract": lambda lens, photos: lens.extract(data=photos, layer="conv1"),
    "invert": lambda lens, photos: lens.invert(layer="conv1", image=photos[0], steps=2),
    "layers": lambda lens, photos: lens.layers(),
}


@pytest.mark.parametrize("name", CALLS)
def test_module_and_random_states_leave_as_they_came(name, lens, photos):
    net = lens._subject.net
    before = state_of(net)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random_numbers()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    CALLS[name](lens, photos)
    assert random_numbers() == expected
    assert_same(before, state_of(net))


def test_also_after_an_error(lens, photos):
    net = lens._subject.net
    before = state_of(net)
    with pytest.raises(CnnlensError):
        lens.visualize(filter="conv9:0")
    with pytest.raises(CnnlensError):
        lens.cam(image="missing.jpg")
    assert_same(before, state_of(net))


def test_labels_of_the_callers_data_stay(lens, photos):
    labels = [0, 1, 2] * 3
    kept = list(labels)
    lens.extract(data=photos, labels=labels, layer="conv1")
    assert labels == kept


@pytest.mark.parametrize("kind", ["array", "pil", "uint8 tensor", "float tensor", "dataset"])
def test_images_in_memory_of_every_kind_give_the_same_activations(kind, photos, tmp_path):
    tensors = [torch.from_numpy(p).permute(2, 0, 1) for p in photos]
    data = {
        "array": photos,
        "pil": [Image.fromarray(p) for p in photos],
        "uint8 tensor": tensors,
        "float tensor": [t.float() / 255 for t in tensors],
        "dataset": torch.utils.data.TensorDataset(
            torch.stack(tensors), torch.tensor([0, 1, 2] * 3)
        ),
    }[kind]
    net = small_net()
    lens = cnnlens.Investigation(net, tmp_path, preprocess=PREPROCESS, quiet=True)
    store = lens.extract(data=data, layer="conv1")
    x = PREPROCESS.normalize(torch.stack(tensors))
    with torch.no_grad():
        expected = net.eval()[:3](x)
    torch.testing.assert_close(torch.from_numpy(store[0:9]), expected, rtol=1e-4, atol=1e-5)
    if kind == "dataset":
        assert store.categories is not None
        assert len(set(store.categories)) == 3


def test_wrappers_are_taken_off(tmp_path, photos):
    net = small_net()
    for wrapped in (nn.DataParallel(net), torch.compile(net)):
        lens = cnnlens.Investigation(wrapped, preprocess=PREPROCESS, quiet=True)
        assert [row.name for row in lens.layers()][:2] == ["0", "1"]


def test_what_is_assumed_is_said(capsys):
    cnnlens.Investigation(small_net()).layers()
    assert "224" in capsys.readouterr().err


def test_names_and_defaults_are_the_commands():
    lens = cnnlens.Investigation("zoo:demo_net")
    assert set(methods()) <= set(dir(lens))
    for name, method in methods().items():
        parameters = inspect.signature(getattr(lens, name)).parameters
        for field in [*inputs_of(method), *settings_of(method)]:
            found = parameters[field.keyword]
            if field.option.argument:
                assert found.kind is inspect.Parameter.VAR_POSITIONAL
            else:
                assert found.default == field.default, (name, field.keyword)


def test_help_has_what_is_no_option_of_the_settings():
    lens = cnnlens.Investigation("zoo:demo_net")
    assert "preset : A paper's settings: default, erhan, simonyan" in lens.visualize.__doc__
    assert "labels : Of images in memory" in lens.units.__doc__
    assert inspect.signature(lens.net2vec).parameters["preset"].default == "default"
    assert inspect.signature(lens.units).parameters["labels"].default is None
    assert "preset" not in inspect.signature(lens.units).parameters


def test_unknown_names_point_on(lens):
    with pytest.raises(AttributeError, match="did you mean dissect"):
        lens.disect  # noqa: B018
    with pytest.raises(UsageError) as error:
        lens.visualize(filters="conv1:0")
    assert "did you mean filter" in error.value.hint


def test_a_preset_is_taken_by_methods_that_have_some_alone(lens, photos):
    with pytest.raises(UsageError, match="cam takes no keyword 'preset'"):
        lens.cam(image=photos[0], method="gradcam", preset="paper")
    with pytest.raises(UsageError, match="no preset 'papers'"):
        lens.visualize(filter="conv1:0", preset="papers")


def test_results_show_themselves_within_a_megabyte(lens, photos):
    found = lens.visualize(filter="conv1:0-3", steps=2)
    html = found._repr_html_()
    assert html.count("<img") == 4
    assert len(html) <= 1_000_000
    assert [row["unit"] for row in found.table()] == [0, 1, 2, 3]
    assert found[2].size == (16, 16)


def test_files_and_commands_agree_with_the_command_line(tmp_path):
    """A notebook's call and the command write the same bytes, and take each other's results."""
    from tests.cli.runner import cnnlens as command

    lens = cnnlens.Investigation("zoo:demo_net", tmp_path / "py", image_size=24, quiet=True)
    lens.visualize(filter="conv1:0-1", steps=3)
    words = ("zoo:demo_net", "--image-size", 24, "-f", "conv1:0-1", "--steps", 3, "--no-page")
    assert command("visualize", *words, "-w", tmp_path / "cli").code == 0
    for name in ("0.png", "1.png", "visualize.json"):
        ours, theirs = (tmp_path / w / "visualize/conv1" / name for w in ("py", "cli"))
        assert ours.read_bytes() == theirs.read_bytes()
    again = command("visualize", *words[3:], "-w", tmp_path / "py")
    assert "made before" in again.err


def test_the_page(lens, photos):
    lens.cam(image=photos[0], method="gradcam", layer="conv1")
    page = lens.report()
    assert page.is_file()
    assert str(Path.home()) not in page.read_text()


def test_import_stays_light():
    import subprocess
    import sys

    code = (
        "import sys, cnnlens; lens = cnnlens.Investigation('m.pt', 'ws');"
        "print([m for m in ('torch', 'matplotlib', 'h5py', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_several_sets_in_memory_have_stores_of_their_own(lens, photos):
    first = lens.extract(data=photos[:4], layer="conv1")
    second = lens.extract(data=photos[4:], layer="conv1")
    assert (len(first), len(second)) == (4, 5)
    assert len(lens.extract(data=photos[:4], layer="conv1")) == 4


def test_results_outlive_what_made_them(photos):
    found = cnnlens.Investigation(small_net(), preprocess=PREPROCESS, quiet=True).cam(
        image=photos[0], method="gradcam", layer="conv1"
    )
    assert found._repr_html_().count("<img") == 1


def test_an_earlier_result_keeps_its_pictures(lens, photos):
    first = lens.cam(image=photos[:1], class_="a")
    seen, page = np.asarray(first[0]), first._repr_html_()
    second = lens.cam(image=photos[:1], class_="b")
    assert not np.array_equal(second[0], seen)
    np.testing.assert_array_equal(first[0], seen)
    assert first._repr_html_() == page != second._repr_html_()


def test_numbers_serve_where_names_do(lens, photos):
    one = lens.cam(image=photos[0], method="gradcam", layer="conv1", class_=2)
    assert one.entries[0]["class_name"] == "c"


def test_style_takes_pictures_in_memory(lens, photos):
    found = lens.style(content=photos[0], style=photos[1], steps=2)
    assert len(found) == 1


OF_IMAGES = {
    "cam": lambda lens, images: lens.cam(image=images, top=2),
    "invert": lambda lens, images: lens.invert(
        image=images, layer="conv1", steps=1, perturb="binarize"
    ),
    "fool": lambda lens, images: lens.fool(image=images, target=[0, 1], steps=2),
    "style": lambda lens, images: lens.style(content=images[1], style=images[1:], steps=1),
}


@pytest.mark.parametrize("name", OF_IMAGES)
def test_pictures_are_found_by_their_images_place_among_those_given(name, lens, photos, tmp_path):
    """An image that cannot be read keeps its place; those of a folder have one each."""
    (tmp_path / "b").mkdir()
    (tmp_path / "damaged.png").write_text("no picture")
    for photo, file in zip(photos, ("a.png", "b/c.png", "b/d.png"), strict=False):
        Image.fromarray(photo).save(tmp_path / file)
    files = [tmp_path / one for one in ("damaged.png", "a.png", "b")]
    found = OF_IMAGES[name](lens, [*files[:2], photos[3], photos[3], files[2]])
    first = 1 if name != "style" else 0  # of style, a picture that cannot be read is an error
    key = "image" if first else "style"
    shown = {entry["file"]: Path(entry[key]).name.partition("-")[0] for entry in found.entries}
    assert [shown[found.of_images[first + place]] for place in range(5)] == [
        *("a.png", f"000{first + 1}", f"000{first + 2}", "c.png", "d.png")
    ]
    for place, file in found.of_images.items():
        assert found[place] == found[file]
    with pytest.raises(KeyError, match=f"no picture of {5 * (1 - first)}; there are {first} "):
        found[5 * (1 - first)]


def test_floats_beside_bytes_are_what_they_are_alone(lens, photos):
    """Images that were named stand in one batch, whatever they are made of."""
    floats = torch.from_numpy((photos[1].transpose(2, 0, 1) + 0.25) / 255.5).float()
    other = cnnlens.Investigation(small_net(), preprocess=PREPROCESS, quiet=True)

    def numbers(lens, images):
        maps = lens.cam(image=images, method="gradcam", layer="conv1", top=3).entries
        (unit,) = lens.deconv(filter="conv1:0", image=images).entries
        (first, _) = lens.invert(layer="conv1", image=images, steps=1).entries
        return {
            "scores": [one["score"] for entry in maps for one in entry["classes"]],
            "peaks": [one["activation"] for one in unit["images"]],
            "usual distance": [first["mean_distance"]],
        }

    mixed, alike = numbers(lens, [photos[0], floats]), numbers(other, photos[:2])
    for name, found in mixed.items():
        assert found == pytest.approx(alike[name], rel=0.02), name


@pytest.mark.parametrize("classes", ["imagenet", ["a", "b"]])
def test_wrong_names_of_classes_are_refused(classes):
    with pytest.raises(UsageError, match=r"names? "):
        cnnlens.Investigation(small_net(), preprocess=PREPROCESS, classes=classes).layers()


def test_a_subset_keeps_the_names_of_its_classes(lens, photos):
    class Set(torch.utils.data.Dataset):
        classes, targets = ["cat", "dog"], [0, 1] * 3

        def __len__(self):
            return 6

        def __getitem__(self, index):
            return Image.fromarray(photos[index]), self.targets[index]

    store = lens.extract(data=torch.utils.data.Subset(Set(), [1, 2, 3]), layer="conv1")
    assert store.categories == ["dog", "cat", "dog"]


def test_a_workspace_about_a_network_in_memory_says_so(lens, photos):
    lens.cam(image=photos[0], method="gradcam", layer="conv1")
    with pytest.raises(UsageError, match="network in memory"):
        cnnlens.Investigation(workspace=lens.workspace.path).layers()


def test_one_side_serves_for_both():
    assert cnnlens.Preprocess(32, [0.5] * 3, [0.5] * 3).size == (32, 32)
    with pytest.raises(ValueError, match="3 means, 1 deviations"):
        cnnlens.Preprocess(32, [0.5] * 3, [0.5])


def test_numbers_of_preprocessing_may_be_tensors():
    as_tensor, as_array = torch.tensor([0.5] * 3), np.array([0.5] * 3, np.float32)
    found = cnnlens.Preprocess(np.array([8, 8]), as_tensor, as_array)
    plain = cnnlens.Preprocess((8, 8), (0.5,) * 3, (0.5,) * 3)
    assert found == plain and json.dumps(found.as_dict()) == json.dumps(plain.as_dict())
    scaled = cnnlens.Preprocess(np.int64(8), resize=np.int64(9), scale=np.float32(255))
    assert json.dumps(scaled.as_dict()) == json.dumps(
        cnnlens.Preprocess(8, resize=9, scale=255.0).as_dict()
    )


def test_numbers_of_numpy_give_the_results_of_pythons_own(lens, photos):
    image, steps = photos[0], np.arange(4)
    made = lens.cam(image=image, method="gradcam", layer="conv1", top=steps[2], class_=steps[:2])
    (drawn,) = made.folder.glob("*.png")
    before = drawn.stat().st_mtime_ns
    again = lens.cam(image=image, method="gradcam", layer="conv1", top=2, class_=[0, 1])
    assert made.entries == again.entries and drawn.stat().st_mtime_ns == before  # nothing is redone
    assert all("top=2" in command for command in lens.workspace.document["commands"])


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"mean": 0.5}, r"mean=0.5: one number per channel"),
        ({"std": (0, 1, 1)}, "none may be 0"),
        ({"size": (0, 8)}, "none may be 0"),
        ({"size": 8.5}, "height and width"),
        ({"size": (8.5, 8)}, "8.5 is no int"),
        ({"mean": ("a",) * 3}, "'a' is no float"),
    ],
)
def test_numbers_that_cannot_be_are_named(numbers, said):
    with pytest.raises(ValueError, match=said):
        cnnlens.Preprocess(**numbers)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_scripted_module_says_what_to_give_instead():
    script = torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()))
    with pytest.raises(UsageError, match="TorchScript") as error:
        cnnlens.Investigation(script, preprocess=PREPROCESS).layers()
    assert "made from" in error.value.hint


@pytest.mark.parametrize(("value", "said"), [("2", "whole number"), (2.5, "whole number")])
def test_values_of_another_type_are_named(lens, photos, value, said):
    with pytest.raises(UsageError, match=said):
        lens.cam(image=photos[0], top=value)


def test_other_names_of_classes_are_shown(tmp_path, photos):
    shown = []
    for classes in (["a", "b", "c"], ["x", "y", "z"]):
        lens = cnnlens.Investigation(
            small_net(), tmp_path, preprocess=PREPROCESS, classes=classes, quiet=True
        )
        found = lens.cam(image=photos[0], method="gradcam", layer="conv1", class_=0)
        shown.append(found.entries[0]["class_name"])
    assert shown == ["a", "x"]


def test_every_command_but_those_that_the_page_names_is_a_method():
    from typer.main import get_command

    from cnnlens.cli.app import app

    lacking = {
        name for name in get_command(app).commands if not hasattr(cnnlens.Investigation, name)
    }
    lacking -= set(methods())
    for page in ("README.md", "docs/python.md"):
        text = (Path(__file__).parents[2] / page).read_text("utf-8")
        (said,) = re.findall(r"^Every command but (.*?) is a method", text, re.M)
        assert set(re.findall(r"`(\w+)`", said)) == lacking


def anew(lens: cnnlens.Investigation) -> cnnlens.Investigation:
    """The investigation as another process opens it."""
    return cnnlens.Investigation(
        small_net(), lens.workspace.path, preprocess=PREPROCESS, classes=["a", "b", "c"], quiet=True
    )


def test_images_that_were_in_memory_of_another_process_are_asked_for(lens, photos):
    lens.units(data=photos, layer="conv1")
    (entry,) = lens.workspace.document["data"]
    assert entry["in_memory"] is True and entry["name"].startswith("images-")
    later = anew(lens)
    said = f"the images {entry['name']} were in memory of another process"
    for data in (None, entry["name"]):
        with pytest.raises(UsageError, match=said) as error:
            later.units(data=data, layer="conv1", top=3)
        assert "data=" in error.value.hint
    later.units(data=photos, layer="conv1", top=3)
    assert later.workspace.document["data"] == [entry]  # the same images, and so the same stores
    later.units(layer="conv1", top=4)


def test_images_in_memory_are_the_same_in_every_folder(lens, photos, tmp_path, monkeypatch):
    lens.units(data=photos, layer="conv1")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    lens.units(layer="conv1", top=3)
    lens.units(data=photos, layer="conv1", top=4)
    assert len(lens.workspace.document["data"]) == 1


def test_a_folder_is_not_taken_for_images_in_memory_of_its_name(
    lens, photos, tmp_path, monkeypatch
):
    images = cnnlens.memory_images(photos, name="photos", preprocess=PREPROCESS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(photos[:2]):
        Image.fromarray(photo).save(tmp_path / "photos" / f"{number}.png")
    lens.units(data=images, layer="conv1")
    assert lens.units(data="photos", layer="conv1").summary["images"] == 2
    assert len(lens.workspace.document["data"]) == 2


class Twofold(nn.Module):
    """Gives two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"species": self.net(x), "colour": self.net(x)[:, :2]}


def test_which_of_several_outputs_counts_is_said_once(photos, capsys):
    twofold = cnnlens.Investigation(Twofold(), preprocess=PREPROCESS)
    twofold.layers()
    for top in (1, 2):
        twofold.cam(image=photos[0], layer="conv1", method="gradcam", top=top)
    assert capsys.readouterr().err.count("it returns several outputs") == 1
