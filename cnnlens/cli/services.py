"""``cnnlens layers`` and ``cnnlens report``: what can be addressed; the page over all results."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError
from cnnlens.methods import write_page
from cnnlens.settings.option import fields_of
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.study.session import Study

(_DEVICE,) = o.common("device")


@o.with_fields(
    *o.common("model", "workspace", "json", "quiet"),
    *fields_of(ModelSettings),
    replace(_DEVICE, default="cpu"),
)
def layers(
    model: Any, workspace: Any, json: bool, quiet: bool, device: str, **opening: Any
) -> None:
    """List what can be addressed.

    Dotted module paths and aliases (conv1 … convN, last), with units, output size, receptive
    field and stride.
    """
    from cnnlens.study.session import Study

    screen = Screen(json=json, quiet=quiet)
    opened = ModelSettings(**opening), RunSettings(device)
    study = Study(Workspace(workspace), model, *opened, screen)
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


def _cells(row: dict[str, Any]) -> list[object]:
    size = "×".join(map(str, row["size"]))
    return list({**row, "alias": row["alias"] or "", "size": size}.values())


@o.with_fields(*o.common("workspace", "json", "quiet"))
def report(workspace: Any, json: bool, quiet: bool) -> None:
    """Write the page over all results.

    WORKSPACE/report.html holds everything in the workspace and needs no network.
    """
    screen = Screen(json=json, quiet=quiet)
    page = write_page(Workspace(workspace).path, screen)
    screen.document({"page": str(page), "bytes": page.stat().st_size})
    screen.say(str(page))
