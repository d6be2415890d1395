from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights, SqueezeNet1_0_Weights

from cnnlens.model.architectures.timm import from_config
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.wrap import wrap_module

# of which some leave an odd number of pixels beside the crop, and others cut a longer side
SIZES = [
    (500, 375),
    (256, 303),
    (256, 383),
    (311, 256),
    (303, 256),
    (375, 500),
    (97, 80),
    (33, 900),
]


@pytest.mark.parametrize("size", [(20000, 32), (32, 20000)])
def test_a_strip_is_cropped_before_it_grows(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resized whole, this one would be 160,000 pixels long; the middle of it is the same."""
    width, height = size
    wave = (np.abs(np.arange(max(size)) % 512 - 256) // 2).astype(np.uint8)
    plane = np.broadcast_to(wave if width > height else wave[:, None], (height, width))
    grey = Preprocess((224, 224), (0.5,), (0.5,), resize=256)
    made: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(image: Image.Image, to: tuple[int, int], *more: object) -> Image.Image:
        made.append(to)
        return resize(image, to, *more)

    monkeypatch.setattr(Image.Image, "resize", watched)
    found = grey.pixels(Image.fromarray(plane), squash=False)[..., 0].astype(int)
    assert max(made[-1]) <= 2560
    small = Preprocess((28, 28), (0.5,), (0.5,), resize=32)  # not enlarged: whole
    whole = small.pixels(Image.fromarray(plane), squash=False)[..., 0].astype(int)
    assert made[-1] == size
    assert abs(found[3::8, 3::8] - whole).max() <= 2


def test_a_single_pixel_fills_the_input() -> None:
    pixels = Preprocess((8, 8)).pixels(Image.new("RGB", (1, 1), (9, 8, 7)), squash=False)
    assert (pixels == (9, 8, 7)).all()


def photo(size: tuple[int, int]) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def fed(preprocess: Preprocess, image: Image.Image) -> torch.Tensor:
    pixels = preprocess.pixels(image, squash=False).transpose(2, 0, 1)  # (C, H, W)
    return preprocess.normalize(torch.from_numpy(pixels.copy())[None])[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weights", [SqueezeNet1_0_Weights, ResNet50_Weights])
def test_a_photo_is_fed_as_torchvision_feeds_it(weights: Any, size: tuple[int, int]) -> None:
    """Pixel by pixel: a crop that begins beside it shows the network another picture."""
    transforms = weights.DEFAULT.transforms()
    preprocess = wrap_module(torch.nn.Conv2d(3, 4, 3), transforms).preprocess
    wanted = transforms(photo(size))
    torch.testing.assert_close(fed(preprocess, photo(size)), wanted, rtol=0, atol=2e-6)


CONFIGS = {
    "centre": {"crop_pct": 0.875},
    "whole": {"crop_pct": 1.0},
    "squash": {"crop_pct": 0.9, "crop_mode": "squash"},
    "squash to the crop": {"crop_pct": 1.0, "crop_mode": "squash"},
    "squash by a rounded ratio": {"input_size": (3, 35, 35), "crop_pct": 35 / 47.5,
                                  "crop_mode": "squash"},
    "not square": {"input_size": (3, 384, 224), "crop_pct": 0.9},
    "nor both cut alike": {"input_size": (3, 256, 128), "crop_pct": 0.95},
    "not square, whole": {"input_size": (3, 192, 256), "crop_pct": 1.0},
    "squash, not square": {"input_size": (3, 384, 224), "crop_pct": 0.9, "crop_mode": "squash"},
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("config", CONFIGS)
def test_a_photo_is_fed_as_timm_feeds_it(config: str, size: tuple[int, int]) -> None:
    data = pytest.importorskip("timm.data")
    settings = data.resolve_data_config({}, pretrained_cfg=CONFIGS[config])
    wanted = data.create_transform(**settings)(photo(size))
    found = fed(Preprocess.from_dict(from_config(settings).as_dict()), photo(size))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
