"""What ``explain`` does to one image after the other, once model, store and trees are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.clustering import Job
from cnnlens.errors import CnnlensError, UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.attribution.cam import ClassMaps
    from cnnlens.cli.given import GivenImage
    from cnnlens.cluster.explain import Way
    from cnnlens.cluster.filters import FilterTree
    from cnnlens.measure.peaks import Peaks

TOP = 5  # data-set images per filter
DRAWN = 8  # forks in the picture
_FEW = 0.02  # share of a category that is too few to count as a branch


@dataclass(frozen=True)
class Grown:
    """One category's tree, and what it was grown from."""

    rows: np.ndarray
    maps: np.ndarray
    tree: FilterTree


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
    _trees: dict[str, Grown] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.job.needed_groups().names
        if self.named is not None and self.named not in names:
            near = did_you_mean(self.named, names) or f"there are {', '.join(names[:8])}"
            raise UsageError(f"no category '{self.named}' in {self.job.images.root}", near)
        if self.named is None and self.seen is None:
            raise UsageError(
                "the network returns no class scores, so it predicts no category",
                "name the category with --class",
            )

    @cached_property
    def seen(self) -> ClassMaps | None:
        """Grad-CAM of the network; None where it gives no class scores."""
        from cnnlens.attribution.cam import ClassMaps

        try:
            return ClassMaps(self.job.model, "gradcam")
        except CnnlensError:
            return None

    @cached_property
    def _places(self) -> np.ndarray:
        return self.job.store.positions

    def made_from(self, image: GivenImage) -> dict[str, Any]:
        """Everything an explanation depends on."""
        base = self.job.made_from("rule")
        return {**base, "category": self.named, "image": image.mark}

    def explain(self, image: GivenImage) -> tuple[dict[str, Any], Any]:
        """Explain one image; return its document and its picture.

        Raises
        ------
        DamagedImage
            When it cannot be read.
        """
        pixels = image.pixels(self.job.model.preprocess)  # (C, H, W)
        prediction, heat = self._predict(pixels)
        category = self.named or prediction["category"]
        grown = self._grown(category)
        maps = self._maps(pixels)
        from cnnlens.cluster.explain import way_down

        way = way_down(grown.maps, grown.tree, maps)
        units = list(dict.fromkeys(f.filter for f in way.forks if f.filter is not None))
        peaks = self._peaks(tuple(units))
        forks = [self._fork(grown, way, i, maps, peaks) for i in range(len(way.forks))]
        leaf = self.job.store.images[grown.rows[grown.tree.leaves[way.leaf]]]
        document = {
            "image": str(image.path),
            "file": f"{image.name}.png",
            "layer": self.job.layer.name,
            **{k: v for k, v in prediction.items() if k != "category"},
            "category": category,
            "path": forks,
            "leaf": {"image": leaf, "distance": way.distance},
            "made_from": self.made_from(image),
        }
        return document, self._picture(document, pixels, heat, grown, way, peaks)

    def _predict(self, pixels: np.ndarray) -> tuple[dict[str, Any], np.ndarray | None]:
        """Predicted class, its category in the data, and its Grad-CAM."""
        if self.seen is None:
            return {"class": None, "class_name": None, "probability": None, "category": None}, None
        import torch

        from cnnlens.cluster.explain import category_of
        from cnnlens.model.classes import class_name

        model = self.job.model
        rows = torch.from_numpy(pixels)[None].repeat(model.batch or 1, 1, 1, 1)
        found = self.seen(model.preprocess.normalize(rows.to(model.device)), None, 1)
        number = int(found.classes[0, 0])
        names = self.job.needed_groups().names
        category = category_of(number, model.classes, self.seen.count, names)
        if category is None and self.named is None:
            what = class_name(number, model.classes)
            raise CnnlensError(
                f"no category of {self.job.images.root} is called after the predicted class {what}",
                f"name one with --class: {', '.join(names[:6])}"
                + (", …" if len(names) > 6 else ""),
            )
        if model.classes is None and category is not None and self.named is None:
            self.job.screen.note(
                "the network's classes have no names: they are taken for the categories in "
                "alphabetical order"
            )
        return {
            "class": number,
            "class_name": class_name(number, model.classes or sorted(names) if category else None),
            "probability": float(found.probabilities[0, 0]),
            "category": category,
        }, found.maps[0, 0].float().cpu().numpy()

    def _grown(self, category: str) -> Grown:
        from cnnlens.cluster.filters import filter_tree
        from cnnlens.cluster.vectors import read_vectors

        if category not in self._trees:
            rows = self.job.needed_groups().rows(category)
            maps = read_vectors(self.job.store, rows)
            self._trees[category] = Grown(rows, maps, filter_tree(maps, self.job.settings.rule))
        return self._trees[category]

    def _maps(self, pixels: np.ndarray) -> np.ndarray:
        import numpy as np
        import torch

        from cnnlens.activations.forward import Forward

        forward = Forward(self.job.model, [self.job.layer], logits=False, limit=1)
        (maps,), _ = forward(torch.from_numpy(pixels)[None])
        if not maps.any():
            raise CnnlensError(
                f"{self.job.layer.name} answers nothing to the image", "name another layer with -l"
            )
        return np.asarray(maps[0])  # (C, H, W)

    def _peaks(self, units: tuple[int, ...]) -> Peaks:
        from cnnlens.measure.peaks import peaks

        return peaks(self.job.store.batches(), units)

    def _fork(
        self, grown: Grown, way: Way, index: int, maps: np.ndarray, peaks: Peaks
    ) -> dict[str, Any]:
        from cnnlens.cluster.explain import share_below

        fork = way.forks[index]
        found: dict[str, Any] = {
            "distance": float(grown.tree.distances[fork.merge]),
            "critical_filter": fork.filter,
            "filters": int(grown.tree.reachable[fork.merge]),
            "images": int(grown.tree.sizes[fork.merge]),
            "to_chosen": fork.to_chosen,
            "to_other": fork.to_other,
        }
        if fork.filter is None:
            return found
        value = float(maps[fork.filter].max())
        all_ = peaks.of(fork.filter)
        images = self.job.images.paths
        return {
            **found,
            "activation": value,
            "share_below_category": share_below(all_[grown.rows], value),
            "share_below_data": share_below(all_, value),
            "top_images": [images[p] for p in peaks.top(fork.filter, TOP)],
            **({"detects": text} if (text := self._labels.get(fork.filter)) else {}),
        }

    @cached_property
    def _labels(self) -> dict[int, str]:
        from cnnlens.report.detects import detected

        return detected(self.job.space.path, self.job.layer.folder)

    def _picture(
        self,
        document: dict[str, Any],
        pixels: np.ndarray,
        heat: np.ndarray | None,
        grown: Grown,
        way: Way,
        peaks: Peaks,
    ) -> Any:
        from cnnlens.report.explained import ExplainedPicture
        from cnnlens.report.heat import overlay

        rgb = (pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)).transpose(1, 2, 0)
        seen = [(rgb, "as the network saw it")]
        if heat is not None:
            seen.append((overlay(rgb, heat), f"Grad-CAM: {document['class_name']}"))
        leaf = int(self._places[grown.rows[grown.tree.leaves[way.leaf]]])
        nearest = f"ends here, at distance {way.distance:.3f}"
        seen.append((self._as_seen(leaf, 224), nearest))
        chosen = telling(grown.tree, way)
        left_out = len(way.forks) - len(chosen)
        p = document["probability"]
        predicted = f"predicted {document['class_name']} ({p:.1%})" if p is not None else ""
        return ExplainedPicture(
            title=f"{Path(document['image']).name}: {predicted}".rstrip(": "),
            note=f"its way down the filters of {document['category']} in {document['layer']}; the "
            "line marks its activation among the category's",
            seen=seen,
            forks=[self._fork_picture(document["path"][i], grown, peaks) for i in chosen],
            last=f"{left_out} further forks stand in the JSON" if left_out else "",
        )

    def _fork_picture(self, fork: dict[str, Any], grown: Grown, peaks: Peaks) -> Any:
        import numpy as np

        from cnnlens.report.explained import ForkPicture

        filter_ = fork["critical_filter"]
        words = (
            f"{fork['images']} images below, {fork['filters']} filters left\n"
            f"nearer side {fork['to_chosen']:.3f}, other {fork['to_other']:.3f}"
        )
        if filter_ is None:
            return ForkPicture("no filter left", words, None, np.empty(0), "", [])
        head = f"filter {filter_}" + (f" · {fork['detects']}" if "detects" in fork else "")
        return ForkPicture(
            head=head,
            words=words,
            value=fork["activation"],
            others=peaks.of(filter_)[grown.rows],
            share=f"above {fork['share_below_category']:.0%}",
            top=[self._as_seen(position, 64) for position in peaks.top(filter_, TOP)],
        )

    def _as_seen(self, position: int, side: int) -> np.ndarray:
        from cnnlens.report.strips import as_seen

        return as_seen(self.job.images, position, self.job.model.preprocess, side)


def telling(tree: FilterTree, way: Way) -> list[int]:
    """Choose the forks to draw: the first ones that do more than set a few images apart."""
    sizes = [1] * len(tree.leaves) + tree.sizes.tolist()
    few = max(2, round(_FEW * len(tree.leaves)))
    telling_ = [
        i
        for i, fork in enumerate(way.forks)
        if min(sizes[int(child)] for child in tree.pairs[fork.merge]) >= few
    ]
    if len(telling_) < DRAWN:
        rest = [i for i in range(len(way.forks)) if i not in telling_]
        telling_ = sorted([*telling_, *rest[: DRAWN - len(telling_)]])
    return telling_[:DRAWN]
