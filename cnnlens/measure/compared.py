"""Measured networks held against each other: their layers matched, their numbers compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.measure.accuracy import held_out_images, trained_accuracy
from cnnlens.measure.comparison import Measured, unlike
from cnnlens.measure.quantities import QUANTITIES
from cnnlens.measure.tree_agreement import agreement, mean_support
from cnnlens.measure.verdict import conclude, unlike_training
from cnnlens.model.addresses import parse_filters
from cnnlens.settings import CompareSettings

COMMANDS = ("dissect", "exam", "stability", "cluster")  # whose results are compared
_PARTS = ("categories", "embed")  # of what cluster finds


@dataclass(frozen=True)
class ComparedLayer:
    """One layer of one workspace."""

    name: str  #: as it was typed there
    alias: str  #: its ``convN``, where it is known, else empty
    #: by command: what it found, `DissectResult`, `ExamResult`, …
    measured: Mapping[str, Any]

    @property
    def units(self) -> int:
        """Number of units; 0 where nothing was measured of them."""
        found = (self.measured.get(command) for command in ("dissect", "stability"))
        return next((len(one) for one in found if one is not None), 0)

    def summaries(self, command: str) -> dict[str, Mapping[str, Any]]:
        """Give a command's summary, or its parts', by what a sentence calls them."""
        if (found := self.measured.get(command)) is None:
            return {}
        if command != "cluster":
            return {command: found.summary}
        return {f"{command} ({p})": found.summary[p] for p in _PARTS if p in found.summary}


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
    found: dict[str, Any] = {
        "workspaces": [_told(model, settings.level) for model in models],
        "settings": settings.as_dict(),
        "unlike": differ,
        "remarks": remarks(models, layers),
        "cautions": [
            *unlike_training([m.name for m in models], [m.training for m in models]),
            *trained_on(models, layers),
        ],
        "layers": {name: _layer(rows, settings) for name, rows in layers.items()},
    }
    conclude(found)
    return found


def _told(model: ComparedModel, level: float) -> dict[str, Any]:
    """Tell which network it is, and how accurate it was when it was trained."""
    return {
        "name": model.name,
        "path": str(model.path.resolve()),
        "model": model.model.get("spec"),
        "arch": model.model.get("arch"),
        "method": model.method,
        "accuracy": trained_accuracy(model.training, level),
    }


def _layer(rows: Rows, settings: CompareSettings) -> dict[str, Any]:
    return {
        "names": [row.name for row in rows],
        **{q.key: q.compare([row.measured for row in rows], settings) for q in QUANTITIES},
        "trees": _trees(rows, settings),
    }


def _trees(rows: Rows, settings: CompareSettings) -> list[Any]:
    """Hold each tree of classes against the first network's; None where one of them has none."""
    clusters = [row.measured.get("cluster") for row in rows]
    first, *others = [one if one and "categories" in one.summary else None for one in clusters]

    def against(first: Any, other: Any) -> Any:
        distances = [(one.names, one.distances) for one in (first, other)]
        found = agreement(
            first.categories, other.categories, (distances[0], distances[1]), settings
        )
        support = [mean_support(one.categories) for one in (first, other)]
        return found and {**found, "support": support}

    return [against(first, other) if first and other else None for other in others]


def disagreements(models: Sequence[ComparedModel], layers: Mapping[str, Rows]) -> list[str]:
    """Say, in sentences, where workspaces were not measured alike: other data, other settings."""
    found: dict[str, None] = {}
    for name, rows in layers.items():
        for command in COMMANDS:
            known: dict[str, list[Measured]] = {}
            for model, layer in zip(models, rows, strict=True):
                for what, one in layer.summaries(command).items():
                    whose = Measured(model.name, data_name(one) or "unnamed data", one)
                    known.setdefault(what, []).append(whose)
            for what, measured in known.items():
                for other in measured[1:]:
                    found |= dict.fromkeys(unlike(f"{what} of {name}", measured[0], other))
    return list(found)


def trained_on(models: Sequence[ComparedModel], layers: Mapping[str, Rows]) -> list[str]:
    """Say which networks were measured on images that they may have been trained on."""
    found: dict[str, None] = {}
    for rows in layers.values():
        for model, row in zip(models, rows, strict=True):
            for what, one in row.summaries("stability").items():
                if model.training and one.get("held_out") is None:
                    said = _seen_before(model, what, one)
                    found |= dict.fromkeys([said] if said else [])
    return list(found)


def held_out_of_all(models: Sequence[ComparedModel], data: str) -> list[int] | None:
    """Find the images of a data set that no training of these networks has seen, by position.

    None where no training says that it was on this data (its fingerprint).
    """
    known = [held_out_images(model.training) for model in models]
    found = [set(one[1]) for one in known if one and one[0] == data]
    return sorted(set.intersection(*found)) if found else None


def not_recorded(models: Sequence[ComparedModel]) -> list[str]:
    """Say of which networks nobody knows what they were trained on, when accuracy is measured."""
    unknown = [m.name for m in models if m.training and held_out_images(m.training) is None]
    said = "which images {0} was trained on is not recorded: its accuracy may be measured on them"
    return [said.format(name) for name in unknown]


def _seen_before(model: ComparedModel, what: str, summary: Mapping[str, Any]) -> str:
    made_from, known = summary.get("made_from"), model.training.get("held_out")
    if not isinstance(known, Mapping):
        asks = f"its {what} may be measured on them"
        return f"which images {model.name} was trained on is not recorded: {asks}"
    data = made_from.get("data") if isinstance(made_from, Mapping) else None
    if data is None or data != known.get("data"):
        return ""
    way = f"run `cnnlens {what}` anew, without --held-out all"
    return f"{what} of {model.name} was measured on images that it was trained on, too: {way}"


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
