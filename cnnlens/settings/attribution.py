"""What of an image drove a unit or a class."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.settings.base import Settings
from cnnlens.settings.option import option


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

    method: str = option(
        "deconvnet",
        "What a rectifier does to the signal on its way back.",
        choices=("deconvnet", "guided", "gradient"),
    )
    top: int = option(9, "Images per unit, by activation, of those in -d.", least=1)
    whole_map: bool = option(
        False, "Project the unit's whole map, or its peak position alone.", off="peak"
    )


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

    method: str = option(
        "cam",
        "cam: the class weights on the maps that they act on, where the network has such a head. "
        "gradcam: the gradient's mean on any layer's maps.",
        choices=("cam", "gradcam"),
    )
    top: int = option(1, "Classes per image, by score, where none is named.", least=1)
