from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import cnnlens
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model import zoo
from cnnlens.model.architectures import registry
from cnnlens.model.architectures import transformers as hf
from cnnlens.model.classes import count_scores
from cnnlens.model.ending import ending
from cnnlens.model.from_file import NAMELESS, open_file
from cnnlens.model.hub import folder_of, open_folder
from cnnlens.model.layers import find_layers
from cnnlens.model.open import open_model
from tests.model.nets import filled

NAMES = ["ant", "bee", "cat"]


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def refusal(path: Path, kind: type[CnnlensError] = CnnlensError, **more: Any) -> CnnlensError:
    with pytest.raises(kind) as caught:
        open_folder(path, **more)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def timm_folder(path: Path, name: str = "test_resnet", **config: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    from timm.models import save_for_hf  # what timm.models.push_to_hf_hub writes

    net = filled(timm.create_model(name, **{"num_classes": 3, **config.pop("arguments", {})}))
    save_for_hf(net, path, model_config=config, safe_serialization="both")
    return net


def test_a_folder_of_timm_opens_with_its_preprocessing_and_names(tmp_path: Path) -> None:
    net = timm_folder(tmp_path / "f", label_names=NAMES)
    config = json.loads((tmp_path / "f" / "config.json").read_text())
    settings = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 40, 48],
                "crop_pct": 0.8, "interpolation": "bilinear"}  # fmt: skip
    edit(tmp_path / "f" / "config.json", pretrained_cfg={**config["pretrained_cfg"], **settings})
    model = open_model(str(tmp_path / "f"), device="cpu")
    assert (model.arch, model.classes) == ("timm:test_resnet", NAMES)
    known = model.preprocess
    assert (known.mean, known.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (known.size, known.resize, known.interpolation) == ((40, 48), 50, "bilinear")
    assert known.source == "config.json"
    assert "preprocessing and class names from config.json" in model.notes[0]
    assert open_folder(tmp_path / "f").classes_source == "config.json"
    x = torch.rand(2, 3, 40, 48)
    assert torch.allclose(model.net(x), net(x), atol=1e-5)


def test_a_folder_whose_config_names_no_network_opens_as_its_weights(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    net = filled(zoo.shapes_net())  # as PyTorchModelHubMixin writes it
    folder = tmp_path / "f"
    folder.mkdir()
    fill(folder, {"config.json": '{"hidden": 8, "num_classes": 4}', "README.md": ""})
    save_file(net.state_dict(), folder / "model.safetensors")
    model, alone = (
        open_model(str(p), device="cpu") for p in (folder, folder / "model.safetensors")
    )
    assert (model.arch, model.fingerprint) == ("zoo:shapes_net", alone.fingerprint)
    assert model.notes == [*alone.notes, NAMELESS]
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(model.net(x), net(x))
    torch.save({"ema": net.state_dict()}, folder / "last.pt")
    for more in ({"arch": "zoo:shapes_net"}, {"weights": "last.pt"}):
        assert open_model(str(folder), device="cpu", **more).arch == "zoo:shapes_net"


@pytest.mark.parametrize("left", ["model.safetensors", "pytorch_model.bin"])
def test_either_file_of_weights_serves(tmp_path: Path, left: str) -> None:
    timm_folder(tmp_path / "f")
    (other,) = {"model.safetensors", "pytorch_model.bin"} - {left}
    whole = open_folder(tmp_path / "f")
    (tmp_path / "f" / other).unlink()
    assert torch.equal(open_folder(tmp_path / "f").net.conv1[0].weight, whole.net.conv1[0].weight)


def test_a_link_in_a_hubs_cache_is_read_with_what_lies_beside_the_link(tmp_path: Path) -> None:
    timm_folder(tmp_path / "f", label_names=NAMES)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "links").mkdir()
    for file in ("config.json", "pytorch_model.bin"):
        (tmp_path / "f" / file).rename(tmp_path / "blobs" / f"hash of {file}")
        (tmp_path / "links" / file).symlink_to(tmp_path / "blobs" / f"hash of {file}")
    linked = str(tmp_path / "links" / "pytorch_model.bin")
    inv = cnnlens.Investigation(linked, tmp_path / "ws")
    assert (inv.model.arch, inv.model.classes) == ("timm:test_resnet", NAMES)
    assert not any("hash of" in note for note in inv.model.notes)


def test_arguments_of_the_builder_count_and_are_named(tmp_path: Path) -> None:
    net = timm_folder(tmp_path / "f", "test_vit", arguments={"img_size": 64, "global_pool": "avg"})
    edit(tmp_path / "f" / "config.json", model_args={"img_size": [64, 64], "global_pool": "avg"})
    opened = open_folder(tmp_path / "f")
    assert opened.arch == "timm:test_vit(global_pool=avg, img_size=(64, 64))"
    assert opened.preprocess is not None and opened.preprocess.size == (64, 64)
    x = torch.rand(2, 3, 64, 64)
    assert torch.allclose(opened.net.eval()(x), net(x), atol=1e-5)


def test_an_older_folder_is_built_for_the_size_that_its_data_config_says(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    timm_folder(tmp_path / "f", "test_vit", arguments={"img_size": (64, 64)})
    config = json.loads((tmp_path / "f" / "config.json").read_text())
    config.pop("model_args", None)
    config["pretrained_cfg"] |= {"input_size": [3, 64, 64], "fixed_input_size": True}
    for form in (config, {**config["pretrained_cfg"], "architecture": "test_vit"}):
        (tmp_path / "f" / "config.json").write_text(json.dumps({**form, "num_classes": 3}))
        theirs = timm.create_model(f"local-dir:{tmp_path / 'f'}", pretrained=True).eval()
        opened = open_folder(tmp_path / "f")
        assert opened.preprocess is not None and opened.preprocess.size == (64, 64)
        assert opened.fixed_size
        x = torch.rand(2, 3, 64, 64)
        assert torch.allclose(opened.net.eval()(x), theirs(x), atol=1e-5)


def test_borders_around_photos_are_not_followed_which_is_said(tmp_path: Path) -> None:
    timm_folder(tmp_path / "f", label_names=NAMES)
    config = json.loads((tmp_path / "f" / "config.json").read_text())
    edit(tmp_path / "f" / "config.json",
         pretrained_cfg={**config["pretrained_cfg"], "crop_mode": "border"})  # fmt: skip
    opened = open_folder(tmp_path / "f")
    assert opened.preprocess is not None and opened.preprocess.source == "assumed"
    (said,) = opened.assumed
    assert said in opened.notes and "crop_mode border, which pads photos" in said
    assert opened.notes[0] == "f is timm:test_resnet, with class names from config.json"


def test_a_folder_of_timm_without_a_classifier_says_so(tmp_path: Path) -> None:
    timm_folder(tmp_path / "f", arguments={"num_classes": 0})
    opened = open_folder(tmp_path / "f")
    assert opened.headless and any("features, not classes" in note for note in opened.notes)


def test_words_stand_for_labels_where_there_are_any(tmp_path: Path) -> None:
    timm_folder(
        tmp_path / "f",
        label_names=["n01", "n02", "n03"],
        label_descriptions={"n01": "ant, pismire"},
    )
    assert open_folder(tmp_path / "f").classes == ["ant, pismire", "n02", "n03"]


def test_the_oldest_form_of_timms_config_is_read(tmp_path: Path) -> None:
    timm_folder(tmp_path / "f")
    config = json.loads((tmp_path / "f" / "config.json").read_text())
    flat = {**config["pretrained_cfg"], "architecture": "test_resnet", "labels": NAMES}
    flat["num_classes"] = 3
    (tmp_path / "f" / "config.json").write_text(json.dumps(flat))
    opened = open_folder(tmp_path / "f")
    assert opened.classes == NAMES
    assert opened.preprocess is not None and opened.preprocess.source == "config.json"


def test_arguments_that_would_load_other_weights_are_left_out(tmp_path: Path) -> None:
    timm_folder(tmp_path / "f")
    (tmp_path / "other.pth").write_bytes(b"anything")
    loading = {"checkpoint_path": str(tmp_path / "other.pth"), "pretrained": True}
    edit(tmp_path / "f" / "config.json", model_args=loading)
    assert open_folder(tmp_path / "f").arch == "timm:test_resnet"


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    timm_folder(tmp_path / "f")
    edit(tmp_path / "f" / "config.json", architecture="test_efficientnet")
    assert "do not fit timm:test_efficientnet" in refusal(tmp_path / "f").message
    edit(tmp_path / "f" / "config.json", architecture="test_resnet", model_args={"depth": 3})
    assert "cannot build timm:test_resnet" in refusal(tmp_path / "f").message


def test_an_architecture_is_known(tmp_path: Path) -> None:
    timm_folder(tmp_path / "f")
    opened = open_folder(tmp_path / "f", arch="resnet18")
    assert opened.arch == "timm:test_resnet"
    said = "config.json says itself that it is timm:test_resnet; --arch resnet18 is not used"
    assert said in opened.notes


def test_weights_names_another_file_or_an_entry_of_the_usual_one(tmp_path: Path) -> None:
    usual = timm_folder(folder := tmp_path / "f").state_dict()
    other = {k: v + 1 for k, v in usual.items()}
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": usual, "state_dict_ema": other}, folder / "pytorch_model.bin")
    torch.save(other, folder / "last.pth")
    torch.save({}, folder / "optimizer.bin")

    def bias(weights: str | None, place: Path = folder) -> torch.Tensor:
        return open_model(str(place), weights=weights, device="cpu").net.state_dict()["bn1.bias"]

    assert torch.equal(bias(None), usual["bn1.bias"])
    for key in ("state_dict_ema", "last.pth"):
        assert torch.equal(bias(key), other["bn1.bias"])
    assert torch.equal(bias("state_dict_ema", folder / "pytorch_model.bin"), other["bn1.bias"])
    assert "pytorch_model.bin is opened; --weights opens last.pth" in open_folder(folder).notes
    error = refusal(folder, UsageError, weights="lost.pth")
    assert "has no weights 'lost.pth'" in error.message and "last.pth" in error.hint
    (folder / "last.pth").unlink()
    assert "state_dict_ema" in refusal(folder, UsageError, weights="state_dict_em").hint


def test_a_file_of_weights_in_a_folder_of_a_hub_is_read_with_what_lies_beside_it(
    tmp_path: Path,
) -> None:
    timm_folder(tmp_path / "f", label_names=NAMES)
    opened = open_file(tmp_path / "f" / "model.safetensors")
    assert (opened.classes, opened.preprocess.source) == (NAMES, "config.json")
    assert "config.json beside it is read" in opened.notes
    named = open_file(tmp_path / "f" / "model.safetensors", arch="timm:test_resnet")
    assert named.classes is None  # who names the architecture opens the file alone
    (tmp_path / "f" / "config.json").write_text("{}")
    assert folder_of(tmp_path / "f" / "model.safetensors") is None


def test_adapters_without_their_network_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "adapter_config.json").write_text("{}")
    error = refusal(tmp_path / "f")
    assert "adapters of a network" in error.message and "merge_and_unload" in error.hint


def test_a_network_with_adapters_beside_it_opens_where_its_own_weights_are_named(
    tmp_path: Path,
) -> None:
    net = transformers_folder(tmp_path / "f", "ResNet", "ForImageClassification", **LABELS)
    (tmp_path / "f" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    error = refusal(tmp_path / "f")
    assert "not merged" in error.message and "--weights model.safetensors" in error.hint
    named = open_folder(tmp_path / "f", None, "model.safetensors")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(named.net(x), net(x).logits, atol=1e-5)


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ({}, "is a folder without config.json", "a folder with config.json"),
        ({"b.pt": "", "a.pth": ""}, "is a folder without config.json", "a.pth (there are 2"),
        ({"saved_model.pb": ""}, "TensorFlow SavedModel", "torch.export"),
        ({"model.onnx": "", "model.onnx.data": ""}, "ONNX model", "net.state_dict()"),
        ({"config.json": "{"}, "cannot be read", "download"),
        ({"config.json": "{}", "w.pt": ""}, "neither 'architecture'", "w.pt"),
        ({"config.json": '{"architecture": "test_resnet"}'}, "neither model.safetensors", "file"),
        ({"config.json": '{"model_type": "vit"}'}, "neither model.safetensors", "file"),
        (
            {
                "config.json": '{"model_type": "vit"}',
                "model.safetensors.index.json": '{"weight_map": {"a": "1.safetensors"}}',
            },
            "lacks 1.safetensors",
            "all files",
        ),
    ],
)
def test_folders_that_cannot_be_opened_say_why(
    tmp_path: Path, files: dict[str, str], message: str, hint: str
) -> None:
    (tmp_path / "f").mkdir()
    error = refusal(fill(tmp_path / "f", files))
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize("named", ["", "__0_0.distcp", ".metadata"])
def test_a_distributed_checkpoint_is_left_by_the_way_that_its_hint_names(
    named: str, tmp_path: Path
) -> None:
    from torch.distributed import checkpoint

    net = filled(zoo.shapes_net())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process
        checkpoint.save({"model": net.state_dict()}, checkpoint_id=tmp_path / "f", no_dist=True)
    with pytest.raises(CnnlensError, match=r"a checkpoint of torch\.distributed") as caught:
        open_file(tmp_path / "f" / named)
    module, mode, folder, file = str(caught.value.hint).partition(" -m ")[2].split()
    convert = getattr(importlib.import_module(module), f"{mode}_save")
    convert(folder, tmp_path / file)
    opened = open_file(tmp_path / file)
    assert torch.equal(opened.net.state_dict()["conv1.weight"], net.state_dict()["conv1.weight"])


def test_parts_of_deepspeed_say_how_they_become_weights(tmp_path: Path) -> None:
    step = tmp_path / "run" / "global_step5"
    step.mkdir(parents=True)
    (tmp_path / "run" / "latest").write_text("global_step5")
    state = {f"module.{k}": v for k, v in torchvision.models.resnet18().state_dict().items()}
    torch.save({"module": state, "dp_world_size": 1}, step / "mp_rank_00_model_states.pt")
    empty = {k: torch.empty(0) for k in state}
    parts = [
        "zero_pp_rank_0_mp_rank_00_model_states.pt",
        "zero_pp_rank_0_mp_rank_00_optim_states.pt",
    ]
    for name in parts:
        torch.save({"module": empty}, step / name)
    for path in (tmp_path / "run", step, *(step / name for name in parts)):
        with pytest.raises(CnnlensError, match="is a checkpoint of DeepSpeed") as caught:
            open_file(path)
        assert f"deepspeed.utils.zero_to_fp32 {tmp_path / 'run'} weights" in caught.value.hint
    assert open_file(step / "mp_rank_00_model_states.pt").arch == "torchvision:resnet18"


def test_without_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").mkdir()
    fill(tmp_path / "f", {"config.json": '{"model_type": "vit"}', "model.safetensors": ""})
    monkeypatch.setattr(hf.importlib.util, "find_spec", lambda name: None)
    error = refusal(tmp_path / "f", UsageError)
    assert "needs transformers, which is not installed" in error.message
    assert "cnnlens[hf]" in error.hint


LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {n: i for i, n in enumerate(NAMES)}}
SMALL: dict[str, dict[str, Any]] = {
    "ResNet": {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [1, 1]},
    "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "RegNet": {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [1, 1], "groups_width": 8},
    "MobileNetV1": {"depth_multiplier": 0.25},
    "MobileNetV2": {"depth_multiplier": 0.35},
    "ViT": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "image_size": 64},
    "Swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4,
             "image_size": 64},
}  # fmt: skip


def transformers_folder(path: Path, kind: str, what: str, **config: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    settings = getattr(transformers, f"{kind}Config")(**SMALL.get(kind, {}), **config)
    net = filled(getattr(transformers, kind + what)(settings))
    net.save_pretrained(path)
    return net


@pytest.mark.parametrize("kind", SMALL)
def test_networks_of_transformers_open_as_plain_ones(kind: str, tmp_path: Path) -> None:
    net = transformers_folder(tmp_path / "f", kind, "ForImageClassification", **LABELS)
    model = open_model(str(tmp_path / "f"), image_size=(64, 64), device="cpu")
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model.net(x), net(x).logits, rtol=1e-4, atol=1e-5)
    assert model.arch == f"transformers/{kind}ForImageClassification"
    assert model.classes == NAMES
    first = next(name for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
    layers = find_layers(model)
    assert layers.resolve(f"module:{first}").shape[0] == net.get_submodule(first).out_channels


@pytest.mark.parametrize("what", ["ForImageClassification", "Model"])
def test_a_network_of_timm_that_transformers_saved_opens_as_timms(
    what: str, tmp_path: Path
) -> None:
    fed = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 64, 64]}
    more = {"architecture": "test_resnet", **LABELS}
    for folder, config in (("said", {**more, "pretrained_cfg": fed}), ("not", more)):
        net = transformers_folder(tmp_path / folder, "TimmWrapper", what, **config)
        opened = open_folder(tmp_path / folder)
        assert opened.arch == "timm:test_resnet"
        x = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            theirs, ours = net(x), opened.net.eval()(x)
        answer = theirs.pooler_output if what == "Model" else theirs.logits
        assert torch.allclose(ours, answer, rtol=1e-4, atol=1e-5)
        assert opened.headless == (what == "Model")
        assert opened.classes == (None if opened.headless else NAMES)
        known = opened.preprocess
        assert known is not None
        if folder == "said":
            assert (known.mean, known.size, known.source) == (
                (0.1, 0.2, 0.3),
                (64, 64),
                "config.json",
            )
        else:
            assert known.source == "assumed" and opened.assumed == [opened.notes[1]]
            assert "does not say how it is fed" in opened.assumed[0]


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_what_such_a_network_was_trained_for_is_said(problem: str, tmp_path: Path) -> None:
    transformers_folder(tmp_path / "f", "TimmWrapper", "ForImageClassification",
                        architecture="test_resnet", problem_type=problem, **LABELS)  # fmt: skip
    opened = open_folder(tmp_path / "f")
    assert problem in opened.notes[-1]
    assert opened.headless == (opened.classes is None) == (problem == "regression")


def test_numbered_labels_of_transformers_are_no_names(tmp_path: Path) -> None:
    transformers_folder(tmp_path / "f", "TimmWrapper", "ForImageClassification",
                        architecture="test_resnet", num_labels=3)  # fmt: skip
    assert open_folder(tmp_path / "f").classes is None


def test_several_labels_of_an_image_have_a_probability_each(tmp_path: Path) -> None:
    more = {**LABELS, "problem_type": "multi_label_classification"}
    net = transformers_folder(tmp_path / "f", "ResNet", "ForImageClassification", **more)
    model = open_model(str(tmp_path / "f"), image_size=(64, 64), device="cpu")
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model.net(x), net(x).logits.sigmoid(), rtol=1e-4, atol=1e-5)
    assert ending(model).link == "sigmoid"
    assert "a sigmoid is put behind its scores" in model.notes[-1] == model.assumed[-1]


def test_other_weights_of_a_folder_of_transformers_open_the_same_way(tmp_path: Path) -> None:
    net = transformers_folder(tmp_path / "f", "ResNet", "ForImageClassification", **LABELS)
    other = {k: v + 1 for k, v in net.state_dict().items()}
    torch.save({"ema": other}, tmp_path / "f" / "last.pth")
    name = "classifier.1.bias"
    for place, weights in (("f", "last.pth"), ("f/model.safetensors", None)):
        model = open_model(str(tmp_path / place), weights=weights, device="cpu")
        want = other if weights else net.state_dict()
        assert torch.equal(model.net.state_dict()[name], want[name])
        assert model.classes == NAMES


def test_a_folders_network_is_not_trained_into_a_file_that_nobody_can_open(tmp_path: Path) -> None:
    transformers_folder(tmp_path / "f", "ResNet", "ForImageClassification", **LABELS)
    model = open_model(str(tmp_path / "f"), device="cpu")
    with pytest.raises(CnnlensError):
        registry.architecture(model.arch)


def test_a_network_without_a_head_gives_features(tmp_path: Path) -> None:
    net = transformers_folder(tmp_path / "f", "ViT", "Model")
    model = open_model(str(tmp_path / "f"), device="cpu")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model.net(x).features, net(x).pooler_output, atol=1e-5)
    assert model.classes is None
    assert any("features, not classes" in note for note in model.notes)
    assert count_scores(model) == 0 and model.headless


def test_numbers_of_a_regression_are_no_scores_of_classes(tmp_path: Path) -> None:
    more = {**LABELS, "problem_type": "regression"}
    net = transformers_folder(tmp_path / "f", "ResNet", "ForImageClassification", **more)
    model = open_model(str(tmp_path / "f"), image_size=(64, 64), device="cpu")
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model.net(x).features, net(x).logits, rtol=1e-4, atol=1e-5)
    assert count_scores(model) == 0 and model.classes is None
    assert "its outputs are numbers, not scores of classes" in model.notes[-1]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    net = transformers_folder(tmp_path / "f", "ResNet", "ForImageClassification", **LABELS)
    edit(tmp_path / "f" / "config.json", architectures=["ResNetModel"])
    opened = open_folder(tmp_path / "f")
    assert "classifier.1.bias" in opened.stripped[0]
    assert any("2 tensors left out" in note for note in opened.notes)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(opened.net(x), net.resnet(x).pooler_output.flatten(1), atol=1e-5)


def test_without_weights_of_a_pooler_the_class_token_is_what_comes_out(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings = transformers.ViTConfig(**SMALL["ViT"])
    net = filled(transformers.ViTModel(settings, add_pooling_layer=False))  # as DINO's files
    net.save_pretrained(tmp_path / "f")
    model = open_model(str(tmp_path / "f"), device="cpu")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model.net(x).features, net(x).last_hidden_state[:, 0], atol=1e-5)


def test_other_image_sizes_than_a_vision_transformers_own_run(tmp_path: Path) -> None:
    transformers_folder(tmp_path / "f", "ViT", "ForImageClassification", **LABELS)
    model = open_model(str(tmp_path / "f"), image_size=(96, 96), device="cpu")
    assert model.net(torch.rand(1, 3, 96, 96)).shape == (1, 3)


TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32}  # fmt: skip


def test_a_masked_autoencoder_sees_the_whole_image(tmp_path: Path) -> None:
    more = {**TOWER, "image_size": 64, "patch_size": 16, "mask_ratio": 0.0}
    net = transformers_folder(tmp_path / "f", "ViTMAE", "Model", **more)
    edit(tmp_path / "f" / "config.json", mask_ratio=0.75)
    model = open_model(str(tmp_path / "f"), device="cpu")
    x, order = torch.rand(2, 3, 64, 64), torch.arange(16.0).expand(2, -1)
    with torch.no_grad():
        truth = net(x, noise=order).last_hidden_state
        assert torch.allclose(model.net(x).features, truth[:, 0], atol=1e-5)
    assert find_layers(model).resolve("block2").shape == (16, 4, 4)
    assert any("nothing is masked" in said for said in model.assumed)


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_of_images_and_texts_the_part_of_images_opens(kind: str, tmp_path: Path) -> None:
    towers = {"vision_config": {**TOWER, "image_size": 64, "patch_size": 16},
              "text_config": {**TOWER, "vocab_size": 9}}  # fmt: skip
    net = transformers_folder(tmp_path / "f", kind, "Model", **towers)
    model = open_model(str(tmp_path / "f"), image_size=(64, 64), device="cpu")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        truth = net.vision_model(pixel_values=x).pooler_output
        assert torch.allclose(model.net(x).features, truth, atol=1e-5)
    assert any(f"of {kind}Model, which takes texts, too" in said for said in model.stripped)


def test_networks_of_text_are_refused(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    transformers_folder(tmp_path / "f", "Bert", "Model", **small, intermediate_size=16)
    assert "BertModel, which takes no images" in refusal(tmp_path / "f").message


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    transformers_folder(tmp_path / "f", "ResNet", "Model")
    edit(tmp_path / "f" / "config.json", architectures=["ResNetForImageClassification"])
    assert "do not fit ResNetForImageClassification: 2 missing" in refusal(tmp_path / "f").message


def test_other_configurations_have_other_fingerprints(tmp_path: Path) -> None:
    transformers_folder(tmp_path / "f", "ConvNext", "ForImageClassification", **LABELS)
    marks = []
    for activation in ("gelu", "relu"):
        edit(tmp_path / "f" / "config.json", hidden_act=activation)
        marks.append(open_model(str(tmp_path / "f"), device="cpu").fingerprint)
    edit(tmp_path / "f" / "config.json", id2label={"0": "x", "1": "y", "2": "z"})
    marks.append(open_model(str(tmp_path / "f"), device="cpu").fingerprint)
    assert marks[0] != marks[1] == marks[2]
