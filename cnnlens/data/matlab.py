"""MATLAB files of both kinds, version 5 and 7.3 (which is HDF5), as plain Python values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import CnnlensError


def read_mat(path: Path) -> dict[str, Any]:
    """Read a ``.mat`` file.

    Returns
    -------
    dict
        Variables by name: struct arrays as lists of dicts, one struct alone as a dict, text as
        str, everything else as an array. A struct array of one element cannot be told from a
        struct; ask `listed`.

    Raises
    ------
    CnnlensError
        When it is missing or damaged.
    """
    try:
        start = path.read_bytes()[:128]
        if b"MATLAB 7.3" in start or start[:8] == b"\x89HDF\r\n\x1a\n":
            return _read_hdf5(path)
        import scipy.io

        content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
    except CnnlensError:
        raise
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CnnlensError(
            f"{path} is no MATLAB file that can be read: {reason}", "unpack or download it again"
        ) from error
    return {k: _plain(v) for k, v in content.items() if not k.startswith("__")}


def listed(value: Any) -> list[Any]:
    """Return a struct array's elements, also where there is one or none."""
    if isinstance(value, list):
        return value
    return [] if isinstance(value, np.ndarray) and not value.size else [value]


def _plain(value: Any) -> Any:
    if hasattr(value, "_fieldnames"):
        return {name: _plain(getattr(value, name)) for name in value._fieldnames}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(item) for item in value.ravel(order="F")]
    if isinstance(value, np.ndarray) and value.dtype.kind in "US" and value.ndim == 0:
        return str(value)
    return value


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        return {
            name: _of_item(file, item) for name, item in file.items() if not name.startswith("#")
        }


def _of_item(file: Any, item: Any) -> Any:
    """A struct is a group; a struct array a group of equally long arrays of references."""
    import h5py

    if not isinstance(item, h5py.Group):
        return _of_array(file, item)
    columns = {name: _column(file, item[name]) for name in item}
    if columns and all(isinstance(c, list) for c in columns.values()):
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]
    return {name: c[0] if isinstance(c, list) and len(c) == 1 else c for name, c in columns.items()}


def _column(file: Any, item: Any) -> Any:
    import h5py

    if isinstance(item, h5py.Dataset) and item.dtype == h5py.ref_dtype:
        return [_of_item(file, file[ref]) for ref in item[()].ravel()]
    return _of_item(file, item)


def _of_array(file: Any, item: Any) -> Any:
    import h5py

    if item.dtype == h5py.ref_dtype:
        return [_of_item(file, file[ref]) for ref in item[()].ravel()]
    if item.attrs.get("MATLAB_empty", 0):
        return np.empty(0)
    value = item[()]
    if item.attrs.get("MATLAB_class") == b"char":
        return "".join(map(chr, value.ravel(order="F")))
    return value.T  # MATLAB stores by column
