"""One run of outliers: predicting images and noise, measuring them, and keeping the results."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.extract import fill_stores
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.errors import CnnlensError
from cnnlens.settings import ExtractSettings, OutlierSettings, RunSettings
from cnnlens.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.cluster.outliers import Taken
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer


class Work:
    """One run of outliers, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: OutlierSettings,
        run_settings: RunSettings,
        force: bool,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.run_settings, self.force = settings, run_settings, force

    def run(self, data: Path | None, layer: str | None) -> dict[str, Any]:
        """Predict, measure, write; return the JSON."""
        from cnnlens.model.scores import gives_scores

        self.model, given = open_model(self.options, self.space, self.screen)
        if not gives_scores(self.model):
            raise CnnlensError(
                f"{self.model.arch} returns no class scores, so it takes images for nothing",
                "name a classifier",
            )
        strange = None
        if data is not None:
            strange = open_images(data, self.space, ("images", "classes", "broden", "parts"))
        (found,) = find_layers(self.model, [layer] if layer else None, self.space)
        self.space.use_model(self.model, given, self.force)
        own = self._own(strange)
        if strange is not None:
            self.space.use_data(strange, named=False, default=False)
        self.layer: Layer = self.space.use_layer(found)
        self.space.save(command_line())
        with self.screen.progress() as bars:
            bars.show("noise", 0, 1)
            taken = self._noise()
        if strange is not None:
            taken = [*self._predicted(strange), *taken]
        document = self._document(taken, own, strange)
        self._write(document, taken)
        return document

    def _own(self, strange: ImageSet | None) -> ImageSet | None:
        """The workspace's last data set with categories that is not the strange one."""
        from cnnlens.data.open import open_data

        for entry in reversed(self.space.document["data"]):
            path = Path(entry["path"])
            same = strange is not None and path == strange.root.resolve()
            if entry["kind"] in ("classes", "parts") and not same and path.is_dir():
                return open_data(path)
        return None

    def _filled(self, images: ImageSet, logits: bool) -> Path:
        """Make the store of a data set, where it is not there; return its path."""
        from cnnlens.activations.extract import store_path

        path = store_path(self.space.stores(images), self.layer)
        fill_stores(
            self.screen, self.space, self.model, images, [self.layer], ExtractSettings(),
            self.run_settings, logits=logits, force=False,
        )  # fmt: skip
        return path

    def _predicted(self, images: ImageSet) -> list[Taken]:
        """What each category of the strange images is taken for."""
        import numpy as np

        from cnnlens.activations.store import Store
        from cnnlens.cluster.outliers import taken_for

        with Store(self._filled(images, logits=True)) as store:
            logits = store.logits
            categories = store.categories or [images.name] * len(logits)
        names = sorted(set(categories))
        mine = np.array(categories)
        return [taken_for(name, logits[mine == name]) for name in names]

    def _noise(self) -> list[Taken]:
        import torch

        from cnnlens.activations.forward import Forward
        from cnnlens.cluster.outliers import NOISES, noise_images, taken_for

        if not self.settings.noise:
            return []
        preprocess = self.model.preprocess
        shape = (self.settings.noise, preprocess.channels, *preprocess.size)
        forward = Forward(self.model, [], logits=True, limit=self.run_settings.batch_size)
        found = []
        for kind in NOISES:
            pixels = torch.from_numpy(noise_images(kind, shape, self.settings.seed))
            _, logits = forward(pixels)
            assert logits is not None
            found.append(taken_for(kind, logits))
        return found

    def _document(
        self, taken: list[Taken], own: ImageSet | None, strange: ImageSet | None
    ) -> dict[str, Any]:
        from cnnlens.cluster.outliers import NOISES
        from cnnlens.model.classes import class_name
        from cnnlens.model.scores import class_bias

        count = len(taken[0].shares)
        self.classes = self._class_names(count, own)
        bias = class_bias(self.model, count)
        regions = self._regions(own, count)
        self.bias = None if bias is None else bias.numpy().astype(float)
        self.radius = regions.pop("by_class") if regions else None
        noises = [one for one in taken if one.source in NOISES]
        name = [class_name(i, self.classes) for i in range(count)]
        return {
            "layer": self.layer.name,
            "data": None if strange is None else strange.name,
            "settings": asdict(self.settings),
            "sources": [self._source(one, name, one.source in NOISES) for one in taken],
            "noise": self._against(noises, name) if noises else None,
            "regions": regions,
        }

    def _class_names(self, count: int, own: ImageSet | None) -> list[str] | None:
        if self.model.classes or own is None or own.image_categories is None:
            return self.model.classes
        categories = sorted(set(own.image_categories))
        if len(categories) != count:
            return None
        self.screen.note(
            "the network's classes have no names: they are called after the categories of "
            f"{own.name} in alphabetical order"
        )
        return categories

    def _source(self, one: Taken, names: list[str], is_noise: bool) -> dict[str, Any]:
        import numpy as np

        order = np.argsort(-one.shares, kind="stable")[:5]
        return {
            "source": one.source,
            "noise": is_noise,
            "images": one.images,
            "confidence": one.confidence,
            "taken_for": [
                {"class": int(c), "name": names[c], "share": float(one.shares[c])}
                for c in order
                if one.shares[c] > 0
            ],
        }

    def _against(self, noises: list[Taken], names: list[str]) -> dict[str, Any]:
        """The class that noise falls to, against its bias and its region's radius."""
        import numpy as np

        from cnnlens.cluster.outliers import correlation, rank_of

        share = np.mean([one.shares for one in noises], axis=0)
        self.noise_share = share
        first = int(share.argmax())
        scores = np.mean([one.logits for one in noises], axis=0)
        found: dict[str, Any] = {
            "class": first,
            "name": names[first],
            "share": float(share[first]),
            "classes": len(share),
            "score": float(scores[first]),
        }
        for what, values in (("bias", self.bias), ("radius", self.radius)):
            known = values is not None and np.isfinite(values[first])
            found[what] = {
                "value": float(values[first]) if values is not None and known else None,
                "rank": rank_of(values, first) if values is not None else None,
                "correlation": correlation(share, values) if values is not None else None,
            }
        return found

    def _regions(self, own: ImageSet | None, count: int) -> dict[str, Any] | None:
        """Radius of every category's region, and clusters named after categories."""
        import numpy as np

        from cnnlens.activations.extract import store_path
        from cnnlens.activations.store import Store
        from cnnlens.cluster.embed import flat_vectors
        from cnnlens.cluster.explain import category_of
        from cnnlens.cluster.outliers import name_clusters, radii
        from cnnlens.cluster.vectors import group

        if own is None:
            self.screen.note(
                "no class folders in the workspace: regions and clusters are left out "
                "(`cnnlens cluster -d DIR` adds some)"
            )
            return None
        path = store_path(self.space.stores(own), self.layer)
        with Store(self._filled(own, logits=False) if not path.exists() else path) as store:
            groups = group(store.categories or [])
            vectors, projected = flat_vectors(store, self.settings.seed)
        radius = radii(vectors, groups)
        by_class = np.full(count, np.nan)
        for number in range(count):
            category = category_of(number, self.classes, count, groups.names)
            if category is not None:
                by_class[number] = radius[groups.names.index(category)]
        found: dict[str, Any] = {
            "data": own.name,
            "images": len(vectors),
            "projected": projected,
            "radius": dict(zip(groups.names, map(float, radius), strict=True)),
            "by_class": by_class if np.isfinite(by_class).any() else None,
            "clusters": None,
        }
        try:
            clusters = name_clusters(vectors, groups, self.settings.seed)
        except CnnlensError as error:
            self.screen.note(f"no clusters: {error.message}")
            return found
        keys = ("agreement", "optimal_accuracy", "stable_accuracy", "purity")
        found["clusters"] = {
            **{key: getattr(clusters, key) for key in keys},
            "named": [
                {
                    "optimal": groups.names[a],
                    "stable": groups.names[b],
                    "images": int((clusters.of_image == i).sum()),
                    "radius": float(clusters.radius[i]),
                }
                for i, (a, b) in enumerate(zip(clusters.optimal, clusters.stable, strict=True))
            ],
        }
        return found

    def _write(self, document: dict[str, Any], taken: list[Taken]) -> None:
        import numpy as np

        from cnnlens.files import write_json
        from cnnlens.model.classes import class_name
        from cnnlens.report.category_figures import save_figure
        from cnnlens.report.outlier_figures import noise_against, predictions

        folder = self.space.path / "outliers"
        names = [class_name(i, self.classes) for i in range(len(taken[0].shares))]
        shares = np.stack([one.shares for one in taken])
        save_figure(
            predictions([t.source for t in taken], shares, names), folder / "predictions.png"
        )
        if document["noise"]:
            figure = noise_against(self.noise_share, self.bias, self.radius, names)
            save_figure(figure, folder / "noise.png")
        else:
            (folder / "noise.png").unlink(missing_ok=True)
        write_json(folder / "outliers.json", document)
