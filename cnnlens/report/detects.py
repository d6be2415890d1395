"""What the units of a layer detect, in a few words, where the workspace has a dissection of it."""

from __future__ import annotations

from pathlib import Path

from cnnlens.files import read_csv


def detected(workspace: Path, layer: str) -> dict[int, str]:
    """Say what each detector of a layer detects.

    Parameters
    ----------
    workspace : pathlib.Path
        The folder of the investigation.
    layer : str
        The layer's folder name.

    Returns
    -------
    dict of int to str
        Unit to ``hair, IoU 0.24``; empty where the layer has not been dissected.

    Raises
    ------
    CnnlensError
        When the table is damaged.
    """
    table = workspace / "dissect" / layer / "units.csv"
    if not table.exists():
        return {}
    rows = read_csv(table, ("unit", "label", "iou", "is_detector"))
    return {
        int(row["unit"]): f"{row['label']}, IoU {float(row['iou']):.2f}"
        for row in rows
        if row["is_detector"].lower() in ("1", "true")
    }
