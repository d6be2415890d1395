"""Stores that are still blocks: how far they are, and making stores of them without the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from pathlib import Path

import h5py

from cnnlens.activations.chunks import block_ranges
from cnnlens.activations.filling import join_blocks
from cnnlens.activations.store import Store, StoreKey
from cnnlens.activations.writer import StoreWriter, clear_leftovers, parts_folder
from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError

_H5PY_RAISES = (OSError, RuntimeError, KeyError, ValueError, TypeError)


@dataclass(frozen=True)
class Unfinished:
    """A store that some processes are filling, or were.

    Attributes
    ----------
    path : pathlib.Path
        Where it will stand.
    key : StoreKey
        What it is made from.
    shape : (int, int, int)
        (C, H, W).
    block : int
        Images of a block.
    logits : bool
        Whether the network's outputs are there too.
    head : str or None
        Which of several outputs these are.
    """

    path: Path
    key: StoreKey
    shape: tuple[int, int, int]
    block: int
    logits: bool
    head: str | None

    @classmethod
    def read(cls, path: Path) -> Unfinished | None:
        """Read what a store's blocks say of it; None where there is none that can be read."""
        for part in sorted(parts_folder(path).glob("[0-9]*.h5")):
            with suppress(*_H5PY_RAISES), h5py.File(part, "r") as file:
                made = json.loads(file.attrs["key"])
                key = StoreKey(**{field.name: made[field.name] for field in fields(StoreKey)})
                units, height, width = map(int, made["shape"])
                head = made.get("head")
                shape = units, height, width
                return cls(path, key, shape, int(made["block"]), bool(made["logits"]), head)
        return None

    def _writer(self, images: int, alone: bool) -> StoreWriter:
        return StoreWriter(
            self.path, self.key, self.shape, images, self.block, self.logits, self.head, alone
        )

    def missing(self, images: int) -> tuple[list[int], int]:
        """Return the blocks that are not there, and of how many, for data of so many images."""
        with closing(self._writer(images, alone=False)) as writer:
            there = writer.found()
        every = len(block_ranges(images, self.block))
        return [number for number in range(every) if number not in there], every

    def join(self, images: ImageSet) -> bool:
        """Make the store of its blocks, all of which are there; False: another process just did.

        Raises
        ------
        CnnlensError
            When its images have changed, too many are damaged, or another process writes it.
        """
        if self.key.data != images.fingerprint:
            raise CnnlensError(
                f"the blocks of {self.path} are of other images (or the folder has changed since)",
                "repeat the command that began it with --force, without --shard",
            )
        with closing(self._writer(len(images.paths), alone=True)) as writer:
            if self.path.exists():
                return False
            join_blocks([writer], images)
        return True


def unfinished(folder: Path) -> Iterator[Unfinished]:
    """Find the stores in a folder that are still blocks; leftovers of finished ones vanish."""
    for parts in sorted(folder.glob(".*.h5.parts")):
        path = folder / parts.name.removeprefix(".").removesuffix(".parts")
        found = Unfinished.read(path)
        if found is None:
            continue
        if path.exists():
            with Store(path, found.key):  # raises where the two are of different origin
                pass
            clear_leftovers(path)
        else:
            yield found
