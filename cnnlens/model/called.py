"""What a file calls its architecture, as training scripts note it beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PLACES = ("args", "hyper_parameters", "config")
_KEYS = ("arch", "model_name", "architecture", "model", "backbone")


def called_in(content: Any) -> str | None:
    """Read what a training script noted as its architecture: ``arch``, or ``args.model``."""
    for place in (content, *(_get(content, k) for k in _PLACES)):
        for key in _KEYS:
            if isinstance(name := _get(place, key), str):
                return name
    return None


def _get(place: Any, key: str) -> Any:
    return place.get(key) if isinstance(place, Mapping) else getattr(place, key, None)


def plain_name(name: str) -> str:
    """Take off a name what hubs put around it: of ``hf_hub:timm/efficientnet_b0.ra_in1k`` is left
    ``efficientnet_b0``.
    """
    return name.rpartition(":")[2].rpartition("/")[2].partition(".")[0]
