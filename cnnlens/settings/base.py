"""What settings are: frozen, checked, with presets; and those of a method that has several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

from cnnlens.errors import UsageError
from cnnlens.settings.option import Field, fields_of, take_values, values_of

Presets = Mapping[str, Mapping[str, Any]]  # values by field, by the preset's name


@dataclass(frozen=True)
class Settings:
    """One method's settings; what their options say of their values is checked."""

    # values by field, by the preset's name; where there are some, ``--preset`` chooses
    presets: ClassVar[Presets] = {}

    def __post_init__(self) -> None:
        take_values(self)

    @classmethod
    def of(cls, preset_name: str = "default", **given: Any) -> Self:
        """Build a preset's settings, with those `given` in its place where they are not None.

        Raises
        ------
        UsageError
            When there is no preset of that name, or a value does not fit.
        """
        known = {"default": {}, **cls.presets}
        return cls.chosen(preset(known, preset_name), **given)

    @classmethod
    def chosen(cls, preset: Mapping[str, Any], **given: Any) -> Self:
        """Build a preset's settings, with those `given` in its place where they are not None."""
        return cls(**{**preset, **{k: v for k, v in given.items() if v is not None}})

    def changed(self, given: Mapping[str, Any]) -> Self:
        """Return them with those `given` by keyword in their place, where they are not None."""
        known = values_of(type(self), given)
        return replace(self, **{k: v for k, v in known.items() if v is not None})

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return asdict(self)


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


# ---- of a method that is made of several


def fields_of_all(kinds: Sequence[type[Settings]]) -> list[Field]:
    """Fields of several settings; of equal flags the first one's."""
    found: dict[str, Field] = {}
    for kind in kinds:
        for field in fields_of(kind):
            found.setdefault(field.flag, field)
    return list(found.values())


def presets_of_all(kinds: Sequence[type[Settings]]) -> tuple[str, ...]:
    """Names of the presets of any of several settings; empty where there are none."""
    names = [name for kind in kinds for name in kind.presets]
    return tuple(dict.fromkeys(["default", *names])) if names else ()


def build_all(kinds: Sequence[type[Settings]], given: Mapping[str, Any]) -> tuple[Settings, ...]:
    """Build several settings from values by keyword, the "preset" among them.

    Raises
    ------
    UsageError
        For a value that does not fit, or a preset that none has.
    """
    name = given.get("preset", "default")
    if known := presets_of_all(kinds):
        preset({one: {} for one in known}, name)
    return tuple(
        kind.of(name if name in kind.presets else "default", **values_of(kind, given))
        for kind in kinds
    )
