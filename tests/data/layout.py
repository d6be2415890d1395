"""Small data sets in Broden's layout, written by hand for the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = (
    "number,name,category,frequency,coverage,syns\n"
    "1,red,color(3),3,1.0,\n"
    "2,wood,material(5);part(1),6,2.0,\n"
    "5,leg,part(2),2,0.5,\n"
    "7,chair,object(4),4,3.0,\n"
    "300,room,scene(2),2,2.0,\n"
    "301,banded,texture(1),1,1.0,\n"
)
FIXED = "image,split,ih,iw,sh,sw"


def plane(numbers: Sequence[Sequence[int]] | np.ndarray) -> Image.Image:
    """A PNG plane as Broden stores it: R + 256·G, B unused."""
    array = np.asarray(numbers)
    rgb = np.stack([array % 256, array // 256, np.full_like(array, 9)], axis=-1)
    return Image.fromarray(rgb.astype(np.uint8))


def write(
    root: Path,
    columns: str,
    rows: Sequence[str],
    planes: Mapping[str, Image.Image] | None = None,
    labels: str = LABELS,
    image_size: tuple[int, int] = (6, 8),
) -> Path:
    """Write index.csv, label.csv, the planes, and a picture per row."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    text = "\n".join([f"{FIXED},{columns}", *rows]) + "\n"
    (root / "index.csv").write_text(text, encoding="utf-8", newline="")
    (root / "label.csv").write_text(labels, encoding="utf-8", newline="")
    for name, image in (planes or {}).items():
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    for row in rows:
        name = row.split(",")[0].strip()
        path = root / "images" / name
        if name.endswith(".png") and name[0] not in "./" and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (image_size[1], image_size[0])).save(path)
    return root
