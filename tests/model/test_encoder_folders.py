"""Encoders from folders: transformers writes one, and is asked beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.encoder import open_encoder

PICTURES = [Image.new("RGB", (50, 40), colour) for colour in ("red", "blue", "white")]
TEXTS = ["a cat", "dog"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>", "ab"]
    (folder / "vocab.json").write_text(json.dumps({w: at for at, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    files = [str(folder / name) for name in ("vocab.json", "merges.txt")]
    tokens = transformers.CLIPTokenizer(*files, model_max_length=16)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2}
    of_text = {"vocab_size": len(words), "max_position_embeddings": 16}
    of_text |= {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    config = transformers.CLIPConfig(
        text_config={**small, **of_text},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    transformers.CLIPProcessor(images, tokens).save_pretrained(folder)
    return folder


def test_a_folder_says_what_transformers_says(clip: Path) -> None:
    import torch
    import transformers

    encoder = open_encoder(str(clip))
    model = transformers.AutoModel.from_pretrained(clip).eval()
    processor = transformers.AutoProcessor.from_pretrained(clip)
    given = processor(images=PICTURES, text=TEXTS, return_tensors="pt", padding="max_length")
    with torch.no_grad():
        whole = model(**given)
    for found, truth in (
        (encoder.of_images(PICTURES), whole.image_embeds),
        (encoder.of_texts(TEXTS), whole.text_embeds),
    ):
        unit = found / np.linalg.norm(found, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, truth.numpy(), atol=1e-5)
    marks = encoder.probed(PICTURES, TEXTS)
    assert marks == open_encoder(f"{clip}/").probed(PICTURES, TEXTS)


def test_a_folder_that_is_none_is_named(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CnnlensError, match="holds no encoder"):
        open_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text((clip / "config.json").read_text())
    with pytest.raises(CnnlensError, match="cannot be opened as an encoder"):
        open_encoder(str(tmp_path))
    with pytest.raises(UsageError, match="neither a folder nor a factory"):
        open_encoder("clip")


def test_a_network_that_compares_nothing_is_refused(clip: Path, tmp_path: Path) -> None:
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(CnnlensError, match="is a ViTModel, which does not compare"):
        open_encoder(str(tmp_path))


def test_a_folder_s_weights_count_however_little_they_change(clip: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(clip, tmp_path / clip.name))
    before = open_encoder(str(copy)).probed(PICTURES, TEXTS)
    (copy / "README.md").write_text("about it")
    assert open_encoder(str(copy)).probed(PICTURES, TEXTS) == before
    weights = load_file(copy / "model.safetensors")
    weights["text_projection.weight"] *= 1 + 1e-5
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    after = open_encoder(str(copy)).probed(PICTURES, TEXTS)
    assert after[0] != before[0] and after[1] != before[1]
