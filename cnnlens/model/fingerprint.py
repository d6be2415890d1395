"""A short name for a network: equal fingerprints, equal architecture and weights."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(arch: str, net: nn.Module, source: str = "") -> str:
    """Hash an architecture and its weights, the same on every device.

    Parameters
    ----------
    arch : str
        The architecture's name.
    net : torch.nn.Module
        Its parameters and persistent buffers are read: names, types, shapes, bytes.
    source : str
        Whatever else decides how it computes.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{arch}\0{source}\0".encode())
    state = {k: v for k, v in net.state_dict().items() if isinstance(v, torch.Tensor)}
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # bytes, because NumPy has no bfloat16
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
