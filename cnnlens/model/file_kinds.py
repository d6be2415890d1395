"""What a file seems to be, by its content: endings lie."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from cnnlens.errors import CnnlensError

CHECKPOINT, LEGACY, SCRIPT, PACKAGE, EXPORTED, SAFETENSORS = (
    "a PyTorch checkpoint",
    "an old PyTorch checkpoint",
    "a TorchScript archive",
    "an archive of torch.package",
    "an exported program",
    "a safetensors file",
)
# models, of kinds that cnnlens does not open
HDF5, KERAS, SAVED_MODEL, LITE, ONNX, GGUF = (
    "an HDF5 file (Keras or TensorFlow weights?)",
    "a Keras model",
    "a TensorFlow SavedModel",
    "a TensorFlow Lite model",
    "an ONNX model",
    "a GGUF file",
)
FOREIGN = (SCRIPT, PACKAGE, KERAS, SAVED_MODEL, LITE, ONNX, GGUF)
READABLE = (CHECKPOINT, LEGACY, EXPORTED, SAFETENSORS)
EMPTY, TEXT, PICKLE = "empty", "a text file", "a Python pickle"
PAGE, LFS = "a web page or message (a download that failed?)", "a Git LFS pointer"
CUT = "a truncated or damaged zip archive"
ARCHIVES = GZIP, BZIP, XZ, SEVEN, ZIP, TAR = (
    "a gzip archive",
    "a bzip2 archive",
    "an xz archive",
    "a 7-Zip archive",
    "a zip archive",
    "a tar archive",
)
UNKNOWN = "no file format known to cnnlens"
# what torch.save wrote before it wrote zip archives: a pickled magic number
_LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": HDF5,
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": GZIP,
    b"BZh": BZIP,
    b"\xfd7zXZ\0": XZ,
    b"7z\xbc\xaf\x27\x1c": SEVEN,
    b"\x93NUMPY": "a NumPy array",
    b"\x7fELF": "a program",
    b"GGUF": GGUF,
    b"version https://git-lfs": LFS,
}
# how texts begin that a failed download leaves, in small letters
_PAGES = (b"<!doctype", b"<html", b"<?xml", b'{"error', b'{"message')
# a member's last part -> what the zip archive around it is
_MEMBERS = {
    "extern_modules": PACKAGE,
    "constants.pkl": SCRIPT,
    "data.pkl": CHECKPOINT,
    "archive_format": EXPORTED,
    "serialized_exported_program.json": EXPORTED,
    "model.weights.h5": KERAS,
    "[Content_Types].xml": "an Office document",
}
_READS = (
    "cnnlens opens PyTorch checkpoints and state dicts (.pt, .pth, .ckpt, .safetensors) "
    "and torch.export programs (.pt2)"
)
FROM_ELSEWHERE = (
    "open the PyTorch network it was made from: save its net.state_dict(), or export it with "
    "torch.export"
)
_REBUILD = (
    "cnnlens looks into PyTorch networks: build it in PyTorch and give its weights with "
    "--arch file.py:factory"
)
_AGAIN = "copy or download it again"
_ADVICE = {
    SCRIPT: "take its weights out, torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt'), "
    "and open those; or export the network it was made from with torch.export",
    PACKAGE: "take its weights out, where you trust its code: torch.save(torch.package."
    "PackageImporter(FILE).load_pickle(PACKAGE, NAME).state_dict(), 'weights.pt'), and open those",
    ONNX: FROM_ELSEWHERE,
    PAGE: _AGAIN,
    CUT: _AGAIN,
    LFS: "run `git lfs pull` where it lies",
    **dict.fromkeys((HDF5, KERAS, SAVED_MODEL, LITE), _REBUILD),
    **dict.fromkeys(ARCHIVES, "unpack it, and name the file of weights in it"),
}


def kind_of(path: Path) -> str:
    """Name what a file is, where it may hold a model that can be opened.

    Raises
    ------
    CnnlensError
        When it cannot be read, or is something else; says what, and the way out.
    """
    if (parts := distributed(path)) is not None:
        raise parts
    try:
        kind = file_type(path)
    except OSError as error:
        raise CnnlensError(f"cannot read {path}: {error.strerror or error}") from error
    if kind in READABLE or kind == PICKLE:
        return kind
    what = "is empty" if kind == EMPTY else f"is {kind}, not a model"
    if kind in FOREIGN:
        what = f"is {kind}, which cnnlens does not open"
    hint = "give Python code as file.py:factory" if path.suffix == ".py" else _READS
    raise CnnlensError(f"{path} {what}", _ADVICE.get(kind, hint))


def distributed(path: Path) -> CnnlensError | None:
    """Say how a folder that torch.distributed.checkpoint wrote (FSDP), or DeepSpeed, or a part of
    it, is opened.

    None of other files and folders: each part is a zip archive, and what lists them a pickle.
    """
    if (folder := _deepspeed(path)) is not None:
        return CnnlensError(
            f"{folder} is a checkpoint of DeepSpeed, in parts, which cnnlens does not open",
            f"make weights of it: python -m deepspeed.utils.zero_to_fp32 {folder} weights",
        )
    inside = path.suffix == _PART or path.name == _PARTS
    folder = path.parent if inside else path
    if not (folder / _PARTS).is_file() or not any(folder.glob(f"*{_PART}")):
        return None
    return CnnlensError(
        f"{folder} is a checkpoint of torch.distributed, in parts, which cnnlens does not open",
        "make one file of it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch "
        f"{folder} weights.pt",
    )


_PARTS, _PART = ".metadata", ".distcp"
# of DeepSpeed: all parts, and those that hold no whole weights (ZeRO's, optimizers')
_STATES, _SHARED = "*_states.pt", re.compile(r"(zero_pp_rank_\d+_.*|.*_optim)_states\.pt")


def _deepspeed(path: Path) -> Path | None:
    """The folder of DeepSpeed's that something is, or is a part of; None of others."""
    if path.is_file():
        return _deepspeed(path.parent) if _SHARED.fullmatch(path.name) else None
    if any(path.glob(_STATES)):  # of one step, below what names the last one
        return path if (path / "latest").is_file() else path.parent
    named = (path / "latest").is_file() and any(path.glob(f"*/{_STATES}"))
    return path if named else None


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
        return CUT
    for member, kind in _MEMBERS.items():
        if member in names:
            return kind
    return "a NumPy archive" if any(n.endswith(".npy") for n in names) else ZIP


def _by_beginning(head: bytes) -> str:
    if head.lstrip().lower().startswith(_PAGES):
        return PAGE
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    if head[4:8] == b"TFL3":
        return LITE
    if head[257:262] == b"ustar":
        return TAR
    if head[0] == 8 and head[2:3] in b"\x12\x1a\x22\x3a":  # protobuf: a version, then a field
        saved = head[1] == 1 and head[2:3] == b"\x12"
        return SAVED_MODEL if saved else ONNX
    return TEXT if _is_text(head) else UNKNOWN


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and len(head) == 4096  # cut within a character
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
