"""Measured networks held against each other: their layers matched, their numbers compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.measure.accuracy import trained_accuracy
from cnnlens.measure.comparison import QUANTITIES, Measured, unlike
from cnnlens.model.addresses import parse_filters
from cnnlens.settings import CompareSettings

COMMANDS = ("dissect", "stability")  # whose results are compared


@dataclass(frozen=True)
class ComparedLayer:
    """One layer of one workspace."""

    name: str  #: as it was typed there
    alias: str  #: its ``convN``, where it is known, else empty
    measured: Mapping[str, Any]  #: by command: what it found, `DissectResult`, `StabilityResult`

    @property
    def units(self) -> int:
        """Number of units."""
        return len(next(iter(self.measured.values())))


@dataclass(frozen=True)
class ComparedModel:
    """One workspace of a comparison."""

    name: str  #: what it is called on the page: its folder, as far up as tells it from the others
    path: Path  #: the folder
    model: Mapping[str, Any]  #: spec, architecture, fingerprint, preprocessing
    #: ``new.json`` of a fine-tuned model, else empty
    training: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, ComparedLayer] = field(default_factory=dict)  #: by name

    @property
    def method(self) -> str | None:
        """How the model was fine-tuned; None where it was not, or nobody knows."""
        found = self.training.get("method")
        return found if isinstance(found, str) else None

    @property
    def size(self) -> str:
        """Of the input: "224×224"."""
        preprocess = self.model.get("preprocess")
        found = preprocess.get("size") if isinstance(preprocess, Mapping) else None
        return "×".join(map(str, found)) if isinstance(found, (list, tuple)) else "unknown"


# -- layers that belong together ----------------------------------------------------------------

Rows = list[ComparedLayer]  # the same layer of every workspace


def match_layers(models: Sequence[ComparedModel], names: Sequence[str] = ()) -> dict[str, Rows]:
    """Find the layers that all workspaces have, by name or alias.

    `names` say which ones, else all; ``conv5,conv6`` names one per workspace.

    Raises
    ------
    UsageError
        When a named layer is missing somewhere.
    CnnlensError
        When there is no common layer.
    """
    if names:
        return {name: _named(models, name) for name in names}
    found: dict[str, Rows] = {}
    for name, layer in models[0].layers.items():
        others = [_find(model, name) or _find(model, layer.alias) for model in models[1:]]
        rows = [one for one in others if one is not None]
        if len(rows) == len(others):
            found[name] = [layer, *rows]
    if not found:
        has = "; ".join(f"{model.name} has {', '.join(model.layers)}" for model in models)
        raise CnnlensError(
            f"the workspaces have no measured layer in common: {has}",
            "measure the same layer in each, or name one per workspace: -l conv5,conv6",
        )
    return found


def _named(models: Sequence[ComparedModel], name: str) -> Rows:
    each = name.split(",") if "," in name else [name] * len(models)
    if len(each) != len(models):
        raise UsageError(
            f"-l {name} names {len(each)} layers for {len(models)} workspaces",
            "name one that all have, or one per workspace",
        )
    return [_known(model, one.strip()) for model, one in zip(models, each, strict=True)]


def _known(model: ComparedModel, name: str) -> ComparedLayer:
    if (found := _find(model, name)) is None:
        said = f"{model.name} has no measured layer '{name}'"
        raise _unknown(said, name, "it has", model.layers)
    return found


def _find(model: ComparedModel, name: str) -> ComparedLayer | None:
    if name in model.layers:
        return model.layers[name]
    return next((one for one in model.layers.values() if name and one.alias == name), None)


def units_named(texts: Sequence[str], layers: Mapping[str, Rows]) -> dict[str, list[int]]:
    """Choose units by address, ``conv5:3,7``, in layers that are compared.

    Raises
    ------
    UsageError
        When a layer is not compared, a unit is not there, or an address names something else.
    """
    known: Any = SimpleNamespace(resolve=lambda name, vectors: _compared(layers, name))
    chosen: dict[str, list[int]] = {}
    for text in texts:
        bare, at, _ = text.partition("@")
        (one,) = parse_filters([bare], known)
        if at or one.units is None:
            wrong = "names a position" if at else "names no units"
            raise UsageError(f"'{text}' {wrong}", "write LAYER:UNITS, like conv5:3,7")
        first: Any = one.layer
        key = next(key for key, rows in layers.items() if rows[0] is first)
        chosen.setdefault(key, []).extend(one.units)
    return chosen


def _compared(layers: Mapping[str, Rows], name: str) -> ComparedLayer:
    for known, rows in layers.items():
        if name in (known, *(row.alias for row in rows), *(row.name for row in rows)):
            return rows[0]
    raise _unknown(f"no layer '{name}' is compared", name, "compared are", layers)


def _unknown(said: str, name: str, has: str, names: Iterable[str]) -> UsageError:
    near = did_you_mean(name, names)
    return UsageError(said + (f"; {near}" if near else ""), f"{has} {', '.join(names)}")


# -- compared ------------------------------------------------------------------------------------


def compare_models(
    models: Sequence[ComparedModel],
    layers: Mapping[str, Rows],
    settings: CompareSettings | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Compare workspaces that have been read (`read_models`), as `cnnlens.compare` does.

    Raises
    ------
    CnnlensError
        When the workspaces were not measured alike.
    """
    settings = settings or CompareSettings()
    differ = disagreements(models, layers)
    if differ and not force:
        more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
        hint = "measure both alike, or compare all the same with --force"
        raise CnnlensError(differ[0] + more, hint)
    return {
        "workspaces": [
            {
                "name": model.name,
                "path": str(model.path.resolve()),
                "model": model.model.get("spec"),
                "arch": model.model.get("arch"),
                "method": model.method,
                "accuracy": trained_accuracy(model.training, settings.level),
            }
            for model in models
        ],
        "settings": settings.as_dict(),
        "unlike": differ,
        "remarks": remarks(models, layers),
        "layers": {
            name: {
                "names": [row.name for row in rows],
                **{q.key: q.compare([row.measured for row in rows], settings) for q in QUANTITIES},
            }
            for name, rows in layers.items()
        },
    }


def disagreements(models: Sequence[ComparedModel], layers: Mapping[str, Rows]) -> list[str]:
    """Say, in sentences, where workspaces were not measured alike: other data, other settings."""
    found: dict[str, None] = {}
    for name, rows in layers.items():
        for command in COMMANDS:
            known = [
                Measured(model.name, data_name(one.summary) or "unnamed data", one.summary)
                for model, layer in zip(models, rows, strict=True)
                if (one := layer.measured.get(command)) is not None
            ]
            for other in known[1:]:
                found |= dict.fromkeys(unlike(f"{command} of {name}", known[0], other))
    return list(found)


def remarks(models: Sequence[ComparedModel], layers: Mapping[str, Rows]) -> list[str]:
    """Say what else differs and is worth knowing: places, units, preprocessing, models."""
    found, first = [], models[0]
    for model in models[1:]:
        one, other = (model.model.get("fingerprint") for model in (first, model))
        if one and one == other:
            found.append(f"{first.name} and {model.name} look at the same model")
        if first.size != model.size:
            sizes = f"{first.size} in {first.name}, {model.size} in {model.name}"
            found.append(f"the input is {sizes}")
    for name, rows in layers.items():
        for what in ("alias", "units"):
            values = [getattr(row, what) for row in rows]
            if all(values) and len(set(values)) > 1:
                said = ", ".join(f"{v} in {s.name}" for v, s in zip(values, models, strict=True))
                words = "stands for" if what == "alias" else "has units:"
                found.append(f"{name} {words} {said}")
    return found


def data_name(summary: Mapping[str, Any]) -> str:
    """Name what a summary was measured on; empty where it does not say."""
    data = summary.get("data")
    if isinstance(data, Mapping):
        data = data.get("name") or data.get("path")
    return str(data or "")


# -- as tables for people -----------------------------------------------------------------------


def tables(found: Mapping[str, Any]) -> Iterator[tuple[list[str], list[list[str]], str]]:
    """Yield the tables of a comparison, columns, rows and title: accuracies, then each layer's.

    `found` is as in ``compare.json``.
    """
    names = [who["name"] for who in found["workspaces"]]
    accuracies = [who["accuracy"] for who in found["workspaces"]]
    if any(accuracies):
        yield ["", *names], [["Accuracy", *(_cell(a, 3) for a in accuracies)]], ""
    against = [f"{other} - {names[0]}" for other in names[1:]]
    for name, of in found["layers"].items():
        rows = [
            [q.title.replace("’", "'"), *(_cell(v, q.digits) for v in of[q.key]["values"])]
            + [_cell(v, q.digits, "+") for v in of[q.key]["differences"]]
            for q in QUANTITIES
            if any(of[q.key]["values"])
        ]
        yield ["", *names, *against], rows, name


def _cell(value: Mapping[str, Any] | None, digits: int, sign: str = "") -> str:
    if value is None:
        return "-"
    said = _number(value["value"], digits, sign)
    if value["interval"] is not None:
        said += f" ({' to '.join(_number(end, digits) for end in value['interval'])})"
    if value["chance"] is not None:
        said += f" chance {_number(value['chance'], digits or 1)}"
    return said


def _number(value: float, digits: int, sign: str = "") -> str:
    rounded = round(value, digits)
    return f"{rounded:{sign if rounded else ''}.{digits}f}".replace("-0", "0", int(not rounded))
