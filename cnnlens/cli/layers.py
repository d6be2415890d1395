"""``cnnlens layers``: what can be addressed in a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError
from cnnlens.settings.option import fields_of
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.study.session import Study


_DEVICE = next(f for f in fields_of(RunSettings) if f.attribute == "device")


@o.with_fields(*fields_of(ModelSettings), replace(_DEVICE, default="cpu"))
def layers(
    model: o.ModelArgument = None,
    workspace: o.WorkspaceOption = None,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    **opening: Any,
) -> None:
    """List what can be addressed.

    Dotted module paths and aliases (conv1 … convN, last), with units, output size, receptive
    field and stride.
    """
    from cnnlens.study.session import Study

    screen = Screen(json=json, quiet=quiet)
    run = RunSettings(opening.pop("device"))
    study = Study(Workspace(workspace), model, ModelSettings(**opening), run, screen)
    rows = [layer.as_row() for layer in study.addresses.rows]
    _remember(study)
    screen.document(rows)
    columns = ["name", "alias", "kind", "units", "size", "receptive field", "stride"]
    screen.table(columns, [_cells(row) for row in rows])


def _remember(study: Study) -> None:
    """Record the model where that changes nothing: a listing never disturbs earlier results."""
    known = study.workspace.document["model"]
    if known and study.spec is None:
        return
    try:
        study.commit()
    except CnnlensError as error:
        study.voice.note(f"this model is not remembered: {error.message}")


def _cells(row: dict[str, object]) -> list[object]:
    size = row["size"]
    assert isinstance(size, list)
    shown = {**row, "alias": row["alias"] or "", "size": "×".join(map(str, size))}
    return list(shown.values())
