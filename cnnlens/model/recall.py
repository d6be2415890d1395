"""Which architectures were found to fit a state dict, kept so that nothing is searched twice.

Inference depends on the names and shapes of a state dict's tensors and on nothing else in its file,
so that these are the key, with the installed versions: all checkpoints of a training run share one
entry, wherever they lie, and no change of a file leaves a stale one. What is kept are names of
candidates, which are held against the shapes anew, so that a wrong one is never built.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cnnlens.errors import CnnlensError
from cnnlens.files import atomic
from cnnlens.model import zoo

_PACKAGES = ("cnnlens", "torch", "torchvision", "timm")


def recall(shapes: Mapping[str, tuple[int, ...]]) -> list[str] | None:
    """Names of the architectures that were found for these names and shapes of tensors.

    Returns
    -------
    list of str or None
        None where nothing was kept, or it cannot be read.
    """
    try:
        names = json.loads(_place(shapes).read_text(encoding="utf-8"))["candidates"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def remember(shapes: Mapping[str, tuple[int, ...]], names: Iterable[str]) -> None:
    """Keep what was found; where nothing can be written, nothing is kept."""
    content = json.dumps({"candidates": list(names)})
    with suppress(OSError, CnnlensError), atomic(_place(shapes)) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _place(shapes: Mapping[str, tuple[int, ...]]) -> Path:
    versions = [_version(package) for package in _PACKAGES]
    text = json.dumps([versions, sorted(zoo.ZOO), sorted(shapes.items())])
    return _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _folder() -> Path:
    if home := os.environ.get("CNNLENS_HOME"):
        return Path(home).expanduser() / "cache" / "architectures"
    import platformdirs

    return Path(platformdirs.user_cache_dir("cnnlens")) / "architectures"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
