"""COCO's masks to pixels: polygons, run lengths in columns, compressed or not; panoptic pictures.

A polygon covers what the COCO API says it covers: its outline is walked on a grid five times finer
than the pixels, and every place where it crosses the middle of a column switches the column's
pixels below it. That rule is neither "pixel centre inside" nor any graphics library's, and masks
of other rules differ from published ones along every edge.

A panoptic picture has a segment's number, R + 256·G + 65536·B, in the colour of its pixels; 0 is
nothing. What a segment is, a list says.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; the format's definition is the
COCO API's. Kirillov et al., "Panoptic Segmentation", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cnnlens.data.decode import DamagedImage, load_image
from cnnlens.data.imports.source import Size, Unusable
from cnnlens.data.tables import LARGEST_SIDE

_FINER = 5


def mask_of(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Decode one annotation's ``segmentation``.

    Parameters
    ----------
    segmentation : list or dict
        Polygons ``[[x, y, x, y, …], …]``, of which the union counts; or run lengths
        ``{"size": [h, w], "counts": [...] or "..."}``.
    size : (int, int)
        (H, W) of the image.

    Returns
    -------
    numpy.ndarray
        (H, W) bool.

    Raises
    ------
    ValueError
        Saying in a few words what is wrong with it.
    """
    if isinstance(segmentation, Mapping):
        return _run_lengths(segmentation, size)
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        raise ValueError("neither polygons nor run lengths")
    rings = segmentation
    if rings and not isinstance(rings[0], Sequence):
        rings = [rings]  # one polygon without the list around it
    mask = np.zeros(size, bool)
    for ring in rings:
        mask |= polygon(ring, size)
    return mask


def polygon(ring: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Fill a polygon ``x, y, x, y, …``; one of fewer than three corners covers nothing.

    Raises
    ------
    ValueError
        When the coordinates are no even number of finite ones.
    """
    try:
        flat = np.asarray(ring, np.float64)
    except (TypeError, ValueError):
        raise ValueError("a polygon of something else than numbers") from None
    if flat.ndim != 1 or len(flat) % 2 or not np.isfinite(flat).all():
        raise ValueError("a polygon of an odd number of coordinates, or of infinite ones")
    if len(flat) < 6:
        return np.zeros(size, bool)
    # far outside of the image lies nothing that matters, but walking there would take forever
    flat = np.clip(flat, -4 * LARGEST_SIDE, 4 * LARGEST_SIDE)
    u, v = _outline(flat.reshape(-1, 2))
    return _filled(*_crossings(u, v, size), size)


def _outline(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the outline on the finer grid: every edge with both its ends, edge after edge."""
    fine = (_FINER * corners + 0.5).astype(np.int64)  # towards zero, also below it
    starts, ends = fine, np.roll(fine, -1, axis=0)
    points = [_edge(start, end) for start, end in zip(starts, ends, strict=True)]
    u, v = np.concatenate(points, axis=1)
    return u, v


def _edge(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(2, n) integer points from start to end, one for each step of the longer axis."""
    dx, dy = (int(d) for d in np.abs(end - start))
    long = 0 if dx >= dy else 1  # the axis that is walked in steps of one
    low, high = (start, end) if start[long] <= end[long] else (end, start)
    steps = np.arange(max(dx, dy) + 1)
    slope = (int(high[1 - long]) - int(low[1 - long])) / max(dx, dy, 1)
    points = np.empty((2, len(steps)), np.int64)
    points[long] = low[long] + steps
    points[1 - long] = (low[1 - long] + slope * steps + 0.5).astype(np.int64)
    return points if low is start else points[:, ::-1]


def _crossings(
    u: np.ndarray, v: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Columns whose middle the outline crosses, and the first row below each crossing."""
    height, width = size
    step = np.flatnonzero(u[1:] != u[:-1])
    forth = u[step + 1] > u[step]
    x = (np.where(forth, u[step + 1] - 1, u[step + 1]) + 0.5) / _FINER - 0.5
    y = (np.minimum(v[step], v[step + 1]) + 0.5) / _FINER - 0.5
    inside = (x == np.floor(x)) & (x >= 0) & (x <= width - 1)
    rows = np.ceil(np.clip(y[inside], 0, height))
    return x[inside].astype(np.int64), rows.astype(np.int64)


def _filled(columns: np.ndarray, rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Switch at every crossing, column after column; what is on between two of them is inside.

    A closed outline crosses every column an even number of times, so that columns without a
    crossing stay off.
    """
    mask = np.zeros(size[::-1], bool)  # (W, H)
    if len(columns):
        first, height = columns.min(), size[0]
        length = int(columns.max() - first + 1) * height
        switches = np.bincount((columns - first) * height + rows, minlength=length)[:length]
        on = (np.cumsum(switches) % 2).astype(bool).reshape(-1, height)  # (w, H)
        mask[first : first + len(on)] = on
    return mask.T


def _run_lengths(coded: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    counts, own = coded.get("counts"), coded.get("size")
    if isinstance(own, Sequence) and tuple(own) != size:
        raise ValueError(f"run lengths of {'×'.join(map(str, own))} pixels")
    if isinstance(counts, str | bytes):
        counts = decompress(counts)
    try:
        runs = np.asarray(counts, np.int64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("run lengths of something else than numbers") from None
    height, width = size
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError("run lengths that do not add up to the image")
    on = np.arange(len(runs)) % 2 == 1
    return np.repeat(on, runs).reshape(width, height).T  # (H, W)


def decompress(text: str | bytes) -> list[int]:
    """Read run lengths from COCO's text: five bits a character, least first, then differences.

    A character is 48 + five bits + 32 where more follow; the last one's fifth bit is the sign. From
    the third run on, what is written is the difference to the run before the last.

    Raises
    ------
    ValueError
        When the text ends within a number, or holds a character that is none of these.
    """
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for code in data:
        bits = code - 48
        if not 0 <= bits < 64:
            raise ValueError("run lengths with a character that is none of theirs")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("run lengths that end early")
    return runs


# -- panoptic pictures ----------------------------------------------------------------------------

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
