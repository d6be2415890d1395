"""``cnnlens invert``: what layers still know of a photo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnlens.cli import options as o
from cnnlens.cli.given import GivenImage, ImagesOption, given_images
from cnnlens.cli.made import Made
from cnnlens.cli.screen import Screen
from cnnlens.cli.session import ModelOptions, command_line, find_layers, open_images, open_model
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.settings import InvertSettings, RunSettings
from cnnlens.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from cnnlens.model.layers import Layer

I = InvertSettings()  # noqa: E741
_KINDS = ("images", "classes", "broden", "parts")
_PAIRED = 24  # images whose mean distance the errors are held against


def invert(
    model: o.ModelArgument = None,
    layer: o.LayersOption = None,
    image: ImagesOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DIR",
            help="Images whose mean distance errors are held against. "
            "Default: the workspace's data, else the given images.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="regularized", help="How the picture is found.")
    ] = I.method,
    perturb: Annotated[
        str,
        typer.Option(
            metavar="none|binarize|dropout|drop-least",
            help="Also invert the layer's answer with signs alone kept, half its values dropped "
            "at random, or half its maps, the least important ones.",
        ),
    ] = I.perturb,
    steps: Annotated[int, typer.Option(help="Passes through the network.")] = I.steps,
    lr: Annotated[float, typer.Option(help="Length of the first step; others follow.")] = I.lr,
    tv: Annotated[
        float, typer.Option(help="Factor on the automatic weight of total variation.")
    ] = I.tv,
    alpha: Annotated[
        float, typer.Option(help="Factor on the automatic weight of the α-norm.")
    ] = I.alpha,
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
    workers: o.WorkersOption = o.RUN.workers,
    seed: o.SeedOption = o.RUN.seed,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    force: o.ForceOption = False,
) -> None:
    """Invert layers: search for the picture that a layer answers as it answered a photo."""
    settings = InvertSettings(method, perturb, steps, lr, tv, alpha, seed)
    if not image:
        raise UsageError("no images were named", "name some with -i IMAGE")
    screen, space = Screen(json, quiet), Workspace(workspace, force)
    options = ModelOptions(model, arch, allow_pickle, image_size, mean, std, device)
    run = RunSettings(device, batch_size, workers, seed)
    work = Work(screen, space, options, settings, run, raw, force)
    try:
        summaries = work.run(layer, image, data)
    except BaseException:
        if work.new:  # what was finished is shown together, also after an interrupt
            work.finish(page)
        raise
    work.finish(page)
    screen.document(
        next(iter(summaries.values())) if len(summaries) == 1 else {"layers": summaries}
    )
    _show(screen, space, summaries, page)
    if work.failed:
        raise work.failed[0]


@dataclass(frozen=True)
class Photo:
    """A given image as the network sees it, (C, H, W) in [0, 1]."""

    given: GivenImage
    plane: Tensor


@dataclass(frozen=True)
class Job:
    """One picture to be made."""

    layer: Layer
    photo: Photo
    perturb: str
    made: Made

    @property
    def file(self) -> str:
        """Below the layer's folder."""
        name = f"{self.photo.given.name}.png"
        return name if self.perturb == "none" else f"{self.perturb}/{name}"


class Work:
    """One run of invert, from what was named to the files in the workspace."""

    def __init__(
        self,
        screen: Screen,
        space: Workspace,
        options: ModelOptions,
        settings: InvertSettings,
        run: RunSettings,
        raw: bool,
        force: bool,
    ) -> None:
        self.screen, self.space, self.options = screen, space, options
        self.settings, self.run_settings, self.raw, self.force = settings, run, raw, force
        self.failed: list[CnnlensError] = []
        self.skipped: list[dict[str, str]] = []
        self.new = 0

    def run(self, names: list[str] | None, images: list[Path], data: Path | None) -> dict[str, Any]:
        """Make the pictures that are not there yet; return every layer's JSON."""
        self.model, opened_by = open_model(self.options, self.space, self.screen)
        layers = find_layers(self.model, names, self.space)
        given_images(images)  # a missing one is an error before anything is touched
        found = open_images(data, self.space, _KINDS) if data else None
        self.space.use_model(self.model, opened_by, self.force)
        if found:
            self.space.use_data(found)
        layers = [self.space.use_layer(one) for one in layers]
        made = [Made(self._folder(one) / "invert.json", self.force) for one in layers]
        photos = self._photos(given_images(images, _taken(made)))
        self.space.save(command_line())
        jobs = [
            Job(layer, photo, perturb, there)
            for layer, there in zip(layers, made, strict=True)
            for photo in photos
            for perturb in dict.fromkeys(("none", self.settings.perturb))
        ]
        self._do(jobs, photos)
        return {
            layer.name: there.write(self._summary(layer))
            for layer, there in zip(layers, made, strict=True)
        }

    def finish(self, page: bool) -> None:
        """Draw what shows all pictures together."""
        from cnnlens.report.inverted import SHEET, write_sheet

        if self.new or not (self.space.path / "invert" / SHEET).exists():
            write_sheet(self.space.path)
        if page:
            from cnnlens.report.page import write_report

            write_report(self.space.path)

    def _folder(self, layer: Layer) -> Path:
        return self.space.results("invert", layer)

    def _photos(self, given: list[GivenImage]) -> list[Photo]:
        import torch

        from cnnlens.data.images import DamagedImage
        from cnnlens.synthesize.invert import input_plane

        photos = []
        for one in given:
            try:
                pixels = torch.tensor(one.pixels(self.model.preprocess))
            except DamagedImage as damage:
                self.skipped.append({"image": str(one.path), "reason": damage.reason})
                continue
            photos.append(Photo(one, input_plane(self.model, pixels)))
        if not photos:
            bad = self.skipped[0]
            raise CnnlensError(
                f"{bad['image']} cannot be read: {bad['reason']}", "name another with -i"
            )
        self.screen.skipped(self.skipped)
        return photos

    def _summary(self, layer: Layer) -> dict[str, Any]:
        return {
            "layer": layer.name,
            "depth": layer.depth,
            "settings": self.settings.as_dict(),
            "skipped": self.skipped,
        }

    def _made_from(self, job: Job) -> dict[str, Any]:
        preprocess = {k: v for k, v in self.model.preprocess.as_dict().items() if k != "source"}
        return {
            "model": self.model.fingerprint,
            "preprocess": preprocess,
            "place": job.layer.place.key,
            "settings": replace(self.settings, perturb=job.perturb).as_dict(),
            "image": job.photo.given.mark,
        }

    def _is_finished(self, job: Job) -> bool:
        from cnnlens.report.inversion import original_file, picture_file

        folder, name = self._folder(job.layer), job.photo.given.name
        beside = [original_file(folder, name), picture_file(folder, name, job.perturb)]
        if self.raw:
            beside.append((folder / job.file).with_suffix(".npz"))
        others = [path.relative_to(folder).as_posix() for path in beside]
        return job.made.finished(job.file, self._made_from(job), *others)

    # ---- the pictures

    def _do(self, jobs: list[Job], photos: list[Photo]) -> None:
        todo = [job for job in jobs if not self._is_finished(job)]
        if done := len(jobs) - len(todo):
            pictures = "picture was" if done == 1 else "pictures were"
            self.screen.note(
                f"{done} {pictures} made before with these settings (--force redoes them)"
            )
        with self.screen.progress() as bars:
            pairs: dict[Layer, float | None] = {}
            for number, job in enumerate(todo):
                if job.layer not in pairs:
                    pairs[job.layer] = self._pair_distance(job.layer, photos)
                try:
                    self._make(job, pairs[job.layer], number, len(todo), bars)
                    self.new += 1
                except CnnlensError as error:  # the other pictures are made all the same
                    self.failed.append(error)
        if self.failed and not self.new:
            raise self.failed[0]

    def _pair_distance(self, layer: Layer, photos: list[Photo]) -> float | None:
        from cnnlens.synthesize.invert import features, pair_distance

        if not hasattr(self, "_pair_planes"):
            self._pair_planes = self._of_data() or [photo.plane for photo in photos[:_PAIRED]]
        return pair_distance([features(self.model, layer, x) for x in self._pair_planes])

    def _of_data(self) -> list[Tensor]:
        """Evenly spaced images of the workspace's data, those that can be read."""
        import torch

        from cnnlens.data.images import DamagedImage
        from cnnlens.synthesize.invert import input_plane

        path = self.space.data_path(_KINDS)
        try:
            images = open_images(path, self.space, _KINDS) if path else None
        except CnnlensError:  # moved away: the given images serve instead
            return []
        if images is None:
            return []
        found = []
        for number in range(0, len(images.paths), -(-len(images.paths) // _PAIRED)):
            given = GivenImage(images.root / images.paths[number], "")
            try:
                pixels = torch.tensor(given.pixels(self.model.preprocess))
            except DamagedImage:
                continue
            found.append(input_plane(self.model, pixels))
        return found if len(found) > 1 else []

    def _make(self, job: Job, pairs: float | None, number: int, total: int, bars: Any) -> None:
        from cnnlens.synthesize.invert import check_target, compare, features, invert

        layer, photo, name = job.layer, job.photo.plane, job.photo.given.name
        answer = features(self.model, layer, photo)
        check_target(answer, layer.name, str(job.photo.given.path))
        target = self._perturbed(job, answer)
        errors, objectives = [], []
        steps = self.settings.steps
        for step in invert(self.model, layer, target, photo, self.settings):
            errors.append(step.error)
            objectives.append(step.objective)
            bars.show("inverting", number * steps + step.number, total * steps)
        image = step.image()
        found = compare(self.model, layer, image, photo, answer, pairs)
        entry = {
            "file": job.file,
            "layer": layer.name,
            "image": str(job.photo.given.path),
            "name": name,
            "perturb": job.perturb,
            "initial": errors[0],
            "final": errors[-1],
            "errors": {"features": found.features, "pairs": found.pairs, "pixels": found.pixels},
            "mean_distance": pairs,
            "trace": errors,
            "objective": objectives,
            "effects": _effects(answer, features(self.model, layer, image)),
            "path": str(job.photo.given.path.resolve()),
            "made_from": self._made_from(job),
        }
        self._write(job, entry, image)
        job.made.add(entry, self._summary(layer))

    def _perturbed(self, job: Job, answer: Tensor) -> Tensor:
        import torch

        from cnnlens.synthesize import perturb

        if job.perturb == "binarize":
            return perturb.binarize(answer)
        if job.perturb == "dropout":
            generator = torch.Generator().manual_seed(self.settings.seed)
            return perturb.dropout(answer, generator)
        if job.perturb == "drop-least":
            clean = self._clean(job)
            if clean is None:
                raise CnnlensError(f"{job.photo.given.path} was not inverted at {job.layer.name}")
            return perturb.drop_least(answer, torch.tensor(clean["effects"]))
        return answer

    def _clean(self, job: Job) -> dict[str, Any] | None:
        """What the JSON says of the inversion without perturbation."""
        file = replace(job, perturb="none").file
        return next((entry for entry in job.made.entries if entry["file"] == file), None)

    def _write(self, job: Job, entry: dict[str, Any], image: Tensor) -> None:
        from cnnlens.report.inversion import Inverted
        from cnnlens.report.inverted import save_figure
        from cnnlens.report.optimized import as_picture, save_png

        folder, name = self._folder(job.layer), job.photo.given.name
        one = Inverted(job.layer.name, name, job.perturb, folder, entry)
        save_png(one.original, as_picture(job.photo.plane.cpu().numpy()))
        save_png(one.picture, as_picture(image.cpu().numpy()))
        clean = self._clean(job) if job.perturb != "none" else None
        path = folder / job.file
        if clean is None:
            save_figure(path, one)
        else:
            save_figure(path, Inverted(job.layer.name, name, "none", folder, clean), one)
        if self.raw:
            _write_raw(path.with_suffix(".npz"), image, job.photo.plane)


def _taken(made: list[Made]) -> dict[str, str]:
    """Names that pictures of earlier runs have, and the images they show."""
    return {
        entry["name"]: entry["path"]
        for there in made
        for entry in there.entries
        if isinstance(entry.get("name"), str) and isinstance(entry.get("path"), str)
    }


def _effects(answer: Tensor, reconstructed: Tensor) -> list[float]:
    from cnnlens.synthesize.perturb import effects

    return [float(effect) for effect in effects(answer, reconstructed).cpu()]


def _write_raw(path: Path, image: Tensor, photo: Tensor) -> None:
    """Write the picture in colours, and what the network was given, channel by channel."""
    import numpy as np

    from cnnlens.files import atomic

    planes = image.cpu().numpy().astype(np.float32)  # (C, H, W)
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, image=as_rgb(planes), input=planes, photo=photo.cpu().numpy())


def as_rgb(planes: Any) -> Any:
    """(C, H, W) as 3×H×W: groups of three channels are averaged, greys repeated."""
    import numpy as np

    if len(planes) % 3:
        return np.repeat(planes.mean(0, keepdims=True), 3, axis=0)
    return planes.reshape(-1, 3, *planes.shape[1:]).mean(0)


def _show(screen: Screen, space: Workspace, summaries: dict[str, Any], page: bool) -> None:
    rows = [
        (
            name,
            entry["name"],
            entry["perturb"],
            *(v if v is None else round(v, 4) for v in entry["errors"].values()),
        )
        for name, summary in summaries.items()
        for entry in summary["pictures"]
    ]
    screen.table(
        ["layer", "image", "perturbed", "feature error", "of mean distance", "pixel RMSE"],
        rows[:40],
        title="inversions",
    )
    if len(rows) > 40:
        screen.say(f"… and {len(rows) - 40} more in invert.json")
    screen.say(f"pictures: {space.path / 'invert'}")
    if page:
        screen.say(f"page:     {space.path / 'report.html'}")
