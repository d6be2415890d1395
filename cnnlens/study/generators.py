"""Generators that have learned, in their file, and trainings that were interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError
from cnnlens.files import make_folder

if TYPE_CHECKING:
    from cnnlens.model.layer import Layer
    from cnnlens.model.model import Model
    from cnnlens.synthesize.generator import Generator, Range
    from cnnlens.synthesize.generator_training import Training
    from cnnlens.synthesize.neighbours import Photos

_KIND, _FORMAT = "cnnlens generator", 1


@dataclass(frozen=True, eq=False)
class Learned:
    """A generator that has learned, with all that it is used with.

    Attributes
    ----------
    made_from : dict
        Everything that its weights depend on.
    layer : str
        Whose answers its codes are.
    said : str
        What it learned from, for people.
    shapes : tuple
        (C, h, w) of its codes, (C, H, W) of its images.
    width : int
        Of the `UpconvNet`.
    weights : dict
        Its state dict.
    codes : Range
        What codes are on photos.
    photos : Photos
        What it learned from, small.
    errors : dict
        Errors on images held out.
    """

    made_from: dict[str, Any]
    layer: str
    said: str
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]]
    width: int
    weights: dict[str, Any]
    codes: Range
    photos: Photos
    errors: dict[str, float]

    @classmethod
    def of(
        cls, training: Training, names: list[str], said: str, made_from: dict[str, Any]
    ) -> Learned:
        """Take a training's result; `names` are those of the photos it learned from."""
        from cnnlens.synthesize.generator_training import WIDTH

        weights = {k: v.detach().cpu() for k, v in training.averaged.state_dict().items()}
        layer, examples = training.examples.layer, training.examples
        return cls(
            made_from, layer.name, said, (layer.shape, examples.shape), WIDTH, weights,
            training.codes, training.photos(names), training.errors(),
        )  # fmt: skip

    def generator(self, model: Model, layer: Layer) -> Generator:
        """Build it where the network runs."""
        from cnnlens.synthesize.generator import Generator
        from cnnlens.synthesize.upconv import UpconvNet

        net = UpconvNet(*self.shapes, self.width)
        net.load_state_dict(self.weights)
        net.to(model.device).eval().requires_grad_(False)
        return Generator(net, layer, self.codes.to(model.device))

    def write(self, file: Path) -> None:
        """Write it, whole or not at all."""
        from cnnlens.model.checkpoint import write_torch

        parts = {"codes": vars(self.codes), "photos": vars(self.photos)}
        make_folder(file.parent)
        write_torch(file, {"kind": _KIND, "format": _FORMAT, **vars(self), **parts})


def read_learned(file: Path) -> Learned:
    """Read a generator that has learned; nothing in the file is run.

    Raises
    ------
    CnnlensError
        When it is not there, damaged, or something else.
    """
    import torch

    from cnnlens.synthesize.generator import Range
    from cnnlens.synthesize.neighbours import Photos

    redo = "remove it, or let another one learn with -d DIR and --force"
    if not file.is_file():
        raise CnnlensError(
            f"{file} does not exist", "name a generator.pt, or a factory as file.py:factory"
        )
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of what is no file of its own
        raise CnnlensError(f"{file} is damaged, or no generator that cnnlens kept", redo) from error
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise CnnlensError(
            f"{file} is no generator that cnnlens kept",
            "build other networks in a factory: --generator file.py:factory",
        )
    if found["format"] != _FORMAT:
        raise CnnlensError(f"{file} is of a later version of cnnlens", "update cnnlens")
    try:
        codes, photos = Range(**found.pop("codes")), Photos(**found.pop("photos"))
        known = {k: v for k, v in found.items() if k not in ("kind", "format")}
        return Learned(**known, codes=codes, photos=photos)
    except (KeyError, TypeError) as error:
        raise CnnlensError(f"{file} is damaged: {error}", redo) from error


def keep_state(file: Path, made_from: str, training: Training) -> None:
    """Keep where a training stands."""
    from cnnlens.model.checkpoint import write_torch

    make_folder(file.parent)
    write_torch(file, {"made_from": made_from, "state": training.state_dict()})


def tidy(file: Path, made_from: str) -> None:
    """Remove where a training stood that was killed when it was just through."""
    if read_state(file, made_from) is not None:
        file.unlink(missing_ok=True)


def read_state(file: Path, made_from: str) -> Any:
    """Read where an equal training was stopped; a damaged file counts as none."""
    import torch

    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        return found["state"] if found["made_from"] == made_from else None
    except Exception:  # not there, or whatever torch makes of a file cut short
        return None
