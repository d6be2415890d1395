"""A user without a home, beside packages that may not be written: nothing is refused for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .photos import write_photos


def sealed(folder: Path) -> Path:
    """Copy what numba compiles for to where it may keep nothing beside it, not even as root."""
    for name in ("umap", "pynndescent"):
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        without = shutil.ignore_patterns("__pycache__", "tests")
        shutil.copytree(Path(spec.origin).parent, folder / name, ignore=without)
        (folder / name / "__pycache__").touch()
    return folder


def test_images_are_laid_out_and_nobody_complains(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", damaged=False)
    away = {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "CNNLENS_HOME", "NUMBA_CACHE_DIR"}
    clean = {name: value for name, value in os.environ.items() if name not in away}
    clean.pop("MPLCONFIGDIR", None)
    (tmp_path / "temporary").mkdir()
    clean |= {"HOME": os.devnull, "PYTHONPATH": str(sealed(tmp_path / "sealed"))}
    clean["TMPDIR"] = str(tmp_path / "temporary")
    words = ["cluster", "zoo:demo_net", "-d", "photos", "--only", "embed", "-l", "last"]
    done = subprocess.run(
        [sys.executable, "-m", "cnnlens", *words, "--image-size", "24"],
        cwd=tmp_path, env=clean, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("cnnlens-out/cluster/*/umap.csv"))
    assert "mkdir" not in done.stderr and "atplotlib" not in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
