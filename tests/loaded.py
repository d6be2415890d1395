"""All that a command imports, for the server that commands are forked from: a second less each.

And what every page and figure needs once per process: its template, compiled, and letters.
Nothing is computed, so that a command that is forked finds no threads.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numba.core.registry
import PIL.Image

import cnnlens
from cnnlens.report import figures, html
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
html.environment().get_template("page.html")
_figure = figures.new_figure(1, 1, layout="tight")
_figure.subplots().set_title("letters")
with tempfile.TemporaryDirectory() as _folder:
    figures.save_figure(_figure, Path(_folder) / "figure.png")
gc.freeze()  # or looking through it would copy it in every process that is forked
