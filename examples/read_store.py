"""Look into an activation store without cnnlens: python examples/read_store.py STORE.h5 UNIT."""

from __future__ import annotations

import sys

import h5py
import hdf5plugin  # noqa: F401  (registers the compression)


def main(path: str, unit: int) -> None:
    with h5py.File(path) as store:
        maps = store["activations"][:, unit]  # (N, H, W): one unit on all images
        images = store["images"].asstr()[:]
    peaks = maps.max(axis=(1, 2))
    for row in peaks.argsort()[::-1][:5]:
        print(f"{peaks[row]:8.3f}  {images[row]}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]))
