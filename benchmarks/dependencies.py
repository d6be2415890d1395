"""What each dependency weighs: its files on disk, what importing it costs, who brings it anyway.

    python benchmarks/dependencies.py

Seconds are of the processor, in a fresh process, the best of three; what it imports itself counts.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import Distribution, distribution, requires
from pathlib import Path

MODULES = {"scikit-image": "skimage", "umap-learn": "umap", "scikit-learn": "sklearn"}
MODULES |= {"pillow": "PIL"}
TIMED = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"


def main() -> None:
    ours = needed("cnnlens")
    print(f"{'':14} {'version':10} {'MB':>7} {'import s':>9}  brought by")
    for name in ours:
        found = distribution(name)
        also = [other for other in ours if other != name and name in needed(other)]
        cost = min(seconds(MODULES.get(name, name)) for _ in range(3))
        print(f"{name:14} {found.version:10} {size(found):7.1f} {cost:9.2f}  {', '.join(also)}")


def needed(package: str) -> list[str]:
    """What a package requires without extras."""
    lines = [line for line in requires(package) or [] if "extra ==" not in line]
    return [name.lower() for line in lines for name in re.findall(r"^[\w.-]+", line)]


def size(found: Distribution) -> float:
    files = (Path(str(found.locate_file(file))) for file in found.files or [])
    return sum(f.stat().st_size for f in files if f.suffix != ".pyc" and f.is_file()) / 1e6


def seconds(module: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(module)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
