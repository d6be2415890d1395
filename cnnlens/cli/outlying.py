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
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.cluster.outliers import Outliers
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
        from cnnlens.model.classes import gives_scores

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
        seen = self._found(own, strange)
        document = self._document(seen, own, strange)
        self._write(document, seen)
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

    def _logits(self, images: ImageSet) -> dict[str, np.ndarray]:
        """Scores of the strange images, by category."""
        import numpy as np

        from cnnlens.activations.store import Store

        with Store(self._filled(images, logits=True)) as store:
            logits = store.logits
            categories = np.array(store.categories or [images.name] * len(logits))
        return {name: logits[categories == name] for name in sorted(set(categories.tolist()))}

    def _found(self, own: ImageSet | None, strange: ImageSet | None) -> Outliers:
        from cnnlens.activations.extract import store_path
        from cnnlens.activations.store import Store
        from cnnlens.cluster.outliers import outliers
        from cnnlens.cluster.vectors import group

        logits = self._logits(strange) if strange is not None else {}
        if own is None:
            self.screen.note(
                "no class folders in the workspace: regions and clusters are left out "
                "(`cnnlens cluster -d DIR` adds some)"
            )
            return outliers(
                self.model, logits, settings=self.settings, batch_size=self.run_settings.batch_size
            )
        path = store_path(self.space.stores(own), self.layer)
        with Store(self._filled(own, logits=False) if not path.exists() else path) as store:
            found = outliers(
                self.model, logits, store, group(store.categories or []), self.settings,
                batch_size=self.run_settings.batch_size,
            )  # fmt: skip
        if not self.model.classes and found.classes:
            self.screen.note(
                "the network's classes have no names: they are called after the categories of "
                f"{own.name} in alphabetical order"
            )
        if found.regions and found.regions.unclustered:
            self.screen.note(f"no clusters: {found.regions.unclustered}")
        return found

    def _document(
        self, found: Outliers, own: ImageSet | None, strange: ImageSet | None
    ) -> dict[str, Any]:
        document = found.as_dict()
        if document["regions"] and own is not None:
            document["regions"] = {"data": own.name, **document["regions"]}
        return {
            "layer": self.layer.name,
            "data": None if strange is None else strange.name,
            "settings": asdict(self.settings),
            **document,
        }

    def _write(self, document: dict[str, Any], found: Outliers) -> None:
        import numpy as np

        from cnnlens.files import write_json
        from cnnlens.report.figures import save_figure
        from cnnlens.report.figures.outliers import noise_against, predictions

        folder = self.space.path / "outliers"
        sources = [one.source for one in found.predicted]
        shares = np.stack([one.shares for one in found.predicted])
        save_figure(predictions(sources, shares, found.names), folder / "predictions.png")
        if noise := found.noise:
            figure = noise_against(
                noise.shares, noise.bias.values, noise.radius.values, found.names
            )
            save_figure(figure, folder / "noise.png")
        else:
            (folder / "noise.png").unlink(missing_ok=True)
        write_json(folder / "outliers.json", document)
