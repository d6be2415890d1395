"""The section about other networks: a comparison that was written into the workspace."""

from __future__ import annotations

from pathlib import Path

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.report.comparison import comparison_view
from cnnlens.report.matched import match_layers
from cnnlens.report.section import Section
from cnnlens.report.sides import read_sides

FOLDER = "compare"  # `cnnlens compare A B --out A/compare` puts it on A's page


def side_by_side(workspace: Path) -> Section | None:
    """Gather the section; None where nothing was compared, or a workspace has gone since.

    Raises
    ------
    CnnlensError
        When a file is damaged.
    """
    file = workspace / FOLDER / "compare.json"
    if not file.exists():
        return None
    document = read_json(file)
    keys = ("workspaces", "layers", "settings", "unlike", "remarks", "shown")
    if not isinstance(document, dict) or any(key not in document for key in keys):
        raise CnnlensError(f"{file} is damaged: it lacks some of its keys", "compare anew")
    paths = [Path(who["path"]) for who in document["workspaces"]]
    if not all(path.is_dir() for path in paths):
        return None
    sides = read_sides(paths)
    layers = match_layers(sides, list(document["layers"]))
    pictures: dict[str, Path] = {}
    view = comparison_view(sides, layers, document, document["shown"], pictures)
    named = {f"{FOLDER}/{key}": path for key, path in pictures.items()}
    for layer in view["layers"]:
        for unit in layer["units"]:
            for cell in unit["cells"]:
                cell["pictures"] = [f"{FOLDER}/{key}" for key in cell["pictures"]]
    return Section("compared.html", view, data={}, pictures=named, sources=(file,))
