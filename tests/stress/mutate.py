"""Ways to spoil a file: its bytes, or what it says in its own format."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from .values import strange


def mutate(path: Path, dice: Random) -> str:
    """Spoil a file in place; say how."""
    own = _OWN.get(path.suffix)
    if own and dice.random() < 0.6:
        done = own(path, dice)
        if done:
            return f"{path.name}: {done}"
    way = dice.choice(_BYTES)
    path.write_bytes(way(path.read_bytes(), dice))
    return f"{path.name}: {way.__name__.strip('_').replace('_', ' ')}"


# ---- bytes


def _few_bytes_flipped(data: bytes, dice: Random) -> bytes:
    found = bytearray(data)
    for _ in range(dice.choice((1, 1, 3, 30)) if data else 0):
        found[dice.randrange(len(found))] ^= 1 << dice.randrange(8)
    return bytes(found)


def _early_bytes_flipped(data: bytes, dice: Random) -> bytes:
    return _few_bytes_flipped(data[:300], dice) + data[300:]


def _cut_short(data: bytes, dice: Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _cut_at_the_end(data: bytes, dice: Random) -> bytes:
    return data[: max(0, len(data) - dice.randint(1, 200))]


def _bytes_inserted(data: bytes, dice: Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.randbytes(dice.choice((1, 7, 500))) + data[at:]


def _bytes_removed(data: bytes, dice: Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + data[at + dice.choice((1, 7, 500)) :]


def _zeros_within(data: bytes, dice: Random) -> bytes:
    at, length = dice.randrange(len(data) + 1), dice.choice((4, 64, 4096))
    return data[:at] + bytes(length) + data[at + length :]


def _a_part_twice(data: bytes, dice: Random) -> bytes:
    a, b = sorted(dice.randrange(len(data) + 1) for _ in range(2))
    return data[:b] + data[a:]


def _emptied(data: bytes, dice: Random) -> bytes:
    return b""


_BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_few_bytes_flipped, _early_bytes_flipped, _cut_short, _cut_at_the_end, _bytes_inserted),
    *(_bytes_removed, _zeros_within, _a_part_twice, _emptied),
)


# ---- what it says


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    below = document.items() if isinstance(document, dict) else ()
    below = enumerate(document) if isinstance(document, list) else below
    found = []
    for key, value in list(below):
        found += [(document, key), *_places(value)]
    return found


def spoil_document(document: Any, dice: Random) -> str:
    """Take out, or put something strange in the place of, one value."""
    places = _places(document)
    if not places:
        return ""
    inside, key = dice.choice(places)
    if dice.random() < 0.25:
        del inside[key]
        return f"without {key!r}"
    inside[key] = strange(dice)
    return f"{key!r} is {str(inside[key])[:40]!r}"


def _spoil_json(path: Path, dice: Random) -> str:
    document = json.loads(path.read_text(encoding="utf-8"))
    if dice.random() < 0.1:
        document, done = strange(dice), "another document"
    else:
        done = spoil_document(document, dice)
    path.write_text(json.dumps(document), encoding="utf-8")
    return done


def _spoil_csv(path: Path, dice: Random) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows:
        return ""
    row = dice.choice(rows[:2] if dice.random() < 0.4 else rows)
    cell = dice.randrange(len(row)) if row else 0
    way = dice.choice(("cell", "cell", "cell", "column", "row", "double", "cells"))
    if way == "column":
        rows = [r[:cell] + r[cell + 1 :] for r in rows]
    elif way == "row":
        rows.remove(row)
    elif way == "double":
        rows.insert(dice.randrange(len(rows) + 1), row)
    elif way == "cells" or not row:
        row.append("more")
    else:
        row[cell] = str(strange(dice)).replace("\0", "")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return f"{way} {cell}"


def _spoil_hdf5(path: Path, dice: Random) -> str:
    import h5py
    import hdf5plugin  # noqa: F401  (registers the filters)
    import numpy as np

    with h5py.File(path, "r+") as file:
        name = dice.choice([*file])
        if file.attrs and dice.random() < 0.5:
            name = dice.choice([*file.attrs])
            value = dice.choice([None, -1, "x", "{}", "[]", "null", np.zeros(3), 1e30])
            if value is None:
                del file.attrs[name]
            else:
                file.attrs[name] = value
            return f"attribute {name} is {value}"
        old = file[name]
        shape, kind = getattr(old, "shape", ()), getattr(old, "dtype", None)
        del file[name]
        new = dice.choice((None, (), (0,), (3,), (2, 2, 2, 2), shape[:-1], shape))
        if new is None:
            return f"without {name}"
        other = dice.choice((np.dtype("f4"), np.dtype("i8"), h5py.string_dtype(), kind))
        file.create_dataset(name, shape=new, dtype=other)
        return f"{name} is {new} of {other}"


def _spoil_checkpoint(path: Path, dice: Random) -> str:
    import torch

    legacy = path.suffix == ".pth"
    document = torch.load(path, weights_only=True)
    places = _places(document)
    inside, key = dice.choice(places)
    value = inside[key]
    if isinstance(value, torch.Tensor) and dice.random() < 0.7:
        ways: dict[str, Callable[[], Any]] = {
            "flat": value.flatten,
            "of numbers": value.long,
            "complex": lambda: value.to(torch.complex64),
            "with NaN": lambda: value * float("nan"),
            "sparse": value.to_sparse,
            "one row": lambda: value[:1],
            "empty": lambda: value[:0],
            "larger": lambda: torch.cat([value, value]),
            "bool": value.bool,
            "without storage": lambda: value.to("meta"),
            "quantized": lambda: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
        }
        way = dice.choice([*ways]) if value.ndim else "complex"
        inside[key], done = ways[way](), f"{key!r} {way}"
    else:
        done = spoil_document(document, dice)
    torch.save(document, path, _use_new_zipfile_serialization=not legacy)
    return done


def _spoil_safetensors(path: Path, dice: Random) -> str:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    done = spoil_document(head, dice)
    written = json.dumps(head).encode()
    size = dice.choice((len(written),) * 5 + (0, 2**40, len(written) + 1))
    path.write_bytes(struct.pack("<Q", size) + written + data[8 + length :])
    return done


_OWN: dict[str, Callable[[Path, Random], str]] = {
    ".json": _spoil_json,
    ".csv": _spoil_csv,
    ".h5": _spoil_hdf5,
    ".safetensors": _spoil_safetensors,
    **dict.fromkeys((".pt", ".pth", ".ckpt"), _spoil_checkpoint),
}
