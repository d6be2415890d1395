"""Data at an address of fsspec is read as the folder it was copied from."""

from __future__ import annotations

import functools
import itertools
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from cnnlens.data import addresses, answers, remote
from cnnlens.data.batches import batches
from cnnlens.data.broden import Broden
from cnnlens.data.check import check
from cnnlens.data.dataset import open_folder
from cnnlens.data.given import given_images
from cnnlens.data.member_path import MemberPath, forget_addresses, located
from cnnlens.data.open import open_data
from cnnlens.data.synthetic import make_shapes
from cnnlens.data.unread import Unanswered
from cnnlens.errors import CnnlensError, UsageError

from .packed import files_of, tarred, zipped
from .test_archives import PREPROCESS, outcome, photos, picture, same
from .test_shards import photos as shard_photos
from .test_shards import write as write_shards


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(answers, "FIRST_WAIT", 0.001)
    forget_addresses()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield
    forget_addresses()
    MemoryFileSystem.store.clear()


def put(folder: Path, base: str) -> str:
    """Copy a folder to memory; say its address."""
    fs = fsspec.filesystem("memory")
    for file in files_of(folder):
        fs.pipe_file(f"/{base}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return f"memory://{base}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A local server over the test's folder, as `python -m http.server` is one."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving(functools.partial(Handler, directory=str(tmp_path))) as address:
        yield address


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_address_is_the_folder_that_was_copied_there(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    found = open_data(Path(put(tmp_path / "photos", "bucket/photos")))  # as the shell gives it
    same(found, truth)
    assert found.name == "photos" and str(found.root) == "memory://bucket/photos"
    assert str(found.root.resolve()) == "memory://bucket/photos"
    assert check("memory://bucket/photos").problems == check(tmp_path / "photos").problems
    same(open_data("memory://bucket/photos/dog"), open_data(tmp_path / "photos" / "dog"))
    again = pickle.loads(pickle.dumps(found))
    assert outcome(again, 0) == outcome(truth, 0)


def test_keys_hold_whatever_a_store_takes_and_what_leads_out_is_named(tmp_path: Path) -> None:
    for folder in ("12:00", "a:b", "c:", "x\\y", "cat"):
        picture(tmp_path / "photos" / folder / "1.png", 1)
    address = put(tmp_path / "photos", "bucket/photos")
    same(open_data(address), open_data(tmp_path / "photos"))
    store = MemoryFileSystem.store
    store["/bucket/photos/cat/../2.png"] = store["/bucket/photos/cat/1.png"]
    forget_addresses()
    found = open_data(address)
    assert len(found.paths) == 5
    assert found.notes == (
        "1 member passed over, whose names lead out of the folder: cat/../2.png",
    )


def test_one_image_at_an_address_is_read_alone(
    tmp_path: Path, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "photos")
    address = put(folder, "bucket/photos")
    zipped(folder, tmp_path / "packed")
    (truth,) = given_images([folder / "cat" / "1.png"])
    assert len(given_images([Path(address) / "cat"])) == len(given_images([folder / "cat"]))
    forget_addresses()
    monkeypatch.setattr(MemoryFileSystem, "find", None)  # its folder is not listed
    for place in (address, f"{site}/photos", f"{site}/packed.zip"):
        (found,) = given_images([Path(place) / "cat" / "1.png"])
        assert np.array_equal(found.pixels(PREPROCESS), truth.pixels(PREPROCESS))
        assert found.name == "1" and found.shown == "cat/1.png"
    for place in (address, f"{site}/photos"):
        with pytest.raises(UsageError, match=r"no image (memory|http)://.*/cat/9\.png"):
            given_images([Path(place) / "cat" / "9.png"])
    with pytest.raises(UsageError, match=r"1\.png is an image, not a folder"):
        open_data(f"{address}/cat/1.png")


def test_images_of_one_size_and_tag_are_told_apart_by_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two of a web server that makes its ETags of time and size."""
    for value in (1, 2):
        Image.new("L", (4, 4), value).save(tmp_path / f"{value}.bmp")
    address, info = put(tmp_path, "bucket"), MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *a: {**info(*a), "ETag": '"5e8b-6a"'})
    mine, other = given_images([Path(address) / "1.bmp", Path(address) / "2.bmp"])
    plain = given_images([tmp_path / "1.bmp", tmp_path / "2.bmp"])
    assert [mine.state, other.state] == [image.state for image in plain]
    assert mine.state != other.state


def test_a_tag_that_is_a_checksum_is_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (1, 2):
        Image.new("L", (4, 4), value).save(tmp_path / f"{value}.bmp")
    address, info = put(tmp_path, "bucket"), MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *a: {**info(*a), "md5": "5e8b"})
    monkeypatch.setattr(MemoryFileSystem, "cat_file", None)  # nothing is read
    mine, other = given_images([Path(address) / "1.bmp", Path(address) / "2.bmp"])
    assert mine.state == other.state and mine.place != other.place


@pytest.mark.parametrize(
    "start, told", [("s3", True), ("https", False), ("simplecache::s3", False)]
)
def test_an_etag_is_a_checksum_where_the_store_makes_it_of_the_content(
    start: str, told: bool
) -> None:
    found = remote._member(f"{start}://host/a.png", 3, {"ETag": '"5e8b"'}, "a.png")
    assert (found.state, found.has_checksum) == ('3:"5e8b"', told)


@pytest.mark.parametrize(
    ("tag", "value", "reads"),
    [
        ("ETag", "x", False),
        ("Last-Modified", "x", True),
        ("ETag", 'W/"x"', True),
        ("ETag", '"5e8b0a3c-446"', True),  # as nginx makes it: 0x446 bytes
    ],
)
def test_of_images_with_tags_none_is_read_to_know_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str, value: str, reads: bool
) -> None:
    """Unless a server makes them of no more than time and size, in seconds."""
    for name, shade in (("clean", 1), ("noisy", 2)):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4), shade).save(tmp_path / name / "a.bmp")
    find, cat, read = MemoryFileSystem.find, MemoryFileSystem.cat_file, []
    said = {"size": 1094, "type": "file", tag: value}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *a, **k: dict.fromkeys(find(*a), said))
    monkeypatch.setattr(
        MemoryFileSystem, "cat_file", lambda *a, **k: (read.append(1), cat(*a, **k))[1]
    )
    one, other = (
        open_folder(located(put(tmp_path / name, name))).fingerprint for name in ("clean", "noisy")
    )
    assert (one != other) == reads == bool(read)


def test_splits_and_label_maps_lie_at_addresses_too(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", 5, 32)
    truth, found = open_data(tmp_path / "shapes"), open_data(put(tmp_path / "shapes", "in/shapes"))
    assert isinstance(truth, Broden) and isinstance(found, Broden)
    same(found, truth)
    for index in range(5):
        mine, other = (one.concept_space().labels(index) for one in (found, truth))
        assert np.array_equal(mine.planes, other.planes) and other.planes.any()
    for seed in range(3):
        picture(tmp_path / "splits" / "train" / "cat" / f"{seed}.png", seed)
        picture(tmp_path / "splits" / "val" / "cat" / f"{seed}.png", seed)
    address = put(tmp_path / "splits", "splits")
    with pytest.raises(UsageError, match=r"memory://splits are splits"):
        open_data(address)
    same(open_data(address, "train"), open_data(tmp_path / "splits", "train"))


def test_archives_and_shards_are_read_at_an_address(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    (tmp_path / "packed").mkdir()
    zipped(tmp_path / "photos", tmp_path / "packed" / "a")
    tarred(tmp_path / "photos", tmp_path / "packed" / "b")
    shard_photos(tmp_path / "shards")
    write_shards(tmp_path / "packed", tmp_path / "shards", "cls")
    address = put(tmp_path / "packed", "bucket")
    same(open_data(f"{address}/a.zip"), truth)
    same(open_data(f"{address}/b.tar"), truth)
    same(open_data(f"{address}/a.zip/dog"), open_data(tmp_path / "photos" / "dog"))
    same(open_data(f"{address}/shards-{{000..002}}.tar"), open_data(tmp_path / "shards"))
    same(open_data(f"{address}/shards-*.tar"), open_data(tmp_path / "shards"))
    same(open_data("zip://::memory://bucket/a.zip"), truth)
    with pytest.raises(UsageError, match=r"other-\*\.tar: there is none"):
        open_data(f"{address}/other-*.tar")
    with pytest.raises(UsageError, match=r"shards-001\.tar is named twice"):
        open_data(f"{address}/shards-{{001,001}}.tar")
    with pytest.raises(UsageError, match=r"no archive memory://bucket/c\.zip"):
        open_data(f"{address}/c.zip")


def test_addresses_on_this_machine_keep_their_third_slash(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    archive = zipped(tmp_path / "photos", tmp_path / "packed")
    for typed in (str, Path):  # a path as the shell gives it
        for kind in ("file", "local"):
            same(open_data(typed(f"{kind}://{tmp_path}/photos")), truth)
            same(open_data(typed(f"{kind}://{archive}")), truth)
            same(open_data(typed(f"zip://::{kind}://{archive}")), truth)
        found = open_data(typed(f"local://{tmp_path}/photos"))
        assert str(found.root) == f"local://{tmp_path}/photos"


def test_a_web_server_is_read_as_the_folder_it_shows(tmp_path: Path, site: str) -> None:
    truth = open_data(photos(tmp_path / "my photos"))
    found = open_data(f"{site}/my%20photos")
    same(found, truth)
    (tmp_path / "my photos" / "dog" / "1.png").unlink()
    forget_addresses()
    changed = open_data(f"{site}/my%20photos/")
    assert len(changed.paths) == len(truth.paths) - 1
    archive = zipped(tmp_path / "my photos", tmp_path / "packed")  # of a server without ranges
    same(open_data(f"{site}/{archive.name}"), open_data(tmp_path / "my photos"))


def test_a_listing_is_taken_once_and_another_content_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put(photos(tmp_path / "photos"), "photos")
    listed = []
    find = MemoryFileSystem.find
    monkeypatch.setattr(
        MemoryFileSystem, "find", lambda *a, **k: (listed.append(1), find(*a, **k))[1]
    )
    before = open_data(address)
    assert open_data(address).fingerprint == before.fingerprint
    open_data(f"{address}/cat")
    assert len(listed) == 1
    same_size = bytearray((tmp_path / "photos" / "dog" / "1.png").read_bytes())
    same_size[-20] ^= 1
    fsspec.filesystem("memory").pipe_file("/photos/dog/1.png", bytes(same_size))
    forget_addresses()
    assert open_data(address).fingerprint != before.fingerprint


def test_files_whose_size_nobody_says_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put(photos(tmp_path / "photos"), "photos")
    find, info = MemoryFileSystem.find, MemoryFileSystem.info
    monkeypatch.setattr(
        MemoryFileSystem,
        "find",
        lambda *a, **k: {n: {**v, "size": None} for n, v in find(*a, **k).items()},
    )
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *a, **k: {**info(*a, **k), "size": None})
    found, truth = open_data(address), open_data(tmp_path / "photos")
    for index, path in enumerate(truth.paths):
        if path != "cat/none.png":  # whose emptiness shows in its content alone
            assert outcome(found, index) == outcome(truth, index)


# ---- file systems that misbehave


class Odd(MemoryFileSystem):
    """Memory whose reads fail, wait for each other, or end, as a test says."""

    protocol = "odd"
    cachable = True
    before: Any = None
    listed: bool = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("odd://", "memory://"))

    def cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        if Odd.before is not None:
            Odd.before()
        return super().cat_file(path, start, end, **more)

    def find(self, path: str, *args: Any, **more: Any) -> Any:
        found = super().find(path, *args, **more)
        self.listed = True
        return found

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listed = False

    def exists(self, path: str, **more: Any) -> bool:
        """Say of what was listed that it is there, without looking, as s3fs does."""
        if self.listed:
            return True
        if Odd.before is not None:
            Odd.before()
        return super().exists(path, **more)


@pytest.fixture
def odd() -> Iterator[type[Odd]]:
    fsspec.register_implementation("odd", Odd, clobber=True)
    Odd.before = None
    yield Odd
    Odd.before = None


def many(tmp_path: Path, count: int = 60) -> str:
    for seed in range(count):
        picture(tmp_path / "many" / f"{seed:02d}.png", seed)
    put(tmp_path / "many", "many")
    return "odd://many"


def test_reads_that_fail_now_and_then_are_tried_again(tmp_path: Path, odd: type[Odd]) -> None:
    address = many(tmp_path)
    count, failed = itertools.count(1), []

    def every_tenth() -> None:
        if next(count) % 10 == 0:
            failed.append(1)
            raise ConnectionResetError("the line broke")

    odd.before = every_tenth
    found = open_data(address)
    truth = open_data(tmp_path / "many")
    (mine,) = batches(found, PREPROCESS, batch_size=60, workers=2)
    (other,) = batches(truth, PREPROCESS, batch_size=60, workers=2)
    assert len(failed) > 5 and mine.skipped == ()
    assert np.array_equal(mine.pixels, other.pixels)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionResetError("the line broke"), "the line broke"),
        (PermissionError("Forbidden"), "Forbidden"),
    ],
)
def test_an_image_that_does_not_come_is_no_damage_and_ends_the_run(
    tmp_path: Path, odd: type[Odd], error: OSError, said: str
) -> None:
    address = many(tmp_path, 5)
    found = open_data(address)
    read = Odd.cat_file

    def cat_file(self: Odd, path: str, *args: Any, **more: Any) -> bytes:
        if path.endswith("03.png"):
            raise error
        return read(self, path, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Odd, "cat_file", cat_file)
        with pytest.raises(CnnlensError, match=rf"odd://many/03\.png cannot be read: {said}"):
            list(batches(found, PREPROCESS, batch_size=9, workers=2))
    (batch,) = batches(found, PREPROCESS, batch_size=9, workers=2)
    assert batch.skipped == () and batch.indices.tolist() == [0, 1, 2, 3, 4]


def test_a_server_that_goes_away_is_one_clear_error(tmp_path: Path, odd: type[Odd]) -> None:
    found = open_data(many(tmp_path))

    def gone() -> None:
        raise ConnectionRefusedError("connection refused")

    first = batches(found, PREPROCESS, batch_size=4, workers=2)
    assert len(next(first).indices) == 4
    odd.before = gone
    with pytest.raises(CnnlensError, match=r"odd://many is gone since the command began") as caught:
        list(first)
    assert "the same command goes on" in caught.value.hint


@pytest.mark.parametrize(
    "refusal", [PermissionError("Access Denied"), ValueError("Unable to locate credentials")]
)
def test_who_is_refused_reads_where_credentials_are_looked_for(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    def find(*args: Any, **more: Any) -> None:
        raise refusal

    monkeypatch.setattr(Odd, "find", find)
    monkeypatch.setitem(addresses._PACKAGES, "odd", "oddfs")
    with pytest.raises(CnnlensError, match=str(refusal)) as caught:
        open_data("odd://many")
    assert caught.value.hint == "say who asks, where oddfs looks for credentials"


def test_what_is_private_is_named_where_nothing_is_listed(
    odd: type[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(addresses._PACKAGES, "odd", "oddfs")
    with pytest.raises(UsageError, match="no folder odd://nothing") as caught:
        open_data("odd://nothing")
    assert "or it is private: oddfs" in str(caught.value.hint)


def test_slow_reads_overlap(tmp_path: Path, odd: type[Odd]) -> None:
    found = open_data(many(tmp_path))
    lock, inside, most = threading.Lock(), 0, 0
    together = threading.Event()

    def slow() -> None:
        """Wait until as many read at once as there may be; where they do not, time is up."""
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if most == remote.READERS:
                together.set()
        together.wait(20)
        with lock:
            inside -= 1

    odd.before = slow
    (batch,) = batches(found, PREPROCESS, batch_size=60, workers=2)
    assert most == remote.READERS and len(batch.indices) == 60


def test_what_cannot_be_opened_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"nowhere://x cannot be opened"):
        open_data("nowhere://x")
    with pytest.raises(UsageError, match=r"no folder memory://empty"):
        open_data("memory://empty")

    def missing(address: str) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    for address, package in (("s3://b/x", "s3fs"), ("https://b/x", "cnnlens[remote]")):
        with pytest.raises(UsageError, match="needs a package that is missing") as caught:
            open_data(address)
        assert caught.value.hint == f"pip install '{package}'"


def test_a_server_that_refuses_is_named() -> None:
    with pytest.raises(CnnlensError, match=r"http://127\.0\.0\.1:9/photos"):
        open_data("http://127.0.0.1:9/photos")


class Answers:
    """What a web server answers: a status for the next requests of some paths, in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.next, self.asked = folder, dict[str, list[int]](), list[str]()

    def handler(self) -> Any:
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def send_head(self) -> Any:
                outer.asked.append(self.path)
                waiting = outer.next.get(self.path)
                if waiting and (status := waiting.pop(0)):
                    return self.send_error(status)  # type: ignore[func-returns-value]
                return super().send_head()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return functools.partial(Handler, directory=str(self.folder))


PLACES = ("/photos/", "/photos/cat/1.png", "/packed.zip")


def opening(address: str, path: str) -> Any:
    forget_addresses()
    at = Path(address + path)
    return given_images([at]) if path.endswith(".png") else open_data(at)


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_is_busy_is_asked_again_and_then_named(
    tmp_path: Path, path: str, status: int
) -> None:
    zipped(photos(tmp_path / "photos"), tmp_path / "packed")
    site = Answers(tmp_path)
    with serving(site.handler()) as address:
        site.next[path] = [status] * 3  # of a file fsspec asks by HEAD, and then by GET
        assert opening(address, path)
        site.next[path] = [status] * 99
        with pytest.raises(CnnlensError, match=f"the server says {status} ") as caught:
            opening(address, path)
        assert caught.value.exit_code == 1 and "tries again" in caught.value.hint


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(404, 2, "no "), (401, 1, "401 Unauthorized"), (403, 1, "403 Forbidden"), (400, 1, "400 Bad")],
)
def test_an_answer_that_will_not_change_is_asked_for_once(
    tmp_path: Path, path: str, status: int, code: int, said: str
) -> None:
    zipped(photos(tmp_path / "photos"), tmp_path / "packed")
    site = Answers(tmp_path)
    with serving(site.handler()) as address:
        site.next[path] = [status] * 99
        with pytest.raises(CnnlensError, match=said) as caught:
            opening(address, path)
        assert caught.value.exit_code == code
        assert len(site.asked) <= 2  # by HEAD, and by GET
        assert ("is private" in caught.value.hint) == (status in (401, 403))


def test_no_folder_of_a_site_is_lost_while_its_server_is_busy(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    site = Answers(tmp_path)
    with serving(site.handler()) as address:
        site.next = {"/photos/dog/": [503, 503], "/photos/cat/1.png": [503] * 4}
        same(open_data(f"{address}/photos"), truth)
        forget_addresses()
        site.next = {"/photos/cat/1.png": [503] * 99}  # asked for its size
        with pytest.raises(CnnlensError, match=r"cat/1\.png cannot be read: the server says 503"):
            open_data(f"{address}/photos")


def test_no_folder_is_lost_whose_listing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fsspec's own walk passes over it, as over a link that leads nowhere."""
    from fsspec.spec import AbstractFileSystem

    truth = open_data(photos(tmp_path / "photos"))
    address, ls, left = put(tmp_path / "photos", "photos"), MemoryFileSystem.ls, [2.0]

    def listed(self: Any, path: str, *args: Any, **more: Any) -> Any:
        if path.endswith("dog") and left[0] > 0:
            left[0] -= 1
            raise ConnectionResetError("the line broke")
        return ls(self, path, *args, **more)

    monkeypatch.setattr(MemoryFileSystem, "find", AbstractFileSystem.find)
    monkeypatch.setattr(MemoryFileSystem, "ls", listed)
    same(open_data(address), truth)
    forget_addresses()
    left[0] = 1e9
    with pytest.raises(CnnlensError, match="the line broke"):
        open_data(address)


def test_a_server_may_say_how_long_it_is_to_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(answers.time, "sleep", waits.append)

    class Busy(Exception):  # noqa: N818
        status = 429
        headers: ClassVar = {"Retry-After": "7"}

    def busy() -> None:
        raise Busy

    with pytest.raises(OSError, match="429 Too Many Requests"):
        answers.tried(busy)
    assert waits == [7, 7, 7]


def test_an_address_without_a_host_keeps_having_none() -> None:
    assert addresses.as_address("hdfs:///photos") == "hdfs://default/photos"  # as fsspec has it
    assert str(MemberPath(addresses.as_address("hdfs:///photos"))) == "hdfs://default/photos"
    assert addresses.as_address("hdfs://host:8020/photos") == "hdfs://host:8020/photos"


def test_what_a_store_says_is_not_there_is_asked_for_once(tmp_path: Path) -> None:
    """Its error stands on one of its own library's, as those of s3fs and huggingface_hub do."""
    found, asked = open_data(put(photos(tmp_path / "photos"), "photos")), list[str]()
    read = MemoryFileSystem.cat_file

    def cat_file(self: MemoryFileSystem, path: str, *args: Any, **more: Any) -> bytes:
        asked.append(path)
        return read(self, path, *args, **more)

    fsspec.filesystem("memory").rm_file("/photos/dog/1.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", cat_file)
        (batch,) = batches(found, PREPROCESS, batch_size=99, workers=0)
    assert "dog/1.png" in {path for path, _ in batch.skipped}
    assert sum(path.endswith("dog/1.png") for path in asked) == 1


class Coded(Exception):  # noqa: N818
    """What a library raises that has a status of its own kind."""

    def __init__(self, status: Any) -> None:
        super().__init__("it was sent in a circle")
        self.status = status


@pytest.mark.parametrize("status", [0, None, "404 Not Found"])
def test_a_status_that_is_no_answer_of_a_server_is_none(status: Any) -> None:
    def fails() -> None:
        raise Coded(status)

    with pytest.raises(Unanswered, match="it was sent in a circle"):
        answers.tried(fails)
