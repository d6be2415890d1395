from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.architectures import timm
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module

CODE = """
import torch
from torch import nn

def small(num_classes=4):
    return nn.Sequential(nn.Conv2d(6, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(5, num_classes))

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Conv2d(3, 2, 3)
    def forward(self, x):
        return self.model(x)

def broken():
    raise RuntimeError("no GPU\\nhere")

def leaves():
    raise SystemExit(3)

def nothing():
    return None

built = nn.Conv2d(1, 2, 3)
number = 5
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(CODE)
    return path


def squeezenet(path: Path, wrap: object = None, prefix: str = "", **options: object) -> nn.Module:
    torch.manual_seed(1)
    net = torchvision.models.squeezenet1_1(weights=None, **options).eval()
    state = {prefix + k: v for k, v in net.state_dict().items()}
    content = state if wrap is None else {wrap: state, "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(content, path)
    return net


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "model_state_dict", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_and_prefixes_come_off(tmp_path: Path, wrap: str | None, prefix: str) -> None:
    path = tmp_path / "net.pt"
    net = squeezenet(path, wrap, prefix, num_classes=6)
    model = open_model(str(path), device="cpu")
    x = torch.rand(1, 3, 64, 64)
    assert model.arch == "torchvision:squeezenet1_1"
    assert torch.equal(model.net(x), net(x))
    assert model.classes is None  # six classes, and nobody knows their names


def test_the_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    named = tmp_path / "weights.safetensors.backup"
    net = squeezenet(tmp_path / "net.pt")
    save_file(net.state_dict(), named)
    model = open_model(str(named), device="cpu")
    assert model.fingerprint == open_model(str(tmp_path / "net.pt"), device="cpu").fingerprint


def test_an_opened_network_is_frozen_and_in_evaluation_mode(tmp_path: Path) -> None:
    squeezenet(tmp_path / "net.pt")
    model = open_model(str(tmp_path / "net.pt"), device="cpu")
    assert not any(m.training for m in model.net.modules())
    assert not any(p.requires_grad for p in model.net.parameters())
    assert model.preprocess.source == "assumed"
    assert model.preprocess.resize == 256
    assert model.classes is not None
    assert model.classes[0] == "tench"
    assert model.batch is None


def test_half_precision_weights_run_in_single_precision(tmp_path: Path) -> None:
    state = {k: v.half() for k, v in squeezenet(tmp_path / "net.pt").state_dict().items()}
    torch.save(state, tmp_path / "half.pt")
    model = open_model(str(tmp_path / "half.pt"), device="cpu")
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}


def test_old_names_of_torchvisions_own_files_are_understood(tmp_path: Path) -> None:
    net = torchvision.models.densenet121(weights=None)
    old = {
        k.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): v
        for k, v in net.state_dict().items()
    }
    assert old.keys() != net.state_dict().keys()
    torch.save(old, tmp_path / "densenet.pth")
    opened = open_model(str(tmp_path / "densenet.pth"), device="cpu")
    assert opened.arch == "torchvision:densenet121"


def test_mnasnet_opens_without_a_record_of_versions(tmp_path: Path) -> None:
    net = torchvision.models.mnasnet0_5(weights=None)
    save_file(net.state_dict(), tmp_path / "mnasnet.safetensors")
    model = open_model(str(tmp_path / "mnasnet.safetensors"), device="cpu")
    assert model.arch == "torchvision:mnasnet0_5"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_input_transform_of_googlenet_is_assumed_and_said(
    tmp_path: Path, channels: int
) -> None:
    net = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    state = net.state_dict()
    state["conv1.conv.weight"] = state["conv1.conv.weight"][:, :channels].clone()
    torch.save(state, tmp_path / "net.pt")
    model = open_model(str(tmp_path / "net.pt"), device="cpu")
    assert model.net.transform_input is (channels == 3)
    assert any("transform_input=True is assumed" in n for n in model.notes) is (channels == 3)
    assert model.preprocess.channels == channels


def test_a_registry_name_gives_the_same_weights_every_time_and_spares_the_generator() -> None:
    torch.manual_seed(5)
    first = open_model("torchvision:squeezenet1_1", device="cpu")
    drawn = torch.rand(3)
    torch.manual_seed(6)
    second = open_model("torchvision:squeezenet1_1", device="cpu")
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 16
    assert "torchvision:squeezenet1_1 has random weights" in first.notes


def test_the_fingerprint_sees_weights_and_architecture(tmp_path: Path) -> None:
    net = squeezenet(tmp_path / "a.pt")
    state = net.state_dict()
    state["features.0.bias"][3] += 1e-6
    torch.save(state, tmp_path / "b.pt")
    marks = {open_model(str(tmp_path / f), device="cpu").fingerprint for f in ("a.pt", "b.pt")}
    assert len(marks) == 2


def test_names_of_timm_and_of_the_zoo_open() -> None:
    data = pytest.importorskip("timm.data")
    model = open_model("timm:resnet10t", device="cpu")
    resize, crop = data.create_transform(**data.resolve_model_data_config(model.net)).transforms[:2]
    settings = model.preprocess
    assert (settings.source, settings.interpolation) == ("timm", resize.interpolation.value)
    assert (settings.size, settings.resize) == (tuple(crop.size), resize.size)
    assert open_model("zoo:shapes_net", device="cpu").preprocess.size == (64, 64)


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("torchvision:resnet19", "no classification network 'resnet19'", "resnet18"),
        ("torchvision:resnet18@IMAGENET", "no weights 'IMAGENET'", "IMAGENET1K_V1"),
        ("zoo:vgg_x", "no 'vgg_x'", "vgg_"),
        ("zoo:vgg_m@BEST", "no weights to choose", "leave out @BEST"),
        ("timm:resnet26q", "no network 'resnet26q'", "resnet26"),
        ("nowhere.at_all:net", "no module 'nowhere'", "file.py:factory"),
        ("missing.py:net", "missing.py does not exist", ""),
    ],
)
def test_unknown_names_are_wrong_usage_with_a_way_out(spec: str, message: str, hint: str) -> None:
    if spec.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(UsageError) as caught:
        open_model(spec, device="cpu")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_timm_names_without_timm_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "names", tuple)
    with pytest.raises(UsageError) as caught:
        open_model("timm:resnet26d")
    assert caught.value.hint == 'pip install "cnnlens[timm]"'


def test_a_missing_file_offers_near_names(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        open_model(str(tmp_path / "modle.pt"))
    assert "did you mean model.pt?" in caught.value.hint


def test_a_factory_opens_and_its_first_convolution_sets_the_channels(code: Path) -> None:
    model = open_model(f"{code}:small", device="cpu")
    assert model.preprocess.channels == 6
    assert model.preprocess.source == "assumed"
    assert model.net(torch.zeros(2, 6, 9, 9)).shape == (2, 4)
    assert model.fingerprint == open_model(f"{code}:small", device="cpu").fingerprint
    assert open_model(f"{code}:built", device="cpu").preprocess.channels == 1


def test_what_a_factory_has_compiled_or_made_parallel_is_opened_bare(code: Path) -> None:
    wraps = "\n\ndef compiled():\n    return torch.compile(small(), backend='eager')\n"
    wraps += "\nparallel = nn.DataParallel(small())\n"
    code.write_text(f"import torch\n{CODE}{wraps}")
    names = [*dict(open_model(f"{code}:small", device="cpu").net.named_modules())]
    for factory in ("compiled", "parallel"):
        net = open_model(f"{code}:{factory}", device="cpu").net
        assert [*dict(net.named_modules())] == names and type(net).__name__ == "Sequential"


def test_the_text_of_a_factory_belongs_to_the_fingerprint(code: Path) -> None:
    before = open_model(f"{code}:small", device="cpu").fingerprint
    code.write_text(CODE.replace("nn.ReLU()", "nn.GELU()"))
    assert open_model(f"{code}:small", device="cpu").fingerprint != before


def test_a_factory_is_what_its_file_says_now_and_leaves_nothing_beside_it(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # as it usually is
    there, image = sorted(code.parent.iterdir()), torch.full((1, 6, 9, 9), 1.0)
    torch.manual_seed(0)
    before = open_model(f"{code}:small", device="cpu").net(image)
    times = code.stat()
    code.write_text(CODE.replace("nn.ReLU()", "nn.GELU()"))  # as long as it was
    os.utime(code, ns=(times.st_atime_ns, times.st_mtime_ns))
    torch.manual_seed(0)
    assert not torch.equal(open_model(f"{code}:small", device="cpu").net(image), before)
    assert sorted(code.parent.iterdir()) == there


def test_a_module_in_the_working_folder_is_found(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(code.parent)
    code.rename(code.with_name("local_nets_for_cnnlens.py"))
    assert open_model("local_nets_for_cnnlens:small", device="cpu").preprocess.channels == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smal", "has no 'smal'"),
        ("broken", "failed: RuntimeError: no GPU here"),
        ("leaves", "failed: SystemExit: 3"),
        ("nothing", "returned nothing, not an nn.Module"),
        ("number", "is no callable"),
    ],
)
def test_faulty_factories_get_one_line(code: Path, name: str, message: str) -> None:
    with pytest.raises(CnnlensError) as caught:
        open_model(f"{code}:{name}", device="cpu")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (
            "from torch import nn\nfrom functools import partial\n"
            "class Net(nn.Sequential): ...\nclass Wide(nn.Module):\n"
            "    def __init__(self, width): super().__init__()\n"
            "def make(classes=10): return Net()\ndef _own(): ...\ndef load(path): ...\n"
            "small, built, WIDTH = partial(Wide, 8), nn.ReLU(), 3\n",
            "it has Net, make, small, built",
        ),
        ("".join(f"def build{n}(): ...\n" for n in range(10)), "it has build0, build1, build2, "),
        ("".join(f"def build{n}(): ...\n" for n in range(10)), ", build7 and 2 more"),
        ("from torchvision.models import resnet18, ResNet\n", "it has resnet18"),
        ("import torch\nWIDTH = 3\ndef load(path): ...\n", "nothing in it can be called"),
    ],
)
def test_a_factory_that_is_not_there_leads_on_to_those_that_are(
    code: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(code)
    with pytest.raises(UsageError, match="has no 'xyzzy'") as caught:
        open_model(f"{tmp_path / 'nets.py'}:xyzzy", device="cpu")
    assert hint in caught.value.hint


def test_code_that_cannot_be_imported_gets_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def net(:\n")
    with pytest.raises(CnnlensError, match="cannot be imported: SyntaxError"):
        open_model(f"{path}:net", device="cpu")


def test_arch_names_what_cannot_be_inferred(code: Path, tmp_path: Path) -> None:
    state = {"0.weight": torch.ones(5, 6, 3, 3), "0.bias": torch.zeros(5)}
    state |= {"4.weight": torch.ones(4, 5), "4.bias": torch.zeros(4)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "s.pt")
    model = open_model(str(tmp_path / "s.pt"), arch=f"{code}:small", device="cpu")
    assert torch.equal(model.net[0].weight, state["0.weight"])


def test_a_prefix_that_the_architecture_itself_has_stays(code: Path, tmp_path: Path) -> None:
    torch.save(
        {"model.weight": torch.ones(2, 3, 3, 3), "model.bias": torch.ones(2)}, tmp_path / "w"
    )
    model = open_model(str(tmp_path / "w"), arch=f"{code}:Wrapped", device="cpu")
    assert torch.equal(model.net.model.bias, torch.ones(2))


def test_arch_adapts_its_number_of_classes_and_lists_what_does_not_fit(tmp_path: Path) -> None:
    squeezenet(tmp_path / "net.pt", num_classes=6)
    model = open_model(str(tmp_path / "net.pt"), arch="squeezenet1_1", device="cpu")
    assert model.net(torch.zeros(1, 3, 64, 64)).shape == (1, 6)
    with pytest.raises(CnnlensError) as caught:
        open_model(str(tmp_path / "net.pt"), arch="torchvision:squeezenet1_0", device="cpu")
    assert "does not fit torchvision:squeezenet1_0" in caught.value.message
    assert "features.0.weight (64, 3, 3, 3) instead of (96, 3, 7, 7)" in caught.value.message
    with pytest.raises(UsageError, match="no architecture 'squeznet'"):
        open_model(str(tmp_path / "net.pt"), arch="squeznet", device="cpu")
    with pytest.raises(UsageError, match="--arch goes with a file"):
        open_model("zoo:vgg_m", arch="resnet18")


def test_preprocessing_can_be_overridden(tmp_path: Path) -> None:
    settings = open_model(
        "zoo:shapes_net", image_size=(48, 32), mean=(0.1, 0.2, 0.3), std=(1, 1, 1), device="cpu"
    ).preprocess
    assert (settings.size, settings.mean, settings.std) == ((48, 32), (0.1, 0.2, 0.3), (1, 1, 1))
    assert settings.source == "zoo, overridden"
    with pytest.raises(UsageError, match="--mean has 1 number, but the network takes 3 ") as wrong:
        open_model("zoo:shapes_net", mean=(0.5,), device="cpu")
    assert wrong.value.hint == "one for each: --mean 0.5,0.5,0.5"


def test_a_mean_of_bytes_is_an_error_that_says_what_is_meant() -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    with pytest.raises(UsageError, match="meant for pixels from 0 to 255; here they run") as caught:
        open_model("zoo:shapes_net", mean=mean, std=std, device="cpu")
    assert "divide by 255: --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225" in caught.value.hint
    with pytest.raises(UsageError, match="meant for pixels from 0 to 255"):
        wrap_module(nn.Conv2d(3, 4, 3), Preprocess((32, 32), mean, std))
    caffe = open_model("zoo:vgg_m", mean=mean, std=(1, 1, 1), device="cpu")
    assert caffe.preprocess.mean == mean  # of pixels from 0 to 255


def test_a_vision_transformer_keeps_its_picture_size() -> None:
    assert open_model("torchvision:vit_b_32", device="cpu").preprocess.size == (224, 224)
    with pytest.raises(UsageError, match="takes pictures of 224x224 only"):
        open_model("torchvision:vit_b_32", image_size=(256, 256), device="cpu")


@pytest.mark.parametrize("device", ["gpu", "meta", "vulkan"])
def test_devices_that_do_not_exist_are_wrong_usage(device: str) -> None:
    with pytest.raises(UsageError, match="device"):
        open_model("zoo:shapes_net", device=device)


def little() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Compiled(nn.Module):
    """What torch.compile makes of a module, as far as it matters here."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._orig_mod = net


@pytest.mark.parametrize(
    "wrapper", [nn.DataParallel, Compiled, lambda n: Compiled(nn.DataParallel(n))]
)
def test_a_module_in_memory_is_unwrapped(wrapper: Callable[[nn.Module], nn.Module]) -> None:
    net = little()
    model = wrap_module(wrapper(net))
    assert model.net is net
    assert model.fingerprint == wrap_module(net).fingerprint


def test_torch_compile_is_unwrapped() -> None:
    net = little()
    assert wrap_module(torch.compile(net)).net is net


def test_a_module_in_memory_is_not_touched_by_opening_it() -> None:
    net = little().train()
    model = wrap_module(net, classes=["a", "b", "c", "d"])
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert model.classes == ["a", "b", "c", "d"] and model.notes


def test_modules_that_compute_otherwise_have_another_fingerprint() -> None:
    net, other = little(), little()
    assert wrap_module(net).fingerprint == wrap_module(other).fingerprint
    other[0].stride = (2, 2)
    assert wrap_module(net).fingerprint != wrap_module(other).fingerprint
    other = little()
    other[0].weight.data[0, 0, 0, 0] += 1
    assert wrap_module(net).fingerprint != wrap_module(other).fingerprint


def test_preprocessing_left_out_is_imagenet_s_and_said() -> None:
    model = wrap_module(nn.Conv2d(1, 4, 3))
    assert model.preprocess.size == (224, 224) and model.preprocess.channels == 1
    assert any("224" in note for note in model.notes)


def test_preprocessing_of_torchvision_and_timm_is_read() -> None:
    preset = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    model = wrap_module(little(), preset)
    assert (model.preprocess.size, model.preprocess.resize) == ((224, 224), 232)
    config = {
        "input_size": (3, 64, 96),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "interpolation": "bicubic",
        "crop_pct": 0.8,
    }
    found = wrap_module(little(), config).preprocess
    assert (found.size, found.mean, found.std) == ((64, 96), (0.5,) * 3, (0.2,) * 3)
    assert (found.interpolation, found.resize) == ("bicubic", 80)
    given = Preprocess((32, 32))
    model = wrap_module(little(), given)
    assert model.preprocess.key == given.key and model.preprocess.source == "given"
    assert not model.notes


@pytest.mark.parametrize(
    ("net", "preprocess"), [("resnet18", None), (nn.Conv2d(3, 4, 3), "imagenet")]
)
def test_what_is_no_module_or_no_preprocessing_is_a_caller_s_mistake(
    net: object, preprocess: object
) -> None:
    with pytest.raises(UsageError, match=r"str"):
        wrap_module(net, preprocess)  # type: ignore[arg-type]


def test_a_thousand_outputs_without_names_are_taken_for_imagenet_s() -> None:
    model = wrap_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 1000)))
    assert model.classes is not None and model.classes[0] == "tench"
    assert any("ImageNet" in note for note in model.notes)


def test_a_model_is_printed_short() -> None:
    text = repr(wrap_module(little(), Preprocess((32, 48)), classes=list("abcd")))
    assert "input 3×32×48" in text and "4 classes" in text and "\n" not in text
    assert len(text) < 160


def test_a_preprocessing_says_itself_and_what_results_depend_on():
    used = Preprocess((8, 9), (0.5,), (0.25,), source="told")
    assert str(used) == "input 8×9, mean 0.5, std 0.25 (told)"
    assert used.key == Preprocess((8, 9), (0.5,), (0.25,)).key
    assert used.key != Preprocess((8, 9), (0.5,), (0.5,)).key
