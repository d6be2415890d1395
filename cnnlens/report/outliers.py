"""The section about outliers, read back from what the command left."""

from __future__ import annotations

from pathlib import Path

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.report.section import Section

_PICTURES = {
    "predictions.png": "Share of each source that is taken for each class.",
    "noise.png": "Classes by their share of the noise, with their bias and their region’s radius.",
}


def outliers(workspace: Path) -> Section | None:
    """Gather the section about outliers; None where there are none.

    Raises
    ------
    CnnlensError
        When the document is damaged.
    """
    file = workspace / "outliers" / "outliers.json"
    if not file.exists():
        return None
    document = read_json(file)
    keys = ("layer", "sources", "noise", "regions")
    if not isinstance(document, dict) or any(key not in document for key in keys):
        raise CnnlensError(f"{file} is damaged: it lacks some of its keys", "redo the command")
    pictures = {
        f"outliers/{name}": file.parent / name
        for name in _PICTURES
        if (file.parent / name).is_file()
    }
    return Section(
        template="outliers.html",
        view={
            **{key: document[key] for key in keys},
            "pictures": [(key, _PICTURES[path.name]) for key, path in pictures.items()],
        },
        data={},
        pictures=pictures,
        sources=(file,),
    )
