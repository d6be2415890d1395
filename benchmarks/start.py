"""How long a command takes that has nothing to do, beside importing PyTorch, which it cannot avoid.

    python benchmarks/start.py

A layer of the demo's network is measured once; then `units` is asked for it again, and prints what
is there. Both are processes of their own, in turn; the least processor time of each counts.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from cnnlens.data.synthetic import make_shapes

LIMIT = 1.5


def main() -> None:
    """Print both, and their ratio with its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as scratch:
        data = make_shapes(Path(scratch) / "shapes", 12)
        words = ["-m", "cnnlens", "units", "zoo:demo_net", "-d", str(data), "-l", "conv2"]
        command = [*words, "-w", scratch, "--no-page", "--quiet"]
        spent(command)
        pairs = [(spent(["-c", "import torch"]), spent(command)) for _ in range(repeats)]
    torch, ours = (min(times) for times in zip(*pairs, strict=True))
    kept = "kept" if ours <= LIMIT * torch else "NOT KEPT"
    print(f"import torch {torch:.2f} s   cnnlens units {ours:.2f} s   ratio {ours / torch:.2f}")
    print(f"limit {LIMIT}: {kept}")


def spent(words: list[str]) -> float:
    """Seconds of the processor that Python takes with these words."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
