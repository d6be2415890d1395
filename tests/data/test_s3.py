"""``s3://`` through its real client, s3fs, and a server that is not ours, moto.

Left out where they are missing, as by default: ``pip install s3fs 'moto[server]'``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.data import answers
from cnnlens.data.batches import batches
from cnnlens.data.member_path import forget_addresses
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError, UsageError

from .packed import files_of, zipped
from .test_archives import PREPROCESS, photos, picture, same

s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty S3 on this machine, which every client finds."""
    monkeypatch.setattr(answers, "FIRST_WAIT", 0.001)
    found = moto.ThreadedMotoServer(port=0)
    found.start()
    host, port = found.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    forget_addresses()
    yield found
    found.stop()
    forget_addresses()


def put(folder: Path, base: str) -> str:
    fs = s3fs.S3FileSystem()
    fs.makedirs(base.partition("/")[0], exist_ok=True)
    for file in files_of(folder):
        fs.pipe_file(f"{base}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    fs.invalidate_cache()
    return f"s3://{base}"


def test_a_bucket_is_the_folder_that_was_copied_there(tmp_path: Path, server: Any) -> None:
    folder = photos(tmp_path / "photos")
    same(open_data(put(folder, "bucket/photos")), open_data(folder))
    (tmp_path / "packed").mkdir()
    zipped(folder, tmp_path / "packed" / "photos")
    same(open_data(f"{put(tmp_path / 'packed', 'bucket/packed')}/photos.zip"), open_data(folder))
    with pytest.raises(UsageError, match="no folder s3://bucket/nothing") as caught:
        open_data("s3://bucket/nothing")
    assert "s3fs says where it looks for credentials" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no folder s3://no-such-bucket/photos"):
        open_data("s3://no-such-bucket/photos")


def test_a_server_that_goes_away_is_no_damage(tmp_path: Path, server: Any) -> None:
    for seed in range(24):
        picture(tmp_path / "many" / f"{seed:02d}.png", seed)
    found = open_data(put(tmp_path / "many", "bucket/many"))
    first = batches(found, PREPROCESS, batch_size=4, workers=2)
    truth = batches(open_data(tmp_path / "many"), PREPROCESS, batch_size=4, workers=0)
    assert np.array_equal(next(first).pixels, next(truth).pixels)
    server.stop()
    with pytest.raises(CnnlensError, match="s3://bucket/many is gone since the command began"):
        list(first)


def test_who_has_no_credentials_reads_where_they_are_looked_for(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put(photos(tmp_path / "photos"), "bucket/photos")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    forget_addresses()
    with pytest.raises(CnnlensError, match="credentials") as caught:
        open_data(address)
    assert caught.value.hint == "say who asks, where s3fs looks for credentials"
