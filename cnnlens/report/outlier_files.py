"""``WORKSPACE/outliers``: outliers.json and its pictures, written and read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.cluster.outliers import Outliers
from cnnlens.files import write_json
from cnnlens.report.contents import read_object, reading
from cnnlens.report.figures import save_figure
from cnnlens.report.figures.outliers import noise_against, predictions
from cnnlens.report.shown import Fact, Picture, Shown

_REDO = "redo `cnnlens outliers` with --force"


@dataclass(frozen=True, eq=False)
class OutlierResult(Shown):
    """What images that belong to none of the classes are predicted as.

    Attributes
    ----------
    folder : pathlib.Path
        ``WORKSPACE/outliers``.
    sources : list of dict
        "source", "images", "confidence", and the classes they are "taken_for".
    noise : dict or None
        The class that noise falls to, with its bias's and its region's rank.
    regions : dict or None
        Radius of each category's region, and clusters named after categories.
    """

    folder: Path
    sources: list[dict[str, Any]]
    noise: dict[str, Any] | None
    regions: dict[str, Any] | None

    @property
    def words(self) -> list[str]:
        """Where noise falls and what clusters say, for people."""
        said = []
        if noise := self.noise:
            said.append(
                f"noise falls to {noise['name']} ({noise['share']:.0%}): rank of its bias "
                f"{noise['bias']['rank'] or 'unknown'}, of its radius "
                f"{noise['radius']['rank'] or 'unknown'}, of {noise['classes']}"
            )
        if self.regions and (clusters := self.regions["clusters"]):
            said.append(
                f"clusters: purity {clusters['purity']:.0%}; both ways of naming agree on "
                f"{clusters['agreement']:.0%}, right for {clusters['optimal_accuracy']:.0%} "
                f"(optimal) and {clusters['stable_accuracy']:.0%} (stable) of the images"
            )
        return said

    def table(self) -> list[dict[str, Any]]:
        """Give a row per source and class that its images are predicted as."""
        return [
            {
                "source": one["source"],
                "images": one["images"],
                "confidence": one["confidence"],
                "class": found["class"],
                "name": found["name"],
                "share": found["share"],
            }
            for one in self.sources
            for found in one["taken_for"]
        ]

    def _title(self) -> str:
        return "What images of no class are predicted as"

    def _facts(self) -> Iterable[Fact]:
        for one in self.sources:
            first = one["taken_for"][0]
            yield one["source"], f"{first['name']} {first['share']:.0%}", ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        files = [self.folder / name for name in ("predictions.png", "noise.png")]
        texts = [" ".join(self.words[:1]), " ".join(self.words[1:])]
        return [(words, f) for words, f in zip(texts, files, strict=True) if f.is_file()]


def read_outliers(folder: Path) -> OutlierResult:
    """Read what outliers left.

    Raises
    ------
    CnnlensError
        Naming the file when it is damaged.
    """
    file = folder / "outliers.json"
    found = read_object(file, ("sources", "noise", "regions"), _REDO)
    with reading(file, _REDO):
        result = OutlierResult(folder, list(found["sources"]), found["noise"], found["regions"])
        result.table(), list(result._facts()), result.words
    return result


def write_outliers(folder: Path, found: Outliers, document: Mapping[str, Any]) -> None:
    """Write the pictures of what was found, then the JSON."""
    sources = [one.source for one in found.predicted]
    shares = np.stack([one.shares for one in found.predicted])
    save_figure(predictions(sources, shares, found.names), folder / "predictions.png")
    if noise := found.noise:
        values = (noise.shares, noise.bias.values, noise.radius.values)
        save_figure(noise_against(*values, found.names), folder / "noise.png")
    else:
        (folder / "noise.png").unlink(missing_ok=True)
    write_json(folder / "outliers.json", dict(document))
