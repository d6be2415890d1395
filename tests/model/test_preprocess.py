from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cnnlens.model.preprocess import Preprocess


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
