"""``cnnlens data``: data sets to list, download, make, check and import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnlens.cli import options as o
from cnnlens.cli.grouped import CarefulCommand
from cnnlens.cli.screen import Screen
from cnnlens.errors import CnnlensError, UsageError, counted
from cnnlens.progress import Step

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
