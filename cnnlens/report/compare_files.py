"""What a comparison reads of each workspace: unit by unit, what dissect and stability found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import read_json, write_csv, write_json
from cnnlens.measure.bootstrap import share
from cnnlens.model.layers import file_name
from cnnlens.report.contents import finished, natural, read_workspace
from cnnlens.report.dissect_files import DissectResult, read_dissection
from cnnlens.report.shown import Fact, Shown
from cnnlens.report.stability_files import StabilityResult, read_stability
from cnnlens.settings import CompareSettings


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
    def units(self) -> int:
        """Number of units."""
        return len(self.dissect if self.dissect is not None else self.stability or ())


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
    """Read workspaces.

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


def data_name(summary: Mapping[str, Any]) -> str:
    """Name what a summary was measured on; empty where it does not say."""
    data = summary.get("data")
    if isinstance(data, Mapping):
        data = data.get("name") or data.get("path")
    return str(data or "")


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


def trained_accuracy(
    model: ComparedModel, level: float = CompareSettings.level
) -> dict[str, Any] | None:
    """Look up the accuracy after fine-tuning, where ``new.json`` has it.

    Where it says on how many images, an interval over images joins it; where it names the
    classes, chance: that of guessing one of them.
    """
    found = model.training.get("accuracy")
    value = found.get("after") if isinstance(found, Mapping) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    images, classes = model.training.get("images"), model.training.get("classes")
    count = images.get("validation") if isinstance(images, Mapping) else None
    known = isinstance(count, int) and count > 0 and 0 <= value <= 1
    interval = list(share(round(value * count), count, level)) if known and count else None
    return {
        "value": float(value),
        "chance": 1 / max(len(classes), 2) if isinstance(classes, list) and classes else None,
        "interval": interval,
        "images": count if known else None,
        "source": "new.json",
    }


# -- writing -------------------------------------------------------------------------------------


def write_comparison_files(folder: Path, document: Mapping[str, Any]) -> None:
    """Write compare.json and compare.csv."""
    write_json(folder / "compare.json", document)
    write_csv(folder / "compare.csv", CSV_HEADER, csv_rows(document))


CSV_HEADER = ("layer", "quantity", "workspace", "value", "chance", "low", "high", "units")


def csv_rows(document: Mapping[str, Any]) -> list[list[object]]:
    """One row per layer, quantity and workspace; accuracies have no layer."""
    names = [who["name"] for who in document["workspaces"]]
    rows = [
        _csv_row("", "accuracy", who["name"], who["accuracy"]) for who in document["workspaces"]
    ]
    for layer, of in document["layers"].items():
        for key, found in of.items():
            if key != "names":
                pairs = zip(names, found["values"], strict=True)
                rows += [_csv_row(layer, key, name, value) for name, value in pairs]
    return rows


def _csv_row(layer: str, key: str, name: str, value: Mapping[str, Any] | None) -> list[object]:
    value = value or {}
    low, high = value.get("interval") or ("", "")
    cells = [value.get(k) for k in ("value", "chance")]
    known = ["" if c is None else c for c in cells]
    return [layer, key, name, *known, low, high, value.get("units", "")]


# -- for notebooks -------------------------------------------------------------------------------


class Comparison(Shown):
    """Models side by side.

    Parameters
    ----------
    document : mapping
        As in ``compare.json``; a layer's part is found by its name.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def __getitem__(self, layer: str) -> Any:
        return self.document["layers"][layer]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per layer, quantity and workspace, as in ``compare.csv``."""
        return [dict(zip(CSV_HEADER, row, strict=True)) for row in csv_rows(self.document)]

    def _facts(self) -> Iterator[Fact]:
        for row in self.table():
            known = {k: f"{row[k]:.4g}" for k in ("value", "low", "high", "chance") if row[k] != ""}
            if "value" in known:
                names = (row["workspace"], row["layer"], row["quantity"].replace("_", " "))
                ends = f" ({known['low']} to {known['high']})" if "low" in known else ""
                yield " ".join(filter(None, names)), known["value"] + ends, known.get("chance", "")
