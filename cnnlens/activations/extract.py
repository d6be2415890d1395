"""Running a model over a data set once: into activation stores, or straight to whoever observes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnlens.activations.forward import Forward
from cnnlens.activations.store import Store, StoreKey
from cnnlens.activations.writer import StoreWriter
from cnnlens.data.dataset import ImageSet
from cnnlens.data.images import Batch, batches, check_skipped
from cnnlens.errors import CnnlensError
from cnnlens.model.layers import Layer
from cnnlens.model.model import Model
from cnnlens.settings import ExtractSettings, RunSettings

Observer = Callable[[np.ndarray, np.ndarray], None]  # positions (B,), maps (B, C, H, W)


@dataclass(frozen=True)
class Step:
    """How far a long loop is: images done (damaged ones too) of how many, and the batch limit."""

    done: int
    total: int
    limit: int = 0


def store_key(model: Model, images: ImageSet, layer: Layer, settings: ExtractSettings) -> StoreKey:
    """Say what a store of this layer would be made from."""
    preprocess = {k: v for k, v in model.preprocess.as_dict().items() if k != "source"}
    return StoreKey(
        model=model.fingerprint,
        preprocess=json.dumps({**preprocess, "squash": images.aligned}, sort_keys=True),
        data=images.fingerprint,
        place=layer.place.key,
        dtype=settings.dtype,
    )


def store_path(folder: Path, layer: Layer) -> Path:
    """Return where a layer's store stands in a folder of stores."""
    return folder / f"{layer.folder}.h5"


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
) -> Iterator[Step]:
    """Fill the activation stores of `layers`, all by one forward pass per image.

    Stores that are there already are left alone; an interrupted run goes on where it stopped.

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
    missing = [
        layer
        for layer in layers
        if force
        or not _is_there(
            store_path(folder, layer), store_key(model, images, layer, settings), logits
        )
    ]
    if not missing:
        return
    forward = Forward(model, missing, logits, run.batch_size)
    with ExitStack() as stack:
        writers = []
        for layer in missing:
            key = store_key(model, images, layer, settings)
            writer = StoreWriter(
                store_path(folder, layer), key, layer.shape, forward.limit, logits, force
            )
            writers.append(stack.enter_context(_closing(writer)))
        yield from _fill(forward, images, writers, run)


def _is_there(path: Path, key: StoreKey, logits: bool) -> bool:
    if not path.exists():
        return False
    with Store(path, key) as store:
        return store.has_logits or not logits


@contextmanager
def _closing(writer: StoreWriter) -> Iterator[StoreWriter]:
    try:
        yield writer
    finally:
        writer.close()


def _fill(
    forward: Forward, images: ImageSet, writers: list[StoreWriter], run: RunSettings
) -> Iterator[Step]:
    total, size = len(images.paths), forward.limit
    blocks = min(writer.blocks for writer in writers)
    starts = [writer.resume_at(blocks) for writer in writers]  # all the same
    position = starts[0]
    check = _TooMany(total, writers[0].skipped())
    yield Step(position, total, forward.limit)
    with ThreadPoolExecutor(max_workers=1) as pool:  # compresses while the next batch is computed
        writing: Future[None] | None = None
        for batch in _batches(forward.model, images, run, size, position):
            maps, logits = _checked(forward, images, batch)
            check.add(batch.skipped)
            if writing is not None:
                writing.result()
            writing = pool.submit(_add, writers, batch, maps, logits)
            position = batch.next
            yield Step(position, total, forward.limit)
        if writing is not None:
            writing.result()
    check_skipped(check.skipped, total)
    for writer in writers:
        writer.finish(images.paths, images.image_categories, total)


def _batches(
    model: Model, images: ImageSet, run: RunSettings, size: int, start: int = 0
) -> Iterator[Batch]:
    return batches(images, model.preprocess, batch_size=size, workers=run.workers, start=start)


def _add(
    writers: list[StoreWriter], batch: Batch, maps: list[np.ndarray], logits: np.ndarray | None
) -> None:
    for writer, values in zip(writers, maps, strict=True):
        writer.add(batch.indices, values, logits, batch.skipped, batch.next)


def _checked(
    forward: Forward, images: ImageSet, batch: Batch
) -> tuple[list[np.ndarray], np.ndarray | None]:
    if len(batch.indices) == 0:  # all that was left was damaged
        empty = [np.zeros((0, *layer.shape), np.float32) for layer in forward.layers]
        return empty, None
    maps, logits = forward(batch.pixels)
    for layer, values in zip(forward.layers, maps, strict=True):
        if values.shape[1:] != layer.shape:
            raise CnnlensError(f"layer '{layer.name}' changes its output size from image to image")
        if not np.isfinite(values.sum(dtype=np.float64)) and not np.isfinite(values).all():
            bad = int(np.argmin(np.isfinite(values).all(axis=(1, 2, 3))))
            raise CnnlensError(
                f"layer '{layer.name}' is not finite on {images.paths[batch.indices[bad]]}",
                "the network overflows there; check the weights and --mean/--std",
            )
    return maps, logits


class _TooMany:
    """Stops a run as soon as more than 5 % of all images have turned out damaged."""

    def __init__(self, total: int, skipped: list[tuple[str, str]]) -> None:
        self.total, self.skipped = total, skipped

    def add(self, skipped: Sequence[tuple[str, str]]) -> None:
        if skipped:
            self.skipped += skipped
            check_skipped(self.skipped, self.total)


class StoreSource:
    """Activations that stand in stores.

    Parameters
    ----------
    stores : sequence of Store
        One per layer.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = stores
        self.limits = [store.shape[0] for store in stores]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Damaged images, which have no rows."""
        return [(p, r) for p, r in self.stores[0].skipped]

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show every observer all batches of its layer, in the data's order."""
        total = sum(self.limits)
        done = 0
        for store, observe in zip(self.stores, observers, strict=True):
            for positions, maps in store.batches():
                observe(positions, maps)
                done += len(positions)
                yield Step(done, total)


class ModelSource:
    """Activations straight from the model: every sweep runs it over all images, nothing is kept.

    Parameters
    ----------
    model, images, layers, run
        As in `extract`.
    """

    def __init__(
        self, model: Model, images: ImageSet, layers: Sequence[Layer], run: RunSettings
    ) -> None:
        self._forward = Forward(model, layers, logits=False, limit=run.batch_size)
        self._images, self._run = images, run
        self._size = self._forward.limit
        self.limits = [len(images.paths)] * len(layers)
        self.skipped: list[tuple[str, str]] = []

    def sweep(self, observers: Sequence[Observer]) -> Iterator[Step]:
        """Show every observer all batches of its layer, in one forward pass for all layers."""
        total = len(self._images.paths)
        check = _TooMany(total, [])
        for batch in _batches(self._forward.model, self._images, self._run, self._size):
            check.add(batch.skipped)
            maps, _ = _checked(self._forward, self._images, batch)
            for observe, values in zip(observers, maps, strict=True):
                observe(batch.indices, values)
            yield Step(batch.next, total, self._forward.limit)
        self.skipped = check.skipped
