"""Commands about what is there: ``layers``, ``report``, ``search``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.methods import methods, write_page, write_site
from cnnlens.methods.method import running
from cnnlens.settings.option import fields_of, values_of
from cnnlens.settings.run import ModelSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.study.session import Study

_DEVICE, *_IDLE = running(("device",))


@o.with_fields(
    *o.common("model", "workspace", "json", "quiet"),
    *fields_of(ModelSettings),
    replace(_DEVICE, default="cpu"),
    *_IDLE,
)
def layers(screen: Screen, model: Any, workspace: Any, **more: Any) -> None:
    """List what can be addressed.

    Dotted module paths and aliases (conv1 … convN; block1 … blockN and mlp1 … mlpN of
    transformers, block1:cls … their class tokens; last), with units, output size, receptive field
    and stride; fully connected layers and class tokens as vectors.
    """
    from cnnlens.study.session import Study

    opening = ModelSettings(**values_of(ModelSettings, more))
    run = RunSettings(**values_of(RunSettings, more))
    study = Study(Workspace(workspace), model, opening, run, screen)
    found = study.addresses
    rows = [layer.as_row() for layer in found.rows]
    notes = found.about_fields()
    if any(row["vector"] for row in rows):
        takers = [name for name, method in methods().items() if method.vectors]
        notes.append(f"vectors, one value per unit and image, go in {', '.join(takers)}")
    for line in notes:
        study.voice.note(line)
    _remember(study)
    screen.document(rows)
    columns = ["name", "alias", "kind", "units", "size", "receptive field", "stride"]
    screen.table(columns, [_cells(row) for row in rows])


def _remember(study: Study) -> None:
    """Record the model where that changes nothing: a listing never disturbs earlier results."""
    known = study.workspace.document["model"]
    if known and study.spec is None and study.opening.classes is None:
        return
    try:
        study.commit()
    except CnnlensError as error:
        study.voice.note(f"this model is not remembered: {error.message}")


def _cells(row: dict[str, Any]) -> list[object]:
    shown = {**row, "size": "×".join(map(str, row["size"]))}
    if shown.pop("vector"):
        shown["size"] = "vector"
    elif row["receptive_field"] is None:
        shown["receptive_field"] = "all"
    return list(shown.values())  # None: an empty cell


_Site = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write a folder to host instead: an index, a page and a JSON per unit, pictures.",
        rich_help_panel="Output",
    ),
]
_Url = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="Where the site will be: previews of links want whole addresses.",
        rich_help_panel="Output",
    ),
]


@o.with_fields(*o.common("workspace", "json", "quiet"))
def report(screen: Screen, workspace: Any, site: _Site = None, url: _Url = "") -> None:
    """Write the page over all results, or a site to share.

    WORKSPACE/report.html holds everything in the workspace and needs no network. With --site a
    folder for any static host, which opens from the disk as well; an earlier site there is
    replaced.
    """
    place = Workspace(workspace).path
    if site is None:
        if url:
            raise UsageError("--url is about a site", "say where to write it with --site DIR")
        page = write_page(place, screen)
        screen.document({"page": str(page), "bytes": page.stat().st_size})
        screen.say(str(page))
        return
    found = write_site(place, site, url, screen)
    screen.document({**asdict(found), "site": str(found.site)})
    screen.say(str(found.site))


_Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer", "-l", metavar="LAYER", help="Of these layers alone; repeatable.",
        rich_help_panel="What",
    ),
]  # fmt: skip
_Encoder = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC", rich_help_panel="What",
        help="Order names by how near their meaning comes; as for cnnlens label.",
    ),
]  # fmt: skip
_Top = Annotated[
    int, typer.Option(min=1, metavar="N", help="Units that are listed.", rich_help_panel="What")
]


@o.with_fields(*o.common("workspace", "json", "quiet"))
def search(
    screen: Screen,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What units are to be called.")],
    workspace: Any,
    layer: _Layers = None,
    encoder: _Encoder = None,
    top: _Top = 20,
) -> None:
    """Find units by what they are called.

    Among the names that dissect and label gave to a workspace's units, or a table for exam: those
    that hold the words, or with --encoder those that come nearest to them in meaning.
    """
    from cnnlens.methods import find_units
    from cnnlens.report.unit_search import hits_table

    found = find_units(Workspace(workspace).path, text, layer or (), encoder)
    shown = found[:top]
    screen.document([{**asdict(hit), "name": asdict(hit.name)} for hit in shown])
    if shown:
        screen.table(*hits_table(shown, by_meaning=encoder is not None))
    if not shown:
        screen.note(f"no unit is called '{text}'")
    elif len(found) > len(shown):
        screen.note(f"{len(found) - len(shown)} more: --top lists them")
