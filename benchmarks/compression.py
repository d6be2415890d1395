"""What compressing real activations saves and costs: bytes and speed of filters, per layer.

    python benchmarks/compression.py MODEL DATA LAYER [LAYER …]

Each filter's size is a share of the raw float32 bytes, its times are ratios to writing and reading
the same array uncompressed, in the same run and the same chunks.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from cnnlens import RunSettings, find_layers, open_data, open_model
from cnnlens.activations.sources import ModelSource
from cnnlens.activations.store import chunk_shape

FILTERS = {
    "none": {},
    "LZ4 (used)": hdf5plugin.LZ4(),
    "Zstd 1": hdf5plugin.Zstd(clevel=1),
    "Blosc LZ4 shuffle": hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.SHUFFLE),
    "Bitshuffle LZ4": hdf5plugin.Bitshuffle(),
    "gzip 1 shuffle": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "LZF": {"compression": "lzf"},
}
IMAGES = 128


def main(spec: str, folder: str, names: list[str]) -> None:
    model = open_model(spec)
    layers = [find_layers(model).resolve(name) for name in names]
    kept: list[list[np.ndarray]] = [[] for _ in layers]
    observers = [lambda _, maps, into=into: into.append(maps) for into in kept]
    for step in ModelSource(model, open_data(folder), layers, RunSettings()).sweep(observers):
        if step.done >= IMAGES:
            break
    for layer, parts in zip(layers, kept, strict=True):
        maps = np.concatenate(parts)
        zeros = float((maps == 0).mean())
        print(f"{layer.name}: {'×'.join(map(str, maps.shape))}, {zeros:.0%} zeros")
        for dtype in ("float32", "float16"):
            compare(maps.astype(dtype), maps.nbytes)


def compare(maps: np.ndarray, raw: int) -> None:
    base = None
    for name, options in FILTERS.items():
        size, write, read = min((measure(maps, options) for _ in range(3)), key=lambda m: m[1])
        base = base or (write, read)
        ratios = f"write {write / base[0]:5.2f}   read {read / base[1]:5.2f}"
        print(f"  {maps.dtype} {name:18} size {size / raw:.3f}   {ratios}")


def measure(maps: np.ndarray, options: dict) -> tuple[int, float, float]:
    chunks = chunk_shape(maps.shape[1:], maps.itemsize)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.h5"
        start = time.perf_counter()
        with h5py.File(path, "w") as file:
            file.create_dataset("a", data=maps, chunks=chunks, **dict(options))
        written = time.perf_counter()
        with h5py.File(path) as file:
            file["a"][:]
        return path.stat().st_size, written - start, time.perf_counter() - written


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
