"""Where the page's pictures live: inside it while they are few, beside it once they are many."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.files import atomic_folder

INLINE_LIMIT = 30_000_000  # bytes of picture files, all together
FOLDER = "report_files"
NOTHING = "data:,"  # address of a picture that cannot be shown
_TYPES = {".webp": "image/webp", ".png": "image/png", ".jpg": "image/jpeg"}


@contextmanager
def addresses(workspace: Path, pictures: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """Yield the address of every picture, for the block that writes the page.

    Up to `INLINE_LIMIT` bytes they are ``data:`` addresses. Beyond it they are copied to
    ``report_files/``, which takes its place whole just before the block runs. A folder that an
    earlier page needed and this one does not is removed when the block ends well.

    Raises
    ------
    CnnlensError
        When the folder cannot be written.
    """
    if sum(path.stat().st_size for path in pictures.values()) <= INLINE_LIMIT:
        yield {key: _inline(path) for key, path in pictures.items()}
        shutil.rmtree(workspace / FOLDER, ignore_errors=True)
    else:
        _copy_whole(workspace, pictures)
        yield {key: quote(f"{FOLDER}/{key}") for key in pictures}


def damage(path: Path) -> CnnlensError | None:
    """Say what is wrong with a picture, from its header; None where nothing is."""
    try:
        with Image.open(path) as picture:
            if picture.format == "WEBP" and path.stat().st_size < _webp_size(path):
                raise ValueError("it is cut short")
    except (OSError, ValueError, SyntaxError) as error:
        # what PIL says repeats the path, as the machine knows it
        why = "not a picture" if "cannot identify" in str(error) else str(error)
        return CnnlensError(
            f"{path} is damaged: {why}", "remove it, or redo the command with --force"
        )
    return None


def _webp_size(path: Path) -> int:
    # A RIFF file states its own length, less the 8 bytes that state it.
    with path.open("rb") as file:
        return int.from_bytes(file.read(8)[4:], "little") + 8


def _inline(path: Path) -> str:
    kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _copy_whole(workspace: Path, pictures: Mapping[str, Path]) -> None:
    with atomic_folder(workspace / FOLDER) as folder:
        for key, path in pictures.items():
            copy = folder / key
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
