"""How near made images come to photos: a generator that only remembers would give these back.

Two distances count: the root mean square of pixels, at 32 px at most, and that of codes, in
deviations of each unit over photos. Either is held against the distance of photos to their own
nearest neighbour among the others: a copy is far nearer than these are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cnnlens.synthesize.examples import Examples
from cnnlens.synthesize.transform import resized

_SIDE = 32  # pixels that photos are compared at, at most
_OWN = 256  # photos whose own neighbours are looked for


@dataclass(frozen=True, eq=False)
class Photos:
    """Photos to compare with.

    Attributes
    ----------
    names : sequence of str
        Of each.
    small : torch.Tensor
        (N, C, h, w) uint8.
    codes : torch.Tensor
        (N, U): means over positions, standardized.
    mean, deviation : torch.Tensor
        (U,), what codes are standardized by.
    own : torch.Tensor
        (2, K): distances of some photos to the nearest other one, by pixels and by codes; infinite
        where there is no other.
    """

    names: Sequence[str]
    small: Tensor
    codes: Tensor
    mean: Tensor
    deviation: Tensor
    own: Tensor

    @classmethod
    def of(cls, names: Sequence[str], examples: Examples, rows: Tensor) -> Photos:
        """Keep some of the photos that were read, and their codes."""
        mean, deviation = examples.mean.float(), examples.deviation.float()
        parts = rows.split(256)
        kept = torch.cat([small(examples.images(part)) for part in parts])
        codes = torch.cat([examples.features(part).mean((2, 3)) for part in parts])
        codes = ((codes - mean) / deviation).half()
        some = torch.arange(0, len(kept), -(-len(kept) // _OWN))
        own = [_nearest(of[some], of, some)[1] for of in (kept.float() / 255, codes)]
        return cls(list(names), kept, codes, mean, deviation, torch.stack(own))

    def nearest(self, images: Tensor, codes: Tensor) -> list[dict[str, Any]]:
        """Say for images (M, C, H, W) in [0, 1] and their codes (M, U, h, w) which are nearest.

        Returns
        -------
        list of dict
            ``pixels`` and ``code``, each ``photo, distance, photos_distance`` (the median among
            photos, null for one alone) and ``nearer_photos``: the share of photos that have a
            nearer one themselves.
        """
        pooled = (codes.mean((2, 3)) - self.mean) / self.deviation
        pairs = {
            "pixels": (small(images).float() / 255, self.small.float() / 255, self.own[0]),
            "code": (pooled, self.codes, self.own[1]),
        }
        found: list[dict[str, Any]] = [{} for _ in images]
        for name, (mine, known, own) in pairs.items():
            usual = float(own.median())
            for entry, at, distance in zip(found, *_nearest(mine, known), strict=True):
                entry[name] = {
                    "photo": self.names[int(at)],
                    "place": int(at),
                    "distance": float(f"{float(distance):.4g}"),
                    "photos_distance": float(f"{usual:.4g}") if math.isfinite(usual) else None,
                    "nearer_photos": round(float((own < distance).float().mean()), 3),
                }
        return found


def small(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [0, 1] at 32 px at most, uint8."""
    height, width = images.shape[2:]
    ratio = min(1.0, _SIDE / min(height, width))
    size = round(height * ratio), round(width * ratio)
    made = images if ratio == 1 else resized(images, size)
    return (made.clamp(0, 1) * 255).round().byte()


def _nearest(mine: Tensor, known: Tensor, apart: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Places of the nearest and root mean square distances, (M,); `apart`: each one's own place."""
    one, other = mine.flatten(1).float(), known.flatten(1).float()
    distances = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    if apart is not None:
        distances[torch.arange(len(one)), apart] = torch.inf
    found = distances.min(1)
    return found.indices, found.values / one.shape[1] ** 0.5
