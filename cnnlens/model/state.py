"""The state dict inside a checkpoint file, read without running anything that is in the file."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnlens.errors import CnnlensError

# how torch names what weights_only=True does not let through
_FORBIDDEN = re.compile(r"(?:GLOBAL|class) ['\"`]?([\w.]+)")
State = dict[str, torch.Tensor]
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "model_ema")
PREFIXES = ("module.", "model.", "_orig_mod.")
# names in torchvision's own older files, which its networks still read
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)


def read_torch(path: Path, allow_pickle: bool = False) -> Any:
    """Read what ``torch.save`` wrote, with ``weights_only=True`` unless pickles are allowed.

    Raises
    ------
    CnnlensError
        When the file holds other Python objects, or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = _FORBIDDEN.search(str(error))
        name = found[1] if found else ""
        if found and _ends_with(path, name.rpartition(".")[2]):
            raise _damaged(path, error) from error  # cut within a name
        if not allow_pickle:
            raise _refused(path, name) from None
    except Exception as error:
        raise _damaged(path, error) from error
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


def unwrap(content: Any) -> State | None:
    """Find the state dict in a checkpoint's content, in known wrappers; None when there is none."""
    for _ in range(4):  # wrappers nest: {"model": {"state_dict": …}}
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if not isinstance(content, Mapping):
            return None
        inner = next((content[k] for k in WRAPPERS if _holds_tensors(content.get(k))), None)
        if inner is None:
            break
        content = inner
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors or not all(isinstance(k, str) for k in tensors):
        return None
    return tensors


def find_module(content: Any) -> nn.Module | None:
    """Find a whole network in an unpickled checkpoint, out of its data-parallel wrapper."""
    if isinstance(content, Mapping):
        content = next(
            (content[k] for k in WRAPPERS if isinstance(content.get(k), nn.Module)), None
        )
    if isinstance(content, nn.DataParallel):
        content = content.module
    return content if isinstance(content, nn.Module) else None


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, nn.Module):
        return True
    if not isinstance(value, Mapping):
        return False
    return any(isinstance(v, torch.Tensor) or _holds_tensors(v) for v in value.values())


def strip_prefixes(state: State) -> State:
    """Take ``module.``, ``model.`` and ``_orig_mod.`` off as long as all names begin with one."""
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), None):
        state = {k[len(prefix) :]: v for k, v in state.items()}
    return state


def modern_names(state: State) -> State:
    """Rename what older versions of torchvision named otherwise."""
    for old, new in _OLD_NAMES:
        state = {old.sub(new, name): tensor for name, tensor in state.items()}
    return state


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
