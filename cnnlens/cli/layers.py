"""``cnnlens layers``: what can be addressed in a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, open_model
from cnnlens.errors import CnnlensError
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.model.model import Model


def layers(
    model: o.ModelArgument = None,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    device: o.DeviceOption = "cpu",
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """List what can be addressed.

    Dotted module paths and aliases (conv1 … convN, last), with units, output size, receptive
    field and stride.
    """
    from cnnlens.model.layers import find_layers

    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    opened, given = open_model(options, space, screen)
    _remember(screen, space, opened, given)
    rows = [layer.as_row() for layer in find_layers(opened).rows]
    screen.document(rows)
    columns = ["name", "alias", "kind", "units", "size", "receptive field", "stride"]
    screen.table(columns, [_cells(row) for row in rows])


def _remember(screen: Screen, space: Workspace, model: Model, given: dict[str, Any]) -> None:
    """Record the model where that changes nothing: a listing never disturbs earlier results."""
    before = space.document["model"]
    try:
        space.use_model(model, given)
        if space.document["model"] != before:
            space.save()
    except CnnlensError as error:
        screen.note(f"this model is not remembered: {error.message}")


def _cells(row: dict[str, object]) -> list[object]:
    size = row["size"]
    assert isinstance(size, list)
    shown = {**row, "alias": row["alias"] or "", "size": "×".join(map(str, size))}
    return list(shown.values())
