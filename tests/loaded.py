"""All that a command imports, for the server that commands are forked from: a second less each.

Modules alone: nothing is computed, so that a command that is forked finds no threads.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
from contextlib import suppress

import numba.core.registry
import PIL.Image

import cnnlens
from tests.cli.runner import cnnlens as command

gc.set_threshold(20_000, 20, 20)  # as the command line: what is imported stays
_LATE = (
    *("torch._dynamo", "torch.export", "torch.distributed", "safetensors.torch"),
    *("scipy.cluster.hierarchy", "sklearn.linear_model", "matplotlib.pyplot", "rich.progress"),
)

_own = (found.name for found in pkgutil.walk_packages(cnnlens.__path__, "cnnlens."))
for _name in (*(name for name in _own if not name.endswith("__main__")), *_LATE):
    with suppress(ImportError):
        importlib.import_module(_name)
PIL.Image.init()
numba.core.registry.cpu_target.target_context.refresh()
command("layers", "no network")  # typer reads its options with modules of their own
gc.freeze()  # or looking through it would copy it in every process that is forked
