"""Whether a data set in memory holds what threads cannot share: open files, connections, decoders.

A DataLoader reads a data set in one thread of a process, and so are many written: they seek in one
file, and read there. Two threads at once would get the bytes of each other's images.
"""

from __future__ import annotations

import copyreg
import io
import logging
from itertools import islice
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ReferenceType

import numpy as np
import torch
from PIL import Image

_LOOKED_AT = 64  # things in a container
_CONTAINERS = (list, tuple, set, frozenset, dict)  # others may fetch what they are asked for
_PLAIN = (
    *(str, bytes, bytearray, int, float, complex, type(None), PurePath, np.ndarray, np.generic),
    *(torch.Tensor, torch.dtype, torch.device, Image.Image),
    logging.Logger,  # its streams are written to by one thread at a time
    *(type, ModuleType, FunctionType, MethodType, BuiltinFunctionType, ReferenceType),
)


def is_live(thing: Any) -> bool:
    """Whether an object holds, at any depth, what belongs to a process and cannot be copied."""
    waiting, met = [thing], {id(thing): thing}
    while waiting:
        one = waiting.pop()
        if isinstance(one, io.IOBase) or not (isinstance(one, _PLAIN) or _is_open(one)):
            return True
        for part in _parts(one):
            if not isinstance(part, _PLAIN) and id(part) not in met:
                met[id(part)] = part
                waiting.append(part)
    return False


def _is_open(one: Any) -> bool:
    """Whether one can look into an object, or it is copied as a value is."""
    if isinstance(one, _CONTAINERS) or hasattr(one, "__dict__"):
        return True
    if type(one) in copyreg.dispatch_table:
        return True
    try:
        one.__reduce_ex__(4)
    except Exception:  # whatever it raises: it says that it cannot be
        return False
    return True


def _parts(one: Any) -> list[Any]:
    if isinstance(one, dict):
        found = list(islice(one.values(), _LOOKED_AT))
    elif isinstance(one, _CONTAINERS):
        found = list(islice(one, _LOOKED_AT))
    else:
        found = []
    return [*found, *getattr(one, "__dict__", {}).values()]
