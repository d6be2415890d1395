"""A little model over little pictures; also run as a program that dies at a chosen moment."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cnnlens.activations.extract import extract
from cnnlens.data.open import open_data
from cnnlens.model.layer import Layer
from cnnlens.model.layers import find_layers
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.settings import RunSettings

SIZE = (12, 10)
IMAGES = 150
LAYERS = ["0", "conv2"]


def little_model(batch: int | None = None, net: nn.Module | None = None) -> Model:
    torch.set_num_threads(1)
    if net is None:
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)),
        )
    return Model(net.eval(), "little", "little", Preprocess(SIZE), None, "f" * 16, batch)


def layers_of(model: Model, names: list[str] | None = None) -> list[Layer]:
    found = find_layers(model)
    return [found.resolve(name) for name in names or LAYERS]


def write_pictures(root: Path, count: int = IMAGES, damaged: tuple[int, ...] = ()) -> Path:
    rng = np.random.default_rng(0)
    for n in range(count):
        folder = root / ("cats" if n < count // 2 else "dögs")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:03d}.png")
        os.utime(folder / f"{n:03d}.png", (1, 1))
        if n in damaged:
            (folder / f"{n:03d}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return root


def everything(path: Path) -> dict[str, bytes]:
    """All bytes of all datasets and all attributes of a store."""
    with h5py.File(path) as file:
        found = {name: file[name][...].tobytes() for name in sorted(file)}
        return found | {f"@{k}": repr(v).encode() for k, v in sorted(file.attrs.items())}


def run(folder: Path, data: Path, logits: bool = True) -> None:
    model = little_model()
    settings = RunSettings(batch_size=16, workers=1)
    images = open_data(data)
    for _ in extract(model, images, layers_of(model), folder, run=settings, logits=logits):
        pass


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_call(owner: object, name: str, number: int) -> None:
    """Die in the middle of the `number`-th call of a method, after half of its work."""
    real = getattr(owner, name)
    calls = 0

    def deadly(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == number:
            die()
        return real(*args, **kwargs)

    setattr(owner, name, deadly)


def die_inside_write(number: int) -> None:
    real = Path.write_bytes
    calls = 0

    def deadly(self: Path, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == number:
            real(self, bytes(data)[: len(data) // 2])
            die()
        return real(self, data)

    Path.write_bytes = deadly  # type: ignore[assignment,method-assign]


def main(folder: str, data: str, where: str, number: str) -> None:
    from cnnlens.activations import blocks, writer

    n = int(number)
    if where == "step":
        model = little_model()
        steps = extract(
            *(model, open_data(Path(data)), layers_of(model), Path(folder)),
            run=RunSettings(batch_size=16, workers=1),
            logits=True,
        )
        for done, _ in enumerate(steps):
            if done == n:
                die()
    elif where == "write":
        die_inside_write(n)
    elif where == "flush":
        die_at_call(writer.StoreWriter, "_write", n)
    elif where == "join":
        die_at_call(blocks._Rows, "append", n)
    elif where == "rename":
        die_at_call(Path, "replace", n)
    elif where == "discard":
        die_at_call(writer.StoreWriter, "discard", n)
    elif where == "full":
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))
    elif where == "hold":
        from cnnlens.activations.store import StoreKey

        key = StoreKey("", "", "", "", "float32")
        held = writer.StoreWriter(Path(folder) / "0.h5", key, (1, 1, 1), 1, 1)
        print("held", flush=True)
        os.read(0, 1)  # until who began it lets go
        held.close()
        return
    run(Path(folder), Path(data))


class Plain(nn.Module):
    """One convolution, and whatever `form` says as output."""

    def __init__(self, form: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.form = form

    def forward(self, x: Tensor) -> object:
        maps = self.conv(x)
        return self.form(maps, maps.mean((2, 3)))  # type: ignore[operator]


if __name__ == "__main__":
    main(*sys.argv[1:])
