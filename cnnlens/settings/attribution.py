"""Which pixels count."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.errors import UsageError
from cnnlens.settings.run import Settings


@dataclass(frozen=True)
class DeconvSettings(Settings):
    """Projections of units back to pixels.

    Attributes
    ----------
    method : str
        What a rectifier does to the signal that comes back: "deconvnet", "guided", "gradient".
    top : int
        Images per unit, by peak activation.
    whole_map : bool
        Start from the unit's whole map, not from its peak alone.
    """

    method: str = "deconvnet"
    top: int = 9
    whole_map: bool = False

    def __post_init__(self) -> None:
        if self.method not in ("deconvnet", "guided", "gradient"):
            raise UsageError(
                f"--method {self.method} is not known", "choose deconvnet, guided or gradient"
            )
        if self.top < 1:
            raise UsageError(f"--top {self.top} is not at least 1", "9 is usual")


@dataclass(frozen=True)
class CamSettings(Settings):
    """Class activation maps.

    Attributes
    ----------
    method : str
        "cam": the class weights on the maps that they act on; "gradcam": the gradient's mean.
    top : int
        Classes per image, by score, where none is named.
    """

    method: str = "cam"
    top: int = 1

    def __post_init__(self) -> None:
        if self.method not in ("cam", "gradcam"):
            raise UsageError(f"--method {self.method} is not known", "choose cam or gradcam")
        if self.top < 1:
            raise UsageError(f"--top {self.top} is not at least 1", "1 shows the predicted class")
