"""How to run, and what stores hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cnnlens.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """One method's settings."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return asdict(self)


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
