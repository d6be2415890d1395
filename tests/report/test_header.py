from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnnlens.model.open import open_model
from cnnlens.report.page import data_line, header, preprocessing
from cnnlens.study.workspace_model import entry_of

HERE = Path("/d/study/out")


def test_preprocessing_is_one_line_without_defaults():
    settings = {
        "size": [224, 160],
        "mean": [0.485],
        "std": [0.229],
        "resize": 256,
        "interpolation": "bicubic",
        "scale": 255.0,
        "bgr": True,
        "source": "checkpoint",
        "unknown": None,
    }
    assert preprocessing(settings) == (
        "224 × 160 · mean 0.485 · std 0.229 · photos: shorter side 256, centre crop; with labels: "
        "squashed · interpolation bicubic · bgr · scale 255 · (checkpoint)"
    )
    assert preprocessing({}) == ""


@pytest.mark.parametrize("strange", [None, "x", 3, [1], {"a": 1}])
def test_a_strange_document_still_has_a_head(strange):
    keys = ("model", "data", "layers", "versions", "commands")
    head = header(dict.fromkeys(keys, strange), [], HERE)
    assert head["title"] == "a model"
    assert all(isinstance(term, str) and isinstance(text, str) for term, text in head["facts"])


def test_the_title_is_the_model_without_its_folder():
    assert header({"model": {"spec": "a/b/model.pt"}}, [], HERE)["title"] == "model.pt"
    assert header({"model": {"spec": "C:\\nets\\model.pt"}}, [], HERE)["title"] == "model.pt"
    assert (
        header({"model": {"spec": "torchvision:resnet18"}}, [], HERE)["title"]
        == "torchvision:resnet18"
    )


def test_data_says_what_it_knows():
    whole = {"path": "/d/broden", "name": "broden", "kind": "broden", "images": 63305}
    assert data_line(whole, HERE) == "broden · broden · 63,305 images"
    assert data_line({"path": "/d/study/data/photos"}, HERE) == "photos · data/photos"
    assert data_line("/d/photos", HERE) == "photos"


def test_commands_may_be_lines_or_words():
    head = header({"commands": ["a b", ["c", "d"], {"command": "e f"}]}, [], HERE)
    assert head["commands"] == ["a b", "c d", "e f"]


def test_the_head_says_of_what_weights_and_names_are(tmp_path: Path):
    def facts(spec: str, state: Path | None = None) -> dict[str, str]:
        model = open_model(spec if state is None else str(state), device="cpu")
        return dict(header({"model": entry_of(model, {})}, [], HERE)["facts"])

    drawn = facts("torchvision:squeezenet1_0")
    assert drawn["Weights"].startswith("random") and "assumed: ImageNet" in drawn["Classes"]
    assert "names: assumed" not in drawn["Classes"]
    torch.save(
        open_model("torchvision:squeezenet1_0", device="cpu").net.state_dict(), tmp_path / "net.pt"
    )
    assert "Weights" not in facts("", tmp_path / "net.pt")
