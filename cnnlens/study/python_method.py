"""A method as `Investigation` has it: a function of keywords, with a signature and its help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.distributed import Share
from cnnlens.errors import UsageError
from cnnlens.settings.base import presets_of_all
from cnnlens.settings.option import Field, check_keywords, values_of
from cnnlens.settings.run import DataSettings, RunSettings

if TYPE_CHECKING:
    from cnnlens.data.python_values import PythonValues
    from cnnlens.methods.method import Inputs, Method
    from cnnlens.settings.run import Settings


def bound(run: Callable[[Mapping[str, Any]], Any], method: type[Method]) -> Any:
    """Make a method's callable: keywords, and what the command names by its place, too."""
    from cnnlens.methods.plugged import in_python

    placed = [field.keyword for field in known_fields(method) if field.option.argument]
    name = in_python(method.name)

    def call(*given: Any, **values: Any) -> Any:
        if given and not placed:
            raise UsageError(f"{name} takes keywords alone", f"help(lens.{name})")
        return run({**values, placed[0]: given} if given else values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(n, inspect.Parameter.VAR_POSITIONAL) for n in placed]
    parameters += [
        inspect.Parameter(f.keyword, keyword, default=f.default)
        for f in known_fields(method)
        if f.keyword not in placed
    ]
    parameters += [inspect.Parameter(n, keyword, default=d) for n, d, _ in _others(method)]
    call.__name__ = call.__qualname__ = name
    call.__doc__ = _documentation(method)
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


@dataclass(frozen=True)
class Asked:
    """What one call asks for, by keyword; what does not fit is refused."""

    method: type[Method]
    known: Sequence[Field]
    values: Mapping[str, Any]  # as given
    labels: Sequence[Any] | None  # of images in memory
    force: bool
    run: RunSettings
    reading: DataSettings

    @classmethod
    def of(cls, method: type[Method], values: Mapping[str, Any], run: RunSettings) -> Asked:
        """Read a call's keywords.

        Raises
        ------
        UsageError
            For one that there is not, or a value that does not fit.
        """
        given = dict(values)
        force = bool(given.pop("force", False))
        known = known_fields(method)
        labels = None if _is_table(given.get("labels"), known) else given.pop("labels", None)
        check_keywords(method.name, given, known, [*(n for n, *_ in _others(method)), "labels"])
        _check_labels(labels, given.get("data"))
        reading = DataSettings.of_values(**values_of(DataSettings, given))
        return cls(method, known, given, labels, force, run.changed(given), reading)

    @property
    def share(self) -> Share:
        """Which part of the work is asked for."""
        return Share.parse(self.run.shard)

    def build(self, values: PythonValues) -> tuple[Inputs, tuple[Settings, ...]]:
        """Build the method's inputs and settings."""
        from cnnlens.methods.method import build

        typed = {
            field.keyword: values.typed(field, self.values[field.keyword])
            for field in self.known
            if field.keyword in self.values
        }
        return build(self.method, {**typed, "preset": self.values.get("preset")})


def known_fields(method: type[Method]) -> list[Field]:
    """Everything that a method can be asked for; where it runs is its investigation's."""
    from cnnlens.methods.method import inputs_of, reading_of, run_of, settings_of

    own = [*inputs_of(method), *reading_of(method), *settings_of(method)]
    return [*own, *(f for f in run_of(method) if f.keyword != "device")]


def _others(method: type[Method]) -> list[tuple[str, Any, str]]:
    """Keywords beside the fields: name, default, help."""
    known = {field.keyword for field in known_fields(method)}
    presets = presets_of_all(method.settings_types)
    found: list[tuple[str, Any, str]] = []
    if presets:
        found.append(("preset", "default", f"A paper's settings: {', '.join(presets)}."))
    if "data" in known and "labels" not in known:
        found.append(("labels", None, "Of images in memory: a number or name for each."))
    return [*found, ("force", False, f"Redo or overwrite; {method.forces}.")]


def _is_table(labels: Any, known: Sequence[Field]) -> bool:
    """Whether labels are a method's own, a table of units', and not those of images in memory."""
    own = any(field.keyword == "labels" for field in known)
    return own and isinstance(labels, (str, Path))


def _check_labels(labels: Any, data: Any) -> None:
    """Refuse labels that nothing would be done with."""
    if labels is not None and (data is None or isinstance(data, (str, Path))):
        raise UsageError(
            "labels= goes with images in memory", "those of a folder are its subfolders"
        )


def _documentation(method: type[Method]) -> str:
    lines = [f"    {f.keyword} : {f.option.help}" for f in known_fields(method)]
    lines += [f"    {name} : {words}" for name, _, words in _others(method)]
    return "\n".join([inspect.getdoc(method) or "", "", "Keywords:", *lines])
