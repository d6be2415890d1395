"""Folders of the user's own, beside all workspaces."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "CNNLENS_HOME"


def home() -> Path:
    """Folder of downloads, and of what holds for all workspaces: ``$CNNLENS_HOME``, else the
    platform's data folder.
    """
    import platformdirs

    return _said() or Path(platformdirs.user_data_dir("cnnlens"))


def cache_home() -> Path:
    """Folder of what can be found again: within ``$CNNLENS_HOME``, else the platform's caches."""
    import platformdirs

    said = _said()
    return said / "cache" if said else Path(platformdirs.user_cache_dir("cnnlens"))


def _said() -> Path | None:
    said = os.environ.get(HOME_VARIABLE)
    return Path(said).expanduser() if said else None
