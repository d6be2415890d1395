"""What stands beside a unit's optimized image: its weights, the data's top images, its peaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from cnnlens.activations.store import Store
from cnnlens.data.dataset import ImageSet
from cnnlens.measure.top import Peaks, peaks
from cnnlens.model.convolutions import first_filters
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model
from cnnlens.report.figures.strips import as_seen
from cnnlens.report.figures.visualize import Beside, beside
from cnnlens.report.sheet import save_png

_TOP = 8  # of the data's images


class Besides:
    """Gathers and draws it, for some units of one layer.

    Parameters
    ----------
    model : Model
        The network.
    layer : Layer
        Whose units.
    units : sequence of int
        Which.
    """

    def __init__(self, model: Model, layer: Layer, units: Sequence[int]) -> None:
        self._model, self._layer, self._units = model, layer, sorted(set(units))
        self._weights = first_filters(model, layer)
        self._peaks: Peaks | None = None
        self._images: ImageSet | None = None

    def read_stores(self, stores: Iterable[tuple[Path, Callable[[], ImageSet]]]) -> None:
        """Take peaks and images from the first store that is there and is this network's.

        Parameters
        ----------
        stores : iterable of (pathlib.Path, callable)
            Where a store of the layer may be, and what opens its images.

        Raises
        ------
        CnnlensError
            When it is damaged, or its images are gone.
        """
        for path, opened in stores:
            if not path.exists():
                continue
            with Store(path) as store:
                key = store.key
                if (key.model, key.place) != (self._model.fingerprint, self._layer.place.key):
                    continue
                self._peaks = peaks(store.batches(), self._units)
            images = opened()
            if images.fingerprint == key.data:  # else positions may mean other images
                self._images = images
            return

    def write(self, folder: Path, entry: dict[str, Any], title: str) -> dict[str, Any]:
        """Draw a unit's row under ``beside/``; return what its entry in the JSON gains."""
        found = self._of(entry["unit"], entry["final"])
        if found is None:
            return {}
        with Image.open(folder / entry["file"]) as picture:
            drawn = beside(picture.convert("RGB"), title, found)
        save_png(folder / "beside" / entry["file"], drawn)
        gained: dict[str, Any] = {"beside": f"beside/{entry['file']}"}
        if found.peaks is not None and found.peaks.size and float(found.peaks.max()) > 0:
            gained["times_best"] = entry["final"] / float(found.peaks.max())
        return gained

    def _of(self, unit: int, value: float) -> Beside | None:
        if self._weights is None and self._peaks is None:
            return None
        images = self._images
        top = self._peaks.top(unit, _TOP) if self._peaks and images else []
        return Beside(
            weights=None if self._weights is None else self._weights[unit],
            images=[as_seen(images, at, self._model.preprocess) for at in top] if images else [],
            peaks=None if self._peaks is None else self._peaks.of(unit),
            value=value,
            data=images.name if images else "",
        )
