"""Other labels of the same images: a store gets them without another pass of the network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py

from cnnlens.activations.blocks import create_categories
from cnnlens.activations.store import LIBRARY, Store
from cnnlens.files import atomic


def rows_of(store: Store, categories: Sequence[str] | None) -> list[str] | None:
    """Give the categories of a store's rows by those of all images of the data, in its order."""
    if categories is None:
        return None
    return [str(categories[int(place)]) for place in store.positions]


def relabel(path: Path, categories: Sequence[str] | None) -> None:
    """Give a store other categories, one per row, or none; whoever reads it meanwhile reads on.

    Raises
    ------
    CnnlensError
        When there is no room for a second one, until the first is replaced.
    """
    with atomic(path) as temporary:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+", libver=LIBRARY) as file:
            file.pop("categories", None)
            if categories is not None:
                create_categories(file, categories)
