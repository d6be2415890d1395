"""COCO's panoptic annotations: a picture of segments for each image, of which a list says what.

A pixel's colour is the number of its segment, R + 256·G + 65536·B; 0 is nothing. Kirillov et al.,
"Panoptic Segmentation", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cnnlens.data.decode import DamagedImage, load_image
from cnnlens.data.imports.source import Size, Unusable

Label = TypeVar("Label")


def segments(
    picture: Path,
    annotation: Mapping[str, Any],
    labels: Mapping[Any, tuple[Label, str]],
    size: Size,
) -> Iterator[tuple[Label, str, np.ndarray]]:
    """Read the segments of one image: each one's label, what is above it, and its mask (H, W).

    Raises
    ------
    Unusable
        When the picture cannot be read, is of another size, or lacks a segment that is listed.
    """
    try:
        colours = np.asarray(load_image(picture)).astype(np.int64)  # (H, W, 3)
    except DamagedImage as error:
        raise Unusable(f"its segments: {picture.name} is {error.reason}") from None
    numbers = colours @ (1, 256, 65536)
    if numbers.shape != tuple(size):
        raise Unusable(f"its segments in {picture.name} are of another size")
    known = set(np.unique(numbers).tolist())
    for one in annotation["segments_info"]:
        if one.get("category_id") not in labels:
            raise Unusable(f"segment {one.get('id')} is of a category without a name")
        if one.get("id") not in known:
            raise Unusable(f"segment {one.get('id')} is not in {picture.name}")
        label, above = labels[one["category_id"]]
        yield label, above, numbers == one["id"]
