from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnlens.model.architectures.processors import preprocessing
from cnnlens.model.open import open_model

# one that leaves an odd number of pixels beside the crop, one high, one small, one square
SIZES = [(500, 375), (256, 303), (97, 80), (300, 300)]
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
STEPS = {"do_normalize": True, "do_rescale": True, "do_resize": True}


def processor(name: str, **settings: Any) -> dict[str, Any]:
    kind = "feature_extractor_type" if name.endswith("FeatureExtractor") else "image_processor_type"
    return {kind: name, **settings}


# as well-known folders have them
PUBLISHED = {
    "mobilevit": processor(
        "MobileViTFeatureExtractor", crop_size={"height": 256, "width": 256}, do_center_crop=True,
        do_flip_channel_order=True, do_rescale=True, do_resize=True, resample=2,
        size={"shortest_edge": 288}),
    "levit": processor("LevitFeatureExtractor", do_normalize=True, do_resize=True, resample=3,
                       size=224, **IMAGENET),
    "poolformer": processor(
        "PoolFormerFeatureExtractor", crop_pct=0.9, do_normalize=True, resample=3, size=224,
        do_resize_and_center_crop=True, **IMAGENET),
    "deit": processor("DeiTFeatureExtractor", crop_size=224, do_center_crop=True, resample=3,
                      do_normalize=True, do_resize=True, size=256, **IMAGENET),
    "efficientnet": processor(
        "EfficientNetImageProcessor", crop_size={"height": 289, "width": 289}, resample=2,
        do_center_crop=False, include_top=True, rescale_factor=1 / 255, rescale_offset=False,
        size={"height": 224, "width": 224}, image_mean=IMAGENET["image_mean"],
        image_std=[0.47853944, 0.4732864, 0.47434163], **STEPS),
    "mobilenet": processor(
        "MobileNetV2ImageProcessor", crop_size={"height": 224, "width": 224}, resample=2,
        do_center_crop=True, size={"shortest_edge": 256}, **HALF, **STEPS),
    "convnext": processor("ConvNextFeatureExtractor", crop_pct=0.875, do_normalize=True,
                          do_resize=True, resample=3, size=224, **IMAGENET),
    "beit": processor("BeitFeatureExtractor", crop_size=224, do_center_crop=False, resample=2,
                      do_normalize=True, do_resize=True, size=224, **HALF),
    "dinov2": processor(
        "BitImageProcessor", crop_size={"height": 224, "width": 224}, do_center_crop=True,
        do_convert_rgb=True, resample=3, size={"shortest_edge": 256}, **IMAGENET, **STEPS),
    "vit": processor("ViTImageProcessor", resample=2, size={"height": 224, "width": 224}, **HALF,
                     **STEPS),
    "segformer": processor("SegformerFeatureExtractor", do_normalize=True, do_resize=True,
                           reduce_labels=False, resample=2, size=512, **IMAGENET),
    "clip": processor("CLIPFeatureExtractor", crop_size=224, do_center_crop=True, size=224,
                      do_normalize=True, do_resize=True, resample=3, **IMAGENET),
    "pvt": processor("PvtImageProcessor", resample=2, size={"height": 224, "width": 224},
                     **IMAGENET, **STEPS),
    "fast": processor("ViTImageProcessorFast", resample=3, size={"height": 96, "width": 64},
                      do_center_crop=None, crop_size=None, **HALF, **STEPS),
    "stretched before its crop": processor(
        "BitImageProcessor", crop_size={"height": 64, "width": 64}, do_center_crop=True,
        size={"height": 80, "width": 80}, resample=3, **IMAGENET, **STEPS),
    "pixels from -1 on": processor(
        "EfficientNetImageProcessor", rescale_offset=True, rescale_factor=1 / 127.5,
        include_top=False, size={"height": 64, "width": 64}, **HALF, **STEPS),
    "divided alone": processor("EfficientNetImageProcessor", include_top=True,
                               do_normalize=False, size={"height": 64, "width": 64}, **HALF),
    "nothing said": processor("DeiTImageProcessor"),
    "one mean": processor("ViTImageProcessor", image_mean=0.4, image_std=0.3),
}  # fmt: skip
OWN = [  # which save all their settings
    "Beit", "Bit", "CLIP", "ConvNext", "DINOv3ViT", "DeiT", "EfficientNet", "Levit", "MobileNetV1",
    "MobileNetV2", "PPLCNet", "PoolFormer", "Pvt", "Segformer", "Siglip", "ViT",
]  # fmt: skip


def photo(size: tuple[int, int]) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def compare(path: Path, settings: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    theirs = transformers.AutoImageProcessor.from_pretrained(path)
    known, said = preprocessing({}, settings)
    assert (known.source, said) == (
        "preprocessor_config.json", "preprocessing from preprocessor_config.json"
    )  # fmt: skip
    for size in SIZES:
        wanted = theirs(photo(size), return_tensors="pt")["pixel_values"]
        pixels = torch.from_numpy(known.pixels(photo(size), squash=False).copy())
        got = known.normalize(pixels.permute(2, 0, 1)[None])
        assert got.shape == wanted.shape
        # theirs are resized as tensors, which rounds otherwise
        assert (got - wanted).abs().mean() < 0.002 * float(wanted.max() - wanted.min()), size


@pytest.mark.parametrize("name", PUBLISHED)
def test_pixels_of_published_folders_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    compare(tmp_path, PUBLISHED[name])


@pytest.mark.parametrize("name", OWN)
def test_pixels_of_saved_processors_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    getattr(transformers, f"{name}ImageProcessor")().save_pretrained(tmp_path)
    compare(tmp_path, json.loads((tmp_path / "preprocessor_config.json").read_text()))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (processor("TextNetImageProcessor", size={"shortest_edge": 64}), "is not known here"),
        (processor("MobileViTImageProcessor"), "crops another shape than it resizes to"),
        (processor("PerceiverFeatureExtractor"), "crops before it resizes"),
        (processor("BitImageProcessor", do_center_crop=False), "keeps the shape of each photo"),
        (processor("ViTImageProcessor", do_resize=False), "does not resize photos"),
        (processor("ViTImageProcessor", do_pad=True), "pads photos"),
        (processor("ViTImageProcessor", size={"longest_edge": 9}), "resizes in a way of its own"),
        (processor("PPLCNetImageProcessor", size_divisor=32), "resizes in a way of its own"),
        (processor("ViTImageProcessor", resample=4), "resamples in a way of its own"),
    ],
)
def test_what_is_not_followed_is_assumed_and_said(settings: dict[str, Any], why: str) -> None:
    known, said = preprocessing({"image_size": 64}, settings)
    assert known.source == "assumed"
    kind = next(iter(settings.values()))
    assert said == f"preprocessing assumed: {kind} of preprocessor_config.json {why}"


@pytest.mark.parametrize(
    ("settings", "size", "resize", "stretch"),
    [
        ({"size": 224, "feature_extractor_type": "ViTFeatureExtractor"}, (224, 224), None, True),
        ({"size": {"height": 96, "width": 64}}, (96, 64), None, True),
        ({"do_resize": False}, (64, 64), None, False),
        ({"size": [96, 64]}, (96, 64), None, True),
    ],
)
def test_sizes_of_processors_old_and_new(
    settings: dict[str, Any], size: tuple[int, int], resize: int | None, stretch: bool
) -> None:
    known, _ = preprocessing({"image_size": 64, "model_type": "vit"}, settings)
    assert (known.size, known.resize, known.stretch) == (size, resize, stretch)


def test_a_file_that_names_no_processor_is_of_its_networks() -> None:
    known, said = preprocessing({"model_type": "resnet"}, {"size": 224, "crop_pct": 0.875})
    assert (known.size, known.resize, known.source) == ((224, 224), 256, "preprocessor_config.json")
    known, said = preprocessing({"model_type": "strange"}, {"size": 224})
    assert "the processor of strange" in said and known.source == "assumed"


def test_values_of_processors() -> None:
    known, _ = preprocessing({}, {"image_mean": [0.1] * 3, "image_std": [0.2] * 3})
    assert (known.mean, known.std, known.scale) == ((0.1,) * 3, (0.2,) * 3, 1)
    plain, _ = preprocessing({}, {"do_rescale": False, "do_normalize": False})
    pixels = torch.full((1, 3, 2, 2), 200, dtype=torch.uint8)
    assert torch.allclose(plain.normalize(pixels), torch.tensor(200.0))
    _, said = preprocessing({"image_size": 32}, {})
    assert "ImageNet's mean and std are assumed" in said


def test_stretched_photos_are_not_cropped() -> None:
    known, _ = preprocessing({}, {"size": {"height": 8, "width": 8}})
    wide = Image.new("RGB", (64, 8))
    wide.paste((255, 255, 255), (0, 0, 8, 8))  # a white left end, outside of the centre crop
    assert known.pixels(wide, squash=False)[:, 0].mean() > 200
    assert known.as_dict()["stretch"] is True
    assert "stretch" not in open_model("zoo:demo_net", device="cpu").preprocess.as_dict()
