"""What a command works on: the workspace, the model, the data and the layers that were named."""

from __future__ import annotations

import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.screen import Screen
from cnnlens.errors import UsageError
from cnnlens.study.workspace import Workspace, needs_model, portable

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet
    from cnnlens.model.layers import Layer
    from cnnlens.model.model import Model


@dataclass(frozen=True)
class ModelOptions:
    """How a command line says to open its model."""

    spec: str | None
    arch: str | None = None
    allow_pickle: bool = False
    image_size: str | None = None
    mean: str | None = None
    std: str | None = None
    device: str = "auto"

    def arguments(self) -> dict[str, Any]:
        """Return `open_model`'s arguments, without spec and device."""
        return {
            "arch": portable(self.arch) if self.arch else None,
            "allow_pickle": self.allow_pickle,
            "image_size": _size(self.image_size),
            "mean": _numbers("--mean", self.mean),
            "std": _numbers("--std", self.std),
        }


def open_model(
    options: ModelOptions, workspace: Workspace | None, screen: Screen
) -> tuple[Model, dict[str, Any]]:
    """Open the named model, or the workspace's; return it with the options it was opened by."""
    from cnnlens.model.open import open_model as open_

    known = workspace.model_options if workspace else None
    given = options.arguments()
    if options.spec is None:
        if known is None:
            raise needs_model(workspace or Workspace())
        spec = known["spec"]
    else:
        spec = portable(options.spec)  # as later commands will open it: equal names, equal marks
        known = known if known and known["spec"] == portable(spec) else None
    if known:  # what was said of this model before still holds
        given = {k: v or _tupled(known.get(k)) for k, v in given.items()}
    model = open_(spec, device=options.device, **given)
    for line in (*model.notes, _preprocessing(model)):
        screen.note(line)
    return model, given


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _preprocessing(model: Model) -> str:
    p = model.preprocess
    size = "×".join(map(str, p.size))
    mean, std = (",".join(f"{v:g}" for v in values) for values in (p.mean, p.std))
    return f"{model.arch}: input {size}, mean {mean}, std {std} ({p.source})"


def find_layers(
    model: Model, names: list[str] | None, workspace: Workspace, vectors: bool = False
) -> list[Layer]:
    """Resolve the named layers, or the workspace's last one, or `last`; each place once.

    With `vectors`, fully connected layers may be named too.
    """
    from cnnlens.model.layers import find_layers as trace_layers

    layers = trace_layers(model)
    last = workspace.last_layer if workspace.knows(model) else None
    found: dict[object, Layer] = {}
    for name in names or [last or "last"]:
        layer = layers.resolve(name, vectors)
        found.setdefault(layer.place, layer)
    return list(found.values())


def open_images(path: Path | None, workspace: Workspace, kinds: tuple[str, ...]) -> ImageSet:
    """Open the named data folder, or the workspace's last one of a fitting kind."""
    from cnnlens.data.open import open_data

    names = {"broden": "Broden-layout", "classes": "class-folder", "parts": "parts"}
    wanted = " or ".join(names.get(k, k) for k in kinds)
    if path is None:
        path = workspace.data_path(kinds)
        if path is None:
            raise UsageError(
                f"no data given, and the workspace {workspace.path} knows no {wanted} data",
                "name a folder with -d DIR",
            )
    images = open_data(path)
    if images.kind not in kinds:
        lacking, help_ = _LACKING[kinds[0]]
        raise UsageError(
            f"{path} holds no {lacking} (found: {images.kind})",
            f"this command needs {wanted} data; {help_}",
        )
    return images


# what data of a kind has that others lack, and where it comes from
_LACKING = {
    "broden": (
        "label maps",
        "`cnnlens data download broden` fetches some, `cnnlens data make shapes` makes some",
    ),
    "classes": ("categories", "put the images into one subfolder per category"),
    "images": ("images", "name a folder of images"),
    "parts": (
        "parts",
        "CUB-200-2011, VOC-Part and Animal-Part have them, `cnnlens data make animals` makes some",
    ),
}


def command_line() -> str:
    """Return the command line being carried out, as one would type it."""
    return shlex.join(["cnnlens", *sys.argv[1:]])


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(p.isdigit() and 0 < int(p) <= 8192 for p in parts):
        raise UsageError(f"--image-size {text} is not a size in pixels", "write 224 or 224x320")
    return int(parts[0]), int(parts[-1])


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} {text} is not a list of numbers", f"write {option} 0.5,0.5,0.5")
    if option == "--std" and min(numbers) <= 0:
        raise UsageError(f"--std {text} is not above 0", "pixels are divided by it")
    return numbers
