"""Running a model over a data set once, into activation stores; and out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from cnnlens.activations.chunks import even_batch
from cnnlens.activations.filling import fill, writing
from cnnlens.activations.passes import Forward
from cnnlens.activations.relabelling import relabel, rows_of
from cnnlens.activations.sources import ModelSource, Source, StoreSource
from cnnlens.activations.store import Store, StoreKey
from cnnlens.activations.writer import clear_leftovers
from cnnlens.data.dataset import ImageSet
from cnnlens.distributed import Share
from cnnlens.errors import CnnlensError
from cnnlens.files import mark
from cnnlens.model.classes import gives_scores
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.numbered import numbered
from cnnlens.progress import Step
from cnnlens.settings import ExtractSettings, RunSettings


def store_key(model: Model, images: ImageSet, layer: Layer, settings: ExtractSettings) -> StoreKey:
    """Say what a store of this layer would be made from."""
    return _store_key(model, images, layer.place.key, settings.type)


def _store_key(model: Model, images: ImageSet, place: str, dtype: str) -> StoreKey:
    how = {**model.preprocess.key, "squash": images.aligned, **model.numerics}
    return StoreKey(
        model=model.fingerprint,
        preprocess=json.dumps(how, sort_keys=True),
        data=images.fingerprint,
        place=place,
        dtype=dtype,
    )


def store_path(folder: Path, layer: Layer) -> Path:
    """Return where a layer's store stands in a folder of stores."""
    return folder / f"{layer.folder}.h5"


@dataclass(frozen=True)
class StoredLayer:
    """A layer's activations on a data set, which are stored, or will be."""

    model: Model
    images: ImageSet
    layer: Layer
    folder: Path  #: of the stores
    force: bool = False  #: whether a damaged store counts as none, and a lost one is made anew

    def open(self) -> Store:
        """Open the store; it must be there."""
        return Store(store_path(self.folder, self.layer))

    def find(self) -> Store | None:
        """Open the store where there is one of just this model and these images, of any type."""
        if not store_path(self.folder, self.layer).exists():
            return None
        try:
            store = self.open()
        except CnnlensError:
            if self.force:
                return None
            raise
        key = store_key(self.model, self.images, self.layer, ExtractSettings())
        if replace(store.key, dtype=key.dtype) == key:
            return store
        store.close()
        return None

    @property
    def dtype(self) -> str | None:
        """Type of the stored numbers; None where there is no store of just these images."""
        store = self.find()
        if store is None:
            return None
        with store:
            return store.key.dtype

    def summary(self) -> dict[str, Any] | None:
        """Sum the store up for JSON: its file, what it holds, how large it is; None without one."""
        store = self.find()
        if store is None:
            return None
        with store:
            return {
                "layer": self.layer.name,
                "store": str(store.path),
                "shape": list(store.shape),
                "dtype": store.key.dtype,
                "bytes": store.path.stat().st_size,
                "raw_float32_bytes": prod(store.shape) * 4,
                "skipped": [{"image": p, "reason": r} for p, r in store.skipped],
            }

    @property
    def key(self) -> dict[str, Any]:
        """What results depend on that are found in the store, and in nothing but the categories
        of its images, beside network, place and images.
        """
        return self.key_as(self.dtype or "float32")

    def key_as(self, dtype: str) -> dict[str, Any]:
        """Say the same of a store of this type; "float32" is what the network itself gives."""
        return {"labels": mark(self.images.image_categories), "dtype": dtype}

    def about(self) -> dict[str, Any]:
        """Say what results depend on that are found in the store, among those of other images."""
        categories = self.images.image_categories
        known = numbered(categories or ())
        return {
            "name": self.images.name,
            "data": self.images.fingerprint,
            "labels": mark(categories if known is None else [categories, known.outputs]),
            "squash": self.images.aligned,
            "dtype": self.dtype or "float32",
        }

    def fill(self, run: RunSettings) -> Iterator[Step]:
        """Make the store where there is none; the model is not run otherwise.

        A new one gets the class scores too, where there are some, for other methods.
        """
        anew = yield from self.is_lost()
        if anew or self.dtype is None:
            yield from extract(
                self.model, self.images, [self.layer], self.folder, run=run,
                logits=gives_scores(self.model), force=anew,
            )  # fmt: skip
        else:
            self.tidy()

    def tidy(self) -> None:
        """Remove what a run left that was killed when the store, which is there, was just made."""
        clear_leftovers(store_path(self.folder, self.layer))

    def is_lost(self) -> Generator[Step, None, bool]:
        """Say whether `force` has to make the store anew; a good one spares the forward passes.

        It is lost where it was made from something else, or a block cannot be read.
        """
        if not self.force:
            return False
        if (store := self.find()) is None:
            return True
        with store:
            try:
                for positions, _ in store.batches():
                    yield Step(int(positions[-1]) + 1, len(store), "reading the store")
                _ = store.images, store.categories, store.logits if store.has_logits else None
            except CnnlensError:
                return True
        return False


def stored_layers(
    model: Model, images: ImageSet, folder: Path, tell: Callable[[str], None]
) -> Iterator[tuple[Path, StoreKey]]:
    """Yield file and key of every store of a model on a data set; of damaged ones `tell` hears."""
    for path in sorted(folder.glob("*.h5")):
        try:
            with Store(path) as store:
                key = store.key
        except CnnlensError as error:
            tell(f"left out: {error.message}")
            continue
        wanted = _store_key(model, images, key.place, key.dtype)
        if key == wanted:
            yield path, key


STORE_COLUMNS = ("layer", "images × units × height × width", "on disk", "store")


def store_row(summary: Mapping[str, Any]) -> list[object]:
    """Give a store's row under `STORE_COLUMNS`, from its `StoredLayer.summary`."""
    shape, size = "×".join(map(str, summary["shape"])), f"{summary['bytes'] / 1e6:.1f} MB"
    return [summary["layer"], shape, size, summary["store"]]


@contextmanager
def open_source(
    model: Model,
    images: ImageSet,
    layers: Sequence[Layer],
    folder: Path,
    run: RunSettings,
    force: bool = False,
) -> Iterator[Source]:
    """Give the layers' activations: from the stores in a folder where all fit, else the model's.

    A damaged store is an error; with `force` it fits not.
    """
    with ExitStack() as stack:
        stores = [StoredLayer(model, images, layer, folder, force).find() for layer in layers]
        there = [stack.enter_context(store) for store in stores if store is not None]
        if len(there) == len(layers):
            yield StoreSource(there)
        else:
            yield ModelSource(model, images, layers, run)


def extract(
    model: Model,
    images: ImageSet,
    layers: Sequence[Layer],
    folder: Path,
    *,
    settings: ExtractSettings | None = None,
    run: RunSettings | None = None,
    logits: bool = False,
    force: bool = False,
    share: Share | None = None,
) -> Iterator[Step]:
    """Fill the activation stores of `layers`, all by one forward pass per image.

    Stores that are there already are left alone, but for the categories of images that are labelled
    otherwise since; an interrupted run goes on where it stopped.

    Parameters
    ----------
    model : Model
        The network.
    images : ImageSet
        The data.
    layers : sequence of Layer
        What to keep.
    folder : pathlib.Path
        Where the stores stand, one ``.h5`` per layer.
    settings : ExtractSettings, optional
        Type of the stored numbers.
    run : RunSettings, optional
        Batch size, workers.
    logits : bool
        Keep the network's outputs too; the forward pass then does not stop at the deepest layer.
    force : bool
        Make the stores anew.
    share : Share, optional
        Which of the blocks this process computes; left out: all. Where the others are processes
        that it can wait for, the stores are there in the end; else once somebody joins them.

    Yields
    ------
    Step
        After every batch; nothing when all stores are there.

    Raises
    ------
    CnnlensError
        When a store was made from something else, is damaged, is being written by another process,
        when over 5 % of the images are damaged, activations are not finite, or the disk is full.
    """
    settings, run = settings or ExtractSettings(), run or RunSettings()
    model = model.computing(run.precision)
    share = share or Share()
    wanted = [(layer, store_key(model, images, layer, settings)) for layer in layers]

    def lacking() -> list[int]:
        return [
            number
            for number, (layer, key) in enumerate(wanted)
            if force or not _is_there(store_path(folder, layer), key, logits, model.head, images)
        ]

    wanted = [wanted[number] for number in share.from_first(lacking)]
    if not wanted:
        return
    forward = Forward(model, [layer for layer, _ in wanted], logits, even_batch(run.batch_size))
    places = [(store_path(folder, layer), key, layer.shape) for layer, key in wanted]
    with model.in_use(), writing(places, images, forward, share, force) as writers:
        yield from fill(writers, images, forward, run, share)
    if share.is_apart:  # it may have come last, and somebody has joined the stores meanwhile
        for path in (path for path, _, _ in places if path.exists()):
            clear_leftovers(path)


def _is_there(path: Path, key: StoreKey, logits: bool, head: str | None, images: ImageSet) -> bool:
    if not path.exists():
        return False
    with Store(path, key) as store:
        if logits and not (store.has_logits and store.head == head):
            return False
        categories = rows_of(store, images.image_categories)
        is_relabelled = categories != store.categories
    clear_leftovers(path)
    if is_relabelled:
        relabel(path, categories)
    return True
