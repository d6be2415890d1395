"""The activation store: one HDF5 file per layer, readable by h5py and hdf5plugin alone.

Datasets: ``activations`` [N, C, H, W], ``images`` [N] (paths relative to the data folder),
``positions`` [N] (their places in the data's order), ``categories`` [N] and ``logits`` [N, K] where
there are any. The attributes are the store's key (what it was made from) and ``skipped``, the
damaged images, as JSON. A finished store never changes: it is written elsewhere and renamed, also
where its images are labelled otherwise since.
"""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from cnnlens.activations.chunks import chunk_shape
from cnnlens.data.unread import may_pass
from cnnlens.errors import CnnlensError
from cnnlens.files import reading_error

SCHEMA = 1
LIBRARY = ("v110", "v110")  # the first HDF5 whose own tables bear checksums
_COLUMNS = ("positions", "images", "categories", "logits")  # the first two are in every store
# kinds of numbers (whole or not) and dimensions
_NUMBERS = {"positions": ("iu", 1), "activations": ("f", 4), "logits": ("f", 2)}
_H5PY_RAISES = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)

_ERRNO = re.compile(r"\berrno = (\d+)")  # in what HDF5 says

# LZ4 on real activations behind a rectifier: 0.19 to 0.63 of the raw size. Zstd would save a tenth
# to a fifth of that and take up to five times as long to read (benchmarks/compression.py).
_FILTER = hdf5plugin.LZ4()


@dataclass(frozen=True)
class StoreKey:
    """What a store was made from: only a store of the same key is used again."""

    model: str
    preprocess: str
    data: str
    place: str
    dtype: str
    schema: int = SCHEMA


WORDS = {
    "model": "another model (or other weights)",
    "preprocess": "other preprocessing, or another --precision",
    "data": "other images (or the folder has changed since)",
    "place": "another layer",
    "dtype": "another --dtype",
    "schema": "another version of cnnlens",
}


def create_file(path: Path) -> h5py.File:
    """Create a file in the format of HDF5 1.10."""
    return h5py.File(path, "w", libver=LIBRARY)


def create_activations(
    file: h5py.File, rows: int, shape: tuple[int, int, int], dtype: str
) -> h5py.Dataset:
    """Create the `activations` dataset for `rows` images: chunked, compressed, with checksums."""
    chunks = chunk_shape(shape, np.dtype(dtype).itemsize)
    return file.create_dataset(
        "activations",
        shape=(rows, *shape),
        maxshape=(None, *shape),
        dtype=dtype,
        chunks=chunks,
        fletcher32=True,  # so that a damaged block is noticed when it is read
        **_FILTER,
    )


def create_column(file: h5py.File, name: str, values: np.ndarray) -> None:
    """Write one value or row per image, with checksums."""
    checked = {"chunks": True, "fletcher32": True} if values.size else {}
    file.create_dataset(name, data=values, **checked)


class Store:
    """A finished store, open for reading; any number of processes may read it at once.

    Parameters
    ----------
    path : path
        The ``.h5`` file.
    key : StoreKey or None
        What it must have been made from; None accepts any store.

    Raises
    ------
    CnnlensError
        When the file is missing, damaged, foreign, cannot be read for now, or was made from
        something else.
    """

    def __init__(self, path: Path | str, key: StoreKey | None = None) -> None:
        self.path = Path(path)
        self._file = self._open()
        try:
            self.key = self._read_key()
            if key is not None:
                self._compare(key)
        except CnnlensError:
            self._file.close()
            raise
        self.shape: tuple[int, int, int, int] = self._activations.shape

    def _open(self) -> h5py.File:
        if not self.path.exists():
            raise CnnlensError(f"{self.path} does not exist", "cnnlens extract makes it")
        if not self.path.is_file():
            raise self._fault("is not an HDF5 file")
        with self._reading():
            is_one = h5py.is_hdf5(self.path)
        if not is_one:
            self._check_readable()
            raise self._fault("is not an HDF5 file")
        with self._reading():
            return h5py.File(self.path, "r")

    def _check_readable(self) -> None:
        """Tell what is no HDF5 file from what nobody can read for now, as HDF5 does not."""
        try:
            with self.path.open("rb") as file:
                file.read(1)
        except OSError as error:
            raise reading_error(self.path, error) from error

    @contextmanager
    def _reading(self, where: str = "") -> Iterator[None]:
        try:
            yield
        except _H5PY_RAISES as error:
            raise self._wrong(f"is damaged{where} ({_reason(error)})", error) from error

    def _read_key(self) -> StoreKey:
        names = [f.name for f in fields(StoreKey)]
        try:
            self._activations: h5py.Dataset = self._file["activations"]
            key = StoreKey(**{n: _plain(self._file.attrs[n]) for n in names})
            self.skipped: list[list[str]] = json.loads(self._file.attrs["skipped"])
            rows, *_ = self._activations.chunks
            columns = [name for name in _COLUMNS if name in self._file or name in _COLUMNS[:2]]
            complete = all(len(self._file[name]) == len(self._activations) for name in columns)
            texts = [v for pair in self.skipped for v in pair]
            texts += [getattr(key, n) for n in names if n != "schema"]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError
        except _H5PY_RAISES as error:
            raise self._wrong("is not an activation store of cnnlens", error) from error
        if not complete or self._activations.ndim != 4 or rows < 1:
            raise self._fault("is damaged (its datasets differ in length)")
        for name, (kinds, dimensions) in _NUMBERS.items():
            found = self._file.get(name)
            if found is not None and (found.dtype.kind not in kinds or found.ndim != dimensions):
                of = f"{name} is {found.ndim}-dimensional, of {found.dtype}"
                raise self._fault(f"is damaged ({of})")
        return key

    def _compare(self, key: StoreKey) -> None:
        for name, value in asdict(key).items():
            if getattr(self.key, name) != value:
                out = "leave --dtype out to read it as it is; " if name == "dtype" else ""
                raise CnnlensError(
                    f"the store {self.path} was made from {WORDS[name]}",
                    f"{out}--force makes it anew; another -w DIR keeps both",
                )

    def _wrong(self, what: str, error: BaseException) -> CnnlensError:
        """Say what is wrong with it, or that it cannot be read for now."""
        found = _of_system(error)
        return reading_error(self.path, found) if may_pass(found) else self._fault(what)

    def _fault(self, what: str) -> CnnlensError:
        return CnnlensError(f"{self.path} {what}", "it is left as it is; --force makes it anew")

    @property
    def has_logits(self) -> bool:
        """Whether the network's outputs are there too."""
        return "logits" in self._file

    @property
    def head(self) -> str | None:
        """Which of several outputs the logits are, where that was asked for."""
        return str(self._file.attrs.get("head", "")) or None

    @property
    def images(self) -> list[str]:
        """Paths of the images, relative to the data folder, one per row."""
        with self._reading():
            return list(self._file["images"].asstr(errors="surrogateescape")[:])

    @property
    def positions(self) -> np.ndarray:
        """(N,) int64: each row's place in the data's order."""
        with self._reading():
            return self._file["positions"][:]

    @property
    def categories(self) -> list[str] | None:
        """The category of each row's image; None where the data has none."""
        if "categories" not in self._file:
            return None
        with self._reading():
            return list(self._file["categories"].asstr(errors="surrogateescape")[:])

    @property
    def logits(self) -> np.ndarray:
        """(N, K) float32."""
        with self._reading():
            return self._file["logits"][:]

    def batches(self, units: slice = slice(None)) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield positions (B,) and float32 maps (B, C, H, W), block by block in the data's order.

        Raises
        ------
        CnnlensError
            When a block is damaged.
        """
        positions = self.positions
        for start in range(0, len(self), self._activations.chunks[0]):
            maps = self._block(start, units)
            yield positions[start : start + len(maps)], maps

    def blocks(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows (B,) and maps of the blocks that hold a wanted row, (N,) bool; others are not
        read.

        Raises
        ------
        CnnlensError
            When a block is damaged.
        """
        step = self._activations.chunks[0]
        for start in range(0, len(self), step):
            if wanted[start : start + step].any():
                maps = self._block(start)
                yield np.arange(start, start + len(maps)), maps

    def _block(self, start: int, units: slice = slice(None)) -> np.ndarray:
        with self._reading(f" at row {start}"):
            maps = self._activations[start : start + self._activations.chunks[0], units]
        return np.asarray(maps, dtype=np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        """Return float32 maps: (C, H, W) of one row, (n, C, H, W) of several.

        Raises
        ------
        IndexError
            When there is no such row.
        """
        if not isinstance(rows, slice):
            rows = range(len(self))[operator.index(rows)]  # counts from the end where it is below 0
        elif rows.step is not None and rows.step < 0:
            return self[::][rows]
        with self._reading():
            return np.asarray(self._activations[rows], dtype=np.float32)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.batches()

    def __repr__(self) -> str:
        images, units, height, width = self.shape
        dtype = self._activations.dtype if self._file else "closed"
        shape = f"{images} images × {units} units × {height}×{width}"
        return f"Store({str(self.path)!r}: {shape}, {dtype})"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _of_system(error: BaseException) -> OSError:
    """Find what the system said where HDF5 could not read, which it may tell in words alone."""
    named = _ERRNO.search(str(error))
    number = (isinstance(error, OSError) and error.errno) or (int(named[1]) if named else 0)
    return OSError(number, os.strerror(number)) if number else OSError(str(error))


def _reason(error: BaseException) -> str:
    text = str(error)
    if "checksum" in text or "fletcher" in text.lower():
        return "a block's checksum is wrong"
    if "truncated" in text:
        return "the file is truncated"
    return (text.splitlines() or [type(error).__name__])[0][:120]
