"""``cnnlens explain``: the way of an image down its category's tree of filters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.cluster import C, RuleOption
from cnnlens.cli.clustering import opened_job
from cnnlens.cli.explaining import Explainer
from cnnlens.cli.given import GivenImage, given_images
from cnnlens.cli.options import ImagesOption
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.settings import ClusterSettings, RunSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np


def explain(
    model: o.ModelArgument = None,
    image: ImagesOption = None,
    data: o.DataOption = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="LAYER",
            help="Whose filters. Default: the workspace's last one, else last.",
            show_default=False,
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CATEGORY",
            help="The category whose tree to go down. Default: the predicted class's.",
            show_default=False,
        ),
    ] = None,
    rule: RuleOption = C.rule,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the page.")] = True,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    device: o.DeviceOption = o.RUN.device,
    batch_size: o.BatchSizeOption = o.RUN.batch_size,
    workers: o.WorkersOption = o.RUN.workers,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Walk an image down its category's filters.

    At every fork the image goes to the nearer side; shown are the critical filter, its activation
    among the category's images, and the images of the data that excite it most.
    """
    if not image:
        raise UsageError("no images were named", "name some with -i IMAGE")
    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    settings, run = ClusterSettings(rule=rule), RunSettings(device, batch_size, workers)
    work = Work(screen, space, options, settings, run, force)
    documents = work.run(data, layer, image, category)
    if page:
        from cnnlens.report.page import write_report

        write_report(space.path)
    one = next(iter(documents.values()))
    screen.document(one if len(documents) == 1 else {"images": documents})
    _show(screen, space, documents, page)


class Work:
    """One run of explain, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: ClusterSettings,
        run_settings: RunSettings,
        force: bool,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.run_settings, self.force = settings, run_settings, force

    def run(
        self, data: Path | None, layer: str | None, paths: list[Path], category: str | None
    ) -> dict[str, Any]:
        """Explain every image that was not explained before; return all documents."""
        given_images(paths)  # a missing one is an error before anything is touched
        model, given = open_model(self.options, self.space, self.screen)
        images = open_images(data, self.space, ("classes", "parts"))
        (wanted,) = find_layers(model, [layer] if layer else None, self.space)
        self.space.use_model(model, given, self.force)
        self.space.use_data(images, named=data is not None)
        wanted = self.space.use_layer(wanted)
        self.space.save(command_line())
        with opened_job(
            self.screen, self.space, model, images, wanted, self.settings, self.run_settings,
            self.force,
        ) as job:  # fmt: skip
            return _explain_all(Explainer(job, category), paths)


def _explain_all(explainer: Explainer, paths: list[Path]) -> dict[str, Any]:
    """Explain what has not been explained before; return every image's document."""
    from cnnlens.data.decode import DamagedImage

    job = explainer.job
    folder = job.space.path / "explain"
    images = given_images(paths, _taken(folder))
    before = {i.name: found for i in images if (found := _before(explainer, i, folder))}
    todo, skipped = [], []
    for image in images:
        try:
            if image.name not in before:
                todo.append((image, image.pixels(job.model.preprocess)))
        except DamagedImage as damage:
            skipped.append({"image": str(image.path), "reason": damage.reason})
    job.screen.skipped(skipped)
    found = {**before, **_explain(explainer, todo, folder)}
    if not found:
        bad = skipped[0]
        raise CnnlensError(
            f"{bad['image']} cannot be read: {bad['reason']}", "name another image with -i"
        )
    return {image.name: found[image.name] for image in images if image.name in found}


def _before(explainer: Explainer, image: GivenImage, folder: Path) -> dict[str, Any] | None:
    from cnnlens.files import read_json

    file, picture_file = folder / f"{image.name}.json", folder / f"{image.name}.png"
    if file.is_file() and picture_file.is_file() and not explainer.job.force:
        before = read_json(file)
        if isinstance(before, dict) and before.get("made_from") == explainer.made_from(image):
            explainer.job.screen.note(f"{image.name}: explained before (--force redoes it)")
            return before
    return None


def _explain(
    explainer: Explainer, todo: list[tuple[GivenImage, np.ndarray]], folder: Path
) -> dict[str, dict[str, Any]]:
    from cnnlens.cluster.explain import explanations
    from cnnlens.files import atomic, write_json
    from cnnlens.report.figures.explain import draw_explained

    if not todo:
        return {}
    job = explainer.job
    documents: dict[str, dict[str, Any]] = {}
    with job.screen.progress() as bars:
        every = explanations(
            job.model, job.layer, job.store, job.needed_groups(), [pixels for _, pixels in todo],
            category=explainer.named, rule=job.settings.rule,
            progress=lambda stage, done, total: bars.show("explaining", done, total, note=stage),
        )  # fmt: skip
        for (image, pixels), found in zip(todo, every, strict=True):
            bars.show("explaining", len(documents), len(todo), note=image.path.name)
            documents[image.name] = explainer.document(image, found)
            with atomic(folder / f"{image.name}.png") as temporary:
                picture = explainer.picture(image, pixels, found)
                draw_explained(picture).save(temporary, "PNG", optimize=True)
            write_json(folder / f"{image.name}.json", documents[image.name])
    if job.model.classes is None and explainer.named is None:
        job.screen.note(
            "the network's classes have no names: they are taken for the categories in "
            "alphabetical order"
        )
    return documents


def _taken(folder: Path) -> dict[str, str]:
    """Names of earlier runs' pictures, and the images that they show."""
    from cnnlens.files import read_json

    found = {}
    for file in folder.glob("*.json"):
        document = read_json(file)
        mark = document.get("made_from", {}).get("image") if isinstance(document, dict) else None
        if isinstance(mark, str):
            found[file.stem] = mark.rsplit(":", 2)[0]
    return found


def _show(screen: Screen, space: Workspace, documents: dict[str, Any], page: bool) -> None:
    rows = [
        (
            name,
            found["class_name"],
            found["probability"],
            found["category"],
            len(found["path"]),
            " ".join(str(f["critical_filter"]) for f in found["path"][:6]),
        )
        for name, found in documents.items()
    ]
    columns = ["image", "predicted", "probability", "category", "forks", "first filters"]
    screen.table(columns, rows)
    screen.say(f"pictures: {space.path / 'explain'}")
    if page:
        screen.say(f"page:     {space.path / 'report.html'}")
