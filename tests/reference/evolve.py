"""Units over checkpoints once more, slowly: image by image, unit by unit."""

from __future__ import annotations

from typing import Any

import numpy as np


def evolution(maps: list[list[np.ndarray]], units: list[int]) -> list[dict[str, Any]]:
    """Follow units; `maps` are (C, H, W) of each image, at each checkpoint."""
    found = []
    for at, images in enumerate(maps):
        rows = []
        for unit in units:
            peaks = [float(one[unit].max()) for one in images]
            last = [float(one[unit].max()) for one in maps[-1]]
            top = peaks.index(max(peaks))
            y, x = np.unravel_index(images[top][unit].argmax(), images[top][unit].shape)
            dead = max(peaks) <= 0
            undefined = dead or max(last) <= 0 or len(set(peaks)) == 1 or len(set(last)) == 1
            rows.append(
                {
                    "top": -1 if dead else top,
                    "at": (int(y), int(x)),
                    "peak": max(peaks),
                    "r": np.nan if undefined else float(np.corrcoef(peaks, last)[0, 1]),
                }
            )
        for row, before in zip(rows, found[-1]["units"] if at else rows, strict=True):
            alive = row["top"] >= 0 and before["top"] >= 0
            row["jumped"] = alive and row["top"] != before["top"]
        dead = sum(max(one[unit].max() for one in images) <= 0 for unit in range(len(images[0])))
        found.append({"dead_units": dead, "units": rows})
    return found
