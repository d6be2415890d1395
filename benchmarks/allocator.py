"""What a network costs on a CPU where freed memory is kept, and where it is given back at once.

    python benchmarks/allocator.py

Forward passes over batches of 32 random pictures, and forward and backward passes to the pixels
over 16, in processes of their own, in turn: PyTorch as Python starts it, and with what the command
line asks of glibc (`cnnlens.cli.allocator`). The least processor time counts; the peak of memory
stands beside.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
import torchvision

from cnnlens.cli.allocator import keep_freed

LIMIT = 1.05  # where pages cost little, keeping them costs nothing
NETWORKS = ("squeezenet1_1", "resnet50", "mobilenet_v2")


def main() -> None:
    """Print all, and the ratios with their limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(*measured(*asked.one))
        return
    if not keep_freed():
        sys.exit("another allocator than glibc's, or one that the environment has set")
    for name in asked.networks:
        for passes in ("forward", "backward"):
            found: dict[str, list[tuple[float, float]]] = {"as it is": [], "kept": []}
            for _ in range(asked.repeats):
                for way, runs in found.items():
                    runs.append(apart(name, passes, way))
            (plain, before), (kept, after) = (min(runs) for runs in found.values())
            verdict = f"limit {LIMIT} {'kept' if kept <= LIMIT * plain else 'NOT KEPT'}"
            print(
                f"{name:14} {passes:8} {1e3 * plain:6.1f} -> {1e3 * kept:6.1f} ms an image, "
                f"ratio {kept / plain:.2f}: {verdict}; peak {before:.0f} -> {after:.0f} MB"
            )


def apart(*words: str) -> tuple[float, float]:
    """What `measured` says in another process."""
    line = [sys.executable, __file__, "--one", *words]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def measured(name: str, passes: str, way: str) -> tuple[float, float]:
    """Seconds of the processor per image, and the peak of this process's memory in MB."""
    if way == "kept":
        keep_freed()
    net = torchvision.models.get_model(name).eval().requires_grad_(False)
    back = passes == "backward"
    x = torch.randn(16 if back else 32, 3, 224, 224)  # (N, 3, 224, 224)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_(back)

    def step() -> None:
        out = net(x)
        if back:
            out.sum().backward()
            x.grad = None

    step()
    begun, steps = time.process_time(), 4
    for _ in range(steps):
        step()
    seconds = (time.process_time() - begun) / (steps * len(x))
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
