"""What a file is by its content; extensions lie."""

from __future__ import annotations

import zipfile
from pathlib import Path

CHECKPOINT, LEGACY, SCRIPT, EXPORTED, SAFETENSORS = (
    "a PyTorch checkpoint",
    "an old PyTorch checkpoint",
    "a TorchScript archive",
    "an exported program",
    "a safetensors file",
)
READABLE = (CHECKPOINT, LEGACY, EXPORTED, SAFETENSORS)
EMPTY, TEXT, PICKLE = "empty", "a text file", "a Python pickle"
UNKNOWN = "no file format known to cnnlens"
# what torch.save wrote before it wrote zip archives: a pickled magic number
_LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras or TensorFlow weights?)",
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"\x93NUMPY": "a NumPy array",
    b"\x7fELF": "a program",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (run `git lfs pull`)",
    b"<!DOCTYPE": "a web page (a download that failed?)",
    b"<!doctype": "a web page (a download that failed?)",
    b"<html": "a web page (a download that failed?)",
}
# a member's last part -> what the zip archive around it is
_MEMBERS = {
    "constants.pkl": SCRIPT,
    "data.pkl": CHECKPOINT,
    "archive_format": EXPORTED,
    "serialized_exported_program.json": EXPORTED,
    "model.weights.h5": "a Keras model",
    "[Content_Types].xml": "an Office document",
}


def file_type(path: Path) -> str:
    """Name what a file seems to be, with its article: ``a PNG image``.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return EMPTY
    if head.startswith(b"PK\x03\x04"):
        return _zip_type(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return LEGACY if head[2:15] == _LEGACY else PICKLE
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return SAFETENSORS
    return _by_beginning(head)


def _zip_type(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError):
        return "a truncated or damaged zip archive"
    for member, kind in _MEMBERS.items():
        if member in names:
            return kind
    return "a NumPy archive" if any(n.endswith(".npy") for n in names) else "a zip archive"


def _by_beginning(head: bytes) -> str:
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[0] == 8 and head[2:3] in b"\x12\x1a\x22\x3a":  # protobuf: a version, then a field
        saved = head[1] == 1 and head[2:3] == b"\x12"
        return "a TensorFlow SavedModel" if saved else "an ONNX model"
    return TEXT if _is_text(head) else UNKNOWN


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and len(head) == 4096  # cut within a character
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
