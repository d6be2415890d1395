"""How to run, and what stores hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from cnnlens.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """One method's settings."""

    @classmethod
    def chosen(cls, preset: Mapping[str, Any], **given: Any) -> Self:
        """Build a preset's settings, with those `given` in its place where they are not None."""
        return cls(**{**preset, **{k: v for k, v in given.items() if v is not None}})

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return asdict(self)


Presets = Mapping[str, Mapping[str, Any]]  # values by field, by the preset's name


def preset(known: Presets, name: str) -> Mapping[str, Any]:
    """Look a preset up.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    if name not in known:
        raise UsageError(f"no preset '{name}'", f"choose one of {', '.join(known)}")
    return known[name]


@dataclass(frozen=True)
class RunSettings:
    """How to run, not what to compute: results do not depend on these (beyond rounding)."""

    device: str = "auto"
    batch_size: int = 32
    workers: int = 4
    seed: int = 0


@dataclass(frozen=True)
class ExtractSettings:
    """What an activation store holds."""

    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise UsageError(f"--dtype {self.dtype} is not known", "choose float32 or float16")
