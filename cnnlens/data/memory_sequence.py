"""What gives images in memory by their number: a list, a Dataset, or what a DataLoader reads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset

from cnnlens.errors import UsageError


def sequence(images: Any) -> tuple[Any, int, list[str]]:
    """Return what gives images by their number, how many, and what is to be said of it."""
    notes = []
    if isinstance(images, DataLoader) and not isinstance(images.dataset, IterableDataset):
        images, said = _loaded(images)
        notes.append(said)
    if hasattr(images, "iloc") and getattr(images, "ndim", 0) == 1:
        images = list(images)  # a column of pandas, whose index may number it in another order
    shape = tuple(getattr(images, "shape", ()))
    if isinstance(images, Image.Image) or (len(shape) == 3 and shape[2] in (3, 4)):
        raise UsageError("data is one image, not several", "put it into a list: data=[image]")
    try:
        count = len(images)
        has_items = hasattr(images, "__getitem__") and not hasattr(images, "iloc")
        has_items &= not isinstance(images, (dict, DataLoader))
    except TypeError:
        count, has_items = 0, False
    if not has_items:
        raise UsageError(
            f"data is a {type(images).__name__}, of which no image can be read by its number",
            "give a list (list(images)), or a Dataset with a length; of a DataLoader, its .dataset",
        )
    if not count:
        raise UsageError("there are no images", "data is an empty list")
    return images, count, notes


def _loaded(loader: DataLoader[Any]) -> tuple[Any, str]:
    """Return the data set that a DataLoader reads, or the part that its sampler lists; and what is
    to be said.
    """
    data: Any = loader.dataset
    sampler: Any = getattr(loader.batch_sampler, "sampler", loader.sampler)
    count = drawn = None
    with suppress(TypeError):  # without a length
        count, drawn = len(data), len(sampler)
    listed = getattr(sampler, "indices", None)
    if count is not None and listed is not None and len(listed) == drawn:
        some = sorted(map(int, listed))
        if not some or 0 <= some[0] <= some[-1] < count:
            words = f"{len(some)} of {count} items of the DataLoader's data set are read, those of "
            return Subset(data, some), f"{words}its {type(sampler).__name__}, in the data's order"
    said = "the DataLoader's data set is read, in its own order"
    if drawn != count:
        said += f": all {count} items, of which its {type(sampler).__name__} draws {drawn}"
    return data, said


def without(
    items: Any, paths: tuple[str, ...], lost: Collection[int]
) -> tuple[Any, tuple[str, ...]]:
    """Leave some images out, and their paths."""
    if not lost:
        return items, paths
    kept = [index for index in range(len(paths)) if index not in lost]
    return chosen(items, kept), tuple(paths[index] for index in kept)


def chosen(items: Any, positions: Sequence[int]) -> Any:
    """Keep some items, by position."""
    if isinstance(items, list | tuple):
        return [items[position] for position in positions]
    return Chosen(items, tuple(map(int, positions)))


@dataclass(frozen=True)
class Chosen:
    """Some items of a data set, by their position in it."""

    dataset: Any
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]
