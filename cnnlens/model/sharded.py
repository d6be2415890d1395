"""Weights that lie in parts in several processes (FSDP, tensor parallelism)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from cnnlens.errors import CnnlensError

_KINDS = {"DTensor", "ShardedTensor", "FullyShardedDataParallel"}
_WHOLE = "torch.distributed.checkpoint.state_dict.get_model_state_dict, with full_state_dict=True"


def is_sharded(thing: Any) -> bool:
    """Whether a tensor or module is one process's part; torch.distributed need not be there."""
    kinds = type(thing).__mro__
    return any(k.__name__ in _KINDS and k.__module__.startswith("torch.distributed") for k in kinds)


def check_whole(net: nn.Module) -> None:
    """Raise CnnlensError where a process has only its part of a network.

    One pass would take all processes, with the same hooks at the same time.
    """
    named: list[Iterable[tuple[str, Any]]] = [
        net.named_modules(), net.named_parameters(), net.named_buffers(),
    ]  # fmt: skip
    found = ((name, part) for parts in named for name, part in parts if is_sharded(part))
    for name, part in found:
        kind = type(part).__name__
        raise CnnlensError(
            f"the network is shared out among processes: {name or 'all of it'} is a {kind}",
            f"load its whole state into a plain copy and give that: {_WHOLE}",
        )


def in_file(path: object) -> CnnlensError:
    """Say that a file holds such a part."""
    return CnnlensError(
        f"{path} holds weights that are shared out among processes (DTensor)",
        f"save their whole state: {_WHOLE}",
    )
