"""How long a command takes that has nothing to do, beside importing PyTorch, which it cannot avoid.

    python benchmarks/start.py

A layer of the demo's network is measured once, and one of a torchvision network; then `units` is
asked for it again, and prints what is there; `visualize` climbs one step, with an optimizer. Beside
them stands an optimizer as Python makes it, with PyTorch's compiler, and as the command line does.
All are processes of their own, in turn; the least processor time of each counts.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torchvision

from cnnlens.data.synthetic import make_shapes

LIMIT = 2.0
ADAM = "import torch; torch.optim.Adam([torch.zeros(1, requires_grad=True)])"
PUT_OFF = "from cnnlens.model.compiler_later import put_off; put_off()"


def main() -> None:
    """Print all, and their ratios with their limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as scratch:
        data = make_shapes(Path(scratch) / "shapes", 12)
        known = Path(scratch) / "squeezenet.pt"
        torch.save(torchvision.models.squeezenet1_1().state_dict(), known)
        commands = {
            f"units of {name}": ["-m", "cnnlens", "units", model, "-d", str(data), "-l", layer,
                   "-w", str(Path(scratch) / name), "--no-page", "--quiet"]
            for name, model, layer in (
                ("demo_net", "zoo:demo_net", "conv2"), ("squeezenet", str(known), "features.9"),
            )
        }  # fmt: skip
        commands["visualize"] = [
            "-m", "cnnlens", "visualize", "zoo:demo_net", "-f", "conv2:0", "--steps", "1",
            "-w", str(Path(scratch) / "visualize"), "--no-page", "--quiet", "--force",
        ]  # fmt: skip
        commands |= {"Adam": ["-c", ADAM], "Adam, compiler put off": ["-c", f"{PUT_OFF}; {ADAM}"]}
        for command in commands.values():
            spent(command)
        bare = [spent(["-c", "import torch"]) for _ in range(repeats)]
        ours = {n: min(spent(command) for _ in range(repeats)) for n, command in commands.items()}
        bare += [spent(["-c", "import torch"]) for _ in range(repeats)]
    least = min(bare)
    print(f"import torch {least:.2f} s")
    for name, seconds in ours.items():
        kept = f"{LIMIT} {'kept' if seconds <= LIMIT * least else 'NOT KEPT'}"
        print(f"{name:22} {seconds:.2f} s, ratio {seconds / least:.2f}: ", end="")
        print("what Python alone does" if name == "Adam" else kept)


def spent(words: list[str]) -> float:
    """Seconds of the processor that Python takes with these words."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
