"""Data sets that threads cannot share are read in one thread, as a DataLoader reads them."""

from __future__ import annotations

import logging
import re
import sqlite3
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset

import cnnlens
from cnnlens.data.batches import batches
from cnnlens.data.live import is_live
from cnnlens.data.memory import memory_images
from tests.model.nets import small_net

FED = cnnlens.Preprocess((16, 16), (0.5,) * 3, (0.5,) * 3)
PHOTOS = list(np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8))


class Stored(Dataset[tuple[np.ndarray, int]]):
    """Rows of a database, whose connection is for the thread that made it; made when needed."""

    def __init__(self, file: Path) -> None:
        self.file, self.rows = file, None
        with sqlite3.connect(file) as rows:
            rows.execute("create table photos (number integer, bytes blob)")
            rows.executemany("insert into photos values (?, ?)", enumerate(map(bytes, PHOTOS)))

    def __len__(self) -> int:
        return len(PHOTOS)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        self.rows = self.rows or sqlite3.connect(self.file)
        (found,) = self.rows.execute("select bytes from photos where number=?", (number,))
        return np.frombuffer(found[0], np.uint8).reshape(16, 16, 3), number % 2


class Seen(Dataset[np.ndarray]):
    """Knows which threads have read it."""

    def __init__(self, file: Any = None) -> None:
        self.held, self.threads = [{"file": file}], dict[int, None]()

    def __len__(self) -> int:
        return len(PHOTOS)

    def __getitem__(self, number: int) -> np.ndarray:
        self.threads[threading.get_ident()] = None
        return np.asarray(PHOTOS[number])


def test_a_data_base_is_read_as_a_list_is(tmp_path: Path) -> None:
    lens = cnnlens.Investigation(small_net(), tmp_path / "ws", preprocess=FED, quiet=True)
    data = Stored(tmp_path / "photos.db")
    store = lens.extract(data=data, layer="conv2", workers=3)
    wanted = lens.extract(data=PHOTOS, layer="conv2")
    assert np.array_equal(store[0:40], wanted[0:40])
    assert len(lens.units(data=data, layer="conv2", workers=3)) == 4
    lens.cluster(data=data, layer="conv2", workers=3)


@pytest.mark.parametrize("some", [False, True])
def test_what_holds_an_open_file_is_read_in_the_calling_thread(tmp_path: Path, some: bool) -> None:
    (tmp_path / "bytes").write_bytes(b"0")
    with (tmp_path / "bytes").open("rb") as file:
        filed, free = Seen(file), Seen()
        for data in (filed, free):
            images = memory_images(Subset(data, range(1, 40)) if some else data)
            for _ in batches(images, FED, batch_size=8, workers=3):
                pass
    assert [*filed.threads] == [threading.get_ident()]
    assert len(free.threads) > 1


def test_what_cannot_be_shared_is_found_at_any_depth(tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "a.zip", "w").close()
    with (tmp_path / "a.zip").open("rb") as file, zipfile.ZipFile(tmp_path / "a.zip") as packed:
        live = [file, packed, sqlite3.connect(":memory:"), threading.Lock(), (n for n in "ab")]
        for one in live:
            assert is_live(SimpleNamespace(held=[{"a": (one,)}])), one
    (logger := logging.getLogger("a data set's")).addHandler(logging.StreamHandler(sys.stdout))
    plain = [small_net(), np.random.default_rng(0), torch.Generator(), partial(int, "1"), re, FED]
    plain += [re.compile("a"), {1, 2}, print, lambda: file, Seen, Path(), None]
    plain.append(logger)
    for one in plain:
        assert not is_live(SimpleNamespace(held=[{"a": (one,)}])), one
    ring: list[Any] = [plain]
    ring.append(ring)
    assert not is_live(ring)
