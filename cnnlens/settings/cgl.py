"""Settings of concept group learning, imported without weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnlens.errors import UsageError
from cnnlens.settings.run import Settings, preset


@dataclass(frozen=True)
class CglSettings(Settings):
    """Concept group learning.

    Attributes
    ----------
    groups : int
        Groups per layer; filters that do not divide stay free.
    group_weight, spatial_weight, block_weight : float
        Weights of the group activation loss, the spatial loss and the block norm. At the paper's
        1e-3 groups hardly form on a small network; from 0.03 on, all units of a layer grow alike.
    sliding_weight : float
        Weight of the likeness of a group to the same group one layer up, within the group
        loss (the paper's λ₂).
    learn_field : bool
        Learn P1 and P2, else they stay 1 and 0.
    """

    groups: int = 5
    group_weight: float = 0.01
    spatial_weight: float = 1e-2
    block_weight: float = 1e-3
    sliding_weight: float = 0.0
    learn_field: bool = True

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise UsageError(f"--groups {self.groups} is not at least 1", "5 is usual")
        options = {"group": self.group_weight, "spatial": self.spatial_weight}
        options |= {"block": self.block_weight, "sliding": self.sliding_weight}
        for name, weight in options.items():
            if not 0 <= weight < float("inf"):
                raise UsageError(
                    f"--lambda-{name} {weight} is not a number from 0 up", "0 leaves it out"
                )

    @classmethod
    def preset(cls, name: str, **given: Any) -> CglSettings:
        """Build a preset's settings, with those `given` in its place where they are not None."""
        return cls.chosen(preset(CGL_PRESETS, name), **given)


CGL_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # the authors' program on ImageNet and Places; 1e-3 to 5e-3 for the block norm
    "paper": {"group_weight": 1e-3, "spatial_weight": 1e-2, "block_weight": 1e-3},
    # the paper's synthetic experiment
    "shapes": {"group_weight": 1e-3, "spatial_weight": 1e-2, "block_weight": 1e-2},
}
