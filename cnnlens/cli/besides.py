"""What the workspace knows of a unit beside its optimized image: weights, top images, peaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError
from cnnlens.model.convolutions import first_filters
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model
from cnnlens.report.optimized import Beside
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.measure.top import Peaks

_TOP = 8


class Besides:
    """Everything about some units of one layer that stands beside their images.

    Parameters
    ----------
    space : Workspace
        Where stores are looked for.
    model : Model
        The network.
    layer : Layer
        Whose units.
    units : list of int
        Which.
    screen : Screen
        For notes about stores that cannot be used.
    """

    def __init__(
        self, space: Workspace, model: Model, layer: Layer, units: list[int], screen: Screen
    ) -> None:
        self._model = model
        self._weights = first_filters(model, layer)
        self._peaks: Peaks | None = None
        self._images: ImageSet | None = None
        try:
            self._read_store(space, layer, units)
        except CnnlensError as error:
            screen.note(f"no top images beside the pictures: {error.message}")

    def _read_store(self, space: Workspace, layer: Layer, units: list[int]) -> None:
        """Read the store of the data that was used last, of those that fit."""
        from cnnlens.activations.store import Store
        from cnnlens.data.open import open_data
        from cnnlens.measure.top import peaks

        for entry in reversed(space.document["data"]):
            path = space.path / "activations" / entry["name"] / f"{layer.folder}.h5"
            if not path.exists():
                continue
            with Store(path) as store:
                if (store.key.model, store.key.place) != (
                    self._model.fingerprint,
                    layer.place.key,
                ):
                    continue
                self._peaks = peaks(store.batches(), sorted(set(units)))
                images = open_data(Path(entry["path"]))
                if images.fingerprint == store.key.data:  # else positions may mean other images
                    self._images = images
            return

    def of(self, unit: int, peak: float) -> Beside | None:
        """Gather what stands beside a unit's image, on which it peaks at `peak`."""
        if self._weights is None and self._peaks is None:
            return None
        from cnnlens.report.strips import as_seen

        top = self._peaks.top(unit, _TOP) if self._peaks and self._images else []
        assert self._images is not None or not top
        return Beside(
            weights=None if self._weights is None else self._weights[unit],
            images=[
                as_seen(self._images, position, self._model.preprocess)
                for position in top
                if self._images
            ],
            peaks=None if self._peaks is None else self._peaks.of(unit),
            value=peak,
            data=self._images.name if self._images else "",
        )
