"""``cnnlens visualize``: what excites a unit, a class or a layer most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.options import FiltersOption
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, open_model
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.settings import PRESETS, RunSettings, VisualizeSettings
from cnnlens.study.workspace import Workspace

if TYPE_CHECKING:
    from cnnlens.cli.optimized import Folder

D = VisualizeSettings()
_METHODS = ("pixels",)
_SHOWN = ("initial", "final", "times_best", "label")  # of an entry of the JSON, in the table


def _number(text: str, default: float) -> Any:
    """Build an option whose default is the preset's."""
    help_ = f"{text} Default: {default:g}, or the preset's."
    return typer.Option(min=0, help=help_, show_default=False)


def visualize(
    model: o.ModelArgument = None,
    filters: FiltersOption = None,
    logit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS", help="A class, by name or number; repeatable.", show_default=False
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="|".join(_METHODS), help="What is optimized.")
    ] = _METHODS[0],
    preset: Annotated[
        str, typer.Option(metavar="NAME", help=f"A paper's settings: {', '.join(PRESETS)}.")
    ] = "default",
    steps: Annotated[int | None, _number("Steps.", D.steps)] = None,
    lr: Annotated[float | None, _number("Learning rate.", D.lr)] = None,
    size: Annotated[
        int | None, _number("Shorter side of the image, in pixels; 0: the input's.", D.size)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="map|mean|max|centre",
            help=f"What of a unit's map is made large. Default: {D.target}.",
            show_default=False,
        ),
    ] = None,
    basis: Annotated[
        str | None,
        typer.Option(
            metavar="fourier|pixels",
            help=f"What the image is made of. Default: {D.basis}, or the preset's.",
            show_default=False,
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="noise|mean|IMAGE",
            help=f"Where to start. Default: {D.init}, or the preset's.",
            show_default=False,
        ),
    ] = None,
    jitter: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Largest shift of a view, in pixels. Default: a fourteenth of the input's side.",
            show_default=False,
        ),
    ] = None,
    rotate: Annotated[float | None, _number("Largest turn, in degrees.", D.rotate)] = None,
    scale: Annotated[float | None, _number("Largest change of size.", D.scale)] = None,
    tv: Annotated[float | None, _number("Weight of the total variation.", D.tv)] = None,
    beta: Annotated[float | None, _number("Its exponent.", D.beta)] = None,
    alpha: Annotated[float | None, _number("Weight of the α-norm (α = 6).", D.alpha)] = None,
    l2: Annotated[float | None, _number("Contrast taken off per step (L2 decay).", D.l2)] = None,
    blur: Annotated[float | None, _number("Gaussian blur of the image, in pixels.", D.blur)] = None,
    blur_every: Annotated[
        int | None, _number("Steps between blurs and clippings.", D.blur_every)
    ] = None,
    clip: Annotated[
        float | None, _number("Share of the palest pixels that are wiped out.", D.clip)
    ] = None,
    clip_contributions: Annotated[
        float | None,
        _number("Share of the least contributing pixels wiped out.", D.clip_contributions),
    ] = None,
    gradient_blur: Annotated[
        float | None, _number("Random blur of the gradient, in pixels.", D.gradient_blur)
    ] = None,
    gradient_shift: Annotated[
        float | None, _number("Random shift of the gradient, in pixels.", D.gradient_shift)
    ] = None,
    gradient_rotate: Annotated[
        float | None, _number("Random turn of the gradient, in degrees.", D.gradient_rotate)
    ] = None,
    raw: o.RawOption = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the page.")] = True,
    workspace: o.WorkspaceOption = None,
    arch: o.ArchOption = None,
    allow_pickle: o.PickleOption = False,
    image_size: o.ImageSizeOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    device: o.DeviceOption = o.RUN.device,
    batch_size: o.BatchSizeOption = o.RUN.batch_size,
    seed: o.SeedOption = o.RUN.seed,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Activation maximization: draw the input that excites a unit, a class or a layer most."""
    if method not in _METHODS:
        raise UsageError(f"--method {method} is not known", f"choose {' or '.join(_METHODS)}")
    names = list(VisualizeSettings.__dataclass_fields__)
    settings = VisualizeSettings.preset(preset, **{k: v for k, v in locals().items() if k in names})
    if not filters and not logit:
        raise UsageError(
            "nothing was named to look at",
            "name units with -f LAYER:UNITS (conv5:0-15), or a class with --logit CLASS",
        )
    screen, space = Screen(json=json, quiet=quiet), Workspace(workspace, force)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    run = RunSettings(device=device, batch_size=batch_size, seed=seed)
    work = Work(screen, space, options, settings, run, raw, force)
    summaries = work.run(filters or [], logit or [])
    if page:
        from cnnlens.report.page import write_report

        write_report(space.path)
    screen.document(
        next(iter(summaries.values())) if len(summaries) == 1 else {"layers": summaries}
    )
    _show(screen, space, summaries, page)


class Work:
    """One run of visualize, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: VisualizeSettings,
        run: RunSettings,
        raw: bool,
        force: bool,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.run_settings, self.raw, self.force = settings, run, raw, force

    def run(self, filters: list[str], classes: list[str]) -> dict[str, Any]:
        """Make the pictures that are not there yet; return every layer's JSON."""
        from cnnlens.cli.optimized import Folder, wanted

        self.model, given = open_model(self.options, self.space, self.screen)
        asked = wanted(self.model, filters, classes, self.settings.target)
        photo, mark = _photo(self.model, self.settings.init)
        self.space.use_model(self.model, given, self.force)
        folders = [
            Folder(self.space, self.model, layer, pictures, self.settings, mark, self.raw)
            for layer, pictures in asked
        ]
        self.space.save(command_line())
        for folder in folders:
            folder.open(self.force)
            if done := len(folder.wanted) - len(folder.todo):
                pictures = "picture was" if done == 1 else "pictures were"
                self.screen.note(
                    f"{folder.name}: {done} {pictures} made before with these settings "
                    "(--force redoes them)"
                )
        self._climb(folders, photo)
        self._check_reached(folders)
        return {folder.name: folder.finish(self.screen) for folder in folders}

    def _climb(self, folders: list[Folder], photo: Any) -> None:
        """One bar for the whole request: layer after layer, since a pass ends at its layer."""
        from cnnlens.synthesize.visualize import visualize as visualize_

        total = sum(len(folder.todo) for folder in folders) * self.settings.steps
        before = 0
        with self.screen.progress() as bars:
            for folder in folders:
                steps = visualize_(
                    self.model,
                    [one.objective for one in folder.todo],
                    self.settings,
                    self.run_settings,
                    photo,
                    [one.activation for one in folder.todo],
                )
                waiting = iter(folder.todo)
                for step in steps:
                    bars.show("optimizing", before + step.done, total, f"{step.value:.3g}")
                    for picture in step.pictures:
                        folder.keep(next(waiting), picture)
                before += len(folder.todo) * self.settings.steps

    def _check_reached(self, folders: list[Folder]) -> None:
        for folder in (f for f in folders if f.silent):
            stems = ",".join(folder.silent)
            self.screen.note(
                f"{folder.name}:{stems} stays at 0 on its picture: dead, or too few steps"
            )
        lost = [f"{f.name}:{one.stem}" for f in folders for one in f.unreachable]
        for name in lost:
            self.screen.note(f"{name} does not depend on the input: no picture")
        if lost and len(lost) == sum(len(folder.wanted) for folder in folders):
            raise CnnlensError(
                f"{', '.join(lost[:5])} cannot be reached from the input: no gradient comes back",
                "its activation is the same on every image; look at other units",
            )


def _photo(model: Any, init: str) -> tuple[Any, str]:
    """Read the image to start from; return it and a mark of its state."""
    if init in ("noise", "mean"):
        return None, ""
    from cnnlens.cli.given import given_images
    from cnnlens.data.decode import DamagedImage

    path = Path(init)
    if path.is_dir():
        raise UsageError(f"--init {init} is a folder", "name one image, noise or mean")
    (image,) = given_images([path])
    try:
        return image.pixels(model.preprocess), image.mark
    except DamagedImage as error:
        raise CnnlensError(
            f"{init} cannot be read: {error.reason}", "start from another image"
        ) from error


def _show(screen: Screen, space: Workspace, summaries: dict[str, Any], page: bool) -> None:
    rows = [
        (name, Path(entry["file"]).stem, *map(entry.get, _SHOWN))
        for name, summary in summaries.items()
        for entry in summary["pictures"]
    ]
    screen.table(["layer", "picture", "at first", "in the end", "× best image", "label"], rows)
    screen.say(f"pictures: {space.path / 'visualize'}")
    if page:
        screen.say(f"page:     {space.path / 'report.html'}")
