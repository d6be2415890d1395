"""Optimized images beside the dataset's: a unit's weights, top and nearest images, its peaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cnnlens.activations.store import Store
from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError, plain
from cnnlens.measure.top import Peaks, nearest, peaks
from cnnlens.model.convolutions import first_filters
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.report.figures import as_seen, new_figure, rendered
from cnnlens.report.figures.visualize import CELL, of_weights, read_picture
from cnnlens.report.sheet import (
    MARK,
    Apart,
    Column,
    Drawing,
    Grid,
    Part,
    Picture,
    Row,
    Text,
    fitted,
    save_png,
)  # fmt: skip
from cnnlens.report.sheet import sheet as on_sheet
from cnnlens.synthesize.objective import read_images
from cnnlens.synthesize.transform import resized

_TOP = 8  # of the data's images beside an optimized one
_NEAREST = 4  # of those whose activations are most like its own


class DatasetExamples:
    """What a data set shows of units, to set their optimized images beside.

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
        self._store: Path | None = None
        self._nearest: dict[str, list[int]] = {}  # by file: places in the data's order
        self.outdated: Path | None = None  # a store of images that have changed since

    def read_stores(self, stores: Iterable[tuple[Path, Callable[[], ImageSet]]]) -> None:
        """Take peaks and images from the first store that is there and is this network's.

        Parameters
        ----------
        stores : iterable of (pathlib.Path, callable)
            Where a store of the layer may be, and what opens its images.

        Raises
        ------
        CnnlensError
            When it is damaged, or its images are gone. A store of other images than there are now
        is passed over, and is `outdated`.
        """
        for path, opened in stores:
            if not path.exists():
                continue
            with Store(path) as store:
                key = store.key
                if (key.model, key.place) != (self._model.fingerprint, self._layer.place.key):
                    continue
                found = peaks(store.batches(), self._units)
            try:
                images = opened()
            except CnnlensError:  # they are gone: what was measured on them holds all the same
                self._peaks = found
                raise
            if images.fingerprint != key.data:  # what is highest there may be on none of these
                self.outdated = path
                continue
            self._peaks, self._images, self._store = found, images, path
            return

    @property
    def best_of(self) -> dict[str, str] | None:
        """Which images the best are of, and in which state."""
        images = self._images
        return None if images is None else {"name": images.name, "fingerprint": images.fingerprint}

    def best(self, unit: int | None) -> float | None:
        """A unit's highest activation on the data; None where that is not known."""
        if self._peaks is None or unit is None or not self._peaks.positions.size:
            return None
        return float(self._peaks.of(unit).max())

    def find_nearest(self, folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
        """Find the data's images that the layer answers most as it answers the entries' pictures.

        One pass through the network for each, one sweep over the store for all.
        """
        if self._store is None or not entries:
            return
        files = [str(entry["file"]) for entry in entries]
        vectors = np.stack([self._vector(folder / file) for file in files])  # (V, C)
        with Store(self._store) as store:
            found = nearest(store.batches(), vectors, _NEAREST)
        for file, places in zip(files, found.tolist(), strict=True):
            self._nearest[file] = [place for place in places if place >= 0]

    def _vector(self, file: Path) -> np.ndarray:
        """(C,): means over the maps that the layer answers a picture with."""
        model = self._model
        picture = torch.from_numpy(read_picture(file, model.preprocess.channels))[None]
        seen = resized(picture.to(model.device), model.preprocess.size)
        with torch.no_grad(), model.in_use():
            (reading,) = read_images(model, [self._layer.place], model.preprocess.normalize(seen))[
                :1
            ]
        found: np.ndarray = reading[self._layer.place].float().mean((1, 2)).cpu().numpy()
        return found

    def write(
        self,
        folder: Path,
        entry: dict[str, Any],
        title: str,
        more: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """Draw a unit's row under ``beside/``, with `more` pictures of it; return what its entry in
        the JSON gains."""
        unit, value, images, found = entry["unit"], entry["final"], self._images, self._peaks
        if self._weights is None and found is None:
            return {}
        top = found.top(unit, _TOP) if found and images else []
        values = None if found is None else found.of(unit)
        pictures = [Image.open(folder / one["file"]).convert("RGB") for one in (entry, *more)]
        near = self._nearest.get(entry["file"], [])
        drawn = beside(
            pictures,
            title,
            weights=None if self._weights is None else self._weights[unit],
            top=self._seen(top),
            near=self._seen(near),
            data=images.name if images else "",
            values=values,
            value=value,
        )
        save_png(folder / "beside" / entry["file"], drawn)
        return {"beside": f"beside/{entry['file']}"}

    def _seen(self, places: Sequence[int]) -> list[np.ndarray]:
        images = self._images
        return [as_seen(images, at, self._model.preprocess) for at in places] if images else []


def beside(
    pictures: Sequence[Image.Image],
    title: str,
    weights: np.ndarray | None = None,
    top: Sequence[np.ndarray] = (),
    near: Sequence[np.ndarray] = (),
    data: str = "",
    values: np.ndarray | None = None,
    value: float = 0.0,
) -> Image.Image:
    """Compose one unit's row: optimized images, its weights, top and nearest images, histogram.

    Parameters
    ----------
    pictures : sequence of PIL.Image.Image
        The optimized image, and further ones that were made different from it.
    title : str
        Above all.
    weights : numpy.ndarray, optional
        (C, h, w) of a first-layer filter.
    top : sequence of numpy.ndarray
        The top images of the data set called `data`, (h, w, 3) uint8.
    near : sequence of numpy.ndarray
        Those that the whole layer answers most as it answers the first picture.
    values : numpy.ndarray, optional
        The unit's peak on every image of the data set; `value` is that on the optimized one.
    """
    words = ["optimized"] + [f"optimized, apart ({n})" for n in range(2, len(pictures) + 1)]
    parts = [_captioned(*one) for one in zip(words, map(_square, pictures), strict=True)]
    if weights is not None:
        parts.append(_captioned("its weights", _square(of_weights(weights))))
    for images, named in ((top, f"top images of {data}"), (near, "nearest in the layer")):
        if images:
            parts.append(_captioned(named, _small(images)))
    if values is not None and values.size:
        histogram = Picture(_histogram(values, value), frame=False)
        parts.append(_captioned("its peak on each image", histogram))
    head = Text(title, 15, 24, bold=True)
    return on_sheet(Column(head, Row(*parts, gap=12)), top=10)


def _small(images: Sequence[np.ndarray]) -> Part:
    """Lay images out in two rows."""
    small = [Picture(fitted(Image.fromarray(one), CELL // 2 - 4)) for one in images]
    grid = Row(Drawing(1, 1), Grid(small, -(-len(small) // 2), (6, 6)), Drawing(1, 1))
    return Column(Drawing(0, 1), grid)


def _square(picture: Image.Image) -> Picture:
    return Picture(fitted(picture, CELL), frame=False)


def _captioned(words: str, part: Part) -> Part:
    """Put words under a part, at one height for all."""
    wide = part.size[0]
    return Column(
        Column(Apart(part, words), least=(wide, CELL + 3)), Text(words, 12, 17, wide=wide)
    )


def _histogram(peaks: np.ndarray, value: float) -> Image.Image:
    """Draw how peaks spread over the data set, with the optimized image's marked."""
    figure = new_figure(2.9, CELL / 100, dpi=100)
    axes = figure.add_axes((0.02, 0.17, 0.94, 0.68))
    low, high = min(float(peaks.min()), value), max(float(peaks.max()), value)
    edges = np.linspace(low, high if high > low else low + 1, 49)
    axes.hist(peaks, bins=edges, color="#3390c7", log=len(peaks) > 50)  # type: ignore[arg-type]
    axes.axvline(value, color=MARK, lw=1.6)
    best = float(peaks.max())
    times = f"optimized: {plain(value)}" + (f" = {value / best:.1f} × best" if best > 0 else "")
    axes.set_title(times, fontsize=8, color=MARK, pad=3, loc="right")
    axes.set_yticks([])
    axes.minorticks_off()
    axes.tick_params(labelsize=7, length=2)
    axes.locator_params(axis="x", nbins=5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return rendered(figure)
