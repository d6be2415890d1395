"""Which layers of several workspaces belong together, and whether they were measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.report.compare_files import ComparedLayer, ComparedModel, data_name

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


def disagreements(models: Sequence[ComparedModel], layers: Mapping[str, Rows]) -> list[str]:
    """Say, in sentences, where workspaces were not measured alike: other data, other settings."""
    found: dict[str, None] = {}
    for name, rows in layers.items():
        for command in ("dissect", "stability"):
            made = [
                (model, _made(layer, command)) for model, layer in zip(models, rows, strict=True)
            ]
            known = [(model, one) for model, one in made if one is not None]
            for model, one in known[1:]:
                found |= dict.fromkeys(_differ(name, command, *known[0], model, one))
    return list(found)


def _made(layer: ComparedLayer, command: str) -> Mapping[str, Any] | None:
    if command == "dissect":
        return layer.dissect.summary if layer.dissect else None
    return layer.stability.summary if layer.stability else None


_MARKS = ("data", "labels")  # fingerprints of images and of their labels
_APART = ("seed", "top", "batch_size")  # settings that do not change what is measured


def _differ(
    name: str,
    command: str,
    one: ComparedModel,
    mine: Mapping[str, Any],
    other: ComparedModel,
    its: Mapping[str, Any],
) -> list[str]:
    """Compare how two summaries were made."""
    made = [_part(s, "made_from") for s in (mine, its)]
    marks = [{k: m[k] for k in _MARKS if k in m} for m in made]
    datas = [data_name(s) or "unnamed data" for s in (mine, its)]
    if any(a != b for a, b in ((marks[0].get(k), marks[1].get(k)) for k in _MARKS) if a and b):
        same = datas[0] == datas[1]
        what = f"other images or labels of {datas[0]}" if same else f"{datas[0]} and {datas[1]}"
        return [f"{command} of {name} was measured on {what} in {one.name} and {other.name}"]
    if not (marks[0] and marks[1]) and datas[0] != datas[1]:
        return [
            f"{command} of {name} was measured on {datas[0]} in {one.name}, on {datas[1]} in "
            f"{other.name}"
        ]
    pairs = zip(made, (mine, its), strict=True)
    settings = [_part(m, "settings") or _part(s, "settings") for m, s in pairs]
    keys = [k for k in settings[0] if k in settings[1] and k not in _APART]
    return [
        f"{command} of {name} used {k} {settings[0][k]} in {one.name}, {settings[1][k]} in "
        f"{other.name}"
        for k in keys
        if settings[0][k] != settings[1][k]
    ]


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def remarks(models: Sequence[ComparedModel], layers: Mapping[str, Rows]) -> list[str]:
    """Say what else differs and is worth knowing: places, units, preprocessing, models."""
    found = []
    first = models[0]
    for model in models[1:]:
        if model.model.get("fingerprint") and model.model["fingerprint"] == first.model.get(
            "fingerprint"
        ):
            found.append(f"{first.name} and {model.name} look at the same model")
        sizes = [_part(s.model, "preprocess").get("size") for s in (first, model)]
        if sizes[0] != sizes[1]:
            found.append(f"the input is {_size(sizes[0])} in {first.name}, {_size(sizes[1])} in "
                         f"{model.name}")  # fmt: skip
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
