"""Weights that are not kept as the network computes with them: in parts, adapted, or quantized.

Those in parts (pruned, or with their norm or spectrum apart) are made whole.
`torch.nn.utils` has them in two generations, names beside the weight (``weight_g``) and modules
below ``parametrizations``. What a network computes in evaluation mode is one weight; so it is put
together once, and the parts are left out.

Adapters that are not merged are refused, since no tensor says how much they count. Networks of
transformers are, where their settings are not there to build them.

Quantized ones are refused. Their networks compute with small integers, by operations that have no
gradients, and their scales lie beside the weights: read as ordinary ones they would give numbers
without meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError, counted
from cnnlens.model.sharded import in_file, is_sharded

State = dict[str, Tensor]
_NEW = re.compile(r"(?P<module>.*?)\.?parametrizations\.(?P<name>\w+)\.(?P<part>.+)")
_OLD = re.compile(r"(?P<name>.+)_(?P<part>orig|mask|g|v|u)")
# parts of names: torch.ao's (converted, prepared), bitsandbytes', GPTQ's and AWQ's
_MARKS = (
    "_packed_params", "fake_quant", "activation_post_process", ".absmax", ".quant_map", ".SCB",
    ".qweight", ".qzeros",
)  # fmt: skip
HINT = "give the network's weights from before it was quantized: its float state dict"


def whole_weights(state: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """Put parametrized tensors together.

    Parameters
    ----------
    state : mapping
        A state dict.

    Returns
    -------
    (dict, list of str)
        A state dict with the names of the plain network, in its order, and a line for each way in
        which tensors had been kept.

    Raises
    ------
    CnnlensError
        When a parametrization is of another kind.
    """
    parts = _parts(state)
    if not parts:
        return dict(state), []
    found: State = {}
    ways: dict[str, int] = {}
    for name, tensor in state.items():
        whole = _whole_name(name)
        if whole not in parts:
            found[name] = tensor
        elif whole not in found:
            found[whole], way = _put_together(whole, parts[whole])
            ways[way] = ways.get(way, 0) + 1
    return found, [
        f"{way} of {counted(number, 'tensor')} is computed" for way, number in ways.items()
    ]


def _whole_name(name: str) -> str:
    """What a part's tensor is called in the plain network; the name itself of no part."""
    if match := _NEW.fullmatch(name):
        return ".".join(filter(None, (match["module"], match["name"])))
    match = _OLD.fullmatch(name)
    return match["name"] if match else name


def _parts(state: Mapping[str, Tensor]) -> dict[str, State]:
    """Parts by the name of the whole; of names like ``w_v`` only those that belong together."""
    found: dict[str, State] = {}
    for name, tensor in state.items():
        match = _NEW.fullmatch(name) or _OLD.fullmatch(name)
        if match:
            found.setdefault(_whole_name(name), {})[match["part"]] = tensor
    sets = ({"orig", "mask"}, {"g", "v"}, {"orig", "u"}, {"orig", "u", "v"})
    return {
        whole: parts
        for whole, parts in found.items()
        if parts.keys() in sets or any(part.startswith("original") for part in parts)
    }


def _put_together(name: str, parts: State) -> tuple[Tensor, str]:
    """Compute one tensor from its parts; say what its parametrization is called."""
    if "mask" in parts:  # torch.nn.utils.prune
        return parts["orig"] * parts["mask"].to(parts["orig"].dtype), "pruning"
    if parts.keys() == {"g", "v"}:
        return _of_norm(parts["g"], parts["v"]), "weight normalization"
    if {"original0", "original1"} == parts.keys():
        return _of_norm(parts["original0"], parts["original1"]), "weight normalization"
    if "orig" in parts and "v" in parts:
        return _of_spectrum(parts["orig"], parts["u"], parts["v"]), "spectral normalization"
    if {"original", "0._u", "0._v"} == parts.keys():
        return _of_spectrum(parts["original"], parts["0._u"], parts["0._v"]), (
            "spectral normalization"
        )
    if {"original", "0.mask"} == parts.keys():  # pruning by a parametrization of one's own
        return parts["original"] * parts["0.mask"].to(parts["original"].dtype), "pruning"
    kinds = ", ".join(sorted(parts))
    raise CnnlensError(
        f"{name} is parametrized in a way that cannot be told from its parts ({kinds})",
        "before saving: torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')",
    )


def _of_norm(norm: Tensor, direction: Tensor) -> Tensor:
    """g v / ‖v‖, the norm over all axes in which g has one number (Salimans and Kingma 2016)."""
    axes = [axis for axis in range(direction.ndim) if norm.ndim == 0 or norm.shape[axis] == 1]
    over = direction.double()
    length = over.square().sum(axes, keepdim=norm.ndim > 0).sqrt() if axes else over.abs()
    return (norm.double() * over / length).to(direction.dtype)


def _of_spectrum(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """W / uᵀWv, with the vectors that training has left (Miyato et al. 2018).

    u is as long as the axis of the outputs is: the first one, or a transposed convolution's second.
    Where both are as long, the vectors say which: along the other one they find next to nothing.
    """
    found = {}
    for axis in range(min(2, weight.ndim)):
        if len(left) == weight.shape[axis] and len(right) * len(left) == weight.numel():
            matrix = weight.movedim(axis, 0).flatten(1)
            found[axis] = torch.dot(left.double(), matrix.double() @ right.double())
    if not found:
        raise CnnlensError(
            f"vectors of a spectral normalization, {len(left)} and {len(right)} long, are not of "
            f"their weight, {tuple(weight.shape)}",
            "save net.state_dict() anew",
        )
    largest = found[max(found, key=lambda axis: found[axis].abs() / (1 + axis))]
    return (weight.double() / largest).to(weight.dtype)


# ---- adapted or quantized: told from others by the names and types of what a file holds


_ADAPTER = re.compile(  # a layer that peft wraps; DLA's `base_layer` holds layers
    r"(^|[._])((lora_\w+|ia3_l|modules_to_save)(\.|$)|base_layer\.(weight|bias)$)"
)
MERGE = (
    "merge them into the network they belong to and save that: peft's model.merge_and_unload(), "
    "then torch.save(its state_dict(), FILE)"
)


def refuse_unfinished(path: Path, content: Any) -> None:
    """Refuse what a file holds where its weights are quantized, or were prepared for it, wait for
    adapters to be merged into them, or are one process's part.

    Raises
    ------
    CnnlensError
        Names the first sign of it.
    """
    for name, value in _entries(content):
        if is_sharded(value):
            raise in_file(path)
        if any(mark in name for mark in _MARKS) or _is_quantized(name, value):
            raise CnnlensError(
                f"{path} holds a quantized network ({name}), which cnnlens does not open", HINT
            )
        if isinstance(value, Tensor) and _ADAPTER.search(name):
            raise CnnlensError(f"{path} holds adapters that are not merged ({name})", MERGE)


def refuse_quantized(path: Path, net: nn.Module) -> None:
    """Refuse an unpickled network that computes with small integers.

    Raises
    ------
    CnnlensError
        Names the first layer of that kind.
    """
    try:
        kinds = [(name, type(module)) for name, module in net.named_modules()]
    except AttributeError as error:  # PyTorch unpickles quantized blocks as empty shells
        raise CnnlensError(f"{path} was not unpickled whole: {error}", HINT) from error
    for name, kind in kinds:
        if ".quantized" in kind.__module__ and kind.__module__.startswith("torch."):
            raise CnnlensError(
                f"{path} holds a quantized network ({name}), which cnnlens does not open", HINT
            )


_TRANSFORMERS = re.compile(
    r"(^|\.)(embedder\.(embedder\.)?convolution|embeddings\.(patch_embedding|convolution|cls_token)|"
    r"conv_stem\.(first_conv\.)?convolution|attention\.attention\.(query|qkv))"
)


def refuse_transformers(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse the weights of a network of transformers: they say too little to build it.

    Raises
    ------
    CnnlensError
        Names the first sign of it.
    """
    if name := next((name for name in state if _TRANSFORMERS.search(name)), None):
        raise CnnlensError(
            f"{path} is a network of transformers ({name}) without its config.json",
            "put config.json beside it (and preprocessor_config.json) and name the folder; or give "
            "the code that builds it, --arch file.py:factory",
        )


def _is_quantized(name: str, value: Any) -> bool:
    """Whether a value is made of whole numbers (or of single bytes), where weights are real."""
    if isinstance(value, np.ndarray):
        whole = value.dtype.kind in "iu"
    elif isinstance(value, Tensor):
        whole = value.element_size() == 1 or not (value.is_floating_point() or value.is_complex())
    else:
        return False
    weight = value.ndim > 1 and name.endswith("weight")
    return (weight and whole) or (isinstance(value, Tensor) and value.is_quantized)


def _entries(content: Any, depth: int = 4) -> Iterator[tuple[str, Any]]:
    """Names and values of a checkpoint, those inside of its dicts too."""
    if isinstance(content, Mapping) and depth:
        for name, value in content.items():
            yield str(name), value
            yield from _entries(value, depth - 1)
