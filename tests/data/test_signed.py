"""A signed address opens a file, and its signature is neither shown nor kept."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnlens.data.decode import DamagedImage
from cnnlens.data.given import given_images
from cnnlens.data.open import open_data
from cnnlens.errors import CnnlensError, UsageError
from tests.cli.runner import cnnlens

from .packed import files_of, zipped
from .test_archives import PREPROCESS, photos, same
from .test_remote import _anew, serving  # noqa: F401

SECRET = "X-Amz-Credential=me%2F1&X-Amz-Signature=5ec2e7"


@pytest.fixture
def signing(tmp_path: Path) -> Iterator[str]:
    """A local server that gives nothing to who has no signature, and lists nothing."""

    class Handler(SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            if not self.path.endswith(f"?{SECRET}"):
                return self.send_error(403)  # type: ignore[func-returns-value]
            return super().send_head()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving(functools.partial(Handler, directory=str(tmp_path))) as address:
        yield address


def test_a_signed_address_is_known_without_its_signature(tmp_path: Path, signing: str) -> None:
    truth = open_data(photos(tmp_path / "photos"))
    zipped(tmp_path / "photos", tmp_path / "packed")
    plain = f"{signing}/photos/cat/1.png"
    (found,) = given_images([Path(f"{plain}?{SECRET}")])  # as the shell gives it
    (local,) = given_images([tmp_path / "photos" / "cat" / "1.png"])
    assert np.array_equal(found.pixels(PREPROCESS), local.pixels(PREPROCESS))
    assert (str(found.path), found.name, found.shown) == (plain, "1", "cat/1.png")
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.pixels(PREPROCESS), local.pixels(PREPROCESS))
    packed = open_data(Path(f"{signing}/packed.zip?{SECRET}"))
    same(packed, truth)
    assert str(packed.root) == f"{signing}/packed.zip" and packed.name == "packed"
    same(open_data(f"{signing}/packed.zip/cat?{SECRET}"), open_data(tmp_path / "photos" / "cat"))
    with pytest.raises(UsageError, match="is named twice"):
        given_images([Path(f"{plain}?{SECRET}"), Path(f"{plain}?id=2")])


def test_an_images_signature_is_not_that_of_the_page_that_lists_it(tmp_path: Path) -> None:
    truth = open_data(photos(tmp_path / "photos"))

    class Handler(SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            if "/?" in self.path or self.path.endswith("photos?sig=1"):
                return self.send_error(400)  # type: ignore[func-returns-value]
            return super().send_head()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving(functools.partial(Handler, directory=str(tmp_path))) as address:
        (image,) = given_images([Path(f"{address}/photos/cat/1.png?sig=1")])
        assert image.pixels(PREPROCESS).size
        same(open_data(f"{address}/photos/"), truth)


def test_no_error_tells_a_signature(tmp_path: Path, signing: str) -> None:
    photos(tmp_path / "photos")
    plain = f"{signing}/photos/cat/1.png"
    with pytest.raises(CnnlensError) as refused:
        given_images([Path(f"{plain}?{SECRET}0")])
    assert plain in refused.value.message and "asks for a signature" in refused.value.hint
    with pytest.raises(UsageError) as gone:
        given_images([Path(f"{signing}/photos/cat/99.png?{SECRET}")])
    (image,) = given_images([Path(f"{plain}?{SECRET}")])
    (tmp_path / "photos" / "cat" / "1.png").unlink()
    with pytest.raises(DamagedImage) as lost:
        image.pixels(PREPROCESS)
    for error in (refused, gone, lost):
        assert "Signature" not in str(error.value) and "5ec2e7" not in str(error.value)


def test_no_file_and_no_line_holds_a_signature(tmp_path: Path, signing: str) -> None:
    photos(tmp_path / "photos")
    image, made = f"{signing}/photos/cat/1.png?{SECRET}", tmp_path / "made"
    done = cnnlens("cam", "zoo:demo_net", "-i", image, "--method", "gradcam", "-w", made)
    assert done.code == 0 and "neither shown nor kept" in done.err
    assert "1.png?..." in (made / "report.html").read_text()
    told = [done.out, done.err, *(file.read_bytes().decode("latin-1") for file in files_of(made))]
    assert not [text[:200] for text in told if "5ec2e7" in text]
