"""Files as MODEL: recognised by their content (extensions lie), then opened as each kind needs."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cnnlens.errors import CnnlensError
from cnnlens.model.architectures import Opened, count_outputs, described
from cnnlens.model.checkpoint import (
    State,
    find_module,
    is_checkpoint,
    modern_names,
    open_checkpoint,
    read_pickle,
    read_safetensors,
    read_torch,
)
from cnnlens.model.class_names import names_in
from cnnlens.model.entries import View, choose, find_entries, find_views, listed
from cnnlens.model.exported import open_exported
from cnnlens.model.fit import Fit, build
from cnnlens.model.hub import FROM_ELSEWHERE, folder_of, open_folder, read_parts
from cnnlens.model.parametrized import refuse_transformers, refuse_unfinished, whole_weights
from cnnlens.model.recognise import held_against, recognise

CHECKPOINT, LEGACY, SCRIPT, EXPORTED, SAFETENSORS = (
    "a PyTorch checkpoint",
    "an old PyTorch checkpoint",
    "a TorchScript archive",
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
FOREIGN = (SCRIPT, KERAS, SAVED_MODEL, LITE, ONNX, GGUF)
READABLE = (CHECKPOINT, LEGACY, EXPORTED, SAFETENSORS)
EMPTY, TEXT, PICKLE = "empty", "a text file", "a Python pickle"
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
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"\x93NUMPY": "a NumPy array",
    b"\x7fELF": "a program",
    b"GGUF": GGUF,
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
    "model.weights.h5": KERAS,
    "[Content_Types].xml": "an Office document",
}
_READS = (
    "cnnlens opens PyTorch checkpoints and state dicts (.pt, .pth, .ckpt, .safetensors) "
    "and torch.export programs (.pt2)"
)
_ADVICE = {
    SCRIPT: "take its weights out, torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt'), "
    "and open those; or export the network it was made from with torch.export",
    ONNX: FROM_ELSEWHERE,
    TEXT: "give Python code as file.py:factory",
}


def open_file(
    path: Path,
    arch: str | None = None,
    allow_pickle: bool = False,
    weights: str | None = None,
) -> Opened:
    """Open whatever kind of model file this is; `weights` names an entry of it.

    Raises
    ------
    UsageError
        When several architectures fit, `arch` does not exist, or does not go with this file.
    CnnlensError
        When the file is no model that can be opened; says what it seems to be.
    """
    if arch is None and (folder := folder_of(path)) is not None:
        return open_folder(folder, None, weights, path.name)
    if (parts := read_parts(path)) is not None:
        return _from_content(parts, path, arch, weights)
    if path.is_dir():
        return open_folder(path, arch, weights)
    kind = _kind(path)
    if kind == EXPORTED:
        return _needless(open_exported(path, allow_pickle), arch, path)
    if kind == SAFETENSORS:
        return _from_content(read_safetensors(path), path, arch, weights)
    read = read_pickle if kind == PICKLE else read_torch
    return _from_content(read(path, allow_pickle), path, arch, weights)


def _kind(path: Path) -> str:
    try:
        kind = file_type(path)
    except OSError as error:
        raise CnnlensError(f"cannot read {path}: {error.strerror or error}") from error
    if kind in READABLE or kind == PICKLE:
        return kind
    what = "is empty" if kind == EMPTY else f"is {kind}, not a model"
    if kind in FOREIGN:
        what = f"is {kind}, which cnnlens does not open"
    raise CnnlensError(f"{path} {what}", _ADVICE.get(kind, _READS))


def _from_content(content: Any, path: Path, arch: str | None, weights: str | None = None) -> Opened:
    if is_checkpoint(content) and weights is None:
        return _needless(open_checkpoint(path, content), arch, path)
    module = find_module(content)
    if module is not None and arch is None and weights is None:  # only where pickles are allowed
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        return with_names(Opened(module, f"pickle:{kind}", notes=[f"unpickled {kind}"]), content)
    refuse_unfinished(path, content)
    entries = find_entries(content)
    if not entries:
        raise CnnlensError(
            f"{path} holds {_holds(content)}, but no state dict",
            "save net.state_dict(), alone or under the key 'state_dict'",
        )
    entry, others = choose(entries, weights, path)
    opened = _from_state(entry.state, path, arch, _named_in(content))
    if others:
        opened.notes = [
            *opened.notes,
            f"{entry.path or 'its top level'} is opened; --weights opens {', '.join(others)}",
        ]
    return with_names(opened, content)


def with_names(opened: Opened, content: Any) -> Opened:
    """Give a network the class names that its file holds, where it has as many outputs."""
    named, outputs = names_in(content), count_outputs(opened.net)
    if named is None or opened.headless:
        return opened
    names, key = named
    if len(names) != outputs:
        note = f"the {len(names)} names under {key} are left out: the network has {outputs} outputs"
        return replace(opened, notes=[*opened.notes, note])
    return replace(opened, classes=names, classes_source=f"the checkpoint's {key}")


def _named_in(content: Any) -> str | None:
    """What a training script noted as its architecture: ``arch``, or ``args.model``."""
    for place in (content, *(_get(content, k) for k in ("args", "hyper_parameters", "config"))):
        for key in ("arch", "model_name", "architecture", "model", "backbone"):
            if isinstance(name := _get(place, key), str):
                return name.rpartition(":")[2]
    return None


def _get(place: Any, key: str) -> Any:
    return place.get(key) if isinstance(place, Mapping) else getattr(place, key, None)


def _holds(content: Any) -> str:
    if isinstance(content, dict):
        keys = ", ".join(str(key) for key in list(content)[:5])
        return f"a dict of {keys}" if keys else "an empty dict"
    return f"one {type(content).__name__}"


def _needless(opened: Opened, arch: str | None, path: Path) -> Opened:
    """Say that `arch` changes nothing, where a file itself says how it is built."""
    if arch is not None and arch.rpartition(":")[2] != opened.arch.rpartition(":")[2]:
        said = f"{path.name} says itself that it is {opened.arch}; --arch {arch} is not used"
        opened.notes = [*opened.notes, said]
    return opened


def _from_state(state: State, path: Path, arch: str | None, hint: str | None = None) -> Opened:
    whole, merged = whole_weights(state)
    views = find_views(modern_names(whole))
    if arch is None:
        refuse_transformers(path, whole)
        view, found = recognise(views, str(path), hint)
    else:
        # a wrapper of the user's own may hold everything under `model.`, rightly
        view, found = held_against(arch, [View("", whole), *views])
        _check_exact(found, path)
    net = build(found, view.state)
    extra = found.architecture.finish(net)
    notes = [f"{path.name} is {found.architecture.name}"] if arch is None else []
    if found.channels is not None:
        notes.append(f"its first convolution takes {found.channels} channels")
    notes += _number_types(view.state)
    opened = described(found.architecture, net, [*notes, *extra])
    opened.source += "".join(change.said for change in found.changes)
    return _recorded(opened, view, found, merged, extra)


def _number_types(state: State) -> list[str]:
    """Say what weights were kept in, where they are computed in another type of number."""
    kept = {t.dtype for t in state.values() if t.is_floating_point()} - {torch.float32}
    names = ", ".join(sorted(str(d).removeprefix("torch.") for d in kept))
    return [f"weights kept in {names}, computed in float32"] if names else []


def _recorded(
    opened: Opened, view: View, found: Fit, merged: Sequence[str], extra: Sequence[str]
) -> Opened:
    """Note what was stripped and assumed."""
    others = view.networks_beside()
    left = [*view.beside, *found.left_out]
    opened.stripped = [*merged, *view.stripped]
    opened.stripped += [f"left out: {listed(left)}"] * bool(left)
    changed = [change for change in found.changes if change.said]
    opened.assumed = [*extra, *(change.said for change in changed if change.assumed)]
    known = len(opened.assumed)  # which are notes already
    own = found.channels or any(change.stem for change in changed)
    if own and opened.preprocess is not None:
        opened.preprocess = replace(opened.preprocess, source="assumed")
        opened.assumed.append(f"preprocessing: that of {opened.arch}, which has another stem")
    if said := _of_contrast(view, found):
        opened.assumed.append(said)
    if found.headless or said:
        opened.classes, opened.classes_source, opened.headless = None, "", True
    if found.headless and any(_DENSE.search(name) for name in left):
        opened.assumed.append(_DILATED)
    opened.notes = [
        *opened.notes,
        *([f"read: {'; '.join(opened.stripped)}"] if opened.stripped else ()),
        *(change.said for change in changed),
        *opened.assumed[known:],
        *([f"it also holds {', '.join(others)}: --weights opens it"] if others else ()),
    ]
    return opened


# what stands beside a backbone in networks that answer for every pixel
_DENSE = re.compile(
    r"aspp|decode_head|psp|ppm|segmentation_head|classifier\.\d+\.convs|aux_classifier"
)
_DILATED = (
    "what is left out segments images: its backbone may have had dilations for strides, which no "
    "tensor says; --arch file.py:factory builds it as it was"
)
_CONTRAST = re.compile(r"(^|[._])(queue|encoder_k|prototypes)(_ptr)?($|\.)")


def _of_contrast(view: View, found: Fit) -> str:
    """Say that what comes out is no classes, where what stands beside learns without labels."""
    beside = [name for name in view.beside if _CONTRAST.search(name)]
    if found.headless or not beside:
        return ""
    return (
        f"{listed(beside)} beside it: it learned by contrast, without classes; its outputs are "
        "features"
    )


def _check_exact(found: Fit, path: Path) -> None:
    if not found.exact:
        raise CnnlensError(
            f"{path} does not fit {found.architecture.name}: {found.describe()}",
            "name the code that builds it with --arch file.py:factory",
        )


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
        return LITE
    if head[257:262] == b"ustar":
        return "a tar archive"
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
