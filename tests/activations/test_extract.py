from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cnnlens.activations.extract import extract, store_path
from cnnlens.activations.passes import Forward
from cnnlens.activations.store import Store
from cnnlens.data.dataset import ImageSet
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError
from cnnlens.model.model import Model
from cnnlens.settings import ExtractSettings, RunSettings

from . import little


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ImageSet:
    root = tmp_path_factory.mktemp("data") / "pets"
    return open_data(little.write_pictures(root, count=70, damaged=(3, 69)))


def fill(
    data: ImageSet,
    folder: Path,
    model: Model | None = None,
    names: list[str] | None = None,
    *,
    batch: int = 16,
    workers: int = 1,
    dtype: str = "float32",
    **more: bool,
) -> dict[str, Path]:
    model = model or little.little_model()
    layers = little.layers_of(model, names)
    run = RunSettings(batch_size=batch, workers=workers)
    settings = ExtractSettings(dtype)
    for _ in extract(model, data, layers, folder, settings=settings, run=run, **more):
        pass
    return {layer.name: store_path(folder, layer) for layer in layers}


def by_hand(data: ImageSet, net: nn.Module) -> Tensor:
    """Network input of all undamaged images, one by one."""
    model = little.little_model()
    kept = []
    for path in data.paths:
        if path.endswith(("003.png", "069.png")):
            continue
        pixels = np.asarray(Image.open(data.root / path).convert("RGB"))
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        mean, std = map(torch.tensor, (model.preprocess.mean, model.preprocess.std))
        kept.append((x - mean[:, None, None]) / std[:, None, None])
    return torch.stack(kept)


def test_a_store_is_what_plain_h5py_reads(data, tmp_path):
    model = little.little_model()
    paths = fill(data, tmp_path, model, logits=True)
    x = by_hand(data, model.net)
    with torch.no_grad():
        conv = model.net[0](x)
        second = model.net[2](conv.relu()).relu()
        logits = model.net[6](second.mean((2, 3)))
    for name, truth in (("0", conv), ("conv2", second)):
        with h5py.File(paths[name]) as file:
            assert {"activations", "images", "positions", "categories", "logits"} == set(file)
            assert file["activations"].dtype == np.float32
            np.testing.assert_allclose(file["activations"][:], truth, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(file["logits"][:], logits, rtol=1e-4, atol=1e-5)
            good = [i for i in range(70) if i not in (3, 69)]
            assert file["positions"][:].tolist() == good
            images = [b.decode() for b in file["images"][:]]
            assert images == list(file["images"].asstr()[:]) == [data.paths[i] for i in good]
            assert any("ö" in path for path in images)
            categories = [b.decode() for b in file["categories"][:]]
            assert categories == [path.split("/")[0] for path in images]
            assert file.attrs["model"] == model.fingerprint
            assert file.attrs["data"] == data.fingerprint
            assert file.attrs["dtype"] == "float32" and file.attrs["schema"] >= 1
            assert "003.png" in file.attrs["skipped"] and "069.png" in file.attrs["skipped"]
            assert file["activations"].fletcher32  # damage is noticed when it is read
    with Store(paths["0"]) as store:
        positions, maps = zip(*store.batches(slice(2, 4)), strict=True)
        assert np.concatenate(positions).tolist() == good
        np.testing.assert_allclose(np.concatenate(maps), conv[:, 2:4], rtol=1e-4, atol=1e-5)
        assert store.images == images and store.has_logits


def test_flat_folders_have_no_categories(tmp_path):
    root = tmp_path / "flat"
    little.write_pictures(tmp_path / "classes", count=4)
    root.mkdir()
    for path in (tmp_path / "classes").rglob("*.png"):
        path.rename(root / path.name)
    paths = fill(open_data(root), tmp_path / "out", names=["last"])
    with h5py.File(paths["last"]) as file:
        assert set(file) == {"activations", "images", "positions"}


class Counting(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.rows, self.armed = net, 0, False

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        x = self.net[:4](x)
        if self.armed:
            raise AssertionError("ran past the deepest layer")
        return self.net[4:](x)


def test_several_layers_take_one_forward_pass_that_stops_at_the_deepest(data, tmp_path):
    net = Counting(little.little_model().net)
    model = little.little_model(net=net)
    layers = little.layers_of(model, ["net.0", "conv1", "conv2"])
    net.rows, net.armed = 0, True
    steps = list(extract(model, data, layers, tmp_path, run=RunSettings(batch_size=16, workers=0)))
    assert net.rows == 68
    assert steps[-1].done == steps[-1].total == 70
    assert list(extract(model, data, layers, tmp_path)) == []  # all there
    assert net.rows == 68


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (7, 3), (32, 1), (100, 2)])
def test_batch_size_and_workers_do_not_matter(data, tmp_path, batch, workers):
    plain = fill(data, tmp_path / "plain")
    other = fill(data, tmp_path / "other", batch=batch, workers=workers)
    for name, path in plain.items():
        with h5py.File(path) as a, h5py.File(other[name]) as b:
            first, second = a["activations"][:], b["activations"][:]
            assert np.abs(first - second).max() <= 1e-4 * np.abs(first).max()
            assert a["images"][:].tolist() == b["images"][:].tolist()
            assert a["activations"].chunks == b["activations"].chunks


def test_the_same_settings_give_the_same_bytes(data, tmp_path):
    one = fill(data, tmp_path / "one", logits=True)
    two = fill(data, tmp_path / "two", logits=True, workers=3)
    for name in one:
        assert little.everything(one[name]) == little.everything(two[name])


class Hungry(nn.Module):
    """Has memory for a few images only."""

    def __init__(self, most: int, error: type[Exception]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.most, self.error, self.failed = nn.Conv2d(3, 4, 3), most, error, 0

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            self.failed += 1
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return self.conv(x)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_running_out_of_memory_halves_the_batch(data, tmp_path, error):
    net = Hungry(5, error)
    model = little.little_model(net=net)
    layers = little.layers_of(model, ["conv1"])
    run = RunSettings(batch_size=16, workers=0)
    steps = list(extract(model, data, layers, tmp_path / "a", run=run))
    assert net.failed == 2 and steps[-1].limit == 4  # 16, 8, and never again
    net.most = 1000
    list(extract(model, data, layers, tmp_path / "b", run=run))
    with h5py.File(tmp_path / "a/conv1.h5") as a, h5py.File(tmp_path / "b/conv1.h5") as b:
        np.testing.assert_allclose(a["activations"][:], b["activations"][:], rtol=1e-4, atol=1e-6)


def test_no_memory_even_for_one_image_is_an_error_that_says_so(data, tmp_path):
    net = Hungry(1, torch.OutOfMemoryError)
    model = little.little_model(net=net)
    layers = little.layers_of(model, ["conv1"])
    net.most = 0
    with pytest.raises(CnnlensError, match="even one image"):
        list(extract(model, data, layers, tmp_path))
    assert not (tmp_path / "conv1.h5").exists()


def test_other_errors_of_the_network_are_not_taken_for_memory(data, tmp_path):
    net = Hungry(1, ValueError)
    model = little.little_model(net=net)
    layers = little.layers_of(model, ["conv1"])
    with pytest.raises(ValueError, match="allocate"):
        list(extract(model, data, layers, tmp_path))


class Fixed(Counting):
    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == 6, "only six at a time"
        return self.net(x)


def test_a_fixed_batch_is_filled_up_and_the_filling_left_out(data, tmp_path):
    net = Fixed(little.little_model().net)
    paths = fill(data, tmp_path, little.little_model(6, net), ["net.0", "conv2"], logits=True)
    plain = fill(data, tmp_path / "plain", logits=True)
    for name, other in (("net.0", "0"), ("conv2", "conv2")):
        with h5py.File(paths[name]) as a, h5py.File(plain[other]) as b:
            for column in ("activations", "logits"):
                assert len(a[column]) == 68
                np.testing.assert_allclose(a[column][:], b[column][:], rtol=1e-4, atol=1e-5)


def scaled(factor: float) -> Model:
    model = little.little_model()
    model.net[0].weight.data *= factor
    return model


def test_float16_is_half_as_exact_and_refuses_what_it_cannot_hold(data, tmp_path):
    wide, narrow = (fill(data, tmp_path / d, dtype=d)["0"] for d in ("float32", "float16"))
    with h5py.File(wide) as a, h5py.File(narrow) as b:
        assert b["activations"].dtype == np.float16
        np.testing.assert_allclose(a["activations"][:], b["activations"][:], rtol=1e-3, atol=1e-4)
    with Store(narrow) as store:
        assert next(store.batches())[1].dtype == np.float32
    with pytest.raises(CnnlensError, match="float16's range") as error:
        fill(data, tmp_path / "over", scaled(1e6), dtype="float16")
    assert "float32" in error.value.hint
    assert not list((tmp_path / "over").glob("*.h5"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_name_the_image(data, tmp_path, bad):
    class Sick(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 3:  # the second batch, after the trace
                x[4, 1, 2, 2] = bad
            return x

    model = little.little_model(net=nn.Sequential(nn.Conv2d(3, 2, 3), Sick()))
    with pytest.raises(CnnlensError, match="not finite on") as error:
        fill(data, tmp_path, model, ["1"])
    assert data.paths[16 + 4 + 1] in error.value.message  # one before it is damaged
    assert not list(tmp_path.glob("*.h5"))


def test_stores_of_other_origin_are_refused_and_force_makes_them_anew(data, tmp_path):
    fill(data, tmp_path)
    before = little.everything(tmp_path / "0.h5")
    other = little.little_model()
    other.fingerprint = "another"
    sized = little.little_model()
    sized.preprocess = dataclasses.replace(sized.preprocess, mean=(0.0, 0.0, 0.0))
    fewer = data.image_categories[:-1]
    more = dataclasses.replace(data, paths=data.paths[:-1], image_categories=fewer)
    for match, arguments in {
        "another model": (data, other, "float32"),
        "other preprocessing": (data, sized, "float32"),
        "other images": (more, None, "float32"),
        "another --dtype": (data, None, "float16"),
    }.items():
        images, model, dtype = arguments
        with pytest.raises(CnnlensError, match=match) as error:
            fill(images, tmp_path, model, dtype=dtype)
        assert "--force" in error.value.hint
    assert little.everything(tmp_path / "0.h5") == before
    fill(data, tmp_path, other, force=True)
    with Store(tmp_path / "0.h5") as store:
        assert store.key.model == "another"


def test_unfinished_stores_are_finished_as_they_were_begun(data, tmp_path):
    model = little.little_model()
    layers = little.layers_of(model)
    run = RunSettings(batch_size=16, workers=1)
    steps = extract(model, data, layers, tmp_path, run=run)
    while next(steps).done < 50:
        pass
    steps.close()
    with pytest.raises(CnnlensError, match=r"begun with another --dtype"):
        fill(data, tmp_path, dtype="float16")
    with pytest.raises(CnnlensError, match=r"begun with another --batch-size"):
        fill(data, tmp_path, batch=64)
    with pytest.raises(CnnlensError, match="another choice of what to keep"):
        fill(data, tmp_path, logits=True)
    with pytest.raises(CnnlensError, match="another model") as error:
        fill(data, tmp_path, dataclasses.replace(model, fingerprint="x"))
    assert "--force" in error.value.hint
    try:
        fill(data, tmp_path, dtype="float16")
    except CnnlensError as kept:  # as a notebook keeps the last error
        fill(data, tmp_path, force=True)
        assert kept
    assert {p.name for p in tmp_path.glob("*.h5")} == {"0.h5", "conv2.h5"}


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_stopping_early_leaves_no_thread_no_lock_and_no_open_file(data, tmp_path, stop_after):
    before = threading.active_count()
    model = little.little_model()
    layers = little.layers_of(model)
    steps = extract(model, data, layers, tmp_path, run=RunSettings(batch_size=16, workers=3))
    for _ in range(stop_after + 1):
        next(steps)
    steps.close()
    assert threading.active_count() == before
    assert _open_files(tmp_path) == []
    fill(data, tmp_path)  # not locked
    assert _open_files(tmp_path) == []


def test_an_interrupt_in_the_middle_leaves_no_thread_and_no_lock(data, tmp_path):
    class Interrupted(Counting):
        def forward(self, x: Tensor) -> Tensor:
            self.rows += len(x)
            if self.rows > 40:
                raise KeyboardInterrupt
            return self.net(x)

    before = threading.active_count()
    model = little.little_model(net=Interrupted(little.little_model().net))
    layers = little.layers_of(model, ["net.0"])
    with pytest.raises(KeyboardInterrupt):
        list(extract(model, data, layers, tmp_path, run=RunSettings(batch_size=8, workers=2)))
    assert threading.active_count() == before
    assert _open_files(tmp_path) == []
    assert not list(tmp_path.glob("*.h5"))


def _open_files(folder: Path) -> list[str]:
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = entry.readlink()
        except OSError:
            continue
        if str(target).startswith(str(folder)):
            links.append(str(target))
    return links


def test_readers_keep_their_store_while_it_is_made_anew(data, tmp_path):
    fill(data, tmp_path)
    with Store(tmp_path / "0.h5") as store:
        rows = store.batches()
        first = next(rows)
        fill(data, tmp_path, scaled(3.0), force=True)
        rest = [first, *rows]
    with Store(tmp_path / "0.h5") as anew:
        for (_, old), (_, new) in zip(rest, anew.batches(), strict=True):
            assert not np.array_equal(old, new)
    fill(data, tmp_path / "again")
    with Store(tmp_path / "again" / "0.h5") as same:
        for (_, old), (_, new) in zip(rest, same.batches(), strict=True):
            assert np.array_equal(old, new)


def test_too_many_damaged_images_are_fatal(tmp_path):
    data = open_data(little.write_pictures(tmp_path / "d", 40, damaged=(0, 1, 2, 3)))
    with pytest.raises(CnnlensError, match="4 of 40 images"):
        fill(data, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.h5"))


def test_a_full_disk_while_a_block_is_written(data, tmp_path, monkeypatch):
    import errno

    real = Path.write_bytes
    calls = []

    def full(self: Path, content: bytes) -> int:
        calls.append(self)
        if len(calls) == 3:
            real(self, bytes(content)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CnnlensError, match="the disk is full") as error:
        fill(data, tmp_path)
    assert "repeat the command" in error.value.hint
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.glob("*.h5"))
    monkeypatch.undo()
    fill(data, tmp_path)
    assert little.everything(tmp_path / "0.h5") == little.everything(
        fill(data, tmp_path / "b")["0"]
    )


@dataclasses.dataclass
class Answer:
    maps: Tensor
    logits: Tensor


class HuggingStyle(OrderedDict):
    """A dictionary whose entries are attributes too."""

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclasses.dataclass
class Opaque:
    number: int = 3


FORMS = {
    "tuple": lambda maps, scores: (scores, maps),
    "list in tuple": lambda maps, scores: ([scores], {"maps": maps}),
    "dict": lambda maps, scores: {"maps": maps, "logits": scores},
    "dataclass": lambda maps, scores: Answer(maps, scores),
    "transformers": lambda maps, scores: HuggingStyle(loss=None, logits=scores, hidden=maps),
    "one number per image": lambda maps, scores: scores[:, 0],
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_output_gives_its_logits(data, tmp_path, form):
    model = little.little_model(net=little.Plain(FORMS[form]))
    paths = fill(data, tmp_path, model, ["conv"], logits=True)
    with h5py.File(paths["conv"]) as file:
        truth = file["activations"][:].mean((2, 3))
        truth = truth[:, :1] if form == "one number per image" else truth
        np.testing.assert_allclose(file["logits"][:], truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "form", [lambda m, s: None, lambda m, s: "cat", lambda m, s: s.sum(), lambda m, s: Opaque()]
)
def test_an_output_without_scores_is_said_and_costs_the_layers_nothing(data, tmp_path, form):
    model = little.little_model(net=little.Plain(form))
    with pytest.raises(CnnlensError, match="no class scores"):
        fill(data, tmp_path, model, ["conv"], logits=True)
    fill(data, tmp_path, model, ["conv"], force=True)
    with Store(tmp_path / "conv.h5") as store:
        assert store.shape[0] == 68 and not store.has_logits


def test_functional_places_are_read_right_beside_modules(data, tmp_path):
    class Functional(little.Plain):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.conv(x)).mean((2, 3))

    model = little.little_model(net=Functional(None))
    paths = fill(data, tmp_path, model, ["conv1", "conv"])
    with h5py.File(paths["conv1"]) as after, h5py.File(paths["conv"]) as before:
        assert (before["activations"][:] < 0).any()
        assert np.array_equal(before["activations"][:].clip(0), after["activations"][:])


def test_forward_never_returns_views_of_one_another(data):
    model = little.little_model()
    layers = little.layers_of(model, ["0", "conv1"])
    forward = Forward(model, layers, logits=False, limit=4)
    pixels = torch.randint(0, 256, (3, 3, *little.SIZE), dtype=torch.uint8)
    (pre, post), _ = forward(pixels)
    assert (pre < 0).any() and np.array_equal(pre.clip(0), post)


@pytest.mark.parametrize("batches", [1, 3, 5, 8])
def test_blocks_that_an_interrupted_run_has_finished_are_not_computed_again(
    data, tmp_path, batches
):
    """A block is 32 images, of which four batches of 8 are the first: image 3 is damaged."""
    net = Counting(little.little_model().net)
    model = little.little_model(net=net)
    layers = little.layers_of(model, ["net.0", "conv2"])
    run = RunSettings(batch_size=8, workers=2)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    list(extract(model, data, layers, unbroken, run=run, logits=True))
    net.rows = 0
    steps = extract(model, data, layers, broken, run=run, logits=True)
    for _ in range(batches + 1):  # the first says where it begins
        next(steps)
    steps.close()
    assert net.rows == min(8 * batches, 31) + 8 * max(0, batches - 4)
    net.rows = 0
    again = list(extract(model, data, layers, broken, run=run, logits=True))
    finished = 32 * (batches // 4)
    assert again[0].done == finished
    assert net.rows == 68 - max(0, finished - 1)
    for layer in layers:
        one, other = store_path(unbroken, layer), store_path(broken, layer)
        assert one.read_bytes() == other.read_bytes()
    assert not list(broken.glob(".*.parts"))


def test_a_begun_block_of_other_batches_is_made_again(data, tmp_path):
    model = little.little_model()
    layers = little.layers_of(model)
    steps = extract(model, data, layers, tmp_path / "a", run=RunSettings(batch_size=8, workers=0))
    for _ in range(4):
        next(steps)
    steps.close()  # 24 rows, which batches of 16 cannot fill up to 32
    run = RunSettings(batch_size=16, workers=0)
    assert next(iter(list(extract(model, data, layers, tmp_path / "a", run=run)))).done == 0
    fill(data, tmp_path / "b", model)
    for name in ("0.h5", "conv2.h5"):
        assert little.everything(tmp_path / "a" / name) == little.everything(tmp_path / "b" / name)


def test_layers_that_stopped_at_different_batches_go_on_together(data, tmp_path, monkeypatch):
    from cnnlens.activations.writer import StoreWriter

    real, calls = StoreWriter._write, []

    def write(self: StoreWriter, part: Path) -> None:
        calls.append(self)
        if len(calls) == 4:  # the second layer's second block
            raise KeyboardInterrupt
        real(self, part)

    monkeypatch.setattr(StoreWriter, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        fill(data, tmp_path / "a", batch=8)
    monkeypatch.undo()
    there = [len(list((tmp_path / "a").glob(f".{n}.parts/*"))) for n in ("0.h5", "conv2.h5")]
    assert there == [2, 1]
    fill(data, tmp_path / "a", batch=8)
    fill(data, tmp_path / "b", batch=8)
    for name in ("0.h5", "conv2.h5"):
        assert little.everything(tmp_path / "a" / name) == little.everything(tmp_path / "b" / name)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 5, 3), nn.Linear(5, 4), nn.Linear(5, 3)

    def forward(self, x):
        x = self.conv(x).relu().mean((2, 3))
        return {"one": self.one(x), "two": self.two(x)}


def test_logits_of_another_head_are_made_anew(data, tmp_path):
    torch.manual_seed(0)
    net = TwoHeads()
    for head, classes in ((None, 4), ("two", 3), ("two", 3)):
        model = little.little_model(net=net)
        model.head = head
        steps = list(extract(model, data, little.layers_of(model, ["conv"]), tmp_path, logits=True))
        with Store(tmp_path / "conv.h5") as store:
            assert store.logits.shape[1] == classes and store.head == head
    assert not steps  # the third time it is there already


@pytest.mark.parametrize("before", [None, "wide", "short"])
@pytest.mark.parametrize("after", [None, "other"])
def test_images_that_are_labelled_otherwise_keep_their_activations(
    data: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str | None,
    after: str | None,
) -> None:
    def labelled(text: str | None) -> ImageSet:
        names = text and tuple(f"{text} \u00e9 {number % 4}" for number in range(len(data.paths)))
        return dataclasses.replace(data, image_categories=names)

    paths = fill(labelled(before), tmp_path / "a")
    truth = fill(labelled(after), tmp_path / "b")
    with Store(paths["0"]) as reading:
        monkeypatch.setattr(Forward, "begin", lambda *_: pytest.fail("a forward pass"))
        fill(labelled(after), tmp_path / "a")
        assert reading[:].shape == reading.shape  # it reads on
    for name, path in paths.items():
        with Store(path) as store, Store(truth[name]) as other:
            assert store.categories == other.categories and store.images == other.images
            assert store.key == other.key and store.skipped == other.skipped
            assert np.array_equal(store[:], other[:])
        with h5py.File(path) as file, h5py.File(truth[name]) as fresh:
            assert set(file) == set(fresh)
            assert "categories" not in file or file["categories"].fletcher32
    states = [path.stat().st_ino for path in paths.values()]
    fill(labelled(after), tmp_path / "a")
    assert [path.stat().st_ino for path in paths.values()] == states  # and is left alone from then


def test_other_labels_come_whole_or_not_at_all(
    data: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = fill(data, tmp_path)
    content = paths["0"].read_bytes()
    other = dataclasses.replace(data, image_categories=("x",) * len(data.paths))
    monkeypatch.setattr("cnnlens.activations.relabelling.create_categories", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fill(other, tmp_path)
    assert paths["0"].read_bytes() == content
    assert not list(tmp_path.glob(".*.tmp"))
