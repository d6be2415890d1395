"""How units are followed over a training."""

from __future__ import annotations

from dataclasses import dataclass

from cnnlens.settings.attribution import DeconvSettings
from cnnlens.settings.base import Settings
from cnnlens.settings.measure import DissectSettings
from cnnlens.settings.option import fields_of, option

_METHOD = next(f for f in fields_of(DeconvSettings) if f.attribute == "method")


@dataclass(frozen=True)
class EvolveSettings(Settings):
    """Evolution of units (see `cnnlens.measure.evolution`).

    Attributes
    ----------
    method : str
        Of the projections, as in `DeconvSettings`.
    quantile, min_iou : float
        Of labels, as in `DissectSettings`.
    """

    method: str = option("deconvnet", _METHOD.option.help, choices=_METHOD.option.choices)
    quantile: float = option(
        DissectSettings.quantile,
        "With label maps: share of a unit's activations that its mask keeps.",
        above=0,
        below=1,
        metavar="SHARE",
    )
    min_iou: float = option(
        DissectSettings.min_iou, "With label maps: IoU from which on a unit is a detector.",
        name="min-iou", least=0, most=1,
    )  # fmt: skip
