"""Quantized weights, told from others by the names and types of what a file holds.

Their networks compute with small integers, by operations that have no gradients, and their scales
lie beside the weights: read as ordinary ones they would give numbers without meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from cnnlens.errors import CnnlensError

# parts of names: torch.ao's (converted, prepared), bitsandbytes', GPTQ's and AWQ's
_MARKS = (
    "_packed_params", "fake_quant", "activation_post_process", ".absmax", ".quant_map", ".SCB",
    ".qweight", ".qzeros",
)  # fmt: skip
HINT = "give the network's weights from before it was quantized: its float state dict"


def refuse_quantized(path: Path, content: Any) -> None:
    """Refuse what a file holds where its weights are quantized, or were prepared for it.

    Raises
    ------
    CnnlensError
        Names the first sign of it.
    """
    for name, value in _entries(content):
        if any(mark in name for mark in _MARKS) or _is_quantized(name, value):
            raise CnnlensError(
                f"{path} holds a quantized network ({name}), which cnnlens does not open", HINT
            )


def _is_quantized(name: str, value: Any) -> bool:
    if not isinstance(value, torch.Tensor):
        return False
    small = value.element_size() == 1 and value.ndim > 1 and name.endswith("weight")
    return value.is_quantized or small


def _entries(content: Any, depth: int = 4) -> Iterator[tuple[str, Any]]:
    """Names and values of a checkpoint, those inside of its dicts too."""
    if isinstance(content, Mapping) and depth:
        for name, value in content.items():
            yield str(name), value
            yield from _entries(value, depth - 1)
