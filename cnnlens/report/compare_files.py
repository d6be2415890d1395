"""What a comparison reads of each workspace: its layers, those that belong together, how alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.files import read_json
from cnnlens.model.layers import file_name
from cnnlens.report.contents import data_name, finished, natural, read_workspace
from cnnlens.report.dissect_files import DissectResult, read_dissection
from cnnlens.report.stability_files import StabilityResult, read_stability


@dataclass(frozen=True)
class ComparedLayer:
    """One layer of one workspace.

    Attributes
    ----------
    name : str
        As it was typed there.
    alias : str
        Its ``convN``, where it is known, else empty.
    dissect : DissectResult or None
        What dissect found.
    stability : StabilityResult or None
        What stability found.
    """

    name: str
    alias: str
    dissect: DissectResult | None
    stability: StabilityResult | None

    @property
    def measured(self) -> dict[str, DissectResult | StabilityResult]:
        """What there is, by command."""
        both = {"dissect": self.dissect, "stability": self.stability}
        return {command: found for command, found in both.items() if found is not None}

    @property
    def units(self) -> int:
        """Number of units."""
        return len(next(iter(self.measured.values())))


@dataclass(frozen=True)
class ComparedModel:
    """One workspace of a comparison.

    Attributes
    ----------
    name : str
        What it is called on the page: its folder, as far up as tells it from the others.
    path : pathlib.Path
        The folder.
    model : mapping
        Spec, architecture, fingerprint, preprocessing.
    training : mapping
        ``new.json`` of a fine-tuned model, else empty.
    layers : dict of str to ComparedLayer
        By name.
    """

    name: str
    path: Path
    model: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, ComparedLayer] = field(default_factory=dict)

    @property
    def method(self) -> str | None:
        """How the model was fine-tuned; None where it was not, or nobody knows."""
        found = self.training.get("method")
        return found if isinstance(found, str) else None


def read_models(paths: list[Path]) -> list[ComparedModel]:
    """Read two or more workspaces.

    Raises
    ------
    UsageError
        When fewer than two are named, one is missing, or one is named twice.
    CnnlensError
        When one holds no results, or a file is damaged.
    """
    if len(paths) < 2:
        raise UsageError("a comparison needs two workspaces", "cnnlens compare A B")
    real = [path.resolve() for path in paths]
    for place, path in enumerate(real):
        if path in real[:place]:
            raise UsageError(f"{paths[place]} is named twice", "name different workspaces")
    return [_read(path, name) for path, name in zip(paths, short_names(real), strict=True)]


def short_names(paths: list[Path]) -> list[str]:
    """Name folders by as many of their last parts as make the names differ."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(path: Path, name: str) -> ComparedModel:
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UsageError(f"the workspace {path} {what}", "name folders that cnnlens has filled")
    document = read_workspace(path)
    model = document.get("model")
    layers = _layers(path, document)
    if not layers:
        known = "holds no dissection and no stability yet"
        raise CnnlensError(
            f"the workspace {path} {known}" if document else f"{path} is no workspace",
            f"run `cnnlens dissect -w {path}` or `cnnlens stability -w {path}` first",
        )
    model = model if isinstance(model, dict) else {}
    return ComparedModel(name, path, model, training_of(model), layers)


def training_of(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what lies beside a fine-tuned checkpoint: ``new.json`` beside ``new.pt``, else {}."""
    spec = model.get("spec")
    if not isinstance(spec, str) or not spec.endswith(".pt"):
        return {}
    beside = Path(spec).with_suffix(".json")
    if not beside.is_file():
        return {}
    found = read_json(beside)
    return found if isinstance(found, dict) and "method" in found else {}


def _layers(path: Path, document: Mapping[str, Any]) -> dict[str, ComparedLayer]:
    aliases, named = {}, {}
    for entry in document.get("layers") or []:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            named[file_name(entry["name"])] = entry["name"]
            aliases[entry["name"]] = str(entry.get("alias") or "")
    dissected, stable = (
        {folder.name: folder for folder in finished(path, command)}
        for command in ("dissect", "stability")
    )
    found = {}
    for key in sorted({**dissected, **stable}, key=natural):
        dissect = read_dissection(dissected[key]) if key in dissected else None
        stability = read_stability(stable[key]) if key in stable else None
        name = named.get(key) or (dissect.name if dissect is not None else key)
        found[name] = ComparedLayer(name, aliases.get(name, ""), dissect, stability)
    return found


# -- layers that belong together ----------------------------------------------------------------

Rows = list[ComparedLayer]  # the same layer of every workspace


def match_layers(models: Sequence[ComparedModel], names: Sequence[str] = ()) -> dict[str, Rows]:
    """Find the layers that all workspaces have, by name or alias.

    Parameters
    ----------
    models : sequence of ComparedModel
        The workspaces.
    names : sequence of str
        Which ones, else all; ``conv5,conv6`` names one per workspace.

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
    found = _find(model, name)
    if found is None:
        near = did_you_mean(name, model.layers)
        raise UsageError(
            f"{model.name} has no measured layer '{name}'" + (f"; {near}" if near else ""),
            f"it has {', '.join(model.layers)}",
        )
    return found


def _find(model: ComparedModel, name: str) -> ComparedLayer | None:
    if name in model.layers:
        return model.layers[name]
    return next((one for one in model.layers.values() if name and one.alias == name), None)


# -- measured alike? -----------------------------------------------------------------------------


def disagreements(models: Sequence[ComparedModel], layers: Mapping[str, Rows]) -> list[str]:
    """Say, in sentences, where workspaces were not measured alike: other data, other settings."""
    found: dict[str, None] = {}
    for name, rows in layers.items():
        for command in ("dissect", "stability"):
            known = [
                (model.name, layer.measured[command].summary)
                for model, layer in zip(models, rows, strict=True)
                if command in layer.measured
            ]
            for other in known[1:]:
                found |= dict.fromkeys(_differ(f"{command} of {name}", *known[0], *other))
    return list(found)


_MARKS = ("data", "labels")  # fingerprints of images and of their labels
_APART = ("seed", "top", "batch_size")  # settings that do not change what is measured
_Summary = Mapping[str, Any]


def _differ(what: str, name: str, mine: _Summary, other: str, its: _Summary) -> Iterator[str]:
    """Compare how two summaries were made."""
    made = [_part(summary, "made_from") for summary in (mine, its)]
    datas = [data_name(summary) or "unnamed data" for summary in (mine, its)]
    marked = [[one.get(mark) for mark in _MARKS] for one in made]
    if any(a and b and a != b for a, b in zip(*marked, strict=True)):
        same = datas[0] == datas[1]
        on = f"other images or labels of {datas[0]}" if same else f"{datas[0]} and {datas[1]}"
        yield f"{what} was measured on {on} in {name} and {other}"
    elif all(map(any, marked)) and made[0].get("negatives") != made[1].get("negatives"):
        yield f"{what} was measured on other negatives of {datas[0]} in {name} and {other}"
    elif not all(any(marks) for marks in marked) and datas[0] != datas[1]:
        yield f"{what} was measured on {datas[0]} in {name}, on {datas[1]} in {other}"
    else:
        first, second = (
            _part(one, "settings") or _part(summary, "settings")
            for one, summary in zip(made, (mine, its), strict=True)
        )
        for key in first:
            if key in second and key not in _APART and first[key] != second[key]:
                yield f"{what} used {key} {first[key]} in {name}, {second[key]} in {other}"


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def remarks(models: Sequence[ComparedModel], layers: Mapping[str, Rows]) -> list[str]:
    """Say what else differs and is worth knowing: places, units, preprocessing, models."""
    found, first = [], models[0]
    for model in models[1:]:
        one, other = (model.model.get("fingerprint") for model in (first, model))
        if one and one == other:
            found.append(f"{first.name} and {model.name} look at the same model")
        size, its = (_part(one.model, "preprocess").get("size") for one in (first, model))
        if size != its:
            sizes = f"{_size(size)} in {first.name}, {_size(its)} in {model.name}"
            found.append(f"the input is {sizes}")
    for name, rows in layers.items():
        for what in ("alias", "units"):
            values = [getattr(row, what) for row in rows]
            if all(values) and len(set(values)) > 1:
                said = ", ".join(f"{v} in {s.name}" for v, s in zip(values, models, strict=True))
                words = "stands for" if what == "alias" else "has units:"
                found.append(f"{name} {words} {said}")
    return found


def _size(size: Any) -> str:
    return "×".join(map(str, size)) if isinstance(size, (list, tuple)) else "unknown"
