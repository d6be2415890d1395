"""Why a network does not run on images: what it takes instead, or another size of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from cnnlens.errors import CnnlensError
from cnnlens.model.device import is_memory_error
from cnnlens.model.sharded import check_whole

# words of errors that another size of input may mend (another number of channels does not)
_ABOUT_SIZES = re.compile(r"^(?!.*channels).*\b(sizes?|shapes?|height|width|too small)\b", re.I)
_ABOUT_TYPES = re.compile(r"\b(dtype|double|half|bfloat16)\b", re.I)
# sides of the inputs that published networks take
_USUAL_SIZES = (224, 32, 28, 64, 96, 128, 227, 256, 299, 384)
_WRAP = "give code that makes an image network of it: MODEL file.py:factory"


def check_weights(net: nn.Module) -> None:
    """Raise CnnlensError where weights are not there: of lazy modules that never ran, on the meta
    device, or in other processes.
    """
    check_whole(net)
    tensors = [*net.named_parameters(), *net.named_buffers()]
    lazy = [n for n, t in tensors if isinstance(t, UninitializedParameter | UninitializedBuffer)]
    if lazy:
        raise CnnlensError(
            f"the network is lazy: {lazy[0]} gets its shape when it first runs, and it never did",
            "run it once on an example before it is given or saved (in a factory: before return)",
        )
    hollow = [n for n, t in tensors if t.is_meta]
    if hollow:
        raise CnnlensError(
            f"{hollow[0]} of the network is on the meta device, where tensors have no values",
            "net.to_empty(device='cpu'), and then its weights: net.load_state_dict(…)",
        )


def check_dimensions(path: str, module: nn.Module, args: Any) -> None:
    """Raise CnnlensError where a volume's convolution would take an image for a volume.

    Given (C, D, H, W) it runs, on one volume without a batch.
    """
    if isinstance(module, nn.Conv3d) and args and isinstance(args[0], Tensor) and args[0].ndim == 4:
        raise _of_other_dimensions(path, module)


@contextmanager
def explained(net: nn.Module, x: Tensor) -> Iterator[None]:
    """Say why a network that is run on `x` (N, C, H, W) in this block does not take it.

    Raises
    ------
    CnnlensError
        In the place of whatever its own code raises.
    """
    try:
        yield
    except CnnlensError:
        raise
    except Exception as error:
        raise why_it_fails(net, x, error) from error


def why_it_fails(net: nn.Module, x: Tensor, error: Exception) -> CnnlensError:
    """Say what is wrong; the size of the input is blamed only where another size is accepted."""
    shape = "×".join(map(str, x.shape[1:]))
    if is_memory_error(error):
        way = "use --device cpu" if x.device.type != "cpu" else "close what else uses the memory"
        return CnnlensError(f"not enough memory on {x.device} for a {shape} input", way)
    cause = _takes_no_image(net)
    if cause is not None:
        return cause
    text = (str(error).strip().splitlines() or [""])[0]
    known = isinstance(error, RuntimeError | ValueError | AssertionError) and text
    reason = text if known else f"{type(error).__name__}: {text}".removesuffix(": ")
    size = next((size for size in _USUAL_SIZES if _runs(net, x, size)), None)
    if size is not None:
        hint = f"give the input it was trained on with --image-size H[xW]; it does run on {size}"
    elif _ABOUT_SIZES.search(text):
        hint = "if it was trained on another size of input, name that with --image-size H[xW]"
    elif _ABOUT_TYPES.search(text) and _is_of_other_type(net):
        hint = "what it makes without a type is float32 here: say one in its code (dtype=x.dtype)"
    else:
        hint = "the error comes from the network's own code; run it in Python to see where"
    return CnnlensError(f"the network does not run on a {shape} input: {reason}", hint)


def _runs(net: nn.Module, x: Tensor, size: int) -> bool:
    try:
        with torch.no_grad():
            net(x.new_zeros((*x.shape[:2], size, size)))
    except Exception:  # whatever it is, it was not the size that the first error was about
        return False
    return True


def _is_of_other_type(net: nn.Module) -> bool:
    types = {p.dtype for p in net.parameters() if p.is_floating_point()}
    return bool(types - {torch.float32})


def _takes_no_image(net: nn.Module) -> CnnlensError | None:
    """Say why a network that failed on an image takes none; None where nothing tells."""
    inputs = _required_inputs(net)
    if len(inputs) > 1:
        return CnnlensError(
            f"the network takes {len(inputs)} inputs ({', '.join(inputs)}), not one image", _WRAP
        )
    for path, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            return None
        if isinstance(module, nn.Conv1d | nn.Conv3d | nn.RNNBase | nn.Embedding | nn.EmbeddingBag):
            return _of_other_dimensions(path, module)
    return None


def _required_inputs(net: nn.Module) -> list[str]:
    try:
        parameters = inspect.signature(net.forward).parameters.values()
    except (TypeError, ValueError):  # no Python code
        return []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in plain and p.default is p.empty]


def _of_other_dimensions(path: str, module: nn.Module) -> CnnlensError:
    kind = type(module).__name__
    if isinstance(module, nn.Conv3d):
        takes = "video or volumes (N×C×T×H×W)"
    elif isinstance(module, nn.Conv1d):
        takes = "one-dimensional signals (N×C×L)"
    else:
        takes = "sequences"
    return CnnlensError(
        f"the network takes {takes}, not images: its first layer is {path} ({kind})", _WRAP
    )
