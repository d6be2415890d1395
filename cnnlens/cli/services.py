"""Commands that are no method: ``layers``, ``report``, and ``data`` with its own."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.grouped import CarefulCommand
from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.methods import methods, write_page, write_site
from cnnlens.methods.method import running
from cnnlens.progress import Step
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


# ---- cnnlens data: data sets to list, download, make, check and import

data = typer.Typer(
    help="Data sets: list, download, make, check, import.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def known_sets(begun: str) -> list[str]:
    """Name the sets to download whose names begin so."""
    from cnnlens.data.download import DATASETS

    return [name for name in DATASETS if name.startswith(begun)]


MADE = {  # the sets that `make` knows
    "shapes": "synthetic color and shape concepts",
    "animals": "synthetic animals with parts, and backgrounds without",
}


@data.command("list", cls=CarefulCommand)
@o.with_fields(*o.common("json", "quiet"))
def list_(screen: Screen) -> None:
    """List data sets, and which are there."""
    from cnnlens.data.download import listing
    from cnnlens.files.home import home

    rows = listing(home())
    screen.document({"home": str(home()), "datasets": rows, "made": list(MADE)})
    shown = [(r["name"], r["title"], r["path"] or "not downloaded") for r in rows]
    shown += [(made, what, f"cnnlens data make {made}") for made, what in MADE.items()]
    screen.table(["name", "what", "where"], shown)


@data.command(cls=CarefulCommand)
@o.with_fields(*o.common("json", "quiet"))
def download(
    screen: Screen,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A name that `cnnlens data list` shows.", autocompletion=known_sets
        ),
    ],
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Take the archive from here instead.")
    ] = None,
) -> None:
    """Download a data set.

    A broken download is resumed by the same command; the data set lands in $CNNLENS_HOME
    (default: the platform's data folder), whole or not at all.
    """
    from cnnlens.data.download import download as fetch
    from cnnlens.files.home import home

    with screen.progress() as bars:

        def tell(stage: str, done: int, total: int | None) -> None:
            bars.show(Step(done, total or max(done, 1), stage, unit=""))

        path = fetch(name, home(), tell, url)
    screen.document({"name": name, "path": str(path)})
    screen.say(str(path))


@data.command(cls=CarefulCommand)
@o.with_fields(*o.common("json", "quiet", "force"))
def make(
    screen: Screen,
    name: Annotated[
        str,
        typer.Argument(
            metavar="shapes|animals",
            help="shapes: colored figures, labelled in Broden's layout. animals: three kinds with "
            "their parts, in CUB-200-2011's, and backgrounds without.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write. Default: ./NAME.")
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of images (animals: a quarter more).")
    ] = 2000,
    size: Annotated[int, typer.Option(min=24, metavar="N", help="Side in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    force: bool = False,
) -> None:
    """Write a synthetic data set."""
    if name not in MADE:
        raise UsageError(f"no synthetic set '{name}'", f"known are: {', '.join(MADE)}")
    from cnnlens.data.animals import make_animals
    from cnnlens.data.synthetic import make_shapes

    maker = {"shapes": make_shapes, "animals": make_animals}[name]
    with screen.counted("drawing") as progress:
        path = maker(out or Path(name), images, size, seed, progress=progress, force=force)
    screen.document({"name": name, "path": str(path), "images": images})
    screen.say(str(path))


@data.command(cls=CarefulCommand)
@o.with_fields(*o.common("json", "quiet"))
def check(
    screen: Screen,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A data folder of any kind.")],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="The only split to read. Default: all.")
    ] = None,
) -> None:
    """Report what is wrong with a data set.

    Reads all of it and reports row by row; exit status 1 where anything is wrong.
    """
    from cnnlens.data.check import check as check_

    with screen.counted("checking") as progress:
        found = check_(folder, progress=progress, split=split)
    screen.document(found.as_dict())
    screen.table(["where", "what"], [(p.where, p.what) for p in found.problems])
    for note in found.notes:
        screen.say(f"note: {note}")
    screen.say(found.summary)
    if not found.ok:
        raise CnnlensError(
            f"{found.root} has {len(found.problems)} problem(s)",
            "each is listed above with its row",
        )


@data.command("import", cls=CarefulCommand)
@o.with_fields(*o.common("json", "quiet", "force"))
def import_(
    screen: Screen,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="coco|voc|ade20k|masks",
            help="coco: annotations/instances_*.json. voc: JPEGImages and SegmentationClass. "
            "ade20k: the challenge's or the full set. masks: folders images and masks.",
        ),
    ],
    src: Annotated[Path, typer.Argument(metavar="SRC", help="The folder to read.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="masks: what numbers or colours are called: JSON {number: name}, lines like "
            "`1 cat`, CSV with columns name,r,g,b.",
        ),
    ] = None,
    supercategories: Annotated[
        bool,
        typer.Option("--supercategories", help="coco: supercategories as a category of their own."),
    ] = False,
    link: Annotated[
        bool, typer.Option("--link", help="Hard links to the images instead of copies.")
    ] = False,
    force: bool = False,
) -> None:
    """Write label masks of other kinds in Broden's layout.

    Images that cannot be used are left out, counted and named; import.json lists them. The folder
    lands whole or not at all.
    """
    from cnnlens.data.imports import import_data

    with screen.progress() as bars:
        found = import_data(
            kind, src, out, names=names, supercategories=supercategories, link=link, force=force,
            progress=lambda stage, done, total: bars.show(Step(done, total, stage)),
        )  # fmt: skip
    screen.document(found)
    for note in found["notes"]:
        screen.note(note)
    screen.skipped(found["skipped"])
    labels = ", ".join(f"{count} of {category}" for category, count in found["labels"].items())
    screen.say(f"{counted(found['images'], 'image')}, labels: {labels}")
    screen.say(str(out))
