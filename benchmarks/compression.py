"""What compressing real activations saves and costs: HDF5's filters, bytes and seconds of each.

    python benchmarks/compression.py STORE.h5 [STORE.h5 …]

A store is what `cnnlens extract` leaves in WORKSPACE/activations. Its maps (up to 256 MB of them)
are written and read back in the store's own chunks, three times; the quickest counts, in seconds of
the processor. LZF and gzip come with h5py; gzip alone with every HDF5 program (HDFView, MATLAB, R);
LZ4, Zstd and Blosc need hdf5plugin.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

GZIP = {"compression": "gzip", "shuffle": True}
FILTERS: dict[str, Any] = {
    "none": {},
    "LZF": {"compression": "lzf"},
    "LZF, shuffle": {"compression": "lzf", "shuffle": True},
    "gzip 1": {"compression": "gzip", "compression_opts": 1},
    "gzip 1, shuffle": {**GZIP, "compression_opts": 1},
    "gzip 4, shuffle": {**GZIP, "compression_opts": 4},
    "LZ4": hdf5plugin.LZ4(),
    "Bitshuffle LZ4": hdf5plugin.Bitshuffle(),
    "Zstd 1": hdf5plugin.Zstd(clevel=1),
    "Blosc LZ4": hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.SHUFFLE),
}
MOST = 256 << 20  # bytes of maps


def main(paths: list[str]) -> None:
    for path in paths:
        with h5py.File(path) as store:
            maps = store["activations"]
            count = max(1, min(len(maps), MOST // (maps[0].nbytes or 1)))
            array, chunks = maps[:count], (min(maps.chunks[0], count), *maps.chunks[1:])
        zeros = float((array == 0).mean())
        print(f"{path}: {'×'.join(map(str, array.shape))} {array.dtype}, {zeros:.0%} zeros")
        print(f"  {'':18}{'bytes':>13} {'of raw':>7} {'write s':>8} {'read s':>7}")
        for name, options in FILTERS.items():
            size, write, read = measured(array, chunks, dict(options))
            print(f"  {name:18}{size:13,} {size / array.nbytes:7.3f} {write:8.2f} {read:7.2f}")


def measured(array: np.ndarray, chunks: tuple[int, ...], options: dict) -> tuple[int, float, float]:
    """Bytes, and the quickest of three times to write and to read."""
    size, times = 0, []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "store.h5"
            start = time.process_time()
            with h5py.File(path, "w") as file:
                file.create_dataset("a", data=array, chunks=chunks, **options)
            written = time.process_time()
            with h5py.File(path) as file:
                assert file["a"][:].shape == array.shape
            times.append((written - start, time.process_time() - written))
            size = path.stat().st_size
    return size, min(t[0] for t in times), min(t[1] for t in times)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
