"""Filling a store so that a kill at any moment loses at most one block of each process.

While a store grows it is a folder of small files beside it, one per block of images, each written
whole or not at all, in any order and by any number of processes: equal blocks are equal files. When
the last one is there, they are joined into one HDF5 file, which then takes the store's name.
"""

from __future__ import annotations

import glob
import io
import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
import h5py
import numpy as np

from cnnlens.activations.blocks import check_space, join
from cnnlens.activations.chunks import block_ranges
from cnnlens.activations.store import WORDS, StoreKey, create_activations, create_file
from cnnlens.errors import CnnlensError
from cnnlens.files import atomic, make_folder, writing_error
from cnnlens.files.locks import lock_at, or_remove

_KEPT = "what was extracted is kept, repeat the command to go on; or use --no-store"
_BEGUN = {
    **WORDS,
    "shape": "another size of maps",
    "logits": "another choice of what to keep",
    "block": "another --batch-size",
}
_SEEN = 30.0  # seconds until a file system shows what another machine has written
_H5PY_RAISES = (OSError, RuntimeError, KeyError, ValueError)

Skipped = tuple[str, str]  # a damaged image's path, and what is wrong with it
Rows = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # positions, activations, logits


class StoreWriter:
    """Writes blocks of a store, and joins them when all are there.

    Parameters
    ----------
    path : pathlib.Path
        Where the finished store will stand.
    key : StoreKey
        What it is made from.
    shape : (int, int, int)
        (C, H, W).
    images : int
        Of the data, damaged ones included.
    block : int
        Images of a block: whole batches, so that the same images go through the network together,
        and give the same numbers, whoever computes them.
    logits : bool
        Whether the network's outputs are kept too.
    head : str, optional
        Which of the network's outputs are kept, where that was asked for.
    alone : bool
        Whether no other run may write this store meanwhile; else others write other blocks of it.
    force : bool
        Drop what an unfinished run left.

    Raises
    ------
    CnnlensError
        When another process writes this store, or the unfinished one was made from something else.
    """

    def __init__(
        self,
        path: Path,
        key: StoreKey,
        shape: tuple[int, int, int],
        images: int,
        block: int,
        logits: bool = False,
        head: str | None = None,
        alone: bool = True,
        force: bool = False,
    ) -> None:
        self.path, self.key, self.shape, self.logits = path, key, shape, logits
        self.blocks = block_ranges(images, block)
        self._block, self._head = block, head if logits else None
        self._parts = parts_folder(path)
        self._rows: list[Rows] = []
        self._skipped: list[Skipped] = []
        make_folder(path.parent)
        self._lock = lock_of(path) if alone else None
        if self._lock:
            _acquire(self._lock, path)
            try:
                self._clear(force)
            except BaseException:  # a lock that outlives the error would refuse the next attempt
                self.close()
                raise

    def _clear(self, force: bool) -> None:
        """Remove what an earlier run half wrote."""
        for stale in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.tmp"):
            stale.unlink(missing_ok=True)
        if force:
            self.discard()

    def found(self) -> dict[int, list[Skipped]]:
        """Read which blocks are there, and the damaged images of each.

        Raises
        ------
        CnnlensError
            When one was made from something else.
        """
        there = {}
        for part in sorted(self._parts.glob("[0-9]*.h5")):
            try:
                with h5py.File(part, "r") as file:
                    made = json.loads(file.attrs["key"])
                    skipped = [(str(p), str(r)) for p, r in json.loads(file.attrs["skipped"])]
            except _H5PY_RAISES:
                continue  # damaged, or written just now: it is made again
            self._compare(made)
            there[int(part.stem)] = skipped
        return there

    @property
    def _made_from(self) -> dict[str, Any]:
        more = {"shape": list(self.shape), "logits": self.logits, "block": self._block}
        if self._head:
            more["head"] = self._head
        return {**asdict(self.key), **more}

    def _compare(self, made: dict[str, Any]) -> None:
        for name, value in self._made_from.items():
            if made.get(name) != value:
                raise CnnlensError(
                    f"an unfinished store in {self._parts} was begun with {_BEGUN.get(name, name)}",
                    "finish it with the settings it was begun with, or start over with --force",
                )

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:06d}.h5"

    def add(
        self,
        number: int,
        positions: np.ndarray,
        maps: np.ndarray,
        logits: np.ndarray | None,
        skipped: Sequence[Skipped],
        ends: bool,
    ) -> None:
        """Append rows to a block, which is written with its last ones.

        Parameters
        ----------
        number : int
            Of the block.
        positions : numpy.ndarray
            (B,), places in the data's order.
        maps : numpy.ndarray
            (B, C, H, W) float32.
        logits : numpy.ndarray or None
            (B, K).
        skipped : sequence of (path, reason)
            Damaged images met while this batch was read.
        ends : bool
            Whether these are the block's last.
        """
        if len(positions):
            self._rows.append((positions, self._converted(maps), logits))
        self._skipped += skipped
        if ends:
            self._write(self._part(number))
            self._rows, self._skipped = [], []

    def _converted(self, maps: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            converted = maps.astype(self.key.dtype, copy=False)
        if self.key.dtype == "float16" and not np.isfinite(converted).all():
            raise CnnlensError(
                f"activations of {self.path.stem} pass float16's range (65504)",
                "use --dtype float32",
            )
        return converted

    def _write(self, part: Path) -> None:
        with h5py.File(image := io.BytesIO(), "w") as file:
            self._fill(file)
            file.attrs.update(key=json.dumps(self._made_from), skipped=json.dumps(self._skipped))
        try:
            with atomic(part) as temporary:
                temporary.write_bytes(image.getbuffer())
        except FileNotFoundError as error:
            if not part.exists():  # else another process has written the same block
                raise self._writing_error(error) from error
        except OSError as error:
            raise self._writing_error(error) from error
        except CnnlensError as error:
            raise CnnlensError(error.message, f"{error.hint}; {_KEPT}") from error

    def _fill(self, file: h5py.File) -> None:
        count = sum(len(positions) for positions, _, _ in self._rows)
        activations = create_activations(file, count, self.shape, self.key.dtype)
        start = 0
        for _, maps, _ in self._rows:
            activations[start : start + len(maps)] = maps
            start += len(maps)
        positions = [p for p, _, _ in self._rows] or [np.zeros(0, np.int64)]
        file["positions"] = np.concatenate(positions).astype(np.int64)
        if self.logits and self._rows:
            file["logits"] = np.concatenate([o for _, _, o in self._rows if o is not None])

    def complete(self) -> list[Skipped]:
        """Return all damaged images once every block is there, whoever writes it.

        Raises
        ------
        CnnlensError
            When one does not appear.
        """
        until = time.monotonic() + _SEEN
        while missing := {*range(len(self.blocks))} - {*(there := self.found())}:
            if time.monotonic() > until:
                raise CnnlensError(
                    f"{len(missing)} of {len(self.blocks)} blocks of {self.path} are missing",
                    "repeat the command: it makes them; all processes must see the same folder",
                )
            time.sleep(0.2)
        return [one for number in sorted(there) for one in there[number]]

    def finish(
        self, images: Sequence[str], categories: Sequence[str] | None, skipped: Sequence[Skipped]
    ) -> None:
        """Join all blocks into the store.

        Parameters
        ----------
        images : sequence of str
            All images of the data, in its order.
        categories : sequence of str or None
            Their classes.
        skipped : sequence of (path, reason)
            The damaged ones.
        """
        try:
            blocks = [self._part(number) for number in range(len(self.blocks))]
            check_space(blocks)
            with atomic(self.path) as temporary, create_file(temporary) as file:
                join(blocks, file, self.shape, self.key.dtype, images, categories)
                file.attrs.update(asdict(self.key))
                file.attrs["skipped"] = json.dumps(skipped)
                if self._head:
                    file.attrs["head"] = self._head
        except (OSError, RuntimeError) as error:
            raise self._writing_error(error) from error
        self.discard()

    def see(self) -> None:
        """Wait until this machine, too, shows the store that another has joined."""
        until = time.monotonic() + _SEEN
        while not self.path.exists():
            if time.monotonic() > until:
                raise CnnlensError(
                    f"{self.path} was joined, and is not seen here",
                    "repeat the command; all processes must see the same folder",
                )
            time.sleep(0.2)

    def _writing_error(self, error: OSError | RuntimeError) -> CnnlensError:
        """Name the reason, which HDF5 hides in its message; what was extracted so far is kept."""
        number = re.search(r"errno = (\d+)", str(error))
        code = int(number[1]) if number else getattr(error, "errno", None)
        known = OSError(code, os.strerror(code)) if code else OSError(str(error).splitlines()[0])
        found = writing_error(self.path, known)
        return CnnlensError(found.message, f"{found.hint}; {_KEPT}" if found.hint else _KEPT)

    def discard(self) -> None:
        """Remove the unfinished blocks."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def close(self) -> None:
        """Let other processes write this store."""
        if self._lock:
            self._lock.release()


def parts_folder(path: Path) -> Path:
    """Where the blocks of a store are, while it grows."""
    return path.with_name(f".{path.name}.parts")


def lock_of(path: Path) -> filelock.BaseFileLock:
    """Make the lock of who writes or joins a store."""
    return lock_at(path.with_name(f".{path.name}.lock"))


def _acquire(lock: filelock.BaseFileLock, path: Path) -> None:
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise CnnlensError(
            f"{path} is being written by another process",
            f"wait for it, or use another workspace with -w DIR{or_remove(error)}",
        ) from None
    except OSError as error:
        raise writing_error(path, error) from error


def clear_leftovers(path: Path) -> None:
    """Remove the blocks of a run that was killed between finishing a store and tidying up."""
    parts = parts_folder(path)
    if not parts.exists():
        return
    with suppress(filelock.Timeout, OSError), lock_of(path):  # locked: somebody makes it anew
        shutil.rmtree(parts, ignore_errors=True)
