from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnnlens.activations.chunks import chunk_shape
from cnnlens.activations.extract import extract
from cnnlens.activations.store import Store, StoreKey
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError

from . import little


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("store")
    data = open_data(little.write_pictures(root / "d", 40))
    model = little.little_model()
    for _ in extract(model, data, little.layers_of(model, ["conv2"]), root, logits=True):
        pass
    return root / "conv2.h5"


@pytest.fixture
def store(made, tmp_path) -> Path:
    return Path(shutil.copy(made, tmp_path / "conv2.h5"))


def content(path: Path) -> list:
    """Everything a reader takes from a store."""
    with Store(path) as store:
        maps = [np.concatenate([p.astype(np.float32), m.ravel()]) for p, m in store.batches()]
        found = [np.concatenate(maps), store.positions, store.logits, store.images]
        return [*found, store.skipped, store.key, store.shape]


def same(a: object, b: object) -> bool:
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def test_any_flipped_byte_is_noticed_or_harmless(made, store):
    whole, truth = made.read_bytes(), content(made)
    rng = np.random.default_rng(0)
    places = {*range(0, 2048, 7), *rng.integers(0, len(whole), 500).tolist()}
    noticed = 0
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        store.write_bytes(damaged)
        try:
            found = content(store)
        except CnnlensError as error:
            noticed += 1
            assert str(store) in error.message and "--force" in error.hint
            assert "\n" not in error.message
            assert store.read_bytes() == bytes(damaged)  # left as it is
            continue
        wrong = [n for n, (a, b) in enumerate(zip(found, truth, strict=True)) if not same(a, b)]
        # attributes bear no checksum, but a wrong key is refused when it is compared
        assert set(wrong) <= {4, 5}, place
    assert noticed > 200


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_store_is_named_as_such(store, share):
    whole = store.read_bytes()
    store.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CnnlensError, match=r"conv2\.h5") as error:
        content(store)
    assert "--force" in error.value.hint


_NO_DISK = (
    "file read failed: filename = 'conv2.h5', errno = 5, error message = 'Input/output error'"
)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ((h5py, "is_hdf5"), OSError(5, f"Unable to determine if file is accessible ({_NO_DISK})")),
        ((h5py.File, "__getitem__"), KeyError(f"Unable to synchronously open object ({_NO_DISK})")),
        ((h5py.Dataset, "__getitem__"), OSError(f"Can't synchronously read data ({_NO_DISK})")),
    ],
)
def test_a_store_that_cannot_be_read_for_now_is_not_called_damaged(
    store, monkeypatch, where, error
):
    """As HDF5 says it of a disk that is away."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(*where, fails)
    with pytest.raises(CnnlensError, match=r"cannot read .*conv2\.h5: input/output") as caught:
        content(store)
    assert "nothing was changed" in caught.value.hint and "--force" not in caught.value.hint


def test_foreign_files_are_no_stores(tmp_path):
    path = tmp_path / "x.h5"
    makers = {
        "text": lambda: path.write_text("hello"),
        "folder": lambda: path.mkdir(),
        "empty": lambda: h5py.File(path, "w").close(),
        "contiguous": lambda: _foreign(path, activations=np.zeros((2, 3, 4, 5))),
        "group": lambda: _foreign(path, activations=None),
    }
    for make in makers.values():
        make()
        with pytest.raises(CnnlensError, match=r"x\.h5 is not an"):
            Store(path)
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(CnnlensError, match="does not exist"):
        Store(path)


def _foreign(path: Path, activations: np.ndarray | None) -> None:
    with h5py.File(path, "w") as file:
        if activations is None:
            file.create_group("activations")
        else:
            file["activations"] = activations
        for name in ("model", "preprocess", "data", "place", "dtype"):
            file.attrs[name] = "x"
        file.attrs["schema"] = 1
        file.attrs["skipped"] = "[]"


def test_refused_stores_are_not_kept_open(store):
    other = StoreKey("another", "", "", "", "float32")
    for _ in range(3):
        with pytest.raises(CnnlensError, match="another model"):
            Store(store, other)
    with h5py.File(store, "r+") as file:  # HDF5 would refuse while a reader has it open
        file.attrs["skipped"] = "{"
    with pytest.raises(CnnlensError, match="not an activation store"):
        Store(store)
    h5py.File(store, "r+").close()


@pytest.mark.parametrize(
    "name, value",
    [
        ("positions", lambda whole: whole.astype(np.float32)),
        ("positions", lambda whole: whole[:, None]),
        ("activations", lambda whole: whole.astype(np.int16)),
        ("logits", lambda whole: np.zeros((len(whole), 2), np.int32)),
        ("logits", lambda whole: np.zeros((len(whole), 2, 2), np.float32)),
    ],
)
def test_numbers_of_another_kind_are_refused_in_words(store, name, value):
    with h5py.File(store, "r+") as file:
        whole = file[name if name in file else "positions"][:]
        if name in file:
            del file[name]
        file.create_dataset(name, data=value(whole), chunks=True)
    with pytest.raises(CnnlensError, match=rf"is damaged \({name} is \d-dimensional, of"):
        Store(store)


@pytest.mark.parametrize("name", ["data", "skipped", "images"])
def test_what_is_no_text_in_a_store_is_refused_in_words(store, name):
    with h5py.File(store, "r+") as file:
        if name == "images":
            del file[name]
            file[name] = np.zeros(1)
        else:
            file.attrs[name] = np.zeros(3) if name == "data" else "[[1, 2]]"
    with pytest.raises(CnnlensError, match=r"not an activation store|differ in length"):
        Store(store, StoreKey("", "", "", "", "float32"))


@pytest.mark.parametrize(
    "shape", [(64, 112, 112), (2048, 7, 7), (1, 1, 1), (3, 500, 700), (512, 14, 14)]
)
def test_chunks_are_of_moderate_size_and_serve_both_ways_of_reading(shape):
    for itemsize in (2, 4):
        rows, units, height, width = chunk_shape(shape, itemsize)
        assert (height, width) == shape[1:]
        assert 32 % rows == 0 and 1 <= units <= shape[0]
        assert rows * units * height * width * itemsize <= max(2**20, height * width * itemsize)


def test_a_store_is_used_as_a_pytorch_user_expects(made):
    with Store(str(made)) as store:  # a path as it is typed
        every = np.concatenate([maps for _, maps in store])
        assert len(store) == len(every) == 40
        assert np.array_equal(store[3], every[3]) and store[3].shape == store.shape[1:]
        assert np.array_equal(store[-1], every[-1])
        assert np.array_equal(store[np.int64(2)], every[2])
        for rows in (slice(2, 35), slice(None, None, 7), slice(5, None), slice(8, 2, -2)):
            assert np.array_equal(store[rows], every[rows])
        assert store[3].dtype == np.float32
        for wrong in (40, -41):
            with pytest.raises(IndexError):
                store[wrong]
        with pytest.raises(TypeError):
            store["conv2"]
        text = repr(store)
        assert str(made) in text and "40 images × 5 units × 8×6" in text
    assert "closed" in repr(store)
