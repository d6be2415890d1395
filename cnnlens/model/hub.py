"""Folders as the hubs of timm and transformers write them: ``config.json`` and weights beside it.

Both say how pixels become input and what the outputs are called, so that nothing is assumed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model.architectures import Opened
from cnnlens.model.architectures import transformers as hf
from cnnlens.model.entries import choose, find_entries
from cnnlens.model.file_kinds import FROM_ELSEWHERE, distributed
from cnnlens.model.parametrized import MERGE
from cnnlens.model.timm_folder import CONFIG, open_timm
from cnnlens.model.weights_file import State, read_safetensors, read_torch

INDEX, _ADAPTERS = ".index.json", "adapter_config.json"
# in the order in which they are taken
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".pt2")


def open_folder(
    path: Path, arch: str | None = None, weights: str | None = None, file: str | None = None
) -> Opened:
    """Open a folder of timm's or transformers' hub, which knows its architecture.

    Parameters
    ----------
    path : Path
        The folder.
    arch : str, optional
        Not used, and said so: the folder knows it.
    weights : str, optional
        A file in it, or an entry of its usual file, instead of that.
    file : str, optional
        The file of weights that was named for the folder.

    Raises
    ------
    UsageError
        When there are no weights of that name, or the package that wrote the folder is not
        installed.
    CnnlensError
        When the folder is none of those, incomplete, holds no network of images, or adapters, too.
    """
    if not (path / CONFIG).is_file():
        raise _no_hub(path)
    if (path / _ADAPTERS).is_file() and not (weights or file):  # transformers' peft would add them
        usual = _check_weights(path)[0].name
        raise CnnlensError(
            f"{path} holds a network and adapters of it (LoRA), which are not merged",
            f"{MERGE}; --weights {usual} opens the network without them",
        )
    config = _read_json(path / CONFIG)
    opened = _written(path, config, weights, file)
    others = [] if weights or file else _other_files(path)
    if others:
        said = f"--weights opens {', '.join(others)}"
        opened.notes = [*opened.notes, f"{_check_weights(path)[0].name} is opened; {said}"]
    if file is not None:
        opened.notes = [*opened.notes, f"{CONFIG} beside it is read"]
    if arch is not None:
        unused = f"{CONFIG} says itself that it is {opened.arch}; --arch {arch} is not used"
        opened.notes = [*opened.notes, unused]
    return opened


def folder_of(path: Path) -> Path | None:
    """The folder of a hub that a file of weights belongs to; None of other files."""
    usual = path.name in [name + end for name in WEIGHTS for end in ("", INDEX)]
    if not path.is_file() or not (usual or _SHARD.fullmatch(path.name)):
        return None
    try:
        config = _read_json(path.parent / CONFIG)
    except CnnlensError:
        return None
    return path.parent if _names_a_network(config) else None


def _names_a_network(config: Mapping[str, Any]) -> bool:
    return bool({"architecture", "model_type"} & config.keys())


def unnamed_in(path: Path, weights: str | None) -> tuple[Path, str | None] | None:
    """The weights of a folder whose ``config.json`` names no network: of PyTorchModelHubMixin.

    Parameters
    ----------
    path : Path
        Perhaps such a folder.
    weights : str or None
        A file in it, or an entry of its one usual file.

    Returns
    -------
    (Path, str or None) or None
        The file of weights, or of their index, and the entry of it; None of other folders.
    """
    if not (path / CONFIG).is_file() or _names_a_network(_read_json(path / CONFIG)):
        return None
    if weights is not None and (path / weights).is_file() and Path(weights).name == weights:
        return path / weights, None
    usual = (path / f"{name}{end}" for name in WEIGHTS for end in ("", INDEX))
    file = next((file for file in usual if file.is_file()), None)
    return None if file is None else (file, weights)


def _written(
    path: Path, config: Mapping[str, Any], weights: str | None, file: str | None
) -> Opened:
    """Open a folder as the package that wrote it does."""
    if "architecture" in config:
        return open_timm(path, config, _chosen(path, weights, file))
    if "model_type" in config:
        _check_weights(path)
        state = _chosen(path, weights, file) if weights or file else None
        processor = next((p for n in hf.PROCESSORS if (p := path / n).is_file()), None)
        return hf.open_transformers(path, config, _read_json(processor) if processor else {}, state)
    raise CnnlensError(
        f"{path / CONFIG} names neither 'architecture' (timm) nor 'model_type' (transformers)",
        _name_a_file(path),
    )


def _chosen(path: Path, weights: str | None, file: str | None) -> State:
    """The weights of a folder's usual file or the named one; of an entry in it."""
    if weights is not None and (path / weights).is_file() and Path(weights).name == weights:
        weights, file = None, weights
    single = file is not None and not file.endswith(INDEX) and not _SHARD.fullmatch(file)
    files = [path / str(file)] if single else _check_weights(path)
    if weights is None:
        return _read_files(files)
    content: Any = {}
    for one in files:
        content |= _read(one)
    try:
        return choose(find_entries(content), weights, path)[0].state
    except UsageError as error:
        others = _other_files(path)
        hint = did_you_mean(weights, others) or f"it has {', '.join(others)}"
        raise UsageError(error.message, hint if others else error.hint) from None


_NO_WEIGHTS = re.compile(r"opti|sched|scaler|rng|random|training_args|tf_|flax|adapter|token", re.I)


def _other_files(path: Path) -> list[str]:
    """Files of weights beside the usual one, which ``--weights`` opens."""
    usual = {*WEIGHTS, *(file.name for file in _check_weights(path))}
    found = sorted(p.name for p in path.iterdir() if p.name.endswith(_ENDINGS))
    return [
        n for n in found if n not in usual and not _SHARD.fullmatch(n) and not _NO_WEIGHTS.match(n)
    ]


def _no_hub(path: Path) -> CnnlensError:
    """Say what a folder seems to be that holds no ``config.json``."""
    names = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    onnx = [name for name in names if name.endswith(".onnx")]
    if "saved_model.pb" in names or onnx:
        kind = "an ONNX model" if onnx else "a TensorFlow SavedModel"
        return CnnlensError(
            f"{path} is a folder with {kind}, which cnnlens does not open", FROM_ELSEWHERE
        )
    if (error := distributed(path)) is not None:
        return error
    if _ADAPTERS in names:
        return CnnlensError(
            f"{path} holds adapters of a network (LoRA), and not the network", MERGE
        )
    return CnnlensError(f"{path} is a folder without {CONFIG}, not a model", _name_a_file(path))


def _name_a_file(path: Path) -> str:
    """Name the weights in a folder."""
    files = sorted(p for p in path.iterdir() if p.name.endswith(_ENDINGS))
    if not files:
        return "name a file of weights, or a folder with config.json and weights beside it"
    more = f" (there are {len(files)} such files)" if len(files) > 1 else ""
    return f"name a file in it, e.g. {files[0]}{more}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CnnlensError(
            f"{path} cannot be read: {error}", "copy or download the folder again"
        ) from error
    if not isinstance(content, dict):
        raise CnnlensError(f"{path} holds no settings but a {type(content).__name__}")
    return content


def _check_weights(path: Path) -> list[Path]:
    """Files that hold the weights: one, or the several that an index names.

    Raises
    ------
    CnnlensError
        When there are none, or some of several are missing.
    """
    for name in WEIGHTS:
        if (path / name).is_file():
            return [path / name]
        if (path / (name + INDEX)).is_file():
            parts = _read_json(path / (name + INDEX)).get("weight_map", {})
            files = [path / Path(str(part)).name for part in sorted(set(parts.values()))]
            lost = [file.name for file in files if not file.is_file()]
            if lost:
                raise CnnlensError(
                    f"{path} lacks {', '.join(lost[:3])}, named in {name + INDEX}",
                    "download the folder again, with all files",
                )
            return files
    raise CnnlensError(
        f"{path} holds {CONFIG}, but neither {' nor '.join(WEIGHTS)}", _name_a_file(path)
    )


_SHARD = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})(?P<end>\.safetensors|\.bin)")


def read_parts(path: Path) -> State | None:
    """Read weights that lie in several files, as accelerate and transformers write large ones.

    Parameters
    ----------
    path : Path
        The folder of them (without settings beside them), their index, or one of them.

    Returns
    -------
    State or None
        All of them; None where `path` is nothing of that kind.

    Raises
    ------
    CnnlensError
        When some of them are missing.
    """
    if path.is_dir():
        named = any((path / f"{name}{end}").is_file() for name in WEIGHTS for end in ("", INDEX))
        return _read_weights(path) if named and not (path / CONFIG).is_file() else None
    if path.name in [name + INDEX for name in WEIGHTS]:
        return _read_weights(path.parent)
    if (part := _SHARD.fullmatch(path.name)) is None:
        return None
    count, alike = int(part["count"]), f"{part['name']}-*-of-{part['count']}{part['end']}"
    files = sorted(path.parent.glob(alike))
    if len(files) != count:
        raise CnnlensError(
            f"{path} is one of {count} files of weights, of which {len(files)} are there",
            "download or copy the others beside it",
        )
    return _read_files(files)


def _read_weights(path: Path) -> State:
    return _read_files(_check_weights(path))


def _read(file: Path) -> Any:
    return read_safetensors(file) if file.suffix == ".safetensors" else read_torch(file)


def _read_files(files: Sequence[Path]) -> State:
    state: State = {}
    for file in files:
        entries = find_entries(_read(file))
        if not entries:
            raise CnnlensError(f"{file} holds no state dict", "download the folder again")
        state |= entries[0].state
    return state
