"""The documents and pictures of ``explain``, from what `cnnlens.cluster.explain` finds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cnnlens.cli.clustering import Job

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.cli.given import GivenImage
    from cnnlens.cluster.explanation import Explanation


@dataclass
class Explainer:
    """Explains images by the trees of one layer.

    Attributes
    ----------
    job : Job
        Model, layer, store, categories.
    named : str or None
        The category to use, instead of the predicted class's.
    """

    job: Job
    named: str | None = None

    def made_from(self, image: GivenImage) -> dict[str, Any]:
        """Everything an explanation depends on."""
        base = self.job.made_from("rule")
        return {**base, "category": self.named, "image": image.mark}

    def document(self, image: GivenImage, found: Explanation) -> dict[str, Any]:
        """What stands in the image's JSON."""
        return {
            "image": str(image.path),
            "file": f"{image.name}.png",
            "layer": self.job.layer.name,
            **found.as_dict(self._images, self._labels),
            "made_from": self.made_from(image),
        }

    @cached_property
    def _images(self) -> list[str]:
        return self.job.store.images

    @cached_property
    def _positions(self) -> np.ndarray:
        return self.job.store.positions

    @cached_property
    def _labels(self) -> dict[int, str]:
        from cnnlens.report.dissect_files import detected

        return detected(self.job.space.path, self.job.layer.folder)

    def picture(self, image: GivenImage, pixels: np.ndarray, found: Explanation) -> Any:
        """What is drawn of the image; `pixels` (C, H, W) uint8."""
        from cnnlens.report.figures.cam import overlay
        from cnnlens.report.figures.explain import ExplainedPicture

        rgb = (pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)).transpose(1, 2, 0)
        seen, predicted = [(rgb, "as the network saw it")], ""
        if prediction := found.prediction:
            seen.append((overlay(rgb, prediction.heat), f"Grad-CAM: {prediction.name}"))
            predicted = f"predicted {prediction.name} ({prediction.probability:.1%})"
        nearest = f"ends here, at distance {found.path.distance:.3f}"
        seen.append((self._as_seen(found.leaf, 224), nearest))
        chosen = found.path.main_splits(found.tree)
        left_out = len(found.path.splits) - len(chosen)
        return ExplainedPicture(
            title=f"{image.path.name}: {predicted}".rstrip(": "),
            note=f"its way down the filters of {found.category} in {self.job.layer.name}; the "
            "line marks its activation among the category's",
            seen=seen,
            forks=[self._split(found, number) for number in chosen],
            last=f"{left_out} further forks stand in the JSON" if left_out else "",
        )

    def _split(self, found: Explanation, number: int) -> Any:
        import numpy as np

        from cnnlens.report.figures.explain import ForkPicture

        split, evidence = found.path.splits[number], found.evidence[number]
        words = (
            f"{found.tree.sizes[split.merge]} images below, "
            f"{found.tree.reachable[split.merge]} filters left\n"
            f"nearer side {split.to_chosen:.3f}, other {split.to_other:.3f}"
        )
        if evidence is None or split.filter is None:
            return ForkPicture("no filter left", words, None, np.empty(0), "", [])
        label = self._labels.get(split.filter)
        return ForkPicture(
            head=f"filter {split.filter}" + (f" · {label}" if label else ""),
            words=words,
            value=evidence.activation,
            others=evidence.peaks,
            share=f"above {evidence.share_below_category:.0%}",
            top=[self._as_seen(row, 64) for row in evidence.top],
        )

    def _as_seen(self, row: int, side: int) -> np.ndarray:
        from cnnlens.report.figures.strips import as_seen

        position = int(self._positions[row])
        return as_seen(self.job.images, position, self.job.model.preprocess, side)
