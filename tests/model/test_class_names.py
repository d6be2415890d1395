"""Names of outputs, from files and checkpoints of every usual form."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnlens.errors import UsageError
from cnnlens.model.class_names import as_names, imagenet_synsets, names_in, read_classes
from cnnlens.model.open import open_model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module
from cnnlens.model.zoo import ZOO
from cnnlens.study.investigation import Investigation

ABC = ["a cat", "b", "c"]


@pytest.mark.parametrize(
    "content",
    [
        "a cat\nb\nc\n\n",
        "\ufeffa cat\r\nb\r\nc",
        "0 a cat\n1 b\n2 c",
        "1: a cat\n2: b\n3: c",
        "a cat 0\nb 1\nc 2\n",
        "a cat,0\nb,1\nc,2\n",
        json.dumps(ABC),
        json.dumps({"0": "a cat", "1": "b", "2": "c"}),
        json.dumps({"2": "c", "0": "a cat", "1": "b"}),
        json.dumps({"a cat": 0, "c": 2, "b": 1}),
        json.dumps({"model_type": "vit", "id2label": {"0": "a cat", "1": "b", "2": "c"}}),
        "{0: 'a cat', 1: 'b', 2: 'c'}",
    ],
)
def test_files_of_names(tmp_path: Path, content: str) -> None:
    path = tmp_path / "names"
    path.write_text(content, "utf-8")
    assert read_classes(str(path)) == ABC


def test_index_map_with_synsets(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"0": ["n01440764", "tench"], "1": ["n99999999", "odd"]}))
    assert read_classes(str(path)) == ["tench", "odd, n99999999"]
    path.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish")
    assert read_classes(str(path)) == ["tench, Tinca tinca", "goldfish"]
    path.write_text("n01443537\nn01440764")
    assert read_classes(str(path)) == ["goldfish", "tench"]


def test_imagenet_by_name() -> None:
    names = read_classes("imagenet")
    assert len(names) == 1000 == len(imagenet_synsets())
    assert names[imagenet_synsets()["n02123045"]] == "tabby"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no list"),
        ("a\n\nb", "holds no list"),
        ('{"0": "a", "2": "b"}', "holds no list"),
        ("[1, {}]", "holds no list"),
        ("[", "holds no list"),
    ],
)
def test_files_without_names_are_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "names"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        read_classes(str(path))
    with pytest.raises(UsageError, match="is no file") as caught:
        read_classes("imagenett")
    assert "imagenet" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"classes": ABC}, "classes"),
        ({"class_to_idx": {"a cat": 0, "b": 1, "c": 2}}, "class_to_idx"),
        ({"names": {0: "a cat", 1: "b", 2: "c"}}, "names"),
        ({"names": ABC}, "names"),
        ({"label_names": tuple(ABC)}, "label_names"),
        ({"id2label": {"0": "a cat", "1": "b", "2": "c"}}, "id2label"),
        ({"args": Namespace(lr=1, classes=ABC)}, "args.classes"),
        ({"hparams": {"class_to_idx": {"a cat": 0, "b": 1, "c": 2}}}, "hparams.class_to_idx"),
        ({"hyper_parameters": {"config": {"names": ABC}}}, "hyper_parameters.config.names"),
        ({"meta": {"dataset_meta": {"classes": ABC}}}, "meta.dataset_meta.classes"),
        ({"meta": {"CLASSES": ABC}}, "meta.CLASSES"),
        ({"idx_to_class": {2: "c", 1: "b", 0: "a cat"}}, "idx_to_class"),
        ({"args": {"idx_to_class": {"0": "a cat", "1": "b", "2": "c"}}}, "args.idx_to_class"),
        ({"labels": ABC}, "labels"),
        ({"categories": tuple(ABC)}, "categories"),
        ({"labels": {0: "a cat", 1: "b", 2: "c"}}, "labels"),
        ({"labels": ["x", "y"], "meta": {"classes": ABC}}, "meta.classes"),
        ({"classes": np.array(ABC)}, "classes"),
        ({"categories": np.array(ABC, object)}, "categories"),
        ({"class_to_idx": {n: np.int64(i) for i, n in enumerate(ABC)}}, "class_to_idx"),
        ({"idx_to_class": {np.int64(i): n for i, n in enumerate(ABC)}}, "idx_to_class"),
    ],
)
def test_names_in_checkpoints(content: dict[str, Any], key: str) -> None:
    assert names_in({"epoch": 3, "state_dict": {"w": torch.ones(1)}, **content}) == (ABC, key)


def test_what_is_no_list_of_names_is_passed_over() -> None:
    for found in (10, "ten", [], {"a": 1, "b": 2}, [torch.ones(1)], {"0": None}):
        assert as_names(found) is None
    assert names_in({"classes": 10, "names": ABC}) == (ABC, "names")
    # where folders are numbers, class_to_idx still maps names to outputs
    assert as_names({"1": 0, "10": 1, "2": 2}) == ["1", "10", "2"]
    assert as_names({"0": 0, "1": 1, "10": 2, "2": 3}) == ["0", "1", "10", "2"]


def save(path: Path, outputs: int = 3, **more: Any) -> str:
    torch.manual_seed(0)
    torch.save({"state_dict": ZOO["demo_net"].make(outputs).state_dict(), **more}, path)
    return str(path)


def test_network_is_opened_with_the_names_of_its_file(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.pt", class_to_idx={"b": 1, "a cat": 0, "c": 2})
    model = open_model(spec, arch="zoo:demo_net")
    assert (model.classes, model.classes_source) == (ABC, "the checkpoint's class_to_idx")
    named = open_model(spec, arch="zoo:demo_net", classes=["x", "y", "z"])
    assert named.classes == ["x", "y", "z"]
    with pytest.raises(UsageError, match="2 names of classes for 3 outputs"):
        open_model(spec, arch="zoo:demo_net", classes=["x", "y"])


@pytest.mark.parametrize(
    "more",
    [
        {"labels": [0, 1, 1]},
        {"labels": ["a", "b", "b"]},
        {"labels": {"1.jpg": 0, "2.jpg": 1, "3.jpg": 2}},
        {"categories": [{"id": 1, "name": "a"}]},
        {"meta": {"classes": {"a": 1, "b": 2, "c": 3}}},
    ],
)
def test_what_cannot_be_read_as_names_is_said(tmp_path: Path, more: dict[str, Any]) -> None:
    model = open_model(save(tmp_path / "a.pt", **more), arch="zoo:demo_net")
    assert model.classes is None
    key = "meta.classes" if "meta" in more else next(iter(more))
    assert any(f"under {key} is not read as names" in note for note in model.notes)
    plain = open_model(save(tmp_path / "b.pt", classes=3, names=[]), arch="zoo:demo_net")
    assert not any("not read as names" in note for note in plain.notes)


def test_names_that_numpy_kept_are_read_from_a_file(tmp_path: Path) -> None:
    model = open_model(save(tmp_path / "a.pt", classes=np.array(ABC)), arch="zoo:demo_net")
    assert model.classes == ABC


def test_names_that_do_not_fit_the_outputs_are_left_out_and_said(tmp_path: Path) -> None:
    model = open_model(save(tmp_path / "a.pt", classes=["a", "b"]), arch="zoo:demo_net")
    assert model.classes is None
    assert "the 2 names under classes are left out: the network has 3 outputs" in model.notes


def test_thousand_outputs_without_names_are_imagenets_marked_as_assumed(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.pt", 1000)
    model = open_model(spec, arch="zoo:demo_net")
    assert model.classes is not None and model.classes[0] == "tench"
    assert model.has_assumed_classes and model.classes_source == "assumed: ImageNet's"
    assert sum("names of outputs are assumed: ImageNet's" in note for note in model.notes) == 1
    own = open_model(spec, arch="zoo:demo_net", classes=[f"c{n}" for n in range(1000)])
    assert not own.has_assumed_classes and not any("assumed: Im" in note for note in own.notes)


@pytest.mark.parametrize(
    "given",
    [
        ["cat", "dog", "fox"],
        ("cat", "dog", "fox"),
        {"fox": 2, "cat": 0, "dog": 1},
        {2: "fox", 0: "cat", 1: "dog"},
        {"2": "fox", "0": "cat", "1": "dog"},
        dict.fromkeys(["cat", "dog", "fox"]).keys(),
    ],
)
def test_python_gives_names_in_order_or_with_their_numbers(given: Any) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Flatten(), torch.nn.LazyLinear(3))
    net(torch.zeros(1, 3, 8, 8))
    for model in (
        wrap_module(net, Preprocess((8, 8)), given),
        Investigation(net, preprocess=Preprocess((8, 8)), classes=given).model,
    ):
        assert model.classes == ["cat", "dog", "fox"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cat", "dog", "fox"}, "in their order"),
        ({"cat": 0, "dog": 2, "fox": 3}, "does not number its names from 0 on"),
        ({"cat": None}, "does not number"),
        ("natural", "a list of names is needed"),
        (3, "classes=3: a list"),
    ],
)
def test_names_without_an_order_are_refused(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wrap_module(torch.nn.Linear(3, 3), Preprocess((8, 8)), given)
