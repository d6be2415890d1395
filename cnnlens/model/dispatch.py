"""Modes that see every tensor operation, without PyTorch's compiler."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):
    """What all modes of cnnlens derive from.

    PyTorch keeps its compiler out of a mode by a wrapper around each operation, and that wrapper
    imports the compiler: seconds at the start of every command, and time at every operation. No
    network is compiled while a mode sees it, so there is nothing to keep out.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
