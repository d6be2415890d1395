"""Which values of files deeper than 8 bits become black and white."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Bounds = tuple[float, float]  # the values that become 0 and 1


@dataclass(frozen=True)
class Ranges:
    """Which values become 0 and 1, by the type of a file's samples.

    Attributes
    ----------
    known : tuple of (str, float, float)
        Types (``uint16``, ``int32``, ``uint16×13``), lowest and highest value.
    everything : (float, float) or None
        What holds for every type instead.
    """

    known: tuple[tuple[str, float, float], ...] = ()
    everything: Bounds | None = None

    def of(self, kind: str) -> Bounds | None:
        """Return the bounds of a type; None where nothing is known of it."""
        if self.everything is not None:
            return self.everything
        return next(((low, high) for name, low, high in self.known if name == kind), None)

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self.known) or self.everything is not None

    def as_dict(self) -> dict[str, list[float]]:
        """Return bounds by type, for JSON."""
        if self.everything is not None:
            return {"all": list(self.everything)}
        return {name: [low, high] for name, low, high in self.known}

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Ranges:
        """Build from :meth:`as_dict`'s result."""
        types = tuple((kind, float(low), float(high)) for kind, (low, high) in known.items())
        everything = next(((low, high) for kind, low, high in types if kind == "all"), None)
        return cls((), everything) if everything else cls(types)


NO_RANGES = Ranges()
