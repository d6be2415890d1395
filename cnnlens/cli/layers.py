"""``cnnlens layers``: what can be addressed in a model."""

from __future__ import annotations

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, open_model
from cnnlens.workspace import Workspace


def layers(
    model: o.ModelArgument = None,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    device: o.DeviceOption = "cpu",
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """List what can be addressed: paths, aliases, units, sizes, receptive fields, strides."""
    from cnnlens.model.layers import find_layers

    screen = Screen(json, quiet)
    options = ModelOptions(model, arch, allow_pickle, image_size, device=device)
    opened, _ = open_model(options, Workspace(workspace), screen)
    rows = [layer.as_row() for layer in find_layers(opened).rows]
    screen.document(rows)
    columns = ["name", "alias", "kind", "units", "size", "receptive field", "stride"]
    screen.table(columns, [_cells(row) for row in rows])


def _cells(row: dict[str, object]) -> list[object]:
    size = row["size"]
    assert isinstance(size, list)
    shown = {**row, "alias": row["alias"] or "", "size": "×".join(map(str, size))}
    return list(shown.values())
