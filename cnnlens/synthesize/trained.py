"""``upconv.pt``: an up-convolutional network with all that it was trained from, safe to load.

It holds tensors, numbers and texts alone. While a training is under way, a hidden file beside it
holds the same, and what it takes to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.model.checkpoint import write_torch
from cnnlens.model.weights_file import read_torch
from cnnlens.synthesize.training import Training
from cnnlens.synthesize.upconv import UpconvNet

_VERSION = 1
_KEYS = ("format_version", "features", "image", "width", "state_dict", "made_from", "about")


def unfinished(path: Path) -> Path:
    """Where the state of a training that is under way is kept."""
    return path.with_name(f".{path.stem}.unfinished.pt")


def save_training(
    path: Path,
    run: Training,
    made_from: Mapping[str, Any],
    about: Mapping[str, Any],
    learned: Sequence[str] = (),
) -> None:
    """Write the network, whole or not at all; one in training in its place beside.

    `learned` holds the marks of the images that it learned from, see `mark_of`.

    Raises
    ------
    CnnlensError
        When the file cannot be written.
    """
    content = {
        "format_version": _VERSION,
        "features": list(run.examples.layer.shape),
        "image": list(run.examples.shape),
        "width": run.settings.width,
        "state_dict": {k: v.detach().cpu() for k, v in run.net.state_dict().items()},
        "made_from": dict(made_from),
        "about": dict(about),
        "learned": list(learned),
        "training": None if run.done else run.state_dict(),
    }
    write_torch(path if run.done else unfinished(path), content)
    if run.done:
        unfinished(path).unlink(missing_ok=True)


def tidy(path: Path, made_from: Mapping[str, Any]) -> None:
    """Remove the state of a training that was killed when its network was just written."""
    if (state := unfinished(path)).is_file():
        with suppress(CnnlensError):  # cut short: the next training writes over it
            if read_trained(state)["made_from"] == made_from:
                state.unlink(missing_ok=True)


def read_trained(path: Path) -> dict[str, Any]:
    """Read what `save_training` wrote.

    Raises
    ------
    CnnlensError
        When it is damaged, or something else.
    """
    content = read_torch(path)
    if not isinstance(content, dict) or any(key not in content for key in _KEYS):
        raise CnnlensError(f"{path} is no up-convolutional network of cnnlens")
    return content


def network(content: Mapping[str, Any], path: Path) -> UpconvNet:
    """Build the network that was read from a file.

    Raises
    ------
    CnnlensError
        When its weights do not fit together.
    """
    try:
        features, image = tuple(content["features"]), tuple(content["image"])
        net = UpconvNet(features, image, content["width"])
        net.load_state_dict(content["state_dict"])
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise CnnlensError(f"{path} is damaged: its weights do not fit together") from error
    return net.eval().requires_grad_(False)
