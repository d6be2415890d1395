"""Filling a store so that a kill at any moment loses at most one block, and an interrupt nothing.

While a store grows it is a folder of small files beside it, one per block of rows, each written
whole or not at all. When the last block is there, their compressed chunks are copied as they are
into one HDF5 file, which then takes the store's name. Who is stopped leaves the batches of the
block that was begun, too; the next run takes them up and completes it.
"""

from __future__ import annotations

import glob
import io
import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
import h5py
import numpy as np

from cnnlens.activations.store import (
    MOST_ROWS,
    WORDS,
    StoreKey,
    check_space,
    create_activations,
    create_file,
    join,
)
from cnnlens.errors import CnnlensError
from cnnlens.files import atomic, make_folder, writing_error

_KEPT = "what was extracted is kept, repeat the command to go on; or use --no-store"
_PENDING = "pending.h5"  # the block that an interrupted run had begun
_BEGUN = {
    **WORDS,
    "shape": "another size of maps",
    "logits": "another choice of what to keep",
    "block": "another --batch-size",
}

Rows = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # positions, activations, logits


class StoreWriter:
    """Collects rows, writes them in blocks, and joins the blocks at the end.

    Parameters
    ----------
    path : pathlib.Path
        Where the finished store will stand.
    key : StoreKey
        What it is made from.
    shape : (int, int, int)
        (C, H, W).
    batch : int
        Rows that go through the network at once: blocks hold whole batches, so that a resumed run
        forms the same batches, and hence the same numbers, as an unbroken one.
    logits : bool
        Whether the network's outputs are kept too.
    force : bool
        Drop what an unfinished run left.
    head : str, optional
        Which of the network's outputs are kept, where that was asked for.

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
        batch: int,
        logits: bool,
        force: bool = False,
        head: str | None = None,
    ) -> None:
        self.path, self.key, self.shape, self.logits = path, key, shape, logits
        self._head = head if logits else None
        self._batch, self._block = batch, math.lcm(batch, MOST_ROWS)
        self._parts = path.with_name(f".{path.name}.parts")
        make_folder(path.parent)
        self._lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        self._pending: list[Rows] = []
        self._pending_rows = 0
        self._skipped: list[tuple[str, str]] = []
        self._done = self._next = 0
        self._acquire()
        try:
            self._take_over(force)
        except BaseException:  # a lock that outlives the error would refuse the next attempt
            self.close()
            raise

    def _take_over(self, force: bool) -> None:
        """Find what an earlier run left, and remove what it half wrote."""
        for stale in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.tmp"):
            stale.unlink(missing_ok=True)
        if force:
            self.discard()
        blocks = self._find_blocks()
        begun = self._read_pending(blocks)
        self.go_back(blocks)
        if begun is not None:
            batch, self._skipped, self._next = begun
            self._pending, self._pending_rows = [batch], len(batch[0])

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise CnnlensError(
                f"{self.path} is being written by another process",
                "wait for it, or use another workspace with -w DIR",
            ) from None
        except OSError as error:
            raise writing_error(self.path, error) from error

    def _find_blocks(self) -> int:
        """Count the blocks an earlier run left, and check that they belong to this store."""
        if not self._parts.exists():
            return 0
        blocks = 0
        while (part := self._part(blocks)).exists():
            try:
                with h5py.File(part, "r") as file:
                    made = json.loads(file.attrs["key"])
            except (OSError, RuntimeError, KeyError, ValueError):
                break  # damaged: it is made again, and all after it
            self._compare(made)
            blocks += 1
        return blocks

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

    def _read_pending(self, blocks: int) -> tuple[Rows, list[tuple[str, str]], int] | None:
        """Read the block after `blocks` that an interrupted run had begun."""
        try:
            with h5py.File(self._parts / _PENDING, "r") as file:
                made = json.loads(file.attrs["key"])
                if made != self._made_from or file.attrs["blocks"] != blocks:
                    return None
                logits = file["logits"][:] if "logits" in file else None
                skipped = [tuple(pair) for pair in json.loads(file.attrs["skipped"])]
                rows = (file["positions"][:], file["activations"][:], logits)
                if len(rows[0]) % self._batch:  # other batches would miss the block's end
                    return None
                return rows, skipped, int(file.attrs["next"])
        except (OSError, RuntimeError, KeyError, ValueError):
            return None  # there is none, or it is damaged: less than a block, and made again

    @property
    def reached(self) -> tuple[int, int]:
        """Blocks on disk, and the position in the data to go on from."""
        return self._done, self._next

    def go_back(self, blocks: int) -> None:
        """Keep the first `blocks` blocks only."""
        for part in self._parts.glob("*.h5") if self._parts.exists() else []:
            if part.name == _PENDING or int(part.stem) >= blocks:
                part.unlink()
        self._pending, self._pending_rows, self._skipped = [], 0, []
        self._done, self._next = blocks, 0
        if blocks:
            with h5py.File(self._part(blocks - 1), "r") as file:
                self._next = int(file.attrs["next"])

    def skipped(self) -> list[tuple[str, str]]:
        """Damaged images met so far, those of earlier runs included."""
        earlier = []
        for number in range(self._done):
            with h5py.File(self._part(number), "r") as file:
                earlier += [tuple(pair) for pair in json.loads(file.attrs["skipped"])]
        return earlier + self._skipped

    def add(
        self,
        positions: np.ndarray,
        maps: np.ndarray,
        logits: np.ndarray | None,
        skipped: Sequence[tuple[str, str]],
        following: int,
    ) -> None:
        """Append rows.

        Parameters
        ----------
        positions : numpy.ndarray
            (B,), places in the data's order.
        maps : numpy.ndarray
            (B, C, H, W) float32.
        logits : numpy.ndarray or None
            (B, K).
        skipped : sequence of (path, reason)
            Damaged images met while this batch was read.
        following : int
            The position in the data after this batch.
        """
        self._pending.append((positions, self._converted(maps), logits))
        self._pending_rows += len(positions)
        self._skipped += skipped
        self._next = following
        if self._pending_rows >= self._block:
            self._flush()

    def _converted(self, maps: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            converted = maps.astype(self.key.dtype, copy=False)
        if self.key.dtype == "float16" and not np.isfinite(converted).all():
            raise CnnlensError(
                f"activations of {self.path.stem} pass float16's range (65504)",
                "use --dtype float32",
            )
        return converted

    def _flush(self) -> None:
        if not self._pending_rows and not self._skipped:
            return
        self._write(self._part(self._done))
        self._pending, self._pending_rows, self._skipped = [], 0, []
        self._done += 1

    def _write(self, part: Path) -> None:
        """Write what is pending."""
        with h5py.File(image := io.BytesIO(), "w") as file:
            self._fill(file)
            file.attrs.update(
                key=json.dumps(self._made_from),
                blocks=self._done,
                next=self._next,
                skipped=json.dumps(self._skipped),
            )
        try:
            with atomic(part) as temporary:
                temporary.write_bytes(image.getbuffer())
        except OSError as error:
            raise self._writing_error(error) from error
        except CnnlensError as error:
            raise CnnlensError(error.message, f"{error.hint}; {_KEPT}") from error

    def _fill(self, file: h5py.File) -> None:
        activations = create_activations(file, self._pending_rows, self.shape, self.key.dtype)
        start = 0
        for _, maps, _ in self._pending:
            activations[start : start + len(maps)] = maps
            start += len(maps)
        positions = [p for p, _, _ in self._pending] or [np.zeros(0, np.int64)]
        file["positions"] = np.concatenate(positions).astype(np.int64)
        if self.logits and self._pending:
            file["logits"] = np.concatenate([o for _, _, o in self._pending if o is not None])

    def finish(
        self, images: Sequence[str], categories: Sequence[str] | None, following: int
    ) -> None:
        """Write what is pending and join all blocks into the store.

        Parameters
        ----------
        images : sequence of str
            All images of the data, in its order.
        categories : sequence of str or None
            Their classes.
        following : int
            The position in the data after the last batch.
        """
        self._next = following
        self._flush()
        skipped = self.skipped()
        try:
            blocks = [self._part(number) for number in range(self._done)]
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
        """Keep what is pending, and let other processes write this store."""
        try:
            if 0 < self._pending_rows < self._block:
                with suppress(CnnlensError):  # a full disk, say: less than a block is lost
                    self._write(self._parts / _PENDING)
        finally:
            self._lock.release()


def clear_leftovers(path: Path) -> None:
    """Remove the blocks of a run that was killed between finishing a store and tidying up."""
    parts = path.with_name(f".{path.name}.parts")
    if not parts.exists():
        return
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    with suppress(filelock.Timeout, OSError), lock:  # locked: somebody makes the store anew
        shutil.rmtree(parts, ignore_errors=True)
