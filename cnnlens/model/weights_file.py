"""Files of weights, read without running anything that is in them unless that is allowed."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model.entries import find_entries
from cnnlens.model.safe_load import load_around
from cnnlens.model.sharded import in_file

# how torch names what weights_only=True does not let through
_FORBIDDEN = re.compile(r"(?:GLOBAL|class) ['\"`]?([\w.]+)")
State = dict[str, torch.Tensor]
# the last holds the network in ultralytics' checkpoints, whose `model` is None while it trains
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "params", "model_ema", "ema",
)  # fmt: skip


def read_torch(path: Path, allow_pickle: bool = False) -> Any:
    """Read what ``torch.save`` wrote, without its objects (see `safe_load`) unless allowed.

    Raises
    ------
    CnnlensError
        When there are no weights beside Python objects, or the file is damaged.
    """
    try:
        content, passed = load_around(path)
    except pickle.UnpicklingError as error:
        found = _FORBIDDEN.search(str(error))
        name = found[1] if found else ""
        if found and _ends_with(path, name.rpartition(".")[2]):
            raise _damaged(path, error) from error  # cut within a name
        if "DTensor" in str(error):
            raise in_file(path) from None
        if not allow_pickle:
            raise _refused(path, name) from None
    except Exception as error:
        raise _damaged(path, error) from error
    else:
        if not passed or (not allow_pickle and find_entries(content)):
            return content
        if not allow_pickle:
            raise _refused(path, passed[0])
    return _trusted(path, lambda: torch.load(path, map_location="cpu", weights_only=False))


def read_pickle(path: Path, allow_pickle: bool = False) -> Any:
    """Read what ``pickle.dump`` wrote, which is never done unless pickles are allowed.

    Raises
    ------
    CnnlensError
        When they are not, or the file is damaged.
    """
    if not allow_pickle:
        raise CnnlensError(
            f"{path} is a Python pickle; unpickling can run any code",
            "save net.state_dict() with torch.save, or pass --allow-pickle if you trust the file",
        )
    return _trusted(path, lambda: pickle.loads(path.read_bytes()))


def read_safetensors(path: Path) -> State:
    """Read a ``.safetensors`` file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def read_header(path: Path) -> dict[str, Any]:
    """Read what is written about the weights in a ``.safetensors`` file; texts that are JSON, as
    what they mean.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    found = {}
    for key, text in texts.items():
        try:
            found[key] = json.loads(text)
        except (ValueError, RecursionError):
            found[key] = text
    return found


def find_module(content: Any, key: str | None = None) -> tuple[nn.Module | None, list[str]]:
    """Find a whole network in an unpickled checkpoint, out of its data-parallel wrapper, or out of
    the object that trained it (fastai's `Learner.export`).

    Parameters
    ----------
    content : object
        What the file holds.
    key : str, optional
        Where it lies, instead of under one of the usual keys.

    Returns
    -------
    (torch.nn.Module or None, list of str)
        And the keys of others beside it.
    """
    others: list[str] = []
    if isinstance(content, Mapping):
        whole = [k for k, value in content.items() if isinstance(value, nn.Module)]
        chosen = next((k for k in (WRAPPERS if key is None else (key,)) if k in whole), None)
        others = [str(k) for k in whole if k != chosen]
        content = content.get(chosen)
    elif key is not None:
        return None, []
    elif not isinstance(content, nn.Module):
        content = getattr(content, "model", None)
    if isinstance(content, nn.DataParallel):
        content = content.module
    return (content, others) if isinstance(content, nn.Module) else (None, [])


def _trusted(path: Path, load: Callable[[], Any]) -> Any:
    """Run a file's pickle: the user has said that it may be trusted."""
    try:
        return load()
    except (ImportError, AttributeError) as error:
        raise CnnlensError(
            f"{path} holds a pickled object whose code is not here: {error}",
            "run cnnlens where that code can be imported, or save net.state_dict() instead",
        ) from error
    except Exception as error:
        raise _damaged(path, error) from error


def _ends_with(path: Path, text: str) -> bool:
    # torch takes the last character of a cut name for the end of its line
    return path.read_bytes()[:-1].endswith(text.encode())


def _refused(path: Path, name: str) -> CnnlensError:
    """Say which object keeps a file from being read safely."""
    what = f"a pickled {name}" if name else "pickled Python objects"
    return CnnlensError(
        f"{path} holds {what}, not only tensors; unpickling can run any code",
        "save net.state_dict() instead, or pass --allow-pickle if you trust the file",
    )


def _damaged(path: Path, error: BaseException) -> CnnlensError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return CnnlensError(f"{path} is damaged or incomplete: {reason}", "copy or download it again")
